"""What an experiment is: its nets, the files they are written to, and what its training starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Experiment:
    """One experiment, whose folder has its name.

    ``net(split, thin=1)`` makes the net for a split of the data; ``thin`` divides the trunk's channels, for rehearsals.
    """

    net: Callable[..., Any]
    splits: Mapping[str, str]
    """The split of each prototxt: train.prototxt's, ..., and "deploy" for the net without data."""
    starts_from: tuple[str, ...] = ()
    """Whose weights training starts from: "vgg16", "alexnet", "googlenet", or other experiments; () is from scratch."""
    solver: Mapping[str, Any] | None = None
    """The fields of solver.prototxt, which is then written with the nets; None where it is written by hand."""
    of: str | None = None
    """For a variant, the experiment that it varies, whose solve.py says how its net is filled."""
