"""The files of weights that an experiment's training starts from: where they are, and how to come by them."""

from __future__ import annotations

import shlex
from pathlib import Path

from datasets.catalogue import CATALOGUE
from nets.bases import BASES
from nets.definition import Experiment
from nets.experiments import lookup, solve
from nets.folders import ROOT, data_folder, run_folder
from reading.image_files import data_path


def files(experiment: Experiment, home: Path, data: Path | None = None) -> list[Path]:
    """The files in the order of ``starts_from``, be they there or not.

    ``home`` is the experiment's folder, ``data`` the folder of data, by default what FCN_DATA says.
    """
    return [_file(origin, home, data) for origin in experiment.starts_from]


def obtain(experiment: Experiment, missing: Path, data: Path | None = None) -> str:
    """The commands that bring the files; "" where none is known. ``missing`` is the first that is not there."""
    trained = [origin for origin in experiment.starts_from if origin not in BASES and not _is_file(origin)]
    ways = [f"cd {ROOT} && {BASES[origin].obtain}" for origin in experiment.starts_from if origin in BASES]
    if trained:
        ways.append(", and ".join(_training(origin) for origin in trained))
    if trained and all(origin in CATALOGUE and CATALOGUE[origin].released for origin in trained):
        released = " ".join(str(data_folder(data) / CATALOGUE[origin].path) for origin in trained)
        fetch = f"cd {ROOT} && python -m datasets fetch {' '.join(trained)}"
        ways.append(f"or the authors' own: {fetch}, and then --weights {released}")
    if experiment.obtain:
        ways.append(experiment.obtain.format(path=missing))
    return "; ".join(ways)


def _file(origin: str, home: Path, data: Path | None) -> Path:
    if origin in BASES:
        return data_folder(data) / "ilsvrc-nets" / BASES[origin].weights
    if _is_file(origin):
        return data_path(origin, home, data)
    return run_folder(origin) / f"train_iter_{lookup(origin).iterations}.caffemodel"


def _is_file(origin: str) -> bool:
    return origin.endswith(".caffemodel")


def _training(name: str) -> str:
    folder, arguments = solve(name)
    return f"cd {ROOT / folder} && {shlex.join(['python', *arguments])}"
