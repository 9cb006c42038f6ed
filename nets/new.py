"""``python -m nets new``: set up FCN-32s, 16s and 8s for a dataset of one's own.

    python -m nets new cells --data data/cells --classes names.txt

DATA holds images/ID.jpg (or .png, ...) and labels/ID.png, where a label's pixels are class indices, 255 void; --classes
names the classes, one a line, in that order. Every image and label is read and checked. Where DATA has no train.txt and
val.txt, they are written: --val-share of the labelled, drawn by --seed, is for scoring. Then come, in cells-fcn/, the
experiments 32s, 16s and 8s with their solve.py; on AlexNet and GoogLeNet (--trunk), for which there are no skips here,
32s alone. --thin N makes nets that learn from nothing, as the demo's do. With DATA in the repository's data/, the
folder also works elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from files.writing import write_text
from nets.bases import BASES, Base
from nets.experiments import ROOT, lookup, write
from nets.own import DATASET, STAGES, Dataset
from reading.folder_files import LABEL_SUFFIXES, SUFFIXES, files_by_id, find_images, find_labels, some
from reading.image_files import read_image, read_index_image, read_lines
from terminal.progress_bar import ProgressBar
from vis import VOID

# What the trunks' narrowest layers can be divided by; 1 is the whole trunk.
THIN = (1, 2, 4, 8, 16)

SOLVE = '''"""Train FCN-{stage} on {name}, from {origin}.

    cd {folder}/{stage} && python solve.py --gpu 0

{what}
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import caffe
import surgery
import train


{start}


if __name__ == "__main__":
    train.run(__file__, __doc__, start=start)
