"""The exceptions the engine raises of its own, all of them RuntimeErrors, as pycaffe's are.

BVLC Caffe ends the process where these are raised.
"""

from __future__ import annotations


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
