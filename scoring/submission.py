"""The archive that the PASCAL VOC evaluation server takes: the label maps of a list of images that has no labels.

    python score.py --split seg11test --net voc-fcn8s --submit          comp6, VOC 2011
    python score.py --split seg12test --net voc-fcn8s --submit          comp6, VOC 2012

The archive, results/EXPERIMENT/SPLIT_iter_N_comp6.tgz, holds results/VOC2011/Segmentation/comp6_test_cls/ID.png, one
palette PNG of the image's size for each image, as the server's page asks for. Its two competitions differ in what the
net was trained on: comp5 is VOC's training data alone, comp6 any data, such as SBD's labels or ILSVRC's images.

The label maps lie in a folder beside the archive until all are there. An interrupted call goes on where it was.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import vis
from files.writing import replaced
from nets.folders import evaluation_prototxt, experiment_name, iteration_of, unfilled_layers
from reading.image_files import data_path, read_ids, read_image
from scoring.prediction import Reading, deploy_net, segment
from scoring.results import sha256
from terminal.progress_bar import image_bar

COMPETITIONS = ("comp5", "comp6")

CLASSES = 21

# The splits whose images a year's folder lists under another name.
TEST_SPLITS = {"seg11test": "VOC2011", "seg12test": "VOC2012"}

_TEST_IMAGES = (
    "The test images are no part of VOC's trainval archive: the evaluation server, http://host.robots.ox.ac.uk:8080, "
    "has them, for those who have an account there; they unpack into the same folder."
)


def submit(experiment: Path, weights: Path, split: str, competition: str, out: Path, data: Path | None = None) -> str:
    """Predict a split with an experiment's deploy net and write the archive into `out`; return what was done.

    split: seg11test, seg12test, or any list in ImageSets/Segmentation of the year that the experiment reads. data:
    the folder of data, by default what FCN_DATA says. Raises ValueError where the experiment is not one of VOC's 21
    classes, FileNotFoundError where the list or an image is missing; nothing is packed unless every label map is whole.
    """
    reading = Reading.of(evaluation_prototxt(experiment))
    name = experiment_name(experiment)
    if "voc_dir" not in reading.settings:
        raise ValueError(f"{name} does not read VOC's layout, and --submit is for the VOC server.")
    voc = data_path(reading.settings["voc_dir"], experiment, data)
    voc = voc.with_name(TEST_SPLITS.get(split, voc.name)).resolve()
    ids = _list(voc, split)
    images = {image_id: voc / "JPEGImages" / f"{image_id}.jpg" for image_id in ids}
    missing = [path for path in images.values() if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"Of the {len(ids)} images of {split}, {len(missing)} are missing, the first {missing[0]}. {_TEST_IMAGES}"
        )
    net = deploy_net(experiment, weights)
    classes = net.blobs["score"].shape[1] if "score" in net.blobs else 0
    if classes != CLASSES:
        raise ValueError(f"{name} has {classes} classes, and the VOC server takes labels of {CLASSES}.")
    zero = unfilled_layers(net)
    if zero:
        raise ValueError(f"The weights of {', '.join(zero)} are all zero in {weights}: not a net to be judged.")

    # Label maps of other weights are in another folder.
    maps = out / f"{split}_{sha256(weights)[:12]}"
    with image_bar(len(ids)) as advance:
        for image_id, path in images.items():
            if _fault(maps / f"{image_id}.png", path) is not None:
                labels = segment(net, read_image(path), reading.mean, reading.scale)
                vis.save_labels(maps / f"{image_id}.png", labels)
            advance(image_id)

    iteration = iteration_of(weights)
    at = f"_iter_{iteration}" if iteration is not None else ""
    archive = out / f"{split}{at}_{competition}.tgz"
    pack(archive, maps, images, f"results/{voc.name}/Segmentation/{competition}_test_cls")
    return (
        f"{name} on {split}: {len(ids)} images, weights {weights}\n\n{archive}\n\nThis is for {competition} of "
        f"{voc.name}'s segmentation at http://host.robots.ox.ac.uk:8080. {maps} is not needed any more."
    )


def pack(archive: Path, maps: Path, images: dict[str, Path], folder: str) -> None:
    """Check every label map and write the archive, whole or not at all.

    maps: the folder that holds ID.png. images: each id's image, which its label map has to fit. folder: the label
    maps' in the archive. Raises ValueError that names what is missing or wrong.
    """
    faults = [
        f"{maps / image_id}.png {fault}"
        for image_id, image in images.items()
        if (fault := _fault(maps / f"{image_id}.png", image)) is not None
    ]
    if faults:
        some = "; ".join(faults[:3])
        raise ValueError(f"Nothing is packed: of {len(images)} label maps {len(faults)} are wrong. {some}.")
    with replaced(archive) as partial, tarfile.open(partial, "w:gz") as tar:
        for image_id in images:
            tar.add(maps / f"{image_id}.png", f"{folder}/{image_id}.png", filter=_anonymous)


def _list(voc: Path, split: str) -> Sequence[str]:
    """Return the ids of a split. VOC itself calls the list of its test images test.txt."""
    lists = voc / "ImageSets" / "Segmentation"
    for name in (split, "test") if split in TEST_SPLITS else (split,):
        path = lists / f"{name}.txt"
        if path.is_file():
            ids = read_ids(path)
            strange = [image_id for image_id in ids if Path(image_id).name != image_id]
            if strange or len(set(ids)) != len(ids):
                raise ValueError(f"{path} is no list of images: it has {strange[0] if strange else 'an image twice'}.")
            return ids
    there = ", ".join(sorted(path.stem for path in lists.glob("*.txt"))) or "nothing"
    raise FileNotFoundError(f"There is no list {lists / split}.txt; the folder has {there}. {_TEST_IMAGES}")


def _fault(label_map: Path, image: Path) -> str | None:
    """Return what is wrong with a label map, None if nothing is."""
    if not label_map.is_file():
        return "is missing"
    try:
        with Image.open(label_map) as labels, Image.open(image) as photo:
            if labels.mode != "P":
                return f"has the mode {labels.mode}, not P"
            if labels.size != photo.size:
                return f"is {labels.size[0]} x {labels.size[1]} pixels, but its image {photo.size[0]} x {photo.size[1]}"
            highest = int(np.asarray(labels).max())
    except (OSError, SyntaxError, ValueError) as error:
        return f"cannot be read ({error})"
    return None if highest < CLASSES else f"has the label {highest}: {CLASSES} classes are 0 to {CLASSES - 1}"


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out of the archive whose files these were and when they were written."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member
