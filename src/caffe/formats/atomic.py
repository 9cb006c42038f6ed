"""Files written whole or not at all: beside their place, to the disk, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import CaffeError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give a path to write to; what is there at the end takes the place of `path` at once, on the disk too.

    If the block raises, `path` is as it was. A missing folder is made. An OSError becomes a CaffeError that names the
    path. A process that is killed meanwhile leaves a file `<path>.<process id>.part`.
    """
    target = os.path.realpath(path)  # a link stays one
    is_device = os.path.exists(target) and not os.path.isfile(target) and not os.path.isdir(target)
    temporary = f"{target}.{os.getpid()}.part"
    try:
        if is_device:
            yield target  # a device or a pipe has nothing that could be kept
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, target)
        if os.name != "nt":  # Windows cannot open a folder
            _to_disk(os.path.dirname(target))
    except OSError as error:
        raise CaffeError(f"Could not write {os.fspath(path)}: {error.strerror or error}.") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _to_disk(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
