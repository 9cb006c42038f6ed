"""Fetches datasets and weights: downloads, checks, unpacks, and writes the splits that follow from the data.

Where a name is there already, nothing is done. Downloads go to DATA/downloads and what was begun is taken up again; an
archive is unpacked beside its place and moved there when it is whole, so that what is in its place is never half there.
Files that this command did not write are not overwritten.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets import DatasetError, catalogue, digests, formats, records, splits
from datasets.catalogue import Companion, Download, Source
from datasets.download import PATIENCE, Patience, check_room, fetch_file
from datasets.places import add_data_argument
from datasets.records import Record
from datasets.unpack import Unusable, holds, unpack
from files.writing import replaced

# A packed archive unpacks to about so many times its size; what it is exactly shows when it is there.
_UNPACKED = 1.5


def _say(text: str) -> None:
    """Print at once, also into a pipe: what is said is often what somebody waits for."""
    print(text, flush=True)


@dataclass(frozen=True)
class Options:
    """How to fetch."""

    data: Path
    mirrors: tuple[str, ...] = ()
    """Base addresses under which files lie by their names; tried before the files' own addresses."""
    given: Path | None = None
    """A file or folder to take instead of a download."""
    keep: bool = False
    """Whether to keep archives when they are unpacked."""
    force: bool = False
    """Whether to fetch again what is there."""
    patience: Patience = PATIENCE
    say: Callable[[str], None] = _say


@dataclass(frozen=True)
class _Obtained:
    """A file that is at hand, checked."""

    path: Path
    address: str
    sha256: str
    own: bool
    """Whether it lies in the folder of downloads."""


def fetch(names: Sequence[str], options: Options) -> str:
    """Fetch what is named; returns what to print in the end.

    One that fails does not keep the others from being fetched. Raises DatasetError that says of each why it failed.
    """
    sources = [catalogue.find(name) for name in dict.fromkeys(names)]
    if options.given is not None and len(sources) != 1:
        raise DatasetError(f"--from goes with one name, found {len(sources)}: {', '.join(names)}.")
    if options.given is not None and not options.given.exists():
        raise DatasetError(f"--from {options.given}: there is no such file or folder.")
    failures, notes = [], []
    for source in sources:
        try:
            if not options.force and (done := _done(source, options.data)):
                notes.append(done)
                continue
            with records.locked(options.data, source.name, options.say):
                notes.append(_fetch_source(source, options))
        except (DatasetError, OSError) as error:
            failures.append(f"{source.name}: {_reason(error, options)}")
    try:
        derived = splits.derive(options.data)
        notes += [f"written: {path}" for path in derived.written]
        warnings = [*derived.warnings, *splits.count_warnings(options.data, [source.name for source in sources])]
        notes += [f"Note: {warning}" for warning in warnings]
    except (DatasetError, OSError) as error:
        failures.append(_reason(error, options))
    if failures:
        for note in notes:
            options.say(note)
        raise DatasetError("\n".join(failures))
    return "\n".join(notes)


def _reason(error: DatasetError | OSError, options: Options) -> str:
    if isinstance(error, DatasetError):
        return str(error)
    return (
        f"{error.filename or options.data}: {error.strerror or error}. Put that right, or choose another folder with "
        "--data DIR. The same command goes on from there."
    )


def missing(names: Sequence[str], data: Path) -> list[str]:
    """Return those of the names that are not there, or only partly; the others may be of anybody and unchecked."""
    return [name for name in names if not _is_in_place(catalogue.find(name), data, records.read(data, name))]


def _is_in_place(source: Source, data: Path, record: Record | None) -> bool:
    path = data / source.path
    if record is not None and not record.whole:
        return False
    return path.is_file() if source.unpacking is None else path.is_dir() and holds(path, source.unpacking)


def _done(source: Source, data: Path) -> str:
    """Return what to print of a source of which nothing is left to do, which takes no right to write; else ""."""
    record = records.read(data, source.name)
    if record is None or not _is_in_place(source, data, record):
        return ""
    return f"{source.name}: {data / source.path} is there.{f' {source.note}' if source.note else ''}"


def _fetch_source(source: Source, options: Options) -> str:
    """Fetch one source, whose lock is held; returns what to print of it."""
    target = options.data / source.path
    record = records.read(options.data, source.name)
    if _is_there(source, target, record, options) and not (options.force and record is not None):
        if record is None:
            _complete(source, target, options)
        return f"{source.name}: {target} is there.{f' {source.note}' if source.note else ''}"
    if source.unpacking is None:
        said = _fetch_weights(source, target, options)
    else:
        said = _fetch_dataset(source, target, record, options)
    return f"{source.name}: {said}{f' {source.note}' if source.note else ''}"


