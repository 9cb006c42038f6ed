"""Checks what is there: digests of files, the files that each split needs, and the splits' counts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets import DatasetError, catalogue, digests, formats, records, splits
from datasets.catalogue import Source
from datasets.places import add_data_argument
from datasets.records import Record
from terminal.progress_bar import ProgressBar


def verify(names: Sequence[str], data: Path) -> str:
    """Check what is named, or with no names what is there; returns a line each, to print.

    Raises DatasetError with those lines where anything is wrong, or named and not there.
    """
    sources = [catalogue.find(name) for name in dict.fromkeys(names)]
    if not names:
        sources = [source for source in catalogue.CATALOGUE.values() if (data / source.path).exists()]
    if not sources:
        return f"There is nothing in {data} to check: python -m datasets status lists what can be fetched."
    lines, wrong = [], 0
    for source in sources:
        try:
            problems = list(_problems(source, data))
        except DatasetError as error:
            problems = [str(error)]
        wrong += bool(problems)
        lines += [f"{source.name}: {problem}" for problem in problems] or [
            f"{source.name}: {_what_was_checked(source, data)}"
        ]
    if wrong:
        lines.append(f"Of {len(sources)} checked, {wrong} {'is' if wrong == 1 else 'are'} not right.")
        raise DatasetError("\n".join(lines))
    return "\n".join(lines)


def _what_was_checked(source: Source, data: Path) -> str:
    record = records.read(data, source.name)
    if source.unpacking is not None:
        files = (
            f"{len(record.files):,} files as they were unpacked" if record is not None else "not fetched by this tool"
        )
        counts = ", ".join(f"{split.name} {split.count:,}" for split in _splits_of(source))
        return f"right ({files}; {counts})"
    if source.download.digest:
        return f"right (the {source.download.digest.partition(':')[0]} is the published one)"
    return "right as far as can be told (no digest is published; it is as it was first seen)"


def _splits_of(source: Source) -> list[splits.Split]:
    return [split for split in splits.SPLITS if split.source == source.name]


def _problems(source: Source, data: Path) -> Iterator[str]:
    """Give a sentence for each thing that is wrong with a source."""
    path = data / source.path
    again = f"python -m datasets fetch {source.name}"
    if not path.exists():
        yield f"{path} is not there: {again}"
        return
    record = records.read(data, source.name)
    if record is not None and not record.whole:
        yield f"{path} is only partly there: {again}"
        return
    if source.unpacking is None:
        yield from _problems_of_weights(source, path, record, again)
    else:
        if record is not None:
            yield from _problems_of_files(path, record, again)
        yield from _problems_of_splits(source, data, record)
        lists = {split.list for split in _splits_of(source)}
        for companion in source.companions:
            place = f"{source.path}/{companion.place}"
            if companion.needed and place not in lists and not (data / place).is_file():
                yield f"there is no {data / place}: {again}"


def _problems_of_weights(source: Source, path: Path, record: Record | None, again: str) -> Iterator[str]:
    found = digests.of_file(path, source.download.digest)
    try:
        formats.check(path, source.download.kind)
    except formats.FormatError as error:
        yield f"{path} {error}. Delete it, and then: {again}"
        return
    if found.wrong:
        yield f"{path} {found.wrong}. Delete it, and then: {again}"
    elif record is not None and record.sha256 != found.sha256:
        yield f"{path} has changed since it was fetched: its sha256 was {record.sha256} and is {found.sha256}."


def _problems_of_files(folder: Path, record: Record, again: str) -> Iterator[str]:
    missing, changed = [], []
    with ProgressBar(f"checking {folder.name}", None) as bar:
        for place, sha256 in record.files.items():
            path = folder / place
            if not path.is_file():
                missing.append(place)
                continue
            bar.add(path.stat().st_size)
            if digests.of_file(path).sha256 != sha256:
                changed.append(place)
    for places, what in ((missing, "missing"), (changed, "changed since they were unpacked")):
        if places:
            yield f"{len(places):,} files of {folder} are {what}, such as {places[0]}: {again} --force"


def _problems_of_splits(source: Source, data: Path, record: Record | None) -> Iterator[str]:
    # What this tool did not unpack it does not complete either.
    away = "" if record is not None else f"move {data / source.path} away, and then: "
    again = f"{away}python -m datasets fetch {source.name}{'' if away else ' --force'}"
    for split in _splits_of(source):
        path = data / split.list
        if not path.exists():
            hint = "python -m datasets splits" if split.name in ("seg11valid", "trainval", "test") else again
            yield f"{split.name}: there is no {path}: {hint}"
            continue
        idents = splits.read_list(path)
        for pattern in split.files:
            lacking = [ident for ident in idents if not (data / pattern.format(id=ident)).is_file()]
            if lacking:
                what = data / pattern.format(id=lacking[0])
                yield f"{split.name}: {len(lacking):,} of {len(idents):,} ids have no file like {what}"
    for warning in splits.count_warnings(data, [source.name]):
        yield warning.removeprefix(f"{source.name} ")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``python -m datasets verify``."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to check (all that is there)")
    add_data_argument(parser)


def run(arguments: argparse.Namespace) -> str:
    """Check as the options say; returns what to print. Raises DatasetError where something is wrong."""
    return verify(arguments.names, arguments.data)
