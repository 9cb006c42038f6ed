"""The generated set `shapes`: drawn scenes, for training in SBD's layout and for validation in VOC's.

    OUT/sbdd/dataset/    img/ID.jpg  cls/ID.mat  train.txt
    OUT/VOC2011/         JPEGImages/ID.jpg  SegmentationClass/ID.png  ImageSets/Segmentation/seg11valid.txt
    OUT/shapes.json      what it was made with, and a digest over the labels: it is written last, so a folder
                         that has it holds the whole set

Unlike SBD's own, the training labels have void borders (255), as VOC's have.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from datasets import DatasetError
from datasets.layouts import write_sbd, write_sbd_split, write_voc, write_voc_split
from datasets.scenes import CLASSES, draw

DEFAULT_OUT = Path(__file__).resolve().parent.parent / "data" / "shapes"

MANIFEST = "shapes.json"
TREES = ("sbdd", "VOC2011")
STAGING = ".shapes.partial"

# To be raised with every change of what a seed draws: a set of another version is another set.
VERSION = 1

_SIZES = (48, 1024)
_COUNTS = (1, 99_999)


@dataclass(frozen=True)
class Parameters:
    """What determines the set. Raises DatasetError on a value that no set can be made with."""

    train: int = 1200
    """Images to train on."""
    val: int = 200
    """Images to validate on."""
    size: int = 160
    """The side of every image, pixels; objects grow with it."""
    seed: int = 1
    version: int = VERSION

    def __post_init__(self) -> None:
        for name, (least, most) in {"train": _COUNTS, "val": _COUNTS, "size": _SIZES}.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise DatasetError(f"--{name} {value}: has to be from {least} to {most}.")
        if self.seed < 0:
            raise DatasetError(f"--seed {self.seed}: has to be 0 or more.")

    def idents(self, split: str) -> list[str]:
        """The ids of split "train" or "val", in order."""
        return [f"{split}_{index:05d}" for index in range(getattr(self, split))]


def make(out: Path, parameters: Parameters, *, force: bool = False, processes: int | None = None) -> bool:
    """Make the set in folder `out`; False if it is there already.

    What is there is replaced only by a whole new set: files are written to a folder of their own in `out`
    and moved when all are there, so that whoever is interrupted can simply call again. `force` makes the set
    in any case, in the place of one made with other parameters too. The files do not depend on `processes`
    (default: 2, or the cores there are). Raises DatasetError if `out` holds another set or a dataset of
    another origin, or cannot be written.
    """
    if processes is None:
        processes = min(2, os.cpu_count() or 1)
    if processes < 1:
        raise DatasetError(f"--processes {processes}: has to be 1 or more.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _locked(out):
            _check_origin(out)
            if not force and _is_there(out, parameters):
                return False
            staging = out / STAGING
            staging.mkdir(exist_ok=True)
            (staging / MANIFEST).write_text("{}\n", encoding="ascii")
            _remove_trees(staging)
            manifest = _write(staging, parameters, processes)
            (staging / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="ascii")
            _publish(staging, out)
            return True
    except OSError as error:
        place = error.filename or out
        raise DatasetError(
            f"cannot write the set to {out}: {place}: {error.strerror or error}. "
            "Free it or choose another folder with --out, and call again."
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder against a second maker; the lock goes with the process, however that ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_origin(out: Path) -> None:
    """Raise DatasetError if `out` holds a dataset that no call of `make` put there."""
    found = [name for name in TREES if (out / name).exists()]
    # An interrupted call leaves trees without a manifest, but then its own folder is there still.
    ours = (out / MANIFEST).exists() or (out / STAGING / MANIFEST).exists()
    if found and not ours:
        raise DatasetError(
            f"{out} holds {' and '.join(found)}, and no {MANIFEST} beside: this was not made by "
            "`python -m datasets make shapes`, so it is left alone. Choose another folder with --out."
        )


def _is_there(out: Path, parameters: Parameters) -> bool:
    """Whether the very set is in `out`, whole. Raises DatasetError if another one is."""
    manifest = out / MANIFEST
    if not manifest.exists():
        return False
    try:
        there = dict(json.loads(manifest.read_text(encoding="utf-8"))["parameters"])
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{manifest} cannot be read ({error!r}). Make the set again with --force.") from error
    wanted = asdict(parameters)
    if there != wanted:
        names = [name for name in {**wanted, **there} if there.get(name) != wanted.get(name)]
        other = ", ".join(f"{name} {there.get(name)} instead of {wanted.get(name)}" for name in names)
        raise DatasetError(
            f"{out} holds a set made with {other}. Replace it with --force, or choose another folder with --out."
        )
    return all(path.is_file() for path in _files(out, parameters))


def _files(out: Path, parameters: Parameters) -> Iterator[Path]:
    sbd, voc = out / "sbdd" / "dataset", out / "VOC2011"
    yield sbd / "train.txt"
    yield voc / "ImageSets" / "Segmentation" / "seg11valid.txt"
    for ident in parameters.idents("train"):
        yield sbd / "img" / f"{ident}.jpg"
        yield sbd / "cls" / f"{ident}.mat"
    for ident in parameters.idents("val"):
        yield voc / "JPEGImages" / f"{ident}.jpg"
        yield voc / "SegmentationClass" / f"{ident}.png"


def _write(root: Path, parameters: Parameters, processes: int) -> dict[str, object]:
    """Draw and write every file but the manifest, which is returned."""
    work = [(split, index) for split in ("train", "val") for index in range(getattr(parameters, split))]
    one = partial(_write_one, root, parameters)
    if processes == 1:
        digests = [one(item) for item in work]
    else:
        # Not forked: a thread of the calling program may hold a lock at that moment.
        context = multiprocessing.get_context("spawn")
        # An interrupt from the keyboard reaches every process: this one alone answers it.
        ignore = (signal.SIGINT, signal.SIG_IGN)
        try:
            with ProcessPoolExecutor(processes, context, signal.signal, ignore) as pool:
                digests = list(pool.map(one, work, chunksize=16))
        except BrokenProcessPool as error:
            raise DatasetError(
                "a process that draws ended before its work, as when memory runs out. Call again with --processes 1."
            ) from error
    write_sbd_split(root / "sbdd" / "dataset", "train", parameters.idents("train"))
    write_voc_split(root / "VOC2011", "seg11valid", parameters.idents("val"))
    return {
        "parameters": asdict(parameters),
        "classes": list(CLASSES),
        "labels_sha256": hashlib.sha256(b"".join(digests)).hexdigest(),
    }


def _write_one(root: Path, parameters: Parameters, item: tuple[str, int]) -> bytes:
    """Draw and write one image with its label map; returns the SHA-256 of the label map's bytes."""
    split, index = item
    # A generator of its own for every image: neither their order nor their number changes what is drawn.
    rng = np.random.default_rng([parameters.seed, ("train", "val").index(split), index])
    scene = draw(rng, parameters.size)
    label = scene.label
    ident = parameters.idents(split)[index]
    if split == "train":
        write_sbd(root / "sbdd" / "dataset", ident, scene.image, label)
    else:
        write_voc(root / "VOC2011", ident, scene.image, label)
    return hashlib.sha256(label.tobytes()).digest()


