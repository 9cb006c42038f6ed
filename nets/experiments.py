"""Which net each experiment trains, and the prototxts in its folder."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from caffe.proto import caffe_pb2
from files.writing import write_text
from nets import ablations, context33, cvpr, heads, nyud, own, pascalcontext, shapes, siftflow, voc
from nets.definition import Experiment
from nets.recipes import Variant

ROOT = Path(__file__).resolve().parent.parent

VOC_SPLITS = {"train.prototxt": "train", "val.prototxt": "seg11valid", "deploy.prototxt": voc.DEPLOY}
CONTEXT_SPLITS = {"train.prototxt": "train", "val.prototxt": "val", "deploy.prototxt": voc.DEPLOY}
TRAINVAL_SPLITS = {"trainval.prototxt": "trainval", "test.prototxt": "test", "deploy.prototxt": voc.DEPLOY}


HEADS = {"32s": heads.fcn32s, "16s": heads.fcn16s, "8s": heads.fcn8s}

# The experiments on a dataset, with what they have in common.
Kind = Callable[..., Experiment]
VOC: Kind = partial(Experiment, splits=VOC_SPLITS, iterations=100_000, score_every=4000)
NYUD: Kind = partial(Experiment, splits=TRAINVAL_SPLITS, iterations=100_000, max_iter=300_000, score_every=2000)
SIFTFLOW: Kind = NYUD
CONTEXT: Kind = partial(Experiment, splits=CONTEXT_SPLITS, iterations=400_000, max_iter=300_000, score_every=8000)
SHAPES: Kind = partial(Experiment, splits=VOC_SPLITS)


def staged(
    kind: Kind, folder: str, fcn: Callable[..., Any], table: str, scored: Sequence[str]
) -> dict[str, Experiment]:
    """FOLDER32s from VGG16, 16s from 32s and 8s from 16s; ``fcn`` takes the head that makes the difference.

    ``scored``: those that have a row in the papers' ``table``, which is called as they are.
    """
    origins = {"32s": "vgg16", "16s": f"{folder}32s", "8s": f"{folder}16s"}
    return {
        f"{folder}{stage}": kind(
            net=partial(fcn, head=head),
            starts_from=(origins[stage],),
            published=f"{table}/{stage}" if stage in scored else "",
        )
        for stage, head in HEADS.items()
    }


# The experiments whose prototxts are in the repository.
EXPERIMENTS: dict[str, Experiment] = {
    **staged(VOC, "voc-fcn", voc.fcn_vgg16, "pami3", ("32s", "16s", "8s")),
    "voc-fcn8s-atonce": VOC(
        net=partial(voc.fcn_vgg16, head=heads.fcn8s_atonce),
        starts_from=("vgg16",),
        iterations=300_000,
        published="pami3/8s-atonce",
    ),
    "voc-fcn-alexnet": VOC(net=voc.fcn_alexnet, starts_from=("alexnet",), published="pami-text/alexnet"),
    "voc-fcn-googlenet": VOC(net=voc.fcn_googlenet, starts_from=("googlenet",)),
    "nyud-fcn/color-32s": NYUD(
        net=partial(nyud.fcn, modality="color"), starts_from=("vgg16",), published="pami5/32s-rgb"
    ),
    "nyud-fcn/hha-32s": NYUD(net=partial(nyud.fcn, modality="hha"), starts_from=("vgg16",), published="pami5/32s-hha"),
    "nyud-fcn/color-d-32s": NYUD(net=nyud.fcn_early, starts_from=("vgg16",), published="pami5/32s-rgbd"),
    "nyud-fcn/color-hha-32s": NYUD(
        net=nyud.fcn_late, starts_from=("nyud-fcn/color-32s", "nyud-fcn/hha-32s"), published="pami5/32s-rgb-hha"
    ),
    "nyud-fcn/color-hha-16s": NYUD(net=partial(nyud.fcn_late, skip=True), starts_from=("nyud-fcn/color-hha-32s",)),
    **staged(SIFTFLOW, "siftflow-fcn/", siftflow.fcn, "pami6", ("8s",)),
    **staged(CONTEXT, "pascalcontext-fcn/", pascalcontext.fcn, "pami7", ("32s", "16s", "8s")),
    "shapes-fcn/32s": SHAPES(net=partial(shapes.fcn, head=heads.fcn32s), iterations=4800, score_every=1600),
    "shapes-fcn/16s": SHAPES(
        net=partial(shapes.fcn, head=heads.fcn16s), starts_from=("shapes-fcn/32s",), iterations=2000, score_every=1000
    ),
    "shapes-fcn/8s": SHAPES(
        net=partial(shapes.fcn, head=heads.fcn8s), starts_from=("shapes-fcn/16s",), iterations=1600, score_every=800
    ),
}

# Those whose prototxts are written when they are asked for, by their folder and their own name in it.
_CONTEXT33 = context33.variants(EXPERIMENTS)
VARIANTS: dict[str, Variant] = {
    **ablations.VARIANTS,
    **cvpr.variants({**EXPERIMENTS, **_CONTEXT33}),
    **_CONTEXT33,
}


def all_names() -> list[str]:
    """The names of all experiments, variants included: their folders, relative to the repository."""
    return [*EXPERIMENTS, *VARIANTS]


def lookup(name: str, root: Path = ROOT) -> Experiment:
    """The experiment of that name; ValueError with the nearest names where there is none.

    ``root`` is where the folders are that `python -m nets new` writes.
    """
    known = {**EXPERIMENTS, **VARIANTS}
    experiment = known.get(name) or own.find(name, root)
    if experiment is None:
        near = difflib.get_close_matches(name, known, 3) or list(EXPERIMENTS)
        raise ValueError(f"No experiment is called '{name}'; there are {', '.join(near)}.")
    return experiment


def solve(name: str) -> tuple[str, list[str]]:
    """The folder in which an experiment is trained, and what follows `python`: solve.py, and a variant's own name."""
    folder, _, own_name = name.partition("/")
    return (folder, ["solve.py", own_name]) if name in VARIANTS else (name, ["solve.py"])


