"""The progress bar of what takes a while: tqdm's, where it is installed and there is a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Any


class ProgressBar:
    """Counts on the terminal; shows nothing without tqdm or without a terminal."""

    def __init__(self, what: str, total: int | None, done: int = 0, shown: bool = True, unit: str = "B") -> None:
        """Begin at `done` of `total` bytes, or other units; None: nobody knows how many there will be."""
        self._bar: Any = None
        if not shown:
            return
        try:
            from tqdm import tqdm  # noqa: PLC0415
        except ImportError:
            return
        self._bar = tqdm(
            desc=what, total=total, initial=done, unit=unit, unit_scale=unit == "B", disable=None, leave=False
        )

    def add(self, count: int) -> None:
        """Count so many more."""
        if self._bar is not None:
            self._bar.update(count)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
