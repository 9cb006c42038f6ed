"""A solver's settings: what programs see of them, and what is refused before any net is built."""

from __future__ import annotations

import os

from ..errors import SolverError, why_not_opened
from ..proto import caffe_pb2
from ..world import root_solver


class SolverParameter:
    """What pycaffe shows of a solver's settings: a window on the message that the solver works with."""

    def __init__(self, param: caffe_pb2.SolverParameter) -> None:
        self._param = param

    @property
    def max_iter(self) -> int:
        """The iteration at which solve() ends."""
        return self._param.max_iter

    @property
    def display(self) -> int:
        """How many iterations lie between two lines of the log; 0 for none."""
        return self._param.display

    @property
    def layer_wise_reduce(self) -> bool:
        """Whether several solvers add up gradients layer by layer, during backward."""
        return self._param.layer_wise_reduce

    @property
    def iter_size(self) -> int:
        """How many passes' gradients make one update."""
        return self._param.iter_size

    @property
    def base_lr(self) -> float:
        """The learning rate that the policy starts from; a new one takes effect at the next update."""
        return self._param.base_lr

    @base_lr.setter
    def base_lr(self, value: float) -> None:
        self._param.base_lr = value


def check_settings(param: caffe_pb2.SolverParameter) -> None:
    """Raise SolverError for settings that cannot be, and for a snapshot_prefix that cannot be written to."""
    for name in ("average_loss", "iter_size"):
        if getattr(param, name) < 1:
            raise SolverError(f"{name} is {getattr(param, name)}; it must be 1 or more.")
    if param.snapshot and root_solver():
        _probe(param.snapshot_prefix)


def _probe(prefix: str) -> None:
    """Write and remove a file where snapshots will go, before hours of training."""
    if not prefix:
        raise SolverError("In solver params, snapshot is specified but snapshot_prefix is not.")
    probe = f"{prefix}_iter_0.tempfile"
    try:
        os.makedirs(os.path.dirname(prefix) or ".", exist_ok=True)
        with open(probe, "wb"):
            pass
        os.remove(probe)
    except (OSError, ValueError) as error:
        raise SolverError(f"Cannot write to snapshot prefix {prefix!r}: {why_not_opened(error)}.") from error
