"""The generated set `shapes`: drawn scenes in the layouts of VOC and SBD, NYUDv2, SIFT Flow and PASCAL-Context.

    OUT/sbdd/dataset/          voc            objects on a background, to train on
    OUT/pascal/VOC2011/        voc            the same, to score on (seg11valid)
    OUT/nyud/                  nyud           rooms: colour, depth and HHA
    OUT/sift-flow/             siftflow       landscapes with two kinds of labels
    OUT/pascal/VOC2010/        pascalcontext  landscapes
    OUT/pascal-context/        pascalcontext  their labels
    OUT/shapes.json, OUT/shapes-nyud.json, ...   what each layout was made with, and a digest over the labels: it is
                               written last, so a folder that has it holds the layout whole

OUT has the shape of data/, so any experiment runs on it with --data OUT.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

import vis
from datasets import DatasetError
from datasets.generated import LAYOUTS, TRAIN, VAL, Layout
from datasets.layouts import write_list
from files.locking import locked
from files.writing import write_text

DEFAULT_OUT = Path(__file__).resolve().parent.parent / "data" / "shapes"

# To be raised with every change of what a seed draws: a set of another version is another set.
VERSION = 1

_SIZES = (48, 1024)
_COUNTS = (1, 99_999)


@dataclass(frozen=True)
class Parameters:
    """What determines a layout's images. Raises DatasetError on a value that none can be made with.

    The values unless others are given are those of VOC; `defaults` has every layout's.
    """

    train: int = LAYOUTS["voc"].train
    """Images to train on."""
    val: int = LAYOUTS["voc"].val
    """Images to score on."""
    size: int = LAYOUTS["voc"].size
    """The longer side of every image, pixels; what is seen in it grows with it."""
    seed: int = 1
    version: int = VERSION

    def __post_init__(self) -> None:
        for name, (least, most) in {"train": _COUNTS, "val": _COUNTS, "size": _SIZES}.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise DatasetError(f"--{name} {value}: has to be from {least} to {most}.")
        if self.seed < 0:
            raise DatasetError(f"--seed {self.seed}: has to be 0 or more.")

    @property
    def images(self) -> list[tuple[str, int]]:
        """Every image: its split and its place there."""
        return [(split, index) for split, count in ((TRAIN, self.train), (VAL, self.val)) for index in range(count)]


def defaults(layout: str) -> Parameters:
    """The parameters of a layout unless the user says otherwise."""
    its = LAYOUTS[layout]
    return Parameters(train=its.train, val=its.val, size=its.size)


def make(
    out: Path,
    parameters: Parameters | None = None,
    layout: str = "voc",
    *,
    force: bool = False,
    processes: int | None = None,
) -> bool:
    """Make one layout of the set in folder `out`; False if it is there already.

    layout: a name of LAYOUTS. What is there is replaced only by a whole new layout: files are written to a folder of
    their own in `out` and moved when all are there, so that whoever is interrupted can simply call again. `force`
    makes it in any case, in the place of one made with other parameters too. The files do not depend on `processes`
    (default: 2, or the cores there are). Raises DatasetError if `out` holds another set or a dataset of another
    origin in that layout's folders, or cannot be written.
    """
    if layout not in LAYOUTS:
        raise DatasetError(f"there is no layout {layout!r} of shapes: there are {', '.join(LAYOUTS)}.")
    parameters = parameters or defaults(layout)
    if processes is None:
        processes = min(2, os.cpu_count() or 1)
    if processes < 1:
        raise DatasetError(f"--processes {processes}: has to be 1 or more.")
    its = LAYOUTS[layout]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(_lock(out)):
            _check_origin(out, its)
            if not force and _is_there(out, its, parameters):
                return False
            staging = _staging(out, its)
            staging.mkdir(exist_ok=True)
            write_text(staging / its.manifest, "{}\n")
            _remove_trees(staging, its)
            manifest = _write(staging, layout, parameters, processes)
            write_text(staging / its.manifest, json.dumps(manifest, indent=1) + "\n")
            _publish(staging, out, its)
            return True
    except OSError as error:
        place = error.filename or out
        raise DatasetError(
            f"cannot write the set to {out}: {place}: {error.strerror or error}. "
            "Free it or choose another folder with --out, and call again."
        ) from error


def _lock(out: Path) -> Path:
    """The file by which a folder is held against a second maker: beside it, or in it where nothing can be beside it."""
    out = out.resolve()
    return (out.parent if os.access(out.parent, os.W_OK) else out) / f".{out.name}.lock"


def _staging(out: Path, layout: Layout) -> Path:
    """The folder that a layout is written to before it is moved to its place."""
    return out / f".{Path(layout.manifest).stem}.partial"


def _check_origin(out: Path, layout: Layout) -> None:
    """Raise DatasetError if `out` holds a dataset in the layout's folders that no call of `make` put there."""
    found = [name for name in layout.trees if (out / name).exists()]
    # An interrupted call leaves trees without a manifest, but then its own folder is there still.
    ours = (out / layout.manifest).exists() or (_staging(out, layout) / layout.manifest).exists()
    if found and not ours:
        raise DatasetError(
            f"{out} holds {' and '.join(found)}, and no {layout.manifest} beside: this was not made by "
            "`python -m datasets make shapes`, so it is left alone. Choose another folder with --out."
        )


