"""Segment images: a label map as a palette PNG, and an overlay with its legend, for each.

    python infer.py photo.jpg --net voc-fcn8s --weights voc-fcn8s/voc-fcn8s.caffemodel --out segmented
    python infer.py folder/of/photos --net voc-fcn8s --gpu 0

    python infer.py photo.png --hha encoded.png --net nyud-fcn/color-hha-32s
    python infer.py photo.png --depth depth.png --net nyud-fcn/color-d-32s

Writes OUT/NAME.png, whose pixels are the classes' indices in VOC's colours, and OUT/NAME_overlay.png; of a net with
two heads, NAME_geo.png and NAME_geo_overlay.png for the second. The net is the experiment's deploy.prototxt, reshaped
to each image; mean and scale are those that its evaluation net reads images with.

NYUDv2's nets take HHA (the image itself, for hha-32s) and depth from a file of their own, or, for a folder of images,
from a folder that has files of the same names. `python -m datasets hha` makes HHA of depth.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import vis
from files.writing import replaced
from layers import read_image
from nets.folders import (
    add_options,
    evaluation_prototxt,
    experiment_name,
    find_experiment,
    find_weights,
    unfilled_layers,
    use_device,
)
from reading.folder_files import SUFFIXES
from scoring.prediction import Reading, deploy_net, run, segment
from scoring.results import head_name

# What a program of one's own takes from here.
__all__ = ["deploy_net", "main", "segment"]


def find_images(path: Path) -> list[Path]:
    """Return the image itself, or a folder's images by name; FileNotFoundError if there are none."""
    if path.is_dir():
        images = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        if images:
            return images
        raise FileNotFoundError(f"There is no image in {path}: looked for {', '.join(sorted(SUFFIXES))}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no image {path}.")
    return [path]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status: 0, or 1 with the reason on stderr if an image failed."""
    parser = argparse.ArgumentParser(
        prog="infer.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, metavar="IMAGE_OR_DIR")
    add_options(parser)
    for kind in ("hha", "depth"):
        parser.add_argument(f"--{kind}", type=Path, metavar="FILE_OR_DIR", help="the image's, for nets that take it")
    parser.add_argument("--out", type=Path, default=Path("segmented"), help="where to write (default: segmented)")
    parser.add_argument("--alpha", type=float, default=0.5, help="the colours' share of the overlay (default: .5)")
    options = parser.parse_args(argv)
    try:
        return _run(options)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"infer.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace) -> int:
    if not 0 <= options.alpha <= 1:
        raise ValueError(f"--alpha is {options.alpha}, expected 0 (the image alone) to 1 (the colours alone).")
    images = find_images(options.path)
    if options.out.resolve() == images[0].parent.resolve():
        raise ValueError(f"{options.out} is where the images are: name another folder with --out.")
    experiment = find_experiment(options.net)
    weights = find_weights(experiment, options.weights)
    reading = Reading.of(evaluation_prototxt(experiment))
    beside = _files_beside(options, reading.inputs[1:], images, experiment_name(experiment))
    use_device(options.gpu)
    net = deploy_net(experiment, weights)
    # In the net's order: that of outputs is the alphabet's.
    heads = [name for name in net.blobs if name in net.outputs and (name == "score" or name.startswith("score_"))]
    if not heads or len(net.inputs) != len(reading.inputs):
        raise ValueError(
            f"{experiment}/deploy.prototxt takes {', '.join(net.inputs)} and gives {', '.join(net.outputs)}: expected "
            f"an input for {' and '.join(reading.inputs)}, and scores called 'score' or 'score_...'."
        )
    zero = unfilled_layers(net)
    if zero:
        print(f"Beware: the weights of {', '.join(zero)} are all zero in {weights}.", file=sys.stderr)
    name = experiment_name(experiment)
    stems = Counter(path.stem for path in images)
    failed = 0
    for i, path in enumerate(images):
        try:
            image, values = _read(reading, [path, *(paths[i] for paths in beside)])
        except (ValueError, FileNotFoundError) as error:  # One bad file does not end a folder.
            print(f"infer.py: {error}", file=sys.stderr)
            failed += 1
            continue
        stem = path.stem if stems[path.stem] == 1 else path.name
        for head, labels in run(net, dict(zip(net.inputs, values, strict=True)), heads).items():
            suffix = "" if head == heads[0] else f"_{head_name(head)}"
            classes = net.blobs[head].shape[1]
            names = vis.class_names(name, classes)
            _write(options.out / f"{stem}{suffix}", image, labels, names, options.alpha)
            found = [names[label] for label in np.unique(labels)]
            print(f"{path}: {', '.join(found)} -> {options.out / stem}{suffix}.png")
    return 1 if failed else 0


def _read(reading: Reading, files: Sequence[Path]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return an image, H x W x 3, and what each of the net's inputs holds; files: the image's, and those beside it.

    Raises FileNotFoundError, and ValueError for what cannot be read or is not of the image's size.
    """
    path = files[0]
    image = np.asarray(read_image(path))
    for kind, file in zip(reading.inputs, files, strict=True):
        if not file.is_file():
            raise FileNotFoundError(f"There is no {file}, the {kind} of {path}.")
    values = [reading.read(kind, file) for kind, file in zip(reading.inputs, files, strict=True)]
    for file, value in zip(files, values, strict=True):
        if value.shape[1:] != image.shape[:2]:
            raise ValueError(f"{file} is {value.shape[2]} x {value.shape[1]} pixels, unlike {path}.")
    return image, values


def _write(path: Path, image: np.ndarray, labels: np.ndarray, names: Sequence[str], alpha: float) -> None:
    """Write an image's labels, and them over it beside their legend; path: both files', up to what differs."""
    vis.save_labels(path.with_name(f"{path.name}.png"), labels)
    picture = vis.overlay(image, labels, names, vis.make_palette(len(names)), alpha)
    with replaced(path.with_name(f"{path.name}_overlay.png")) as partial:
        picture.save(partial)


def _files_beside(
    options: argparse.Namespace, kinds: Sequence[str], images: Sequence[Path], name: str
) -> list[list[Path]]:
    """Return, for each kind of input beside the image, the file of each image.

    Raises ValueError for other options than the net takes, and for one file that is to go with several images.
    """
    given = {kind: getattr(options, kind) for kind in ("hha", "depth")}
    for kind, place in given.items():
        if (place is not None) != (kind in kinds):
            verb = "takes no" if place is not None else "needs the image's"
            raise ValueError(f"{name} {verb} {kind}{'' if place is not None else f': name it with --{kind}'}.")
        if place is not None and len(images) > 1 and not place.is_dir():
            raise ValueError(f"--{kind} is {place}, but there are {len(images)} images: name the folder of theirs.")
    return [[given[kind] / path.name if given[kind].is_dir() else given[kind] for path in images] for kind in kinds]


if __name__ == "__main__":
    sys.exit(main())
