"""Window files: images and windows in them, as R-CNN's tools write them and WindowData reads them.

For each image: `# number`, path, channels, height, width, how many windows; for each window: class, overlap with an
object, x1 y1 x2 y2 (pixels, the last included). All are words between white space.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..errors import CaffeError, FileFormatError, why_not_opened

_WORDS = 6  # of a window
_MOST = 2**24  # of a count, class or corner: Caffe keeps them as floats, which are exact up to here


@dataclass
class WindowFile:
    """The images' paths, and the windows, N x 6 int32: image, class, x1, y1, x2, y2; background has the class 0."""

    images: list[str]
    foreground: np.ndarray
    background: np.ndarray


def read_window_file(path: str | os.PathLike[str], fg_threshold: float, bg_threshold: float) -> WindowFile:
    """Read a window file and part its windows by overlap: objects from fg_threshold on, background below bg_threshold.

    Raises CaffeError if it cannot be read, and FileFormatError, with the line's number, for what is no window file.
    """
    name = os.fspath(path)
    images: list[str] = []
    foreground, background = [], []
    try:
        with open(name, encoding="utf-8", errors="surrogateescape") as file:
            words = _Words(name, file)
            while (mark := words.next()) is not None:
                if mark != "#" or words.next() != str(len(images)):
                    raise words.fault(f"the next image should begin here, with '# {len(images)}'.")
                images.append(words.needed("an image's path"))
                for what in ("channels", "height", "width"):
                    words.whole(f"an image's {what}")
                overlap, windows = words.windows(words.whole("an image's number of windows"))
                boxes = np.insert(windows, 0, len(images) - 1, axis=1)
                is_object = overlap >= np.float32(fg_threshold)
                if (boxes[is_object, 1] <= 0).any():
                    raise words.fault(
                        f"a window above has an overlap of {fg_threshold:g} or more with an object, whose class must "
                        "be 1 or more; 0 is the background."
                    )
                foreground.append(boxes[is_object])
                rest = boxes[~is_object & (overlap < np.float32(bg_threshold))]
                rest[:, 1] = 0
                background.append(rest)
    except (OSError, ValueError) as error:
        raise CaffeError(f"Could not open the window file {name}: {why_not_opened(error)}.") from None
    if not images:
        raise FileFormatError(f"The window file {name} is empty.")
    return WindowFile(images, np.concatenate(foreground), np.concatenate(background))


class _Words:
    """The words of a file, one after the other."""

    def __init__(self, name: str, lines: Iterable[str]) -> None:
        self._name = name
        self._line = 0
        self._stream = self._split(lines)

    def _split(self, lines: Iterable[str]) -> Iterator[str]:
        for number, text in enumerate(lines, 1):
            self._line = number
            yield from text.split()

    def next(self) -> str | None:
        """Return the next word; None at the end."""
        return next(self._stream, None)

    def needed(self, what: str) -> str:
        """Return the next word, which must be there."""
        word = self.next()
        if word is None:
            raise self.fault(f"the file ends where {what} should be.")
        return word

    def whole(self, what: str) -> int:
        """Return the next word as a whole number from 0 on."""
        word = self.needed(what)
        if not (word.isascii() and word.isdigit() and len(word) < 9 and int(word) <= _MOST):
            raise self.fault(f"{what} should be here, 0 to {_MOST}, but there is {word[:50]!r}.")
        return int(word)

    def windows(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the overlaps, float32, and class, x1, y1, x2, y2, N x 5 int32, of the next windows."""
        words = list(islice(self._stream, _WORDS * count))
        if len(words) < _WORDS * count:
            raise self.fault(f"the file ends after {len(words) // _WORDS} of an image's {count} windows.")
        try:
            values = np.array(words, np.float64).reshape(count, _WORDS)
        except ValueError as error:
            raise self.fault(f"a window above is no six numbers: {error}.") from None
        others = values[:, [0, 2, 3, 4, 5]]
        if not (np.abs(others) <= _MOST).all() or (others % 1).any():
            raise self.fault("a window above has a class or corner that is no whole number of a usual size.")
        return values[:, 1].astype(np.float32), others.astype(np.int32)

    def fault(self, what: str) -> FileFormatError:
        """Make the error that names the file and the line."""
        return FileFormatError(f"The window file {self._name}, line {self._line}: {what}")
