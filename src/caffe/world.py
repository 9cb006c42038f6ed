"""The solvers that train together: how many, and which one this process is (common.hpp)."""

from __future__ import annotations

from .checked import integer
from .errors import SolverError

_count = 1
_rank = 0
_multiprocess = False


def solver_count() -> int:
    """Return how many solvers train together; 1 unless told otherwise."""
    return _count


def set_solver_count(count: int) -> None:
    """Tell how many solvers train together."""
    global _count
    if integer(count, "set_solver_count's count") < 1:
        raise SolverError(f"A solver count of {count} was given; it is 1 or more.")
    _count = int(count)


def solver_rank() -> int:
    """Return this process's rank; 0 is the root, which alone logs, tests and writes snapshots."""
    return _rank


def set_solver_rank(rank: int) -> None:
    """Tell this process's rank."""
    global _rank
    if integer(rank, "set_solver_rank's rank") < 0:
        raise SolverError(f"A solver rank of {rank} was given; it is 0 or more.")
    _rank = int(rank)


def set_place(rank: int, count: int) -> None:
    """Tell that this process is one of several that train together: its rank, and how many there are."""
    if not 0 <= rank < count:
        raise SolverError(f"Rank {rank} of {count} solvers was given; ranks begin with 0.")
    set_solver_count(count)
    set_solver_rank(rank)
    set_multiprocess(True)


def root_solver() -> bool:
    """Tell whether this process is the root."""
    return _rank == 0


def set_multiprocess(value: bool) -> None:
    """Allow Python layers when several solvers train, each in a process of its own."""
    global _multiprocess
    _multiprocess = bool(value)


def multiprocess() -> bool:
    """Tell what set_multiprocess was told."""
    return _multiprocess
