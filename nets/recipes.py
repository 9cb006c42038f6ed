"""The papers' two ways to optimise and the demo's, as a solver's fields, and what a variant of an experiment is.

The TPAMI paper's, which the reference solvers have: one image an iteration, momentum 0.99, and a loss that is the sum
over the pixels, so that the rate is small ("heavy"). The CVPR paper's: 20 images an iteration, whose gradients are
accumulated as each has its own size, momentum 0.9, and a loss that is the mean over the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nets.definition import Experiment

# Both papers: a fixed rate, and a decay of 0.0005 (the CVPR paper prints two, the reference solvers have this one).
COMMON = {
    "lr_policy": "fixed",
    "weight_decay": 0.0005,
    "display": 20,
    "average_loss": 20,
    # The test net is made so that score.py has one to run; the solver itself never gets to test_interval.
    "test_interval": 999999999,
    "test_initialization": False,
    "snapshot_prefix": "snapshot/train",
}


@dataclass(frozen=True, kw_only=True)
class Variant(Experiment):
    """An experiment that differs from another by little; all its files are written when it is asked for."""

    of: str
    """The experiment that it varies, as which its net is filled."""
    about: str
    """One line: what differs, what the papers say of it, and what was chosen where they are silent."""


def lengths(solver: Mapping[str, Any]) -> dict[str, Any]:
    """The length of a training by its solver's fields, and its scorings: as often as it takes a snapshot."""
    return {"iterations": solver["max_iter"], "score_every": solver["snapshot"]}


def heavy(splits: Mapping[str, str], images: int, base_lr: float = 1e-10, **others: Any) -> dict[str, Any]:
    """The solver's fields of the TPAMI recipe, with ``others`` in the place of some.

    ``splits``: the experiment's; ``images``: how many the one has that it is scored on. 100,000 iterations, as on VOC,
    scored every 4,000.
    """
    fields = {"base_lr": base_lr, "momentum": 0.99, "iter_size": 1, "max_iter": 100_000, "snapshot": 4000}
    return {**_nets(splits, images), **COMMON, **fields, **others}


def light(splits: Mapping[str, str], images: int, base_lr: float, **others: Any) -> dict[str, Any]:
    """The solver's fields for thin nets from random weights, with ``others`` in the place of some: the demo's recipe.

    One image an iteration, momentum 0.9, a loss that is the mean over the pixels, and a rate that falls to 0.
    """
    fields = {"base_lr": base_lr, "lr_policy": "poly", "power": 0.9, "momentum": 0.9, "max_iter": 20_000}
    return {**_nets(splits, images), **COMMON, "snapshot": 2000, **fields, **others}


def accumulated(
    splits: Mapping[str, str], images: int, base_lr: float, max_iter: int, snapshot: int, **others: Any
) -> dict[str, Any]:
    """The solver's fields of the CVPR recipe, with ``others`` in the place of some."""
    fields = {"base_lr": base_lr, "momentum": 0.9, "iter_size": 20, "max_iter": max_iter, "snapshot": snapshot}
    return {**_nets(splits, images), **COMMON, **fields, **others}


def _nets(splits: Mapping[str, str], images: int) -> dict[str, Any]:
    """Which of an experiment's files is trained, the first, and which scored, the second."""
    trained, scored, *_ = splits
    return {"train_net": trained, "test_net": [scored], "test_iter": [images]}
