"""Checks of what a program passes, so that a wrong call says what was expected."""

from __future__ import annotations

import operator
import os
from typing import Any, TypeAlias, cast

from .proto import caffe_pb2

FilePath: TypeAlias = str | os.PathLike[str]

# What follows the network file in the two forms of Net's call.
_NEW_FORM = ("phase", "level", "stages", "weights")
_OLD_FORM = ("weights", "phase")


def integer(value: Any, what: str) -> int:
    """Return a whole number of Python's or numpy's as an int. Raises TypeError for anything else; `what` names it."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is an integer, not {value!r}.") from None


def function(value: Any, what: str) -> Any:
    """Return a value that can be called. Raises TypeError for anything else; `what` says what it is to take."""
    if not callable(value):
        raise TypeError(f"{what} is wanted, not {value!r}.")
    return value


def names(value: Any, what: str) -> list[str]:
    """Return a sequence of strings as a list. Raises TypeError for anything else, a single string included."""
    wrong = isinstance(value, str) or not hasattr(value, "__iter__")
    found = [] if wrong else list(value)
    if wrong or not all(isinstance(name, str) for name in found):
        raise TypeError(f"{what} is a list of strings, not {'the string ' if isinstance(value, str) else ''}{value!r}.")
    return found


def net_arguments(*args: Any, **kwargs: Any) -> tuple[caffe_pb2.Phase, int, list[str], str | None]:
    """Sort out Net's two forms: (phase, level=0, stages=None, weights=None), and the old (weights, phase)."""
    is_old = bool(args) and isinstance(args[0], (str, os.PathLike))
    form = _OLD_FORM if is_old else _NEW_FORM
    given = dict(zip(form, args, strict=False))
    wrong = [name for name in kwargs if name not in form or name in given]
    if len(args) > len(form) or wrong:
        excess = f"{', '.join(wrong)} cannot be given too" if wrong else f"{1 + len(args)} arguments are too many"
        raise TypeError(f"Net(network_file, {', '.join(form)}) is the call; {excess}.")
    given.update(kwargs)
    phase, weights = given.get("phase"), given.get("weights")
    if isinstance(phase, float) or phase not in (caffe_pb2.TRAIN, caffe_pb2.TEST):
        taken = f"; {weights!r} was taken for the weights file, which may come before it" if is_old else ""
        raise TypeError(f"Net() needs a phase, caffe.TRAIN or caffe.TEST, not {phase!r}{taken}.")
    return (
        cast("caffe_pb2.Phase", int(phase)),
        integer(given.get("level", 0), "Net's level"),
        names(given.get("stages") or [], "Net's stages"),
        None if weights is None else os.fspath(weights),
    )
