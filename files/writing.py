"""Files that are written whole or not at all: whoever reads sees the old content or the new, however a writer ends.

    write_text(path, text)

    with replaced(path) as partial:         for what writes by a path of its own: an image, an archive, weights
        image.save(partial, format="PNG")

What is written goes to a file beside the path, with a name that nobody can guess, reaches the disk, and takes the
path's place in one step.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give the path of an empty file beside `path`, which takes its place at the end, unless there is an error.

    The file has `path`'s suffix, since some writers go by that, and its permissions, where it exists. Where `path` is
    a link, what it leads to is replaced. Raises OSError where that cannot be written.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".{secrets.token_hex(8)}.partial{target.suffix}")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        if target.is_file():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        yield partial
        _to_disk(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str, encoding: str = "utf-8") -> None:
    """Write a text file whole or not at all, its line ends as they are; raise OSError where it cannot be written."""
    with replaced(path) as partial:
        partial.write_bytes(text.encode(encoding))


def _to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
