"""Digests of files, computed while their bytes pass."""

from __future__ import annotations

import hashlib
from pathlib import Path

from terminal.progress_bar import ProgressBar

CHUNK = 2**20
_LARGE = 2**26


class Digests:
    """The SHA-256 of the bytes that were added, and their digest as a catalogue writes it ("md5:...")."""

    def __init__(self, expected: str = "") -> None:
        """Compute what it takes to compare with `expected`; "" for a file of which no digest is known."""
        self.expected = expected
        self.algorithm = expected.partition(":")[0]
        self._sha256 = hashlib.sha256()
        # To know a file again, not to keep a secret: so also where such digests are forbidden for that.
        self._known = hashlib.new(self.algorithm, usedforsecurity=False) if expected else None

    def add(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._sha256.update(chunk)
        if self._known is not None:
            self._known.update(chunk)

    @property
    def sha256(self) -> str:
        """The SHA-256, in hexadecimal."""
        return self._sha256.hexdigest()

    @property
    def wrong(self) -> str:
        """What to say of bytes that are not those expected, to follow on the file's name; "" if they are."""
        if self._known is None or f"{self.algorithm}:{self._known.hexdigest()}" == self.expected:
            return ""
        return f"has the {self.algorithm} {self._known.hexdigest()}, not {self.expected.partition(':')[2]}"


def of_file(path: Path, expected: str = "") -> Digests:
    """Return the digests of a file; one that takes a while shows its progress."""
    digests = Digests(expected)
    size = path.stat().st_size
    with path.open("rb") as file, ProgressBar(f"checking {path.name}", size, shown=size > _LARGE) as bar:
        while chunk := file.read(CHUNK):
            digests.add(chunk)
            bar.add(len(chunk))
    return digests


def sizes(count: float) -> str:
    """Return a number of bytes as people read it: 1.9 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
