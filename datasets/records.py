"""What has been fetched: one JSON file a source under DATA/downloads/records, and a lock beside it.

A record is how a later call knows which files were put there by this tool, and what bytes they had.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from datasets import DatasetError
from files import locking
from files.writing import write_text

DOWNLOADS = "downloads"
_RECORDS = f"{DOWNLOADS}/records"


@dataclass
class Record:
    """What is known of one fetched source."""

    address: str
    """Where the file came from: a web address, or a path given with --from."""
    sha256: str = ""
    """Of the downloaded file; empty where a folder was given."""
    size: int = 0
    """Of the downloaded file, bytes."""
    whole: bool = False
    """False while files are being put in their place."""
    files: dict[str, str] = field(default_factory=dict)
    """Of an unpacked dataset: each file's path in the source's folder, and its SHA-256."""


def path_of(data: Path, name: str) -> Path:
    """Return the path of a source's record."""
    return data / _RECORDS / f"{name}.json"


def read(data: Path, name: str) -> Record | None:
    """Return a source's record, None where there is none; raises DatasetError for one that cannot be read."""
    path = path_of(data, name)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Record(**{each.name: stored[each.name] for each in fields(Record)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path} cannot be read ({error!r}). Delete it, and what it tells of is checked anew."
        ) from None


def write(data: Path, name: str, record: Record) -> None:
    """Write a source's record, whole or not at all."""
    path = path_of(data, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(record), indent=1) + "\n")


@contextmanager
def locked(data: Path, name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a source against a second process that fetches it; the lock goes with the process, however it ends."""
    path = path_of(data, name).with_suffix(".lock")
    waits = f"{name}: another process fetches it into {data}; waiting for that to end."
    with locking.locked(path, on_wait=lambda: say(waits)):
        yield
