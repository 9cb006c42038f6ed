"""What an experiment is: its nets and files, what it starts from, how long it goes on, what it is measured by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment, whose folder has its name: the one owner of these facts.

    Training, rehearsal, scoring, reproduction and the tables ask it; its solve.py has only what a person reads it for.
    """

    net: Callable[..., Any]
    """``net(split, thin=1)`` makes the net for a split of the data; ``thin`` divides the trunk's channels."""
    splits: Mapping[str, str]
    """The split of each prototxt: of the one that is trained, of the one that is scored, and "deploy" for no data."""
    starts_from: tuple[str, ...] = ()
    """Whose weights training starts from: bases (nets/bases.py) or experiments; () is from scratch.

    An experiment outside the repository may name files, NAME.caffemodel, relative to its folder.
    """
    obtain: str = ""
    """How to come by such files, as a command; {path} in it is the first that is missing."""
    iterations: int
    """How many it is trained for."""
    max_iter: int | None = None
    """What solver.prototxt has in the place of ``iterations``; None where it has just that.

    The reference's solvers for NYUDv2, SIFT Flow and PASCAL-Context say 300,000, while the loops of its solve.py, which
    `step` through whatever max_iter says, end at 100,000 or 400,000. The files here equal the reference's, and training
    goes as far as its loops: both are facts.
    """
    score_every: int
    """From one scoring to the next, in iterations."""
    solver: Mapping[str, Any] | None = None
    """The fields of solver.prototxt, which is then written with the nets; None where it is written by hand."""
    published: str = ""
    """The row of the papers that its scores are set against, such as pami3/8s; "" where there is none of its own."""

    @property
    def split(self) -> str:
        """The split that it is scored on."""
        return list(self.splits.values())[1]

    def total(self, max_iter: int) -> int:
        """How many iterations to train for by a solver.prototxt of that max_iter: one that was changed is heeded."""
        return self.iterations if max_iter == (self.max_iter or self.iterations) else max_iter
