"""The exceptions the engine raises of its own, all of them RuntimeErrors, as pycaffe's are.

BVLC Caffe ends the process where these are raised.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CaffeError(RuntimeError):
    """Anything that Caffe would have ended the process for."""


class PrototxtError(CaffeError):
    """A prototxt or message definitions that do not parse; the text names file, line, column and field.

    `path` is the file, or what stood for it; `line` and `column`, from 1, are where the fault is, and both None where
    it has no place: a file that is missing, empty or of another kind, an old net that cannot be upgraded.
    """

    def __init__(self, text: str, path: str = "<text>", line: int | None = None, column: int | None = None) -> None:
        super().__init__(text)
        self.path = path
        self.line = line
        self.column = column


class NetError(CaffeError):
    """A net that cannot be: an unknown layer type or bottom, a shape that does not fit, a label out of range."""


class FileFormatError(CaffeError):
    """A weights, state or data file that is empty, cut off, damaged or of another kind."""


class SolverError(CaffeError):
    """A solver setting that cannot be, or a state that does not fit the net."""


class NonFiniteError(CaffeError):
    """A loss or parameter that is no longer finite; the text names the iteration and the layer."""


def why_not_opened(error: OSError | ValueError) -> str:
    """Return the system's reason why a file could not be opened; a ValueError is a zero byte in its path."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` was probably meant to be, whatever its case and underscores, or None."""
    plain = {candidate.replace("_", "").lower(): candidate for candidate in sorted(known, reverse=True)}
    wanted = name.replace("_", "").lower()
    longer = [candidate for candidate in plain if candidate.startswith(wanted)]
    if longer and len(wanted) >= 4:  # "Conv" is nearer to "Concat" in letters, to "Convolution" in sense
        return plain[min(longer, key=len)]
    close = difflib.get_close_matches(wanted, plain, n=1)
    return plain[close[0]] if close else None
