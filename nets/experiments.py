"""Which net each experiment trains, and the prototxts in its folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from caffe.proto import caffe_pb2
from nets import heads, shapes, voc

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Experiment:
    """``net(split)`` makes the net for a split of the data; ``splits`` names the split of each file."""

    net: Callable[[str], Any]
    splits: dict[str, str]


TRAIN_VAL_DEPLOY = {
    "train.prototxt": "train",
    "val.prototxt": "seg11valid",
    "deploy.prototxt": voc.DEPLOY,
}

EXPERIMENTS = {
    "voc-fcn32s": Experiment(partial(voc.fcn_vgg16, head=heads.fcn32s), TRAIN_VAL_DEPLOY),
    "voc-fcn16s": Experiment(partial(voc.fcn_vgg16, head=heads.fcn16s), TRAIN_VAL_DEPLOY),
    "voc-fcn8s": Experiment(partial(voc.fcn_vgg16, head=heads.fcn8s), TRAIN_VAL_DEPLOY),
    "voc-fcn-googlenet": Experiment(voc.fcn_googlenet, TRAIN_VAL_DEPLOY),
    "shapes-fcn/32s": Experiment(partial(shapes.fcn, head=heads.fcn32s), TRAIN_VAL_DEPLOY),
    "shapes-fcn/16s": Experiment(partial(shapes.fcn, head=heads.fcn16s), TRAIN_VAL_DEPLOY),
    "shapes-fcn/8s": Experiment(partial(shapes.fcn, head=heads.fcn8s), TRAIN_VAL_DEPLOY),
}


def write(name: str, root: Path = ROOT) -> list[Path]:
    """Write an experiment's prototxts into its folder under ``root``; gives their paths."""
    paths = []
    for path, net in _files(name, root):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Written by `python -m nets {name}`: change nets/, not this file.\n{to_text(net)}")
        paths.append(path)
    return paths


def outdated(name: str, root: Path = ROOT) -> list[Path]:
    """The files of an experiment that are missing or hold another net than the one that would be written."""
    return [path for path, net in _files(name, root) if not path.is_file() or _read(path) != net]


def to_text(net: Any) -> str:
    """A NetParameter as prototxt, in the same words whichever protobuf writes it.

    Releases differ in how they print a float (``1`` or ``1.0``, ``0.0001`` or ``9.99999974738e-05``). Six
    digits give back every float32 that the nets here use.
    """
    return _FLOAT.sub(lambda number: format(float(number[0]), ".6g"), str(net))


_FLOAT = re.compile(r"(?<=: )-?\d+(\.\d+(e[+-]?\d+)?|e[+-]?\d+)$", re.MULTILINE)


def _files(name: str, root: Path) -> list[tuple[Path, Any]]:
    experiment = EXPERIMENTS[name]
    return [(root / name / file, experiment.net(split)) for file, split in experiment.splits.items()]


def _read(path: Path) -> Any:
    """The net in a prototxt, or None if it is none."""
    try:
        return text_format.Parse(path.read_text(), caffe_pb2.NetParameter())
    except (text_format.ParseError, UnicodeDecodeError):
        return None
