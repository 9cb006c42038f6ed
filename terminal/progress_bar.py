"""The progress bar of whatever takes a while: tqdm's, where that is installed.

with ProgressBar("voc2011.tar", total=2_000_000) as bar:         bytes, on a terminal only
    bar.add(4096)

with image_bar(736) as advance:                                  images, one at a time
    advance("2007_000033")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO


class ProgressBar:
    """A line that renews itself, on stderr or another terminal; shows nothing without tqdm."""

    def __init__(
        self,
        what: str | None,
        total: int | None,
        done: int = 0,
        *,
        shown: bool = True,
        unit: str = "B",
        stays: bool = False,
        everywhere: bool = False,
        terminal: TextIO | None = None,
        form: str | None = None,
    ) -> None:
        """Begin at `done` of `total` bytes, or other units; None: nobody knows how many there will be.

        stays: the line stays when all is done. everywhere: it is written where there is no terminal too. terminal: the
        one to write to, at the line where that is. form: what the line holds, as tqdm's bar_format says it.
        """
        self._bar: Any = None
        tqdm = _tqdm()
        if not shown or tqdm is None:
            return
        # Some terminals (a container's) say that they are 0 columns wide, and tqdm would show nothing.
        wide = terminal is None or os.get_terminal_size(terminal.fileno()).columns > 0
        self._bar = tqdm(
            desc=what,
            total=total,
            initial=done,
            unit=unit,
            unit_scale=unit == "B",
            disable=None if terminal is None and not everywhere else False,
            leave=stays,
            file=terminal,
            position=None if terminal is None else 0,
            dynamic_ncols=terminal is not None and wide,
            ncols=None if wide else 80,
            bar_format=form,
        )

    def add(self, count: int = 1) -> None:
        """Count so many more."""
        if self._bar is not None:
            self._bar.update(count)

    def reach(self, done: int) -> None:
        """Count up to `done`."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def describe(self, text: str) -> None:
        """Renew the words behind the bar, which show with the next count."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def write(self, text: str) -> None:
        """Print a line of its own above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self._bar.fp)

    def refresh(self) -> None:
        """Show the line as it is now."""
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Leave the line; nothing happens the second time."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def is_installed() -> bool:
    """Tell whether there is what draws the bar."""
    return _tqdm() is not None


@contextmanager
def image_bar(total: int, terminal: TextIO | None = None) -> Iterator[Callable[[str], None]]:
    """Give what to call with each image's id, as it is done: counts on stderr, or on another terminal."""
    with ProgressBar(
        None, total, unit="image", stays=terminal is None, everywhere=terminal is None, terminal=terminal
    ) as bar:
        yield lambda image_id: bar.add()


def duration(seconds: float) -> str:
    """Return a time as a person says it: 40 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _tqdm() -> Any:
    """Return tqdm's class, None where it is not installed."""
    try:
        from tqdm import tqdm  # noqa: PLC0415  used where it is installed
    except ImportError:
        return None
    return tqdm