def _is_there(source: Source, target: Path, record: Record | None, options: Options) -> bool:
    """Whether the source is in its place; a file of weights that no record tells of is checked and recorded."""
    if not _is_in_place(source, options.data, record):
        return False
    if record is not None or source.unpacking is not None:
        return True
    found = _checked(source.download, target, "Move it away, and call again")
    records.write(options.data, source.name, Record("found there", found.sha256, target.stat().st_size, True))
    return True


def _fetch_weights(source: Source, target: Path, options: Options) -> str:
    obtained = _obtain(source.download, options, options.given, 0.0)
    size = obtained.path.stat().st_size
    # The place itself may be a link to another disk.
    place = target.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    if obtained.own:
        _move(obtained.path, place)
    else:
        _copy(obtained.path, place)
    records.write(options.data, source.name, Record(obtained.address, obtained.sha256, size, True))
    return f"{target}, {digests.sizes(size)}.{_digest_note(source.download, obtained.sha256)}"


def _fetch_dataset(source: Source, target: Path, record: Record | None, options: Options) -> str:
    assert source.unpacking is not None
    given = options.given
    archive: _Obtained | None = None
    if given is None or given.is_file() or (given / source.download.name).is_file():
        archive = _obtain(source.download, options, given, _UNPACKED)
    # The place itself may be a link to another disk.
    place = target.resolve()
    staging = place.with_name(f".{place.name}.unpacking")
    _remove(staging)
    used = [archive]
    try:
        origin = archive.path if archive else given
        assert origin is not None
        options.say(f"{source.name}: unpacking {origin}")
        try:
            files = unpack(origin, source.unpacking, staging, Path(source.path).name)
        except Unusable as error:
            # No digest told that before, and the next call is not to find the same file again.
            if archive is None or not archive.own or source.download.digest:
                raise
            raise DatasetError(f"{error} It is now {_put_aside(archive.path).name}.") from None
        derived = splits.Derived()
        splits.derive_within(source.name, staging, derived)
        for companion in source.companions:
            if not (staging / companion.place).exists() and not (target / companion.place).exists():
                used.append(_add_companion(companion, staging, options, companion.needed))
        splits.derive_within(source.name, staging, derived)
        for path in staging.rglob("*.txt"):
            files[path.relative_to(staging).as_posix()] = digests.of_file(path).sha256
        written = Record(
            archive.address if archive else str(given),
            archive.sha256 if archive else "",
            archive.path.stat().st_size if archive else 0,
            files=files,
        )
        _place(source, staging, place, record, written, options)
    finally:
        _remove(staging)
    for obtained in used:
        if obtained is not None and obtained.own and not options.keep:
            obtained.path.unlink(missing_ok=True)
    note = _digest_note(source.download, archive.sha256) if archive else ""
    return f"{target}, {len(files):,} files.{note}"


def _complete(source: Source, target: Path, options: Options) -> None:
    """Bring the small files into a dataset that somebody unpacked by hand, as far as they can be had."""
    for companion in source.companions:
        if not (target / companion.place).exists():
            obtained = _add_companion(companion, target, options, False)
            if obtained is not None and obtained.own:
                obtained.path.unlink(missing_ok=True)


def _add_companion(companion: Companion, folder: Path, options: Options, needed: bool) -> _Obtained | None:
    """Bring a small file into an unpacked dataset; where that fails, one that is needed is an error."""
    # A person who has the archive on disk may have this file beside it.
    beside = None
    if options.given is not None:
        given = options.given if options.given.is_dir() else options.given.parent
        names = (companion.download.name, companion.place)
        beside = next((given / name for name in names if (given / name).is_file()), None)
    patience = options.patience if needed else replace(options.patience, waits=())
    try:
        obtained = _obtain(companion.download, replace(options, patience=patience), beside, 0.0)
    except DatasetError as error:
        if needed:
            raise
        few = "" if companion.needed else ", which few experiments need"
        options.say(f"  without {companion.place}{few}: {error}")
        return None
    _copy(obtained.path, folder / companion.place)
    return obtained


