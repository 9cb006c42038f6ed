"""A lock that processes hold by a file; it goes with the process, however that ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, on_wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold a lock against other processes and threads; where another holds it, wait for that to end.

    path: the lock's file, which is made where it is missing, and stays. on_wait: called once, before waiting. Raises
    OSError where the file cannot be made, or filelock is not installed.
    """
    try:
        from filelock import FileLock, Timeout  # noqa: PLC0415  used where it is installed
    except ImportError:
        raise OSError(
            "filelock, by which two processes keep out of each other's way, is not installed: pip install filelock"
        ) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if on_wait is not None:
            on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
