"""An experiment's folder: where it is, its nets and its weights; what score.py and infer.py both ask for.

An experiment is a folder of prototxts, such as voc-fcn8s or shapes-fcn/8s: val.prototxt (or test.prototxt) reads
images and labels, deploy.prototxt takes an image, and snapshot/ holds what training saved.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
from pathlib import Path
from typing import Any

from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from nets import experiments
from nets.loading import load
from reading.data_layers import data_layers, placed, settings_of

ROOT = experiments.ROOT

# What of an image the data layers can hide.
MASKS = ("foreground", "background", "both")

# What solve.py --rehearse leaves in the folder that holds the rehearsal's experiment.
REHEARSAL = "rehearsal.json"


def find_experiment(name: str | None) -> Path:
    """Return an experiment's folder: the one named, or with None the one that the program runs in.

    name: a path, or a folder of the repository such as voc-fcn8s, shapes-fcn/8s or voc-fcn-ablations/null-background.
    The prototxts of such a variant are written if they are not there yet. Raises ValueError where there is none.
    """
    for folder in [Path.cwd()] if name is None else [Path(name), ROOT / name]:
        if folder.is_dir() and any(folder.glob("*.prototxt")):
            return folder.resolve()
    variant = None if name is None else _repository_name(Path(name))
    if variant in experiments.VARIANTS:
        experiments.write(variant)
        return ROOT / variant
    found = "this folder is none" if name is None else f"there is none in '{name}'"
    near = difflib.get_close_matches(name or "", experiments.all_names(), 5) or list(experiments.EXPERIMENTS)
    raise ValueError(f"Which experiment? Name its folder with --net: {found}. The repository has {', '.join(near)}.")


def _repository_name(folder: Path) -> str:
    """Return a folder's path from the repository's root, whether it is given from there or from here."""
    here = folder.resolve()
    return here.relative_to(ROOT).as_posix() if here.is_relative_to(ROOT) and here != ROOT else folder.as_posix()


def experiment_name(experiment: Path) -> str:
    """Return an experiment's folder as the repository, or the rehearsal that it is in, knows it: shapes-fcn/8s."""
    within = rehearsal_of(experiment) or ROOT
    return experiment.relative_to(within).as_posix() if experiment.is_relative_to(within) else experiment.name


def rehearsal_of(experiment: Path) -> Path | None:
    """Return the rehearsal's folder where an experiment's is one that a rehearsal wrote (thin nets), else None."""
    return next((folder for folder in experiment.parents if (folder / REHEARSAL).is_file()), None)


def data_folder(named: Path | None = None) -> Path:
    """Return where datasets and weights are: the folder named, else the one that FCN_DATA names, else data/."""
    return Path(os.path.abspath(named or os.environ.get("FCN_DATA") or ROOT / "data"))


def results_folder(root: Path = ROOT) -> Path:
    """Return where scores and reports go: the folder that FCN_RESULTS names, else results/."""
    return Path(os.path.abspath(os.environ.get("FCN_RESULTS") or root / "results"))


def environment() -> dict[str, str]:
    """Return the environment for a program that is started in another folder: FCN_DATA and FCN_RESULTS are absolute."""
    folders = {name: os.environ.get(name) for name in ("FCN_DATA", "FCN_RESULTS")}
    return {**os.environ, **{name: os.path.abspath(folder) for name, folder in folders.items() if folder}}


def run_folder(name: str, root: Path = ROOT, kind: str = "snapshot") -> Path:
    """Return where an experiment's training leaves its run: snapshot/ in its own folder, as in the reference.

    Where FCN_RESULTS names a folder for all that is written, as in a container, it is NAME/snapshot in that. kind: or
    "rehearsal".
    """
    return (results_folder(root) if os.environ.get("FCN_RESULTS") else root) / name / kind