def _obtain(download: Download, options: Options, given: Path | None, room: float) -> _Obtained:
    """Have a file at hand: the given one, one that was downloaded before, or download it."""
    if given is not None:
        path = given / download.name if given.is_dir() else given
        if not path.is_file():
            raise DatasetError(f"--from {given}: the folder holds no {download.name}.")
        return _checked(
            download, path, "If you trust it all the same, unpack it yourself and name the folder with --from"
        )
    kept = options.data / records.DOWNLOADS / download.name
    if kept.is_file():
        try:
            return replace(_checked(download, kept, ""), own=True)
        except DatasetError as error:
            options.say(f"  {error} It is now {_put_aside(kept).name}.")
    addresses = [*(f"{mirror.rstrip('/')}/{download.name}" for mirror in options.mirrors), *download.addresses]
    fetched = fetch_file(download, addresses, kept, patience=options.patience, say=options.say, room=room)
    return _Obtained(kept, fetched.address, fetched.sha256, True)


def _checked(download: Download, path: Path, otherwise: str) -> _Obtained:
    """Return a file that is at hand; raises DatasetError if it is not what it has to be."""
    found = digests.of_file(path, download.digest)
    wrong = found.wrong
    try:
        formats.check(path, download.kind)
    except formats.FormatError as error:
        wrong = str(error)
    if wrong:
        raise DatasetError(f"{path} {wrong}: it is not the file {download.name}.{otherwise and f' {otherwise}.'}")
    return _Obtained(path, str(path), found.sha256, False)


def _put_aside(path: Path) -> Path:
    return path.replace(path.with_name(path.name + ".wrong"))


def _digest_note(download: Download, sha256: str) -> str:
    return "" if download.digest else f" No digest of {download.name} is known; its sha256 is {sha256}."


def _place(source: Source, staging: Path, place: Path, before: Record | None, record: Record, options: Options) -> None:
    """Move unpacked files to their place, and record them as this tool's.

    A folder that is there already is added to; files in it that no record tells of stay as they are, and where they
    are others than those to come, that is a DatasetError before anything is moved.
    """
    # A mount is not replaced, not even an empty one.
    there = place.exists() and (any(place.iterdir()) or place.is_mount())
    if there:
        ours = before.files if before is not None else {}
        foreign = [
            path
            for path, sha256 in record.files.items()
            if path not in ours and (place / path).exists() and digests.of_file(place / path).sha256 != sha256
        ]
        if foreign:
            raise DatasetError(
                f"{place} holds {len(foreign)} files that this command did not write and would have to replace, such "
                f"as {foreign[0]}. They are left alone: move them away, or choose another folder with --data DIR."
            )
        record.files = {**ours, **record.files}
    # If this ends half-way, the next call knows that what is there is not whole, and which files are its own.
    records.write(options.data, source.name, record)
    if there:
        for path in record.files:
            if (staging / path).exists():
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                _move(staging / path, place / path)
    else:
        # rename replaces an empty folder.
        os.rename(staging, place)
    record.whole = True
    records.write(options.data, source.name, record)


def _move(path: Path, target: Path) -> None:
    """Give a file its place, on another file system too, whole or not at all."""
    try:
        os.replace(path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(path, target)
        path.unlink()


def _copy(path: Path, target: Path) -> None:
    """Copy a file to its place, whole or not at all."""
    check_room(target.parent, path.stat().st_size, f"the copy of {path}")
    with replaced(target) as copy:
        shutil.copyfile(path, copy)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m datasets fetch``."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="what to fetch; `status` lists the names")
    add_data_argument(parser)
    parser.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="URL",
        help="an address under which the files lie by their names, tried first; may be given several times. Those in "
        "the environment variable FCN_MIRRORS (blanks between them) come after it",
    )
    parser.add_argument(
        "--from",
        dest="given",
        type=Path,
        metavar="PATH",
        help="take this file, or folder that holds it or has it unpacked, instead of downloading (one NAME)",
    )
    parser.add_argument("--keep", action="store_true", help="keep archives in DATA/downloads when they are unpacked")
    parser.add_argument(
        "--force", action="store_true", help="fetch again what is there and was fetched by this command"
    )


def run(arguments: argparse.Namespace) -> str:
    """Fetch as the options say; returns what to print. Raises DatasetError."""
    mirrors = (*arguments.mirror, *os.environ.get("FCN_MIRRORS", "").split())
    wrong = [mirror for mirror in mirrors if not mirror.startswith(("http://", "https://"))]
    if wrong:
        raise DatasetError(f"the mirror {wrong[0]!r} is no address: it has to begin with http:// or https://.")
    options = Options(arguments.data, mirrors, arguments.given, arguments.keep, arguments.force, PATIENCE)
    return fetch(arguments.names, options)