'''

START = '''def start(net: caffe.Net, weights: str) -> None:
    """Take {origin}'s layers by their names, and make the upsampling bilinear."""
    net.copy_from(weights)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])'''

START_FROM_NOTHING = '''def start(net: caffe.Net) -> None:
    """Make the upsampling bilinear; the prototxt's fillers have done the rest."""
    surgery.interp(net, [layer for layer in net.params if "up" in layer])'''

WHAT = (
    "Trains on the {train:,} images of train.txt, one an iteration, for {iterations:,} iterations, and scores on the "
    "{val:,} of val.txt every {score_every:,}. {rate}; where the loss is not finite, divide base_lr in solver.prototxt "
    "by 10."
)
RATE = "The rate is the reference's for VOC, made to fit these images' size"
THIN_RATE = "The net is thin, and its rate the demo's"


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks; the exit status is 1, with the reason on stderr, if it cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m nets new", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="what the dataset is called: letters, digits and _")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder with images/ and labels/")
    parser.add_argument("--classes", type=Path, required=True, metavar="FILE", help="the classes' names, one a line")
    parser.add_argument(
        "--val-share", type=float, default=0.2, metavar="X", help="of the ids, for scoring (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1337, metavar="N", help="of the draw (%(default)s)")
    parser.add_argument(
        "--trunk", choices=BASES, default="vgg16", help="the classifier that the nets are made of (%(default)s)"
    )
    parser.add_argument(
        "--thin",
        type=int,
        choices=THIN,
        default=1,
        metavar="N",
        help="divide the trunk's channels by N (2, 4, 8 or 16), and train from random weights, with nothing to fetch",
    )
    options = parser.parse_args(argv)
    try:
        made = new(
            options.name, options.data, options.classes, options.val_share, options.seed, options.trunk, options.thin
        )
        print(made)
    except (OSError, ValueError) as error:
        print(f"python -m nets new: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("python -m nets new: interrupted; no experiment was written.", file=sys.stderr)
        return 130
    return 0


def new(
    name: str,
    data: Path,
    classes: Path,
    val_share: float = 0.2,
    seed: int = 1337,
    trunk: str = "vgg16",
    thin: int = 1,
    root: Path = ROOT,
) -> str:
    """Set up a dataset's experiments in ``root``; gives the text that says what was done and what comes next.

    ``trunk``: one of nets/bases.py. ``thin``: what its channels are divided by, for nets from random weights.

    Raises FileNotFoundError for what is missing and ValueError for what cannot be learned from, naming the file.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"A dataset cannot be called '{name}': expected a letter, then letters, digits and _.")
    folder = f"{name}-fcn"
    if (root / folder).exists():
        raise ValueError(f"{root / folder} is there already: choose another name, or remove it.")
    data = data.resolve()
    names = _class_names(classes)
    drawn = not _list_file(data, "train").is_file()
    lists = _lists(data, val_share, seed)
    pixels, shares = _check(data, lists, names, BASES[trunk])

    if drawn:
        for split, ids in lists.items():
            write_text(_list_file(data, split), "".join(f"{i}\n" for i in ids))
    (root / folder).mkdir()
    images = {split: len(ids) for split, ids in lists.items()}
    dataset = Dataset(
        data=_relative(data, root), classes=len(names), pixels=pixels, images=images, trunk=trunk, thin=thin
    )
    write_text(root / folder / DATASET, json.dumps(asdict(dataset), indent=1) + "\n")
    for stage in dataset.stages:
        write(f"{folder}/{stage}", root)
        write_text(root / folder / stage / "classes.txt", "".join(f"{n}\n" for n in names))
        write_text(root / folder / stage / "solve.py", _solve(name, stage, dataset, root))
    table = "\n".join(f"  {100 * share:6.2f} %  {n}" for n, share in zip(names, shares, strict=True))
    unlabelled = sorted(set(files_by_id(data / "images", SUFFIXES)) - set().union(*lists.values())) if drawn else []
    left_out = f"Without a label, and so in neither list: {some(unlabelled)}\n" if unlabelled else ""
    alone = f"{dataset.base.title} has 32s alone: there are no skips for it here.\n" if len(dataset.stages) == 1 else ""
    return (
        f"{name}: {images['train']} images to train on, {images['val']} to score on; the labelled pixels are\n{table}\n"
        f"{left_out}{alone}"
        f"Next: cd {folder}/32s && python solve.py --gpu 0 (first, to see that all works: python solve.py --rehearse)"
    )


def _solve(name: str, stage: str, dataset: Dataset, root: Path) -> str:
    """A stage's solve.py."""
    folder = f"{name}-fcn"
    experiment = lookup(f"{folder}/{stage}", root)
    before, _ = STAGES[stage]
    origin = f"FCN-{before}" if before else dataset.base.title if experiment.starts_from else "nothing"
    what = WHAT.format(
        iterations=experiment.iterations,
        score_every=experiment.score_every,
        rate=RATE if dataset.thin == 1 else THIN_RATE,
        **dataset.images,
    )
    return SOLVE.format(
        stage=stage,
        name=name,
        folder=folder,
        origin=origin,
        what=textwrap.fill(what, 120),
        start=(START if experiment.starts_from else START_FROM_NOTHING).format(origin=origin),
    )


def _class_names(path: Path) -> list[str]:
    names = read_lines(path, "class names")
    comments = [name for name in names if name.startswith("#")]
    if comments:
        # A name too many would give every later class the name of the one before it.
        raise ValueError(f"{path} has the line {comments[0]!r}: expected names alone, one a line, and no comments.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} names {', '.join(twice)} more than once.")
    if not 2 <= len(names) <= VOID:
        raise ValueError(f"{path} names {len(names)} classes: expected 2 to {VOID}, one a line.")
    return names


def _lists(data: Path, val_share: float, seed: int) -> dict[str, list[str]]:
    """The ids of train.txt and val.txt, which are drawn from the labels' where there is neither."""
    for sub in ("images", "labels"):
        if not (data / sub).is_dir():
            raise FileNotFoundError(f"There is no folder {data / sub}: expected images/ID.jpg and labels/ID.png.")
    files = {split: _list_file(data, split) for split in ("train", "val")}
    there = [path for path in files.values() if path.is_file()]
    if len(there) == 1:
        raise ValueError(
            f"{data} has {there[0].name} alone: write the other list too, or remove it to have both drawn."
        )
    if there:
        lists = {split: read_lines(path, "image ids") for split, path in files.items()}
        both = sorted(set(lists["train"]) & set(lists["val"]))
        if both:
            raise ValueError(
                f"{len(both)} images are in train.txt and in val.txt, such as {both[0]}: scores would lie."
            )
        return lists
    if not 0 < val_share < 1:
        raise ValueError(f"--val-share is {val_share}: expected a number between 0 and 1, such as 0.2.")
    ids = sorted(files_by_id(data / "labels", LABEL_SUFFIXES))
    if len(ids) < 2:
        raise ValueError(
            f"{data / 'labels'} has {len(ids)} labels: expected two at least, ID.png for images/ID.jpg. (A JPEG does "
            "not keep the indices.)"
        )
    count = min(max(1, round(val_share * len(ids))), len(ids) - 1)
    drawn = set(random.Random(seed).sample(ids, count))
    find_images(data / "images", ids, data / "labels")
    return {"train": [i for i in ids if i not in drawn], "val": sorted(drawn)}


def _list_file(data: Path, split: str) -> Path:
    return data / f"{split}.txt"


def _check(data: Path, lists: dict[str, list[str]], names: Sequence[str], base: Base) -> tuple[int, np.ndarray]:
    """Read every image and label; gives the median of pixels an image, and each class's share of the labelled ones."""
    images: dict[str, Path] = {}
    label_files: dict[str, Path] = {}
    for split, ids in lists.items():
        images |= find_images(data / "images", ids, _list_file(data, split))
        label_files |= find_labels(data / "labels", ids, _list_file(data, split))
    counts = np.zeros(256, np.int64)
    sizes = []
    for ident, image_file in _shown(images.items()):
        label_file = label_files[ident]
        labels = read_index_image(label_file)
        size = read_image(image_file).size
        if size != labels.shape[::-1]:
            raise ValueError(
                f"{image_file} is {size[0]} x {size[1]} pixels (width x height), but {label_file} "
                f"{labels.shape[1]} x {labels.shape[0]}: they have to lie on each other."
            )
        if min(size) < base.least:
            raise ValueError(
                f"{image_file} is {size[0]} x {size[1]} pixels: {base.title} takes none of less than {base.least} a "
                "side. Choose another --trunk, or scale images and labels up."
            )
        here = np.bincount(labels.ravel(), minlength=256)
        beyond = np.flatnonzero(here[len(names) : VOID]) + len(names)
        if beyond.size:
            raise ValueError(
                f"{label_file} has the labels {', '.join(map(str, beyond[:5]))}{' ...' if beyond.size > 5 else ''}, "
                f"but there are names for {len(names)} classes: expected 0 to {len(names) - 1}, and 255 for void. Name "
                "the others too, or renumber the labels; labels that are shades for the eye (0, 128, 255) have to "
                "become 0, 1, 2."
            )
        counts += here
        sizes.append(labels.size)
    labelled = counts[: len(names)]
    if not labelled.any():
        raise ValueError(f"Every pixel of {data / 'labels'} is void (255): there is nothing to learn.")
    return int(np.median(sizes)), labelled / labelled.sum()


def _shown(items: Collection[tuple[str, Path]]) -> Iterator[tuple[str, Path]]:
    """Give the items, with a progress bar on a terminal."""
    with ProgressBar("checking", len(items), unit="image") as bar:
        for item in items:
            yield item
            bar.add()


def _relative(data: Path, root: Path) -> str:
    """A folder as param_str has it: relative to an experiment's where it is in data/, else absolute."""
    within = Path(os.environ.get("FCN_DATA") or root / "data").resolve()
    return f"../../data/{data.relative_to(within).as_posix()}" if data.is_relative_to(within) else data.as_posix()


if __name__ == "__main__":
    sys.exit(main())