def _publish(staging: Path, out: Path) -> None:
    """Put the staged set in the place of what `out` holds: the manifest leaves first and comes last."""
    (out / MANIFEST).unlink(missing_ok=True)
    _remove_trees(out)
    for name in TREES:
        os.rename(staging / name, out / name)
    os.replace(staging / MANIFEST, out / MANIFEST)
    staging.rmdir()


def _remove_trees(folder: Path) -> None:
    for name in TREES:
        if (folder / name).exists():
            shutil.rmtree(folder / name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m datasets make shapes``."""
    default = Parameters()
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help="where (data/shapes)")
    parser.add_argument(
        "--train", type=int, default=default.train, metavar="N", help="images to train on (%(default)s)"
    )
    parser.add_argument("--val", type=int, default=default.val, metavar="N", help="images to validate on (%(default)s)")
    parser.add_argument("--size", type=int, default=default.size, metavar="PX", help="side of an image (%(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, metavar="N", help="what to draw (%(default)s)")
    parser.add_argument("--processes", type=int, metavar="N", help="how many at once (2, or the cores there are)")
    parser.add_argument("--force", action="store_true", help="make it again, in the place of the set that is there")


def run(arguments: argparse.Namespace) -> str:
    """Make the set as the options say; returns the sentence to print. Raises DatasetError."""
    parameters = Parameters(arguments.train, arguments.val, arguments.size, arguments.seed)
    begun = time.monotonic()
    made = make(arguments.out, parameters, force=arguments.force, processes=arguments.processes)
    what = f"shapes: {parameters.train} training and {parameters.val} validation images in {arguments.out}"
    return f"{what}, made in {time.monotonic() - begun:.0f} s" if made else f"{what}, there already"