def write(name: str, root: Path = ROOT, thin: int = 1) -> list[Path]:
    """Write an experiment's prototxts into its folder under ``root``; gives their paths."""
    paths = []
    whose = "yours to change, but that writes it anew" if _is_own(name, root) else "change nets/, not this file"
    for path, net in _files(name, root, thin):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, f"# Written by `python -m nets {name}`: {whose}.\n{to_text(net)}")
        paths.append(path)
    return paths


def outdated(name: str, root: Path = ROOT) -> list[Path]:
    """The files of an experiment that are missing or hold another net than the one that would be written."""
    return [path for path, net in _files(name, root) if not path.is_file() or _read(path, type(net)) != net]


def to_text(net: Any) -> str:
    """A NetParameter as prototxt, in the same words whichever protobuf writes it.

    Releases differ in how they print a float (``1`` or ``1.0``, ``0.0001`` or ``9.99999974738e-05``). Six
    digits give back every float32 that the nets here use.
    """
    return _FLOAT.sub(lambda number: format(float(number[0]), ".6g"), str(net))


_FLOAT = re.compile(r"(?<=: )-?\d+(\.\d+(e[+-]?\d+)?|e[+-]?\d+)$", re.MULTILINE)


def _files(name: str, root: Path, thin: int = 1) -> list[tuple[Path, Any]]:
    """The messages that an experiment's prototxts hold, each with its path."""
    experiment = lookup(name, root if _is_own(name, root) else ROOT)
    files: list[tuple[Path, Any]] = [
        (root / name / file, experiment.net(split, thin=thin)) for file, split in experiment.splits.items()
    ]
    if experiment.solver is not None:
        files.append((root / name / "solver.prototxt", caffe_pb2.SolverParameter(**experiment.solver)))
    return files


def _is_own(name: str, root: Path) -> bool:
    """Whether an experiment is one of a dataset of one's own."""
    return (root / name).parent.joinpath(own.DATASET).is_file()


def _read(path: Path, kind: Any = caffe_pb2.NetParameter) -> Any:
    """The message in a prototxt, or None if it is none of that kind."""
    try:
        return text_format.Parse(path.read_text(), kind())
    except (text_format.ParseError, UnicodeDecodeError):
        return None