def _is_there(out: Path, layout: Layout, parameters: Parameters) -> bool:
    """Whether the very layout is in `out`, whole. Raises DatasetError if another one is."""
    manifest = out / layout.manifest
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
            f"{out} holds {' and '.join(layout.trees)} made with {other}. "
            "Replace it with --force, or choose another folder with --out."
        )
    files = [*_lists(layout, parameters), *(file for image in parameters.images for file in layout.files(*image))]
    return all((out / file).is_file() for file in files)


def _lists(layout: Layout, parameters: Parameters) -> Mapping[str, Sequence[str]]:
    idents: dict[str, list[str]] = {TRAIN: [], VAL: []}
    for split, index in parameters.images:
        idents[split].append(layout.ident(split, index))
    return layout.lists(idents[TRAIN], idents[VAL])


def _write(root: Path, name: str, parameters: Parameters, processes: int) -> dict[str, object]:
    """Draw and write every file of a layout but the manifest, which is returned."""
    layout, work = LAYOUTS[name], parameters.images
    one = partial(_write_one, root, name, parameters)
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
    for file, lines in _lists(layout, parameters).items():
        write_list(root / file, lines)
    return {
        "parameters": asdict(parameters),
        "classes": list(vis.CLASSES[layout.classes]),
        "labels_sha256": hashlib.sha256(b"".join(digests)).hexdigest(),
    }


def _write_one(root: Path, name: str, parameters: Parameters, image: tuple[str, int]) -> bytes:
    """Draw and write one image with its labels; returns the SHA-256 of the labels' bytes."""
    split, index = image
    # A generator of its own for every image: neither their order nor their number changes what is drawn.
    rng = np.random.default_rng([parameters.seed, (TRAIN, VAL).index(split), index])
    return LAYOUTS[name].draw(root, rng, split, index, parameters.size)


def _publish(staging: Path, out: Path, layout: Layout) -> None:
    """Put the staged layout in the place of what `out` holds: the manifest leaves first and comes last."""
    (out / layout.manifest).unlink(missing_ok=True)
    _remove_trees(out, layout)
    for name in layout.trees:
        (out / name).parent.mkdir(exist_ok=True)
        os.rename(staging / name, out / name)
    os.replace(staging / layout.manifest, out / layout.manifest)
    shutil.rmtree(staging)


def _remove_trees(folder: Path, layout: Layout) -> None:
    for name in layout.trees:
        if (folder / name).exists():
            shutil.rmtree(folder / name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m datasets make shapes``."""
    voc, other = defaults("voc"), defaults("nyud")
    parser.add_argument(
        "--layouts",
        nargs="+",
        choices=list(LAYOUTS),
        default=list(LAYOUTS),
        metavar="LAYOUT",
        help=f"which to make (all: {', '.join(LAYOUTS)})",
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help="where (data/shapes)")
    parser.add_argument(
        "--train", type=int, metavar="N", help=f"images to train on (voc {voc.train}, the others {other.train})"
    )
    parser.add_argument(
        "--val", type=int, metavar="N", help=f"images to score on (voc {voc.val}, the others {other.val})"
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="PX",
        help=f"longer side of an image ({voc.size}, siftflow {defaults('siftflow').size})",
    )
    parser.add_argument("--seed", type=int, default=voc.seed, metavar="N", help="what to draw (%(default)s)")
    parser.add_argument("--processes", type=int, metavar="N", help="how many at once (2, or the cores there are)")
    parser.add_argument("--force", action="store_true", help="make it again, in the place of the set that is there")


def run(arguments: argparse.Namespace) -> str:
    """Make the layouts as the options say; returns the sentences to print, one a line. Raises DatasetError."""
    given = {name: getattr(arguments, name) for name in ("train", "val", "size", "seed")}
    given = {name: value for name, value in given.items() if value is not None}
    lines = []
    for layout in arguments.layouts:
        parameters = replace(defaults(layout), **given)
        begun = time.monotonic()
        made = make(arguments.out, parameters, layout, force=arguments.force, processes=arguments.processes)
        how = f"made in {time.monotonic() - begun:.0f} s" if made else "there already"
        what = f"{parameters.train} images to train on and {parameters.val} to score on in {arguments.out}"
        lines.append(f"shapes, {layout}: {what}, {how}")
    return "\n".join(lines)