def find_weights(experiment: Path, weights: str | None) -> Path:
    """Return the weights to use: the file named, else the experiment's furthest snapshot, else its own file.

    Raises FileNotFoundError that says what was looked for, and how to come by it.
    """
    if weights is not None:
        if not os.path.isfile(weights):
            raise FileNotFoundError(f"There are no weights {weights}: name a .caffemodel with --weights.")
        return Path(weights).resolve()
    rehearsal = rehearsal_of(experiment)
    if rehearsal is not None:
        run = rehearsal if _is_rehearsed(experiment, rehearsal) else experiment / "snapshot"
    else:
        run = run_folder(experiment_name(experiment)) if experiment.is_relative_to(ROOT) else experiment / "snapshot"
    snapshots = [p for p in run.glob("*.caffemodel*") if iteration_of(p) is not None]
    own = experiment / f"{experiment.name}.caffemodel"
    if snapshots:
        return max(snapshots, key=lambda path: iteration_of(path) or 0)
    if own.is_file():
        return own
    raise FileNotFoundError(
        f"There are no weights for {experiment_name(experiment)}: neither {run}/*.caffemodel "
        f"nor {own}. Train them with `{_command(experiment)}`, or name a file with --weights."
    )


def _command(experiment: Path) -> str:
    """Return what trains an experiment; a variant's folder has no solve.py, but the one around it has."""
    if not (experiment / "solve.py").is_file() and (experiment.parent / "solve.py").is_file():
        return f"cd {experiment.parent} && python solve.py {experiment.name}"
    return f"cd {experiment} && python solve.py"


def _is_rehearsed(experiment: Path, rehearsal: Path) -> bool:
    """Tell whether an experiment in a rehearsal's folder is the one that it trained: others are what it starts from."""
    note = json.loads((rehearsal / REHEARSAL).read_text(encoding="utf-8"))
    return bool(note["experiment"] == experiment_name(experiment))


def evaluation_prototxt(experiment: Path) -> Path:
    """Return the prototxt of the net that reads images and labels; FileNotFoundError if there is none."""
    for name in ("val.prototxt", "test.prototxt"):
        if (experiment / name).is_file():
            return experiment / name
    raise FileNotFoundError(f"{experiment} has no val.prototxt: `python -m nets`, run in {ROOT}, writes it.")


def evaluation_net(
    prototxt: Path, split: str, weights: Path, mask: str | None = None, data: Path | None = None
) -> caffe.Net:
    """Return an experiment's evaluation net, made to read `split`, in its order, with that mask over its images.

    data: the folder of data, by default what FCN_DATA says.
    """
    param = placed(read_net(prototxt), prototxt.parent, data)
    for layer in data_layers(param):
        settings = settings_of(layer)
        if (settings.get("split"), settings.get("mask")) == (split, mask) and "train" not in split:
            continue
        asked = {**settings, "split": split, "randomize": False}
        if mask is not None or "mask" in asked:
            asked["mask"] = mask
        layer.python_param.param_str = repr(asked)
    return _filled(load(param), weights, prototxt)


def filled_net(prototxt: Path, weights: Path) -> caffe.Net:
    """Return the TEST net of a prototxt with its weights; ValueError where they are damaged or another net's."""
    return _filled(caffe.Net(str(prototxt), caffe.TEST), weights, prototxt)


def _filled(net: caffe.Net, weights: Path, prototxt: Path) -> caffe.Net:
    try:
        net.copy_from(str(weights))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"The weights {weights} are not for this net ({prototxt.name}): {error}") from error
    return net


def data_settings(prototxt: Path) -> dict[str, Any]:
    """Return the settings in the param_str of a net's data layer, unchecked; {} if it has none."""
    found = data_layers(read_net(prototxt))
    return settings_of(found[0]) if found else {}


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


def read_net(path: Path) -> caffe_pb2.NetParameter:
    """Return the net in a prototxt; ValueError if it is none."""
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), caffe_pb2.NetParameter())
    except text_format.ParseError as error:
        raise ValueError(f"{path} is no prototxt of a net: {error}") from None
