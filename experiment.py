"""An experiment's folder: where it is, its nets and its weights; what score.py and infer.py both ask for.

An experiment is a folder of prototxts, such as voc-fcn8s or shapes-fcn/8s: val.prototxt (or test.prototxt) reads
images and labels, deploy.prototxt takes an image, and snapshot/ holds what training saved.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parent


def find_experiment(name: str | None) -> Path:
    """Return an experiment's folder: the one named, or with None the one that the program runs in.

    name: a path, or a folder of the repository such as voc-fcn8s or shapes-fcn/8s. Raises ValueError where
    there is none.
    """
    known = sorted(
        str(path.parent.relative_to(ROOT))
        for pattern in ("*/solver.prototxt", "*/*/solver.prototxt")
        for path in ROOT.glob(pattern)
    )
    for folder in [Path.cwd()] if name is None else [Path(name), ROOT / name]:
        if folder.is_dir() and any(folder.glob("*.prototxt")):
            return folder.resolve()
    found = "this folder is none" if name is None else f"there is none in '{name}'"
    raise ValueError(f"Which experiment? Name its folder with --net: {found}. The repository has {', '.join(known)}.")


def experiment_name(experiment: Path) -> str:
    """Return an experiment's folder as the repository knows it: voc-fcn8s, shapes-fcn/8s."""
    return experiment.relative_to(ROOT).as_posix() if experiment.is_relative_to(ROOT) else experiment.name


def find_weights(experiment: Path, weights: str | None) -> Path:
    """Return the weights to use: the file named, else the experiment's furthest snapshot, else its own file.

    Raises FileNotFoundError that says what was looked for, and how to come by it.
    """
    if weights is not None:
        if not os.path.isfile(weights):
            raise FileNotFoundError(f"There are no weights {weights}: name a .caffemodel with --weights.")
        return Path(weights).resolve()
    snapshots = [p for p in experiment.glob("snapshot/*.caffemodel*") if iteration_of(p) is not None]
    own = experiment / f"{experiment.name}.caffemodel"
    if snapshots:
        return max(snapshots, key=lambda path: iteration_of(path) or 0)
    if own.is_file():
        return own
    raise FileNotFoundError(
        f"There are no weights for {experiment_name(experiment)}: neither {experiment}/snapshot/*.caffemodel "
        f"nor {own}. Train them with `cd {experiment} && python solve.py`, or name a file with --weights."
    )


def evaluation_prototxt(experiment: Path) -> Path:
    """Return the prototxt of the net that reads images and labels; FileNotFoundError if there is none."""
    for name in ("val.prototxt", "test.prototxt"):
        if (experiment / name).is_file():
            return experiment / name
    raise FileNotFoundError(f"{experiment} has no val.prototxt: `python -m nets`, run in {ROOT}, writes it.")


def evaluation_net(prototxt: Path, split: str, weights: Path) -> caffe.Net:
    """Return an experiment's evaluation net, made to read `split`, in its order."""
    if data_settings(prototxt).get("split") == split and "train" not in split:
        return caffe.Net(str(prototxt), caffe.TEST, weights=str(weights))
    param = _read_net(prototxt)
    for layer in param.layer:
        settings = _settings(layer)
        if settings:
            layer.python_param.param_str = repr({**settings, "split": split, "randomize": False})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / prototxt.name
        path.write_text(text_format.MessageToString(param), encoding="utf-8")
        return caffe.Net(str(path), caffe.TEST, weights=str(weights))


def data_settings(prototxt: Path) -> dict[str, Any]:
    """Return the settings in the param_str of a net's data layer, unchecked; {} if it has none."""
    found = [settings for layer in _read_net(prototxt).layer if (settings := _settings(layer))]
    return found[0] if found else {}


def unfilled_layers(net: caffe.Net) -> list[str]:
    """Return the layers whose parameters are all zero, as those are that a weights file left out."""
    return [name for name in net.params if not any(blob.data.any() for blob in net.params[name])]


def use_device(gpu: int | None) -> None:
    """Compute on the GPU of that number, or with None on the CPU."""
    if gpu is None:
        caffe.set_mode_cpu()
    else:
        caffe.set_device(gpu)
        caffe.set_mode_gpu()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that score.py and infer.py share."""
    parser.add_argument("--net", metavar="DIR", help="the experiment's folder; by default the one you are in")
    parser.add_argument("--weights", metavar="FILE", help="by default the experiment's furthest snapshot")
    device = parser.add_mutually_exclusive_group()
    device.add_argument("--gpu", type=int, metavar="N", help="compute on this GPU (default: on the CPU)")
    device.add_argument("--cpu", action="store_true", help="compute on the CPU")


def iteration_of(weights: str | os.PathLike[str]) -> int | None:
    """Return the iteration that a snapshot's name tells (..._iter_4000.caffemodel), or None."""
    found = re.search(r"_iter_(\d+)\.caffemodel(\.h5)?$", Path(weights).name)
    return int(found[1]) if found else None


def _read_net(path: Path) -> caffe_pb2.NetParameter:
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), caffe_pb2.NetParameter())
    except text_format.ParseError as error:
        raise ValueError(f"{path} is no prototxt of a net: {error}") from None


def _settings(layer: caffe_pb2.LayerParameter) -> dict[str, Any]:
    """Return the dict in a Python layer's param_str; {} for any other layer."""
    try:
        settings = ast.literal_eval(layer.python_param.param_str)
    except (ValueError, SyntaxError):
        return {}
    return settings if isinstance(settings, dict) else {}
