"""Unpacks what is wanted of an archive, or of a folder, and nothing that the archive wants.

An archive is a stranger's: its names, types and sizes are judged before a byte is written. Files are created one by
one in a folder that was empty, never through what the archive holds: no link, device, owner or mode of it is ever
made. Names that lead out of the folder, and wanted members that are no plain files, refuse the whole archive.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, cast

from datasets import DatasetError
from datasets.catalogue import Unpacking
from datasets.digests import CHUNK, sizes
from datasets.download import check_room, shown
from datasets.formats import is_gzip, is_zip
from datasets.places import files_below
from terminal.progress_bar import ProgressBar

_LONGEST_PART = 255
_LONGEST_PATH = 1024
_DEEPEST = 24
_READ = 2**17
_BLOCK = 512
# How long one member's headers may be, and all members' on an average: tarfile holds them in memory.
_MOST_HEADER = 2**16
_USUAL_HEADER = 4 * _BLOCK
_HARMLESS = 2**26
_NOTHING = b"\0" * _BLOCK


@dataclass(frozen=True)
class Member:
    """One member of an archive."""

    path: str
    """With slashes, as the archive has it."""
    size: int
    """As the archive declares it, bytes."""
    fault: str
    """Why it cannot be unpacked, to follow on its name; "" for a plain file."""
    handle: Any
    """What opens it."""


class Unusable(DatasetError):
    """An archive is damaged, hostile or another one: it will be no better the next time."""


class _Hostile(Exception):
    """Something in the archive that no dataset has; the message follows on the archive's name."""


def unpack(source: Path, unpacking: Unpacking, staging: Path, prefer: str) -> dict[str, str]:
    """Unpack what `unpacking` wants of an archive or folder into `staging`, which must be empty or not be there.

    `prefer` is the name of the folder to take where an archive holds several that fit. Returns each file's path in
    `staging` and its SHA-256. Raises Unusable for an archive that is damaged, hostile or without what is wanted,
    DatasetError for one that is too large for the disk, and OSError for what cannot be written; `staging` is then to
    be removed.
    """
    staging.mkdir(parents=True, exist_ok=True)
    try:
        with _opened(source, unpacking) as (members, opener):
            chosen = _choose(members, unpacking, prefer, source, staging)
            wanted = sum(member.size for member in chosen.values())
            check_room(staging, wanted, f"unpacking {source.name}")
            written: dict[str, str] = {}
            with ProgressBar(f"unpacking {source.name}", wanted) as bar:
                for place, member in chosen.items():
                    with opener(member) as content:
                        written[place] = _write(content, staging / place, member, bar)
            return written
    except _Hostile as error:
        raise Unusable(f"{source} {error}. Nothing of it was unpacked.") from None
    except DatasetError:
        raise
    except Exception as error:
        # Damage shows as nearly any exception in the standard library's readers, as OSError without errno too, or as
        # that of a place that no file has; what the disk raises has another.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        why = shown(str(error)) or type(error).__name__
        raise Unusable(f"{source} is damaged ({why}). Fetch it again.") from None


def holds(folder: Path, unpacking: Unpacking) -> bool:
    """Whether a folder has a file of each of its marks."""
    return all(next(folder.glob(mark), None) is not None for mark in unpacking.marks)


Opener = Callable[[Member], BinaryIO]


@contextmanager
def _opened(source: Path, unpacking: Unpacking) -> Iterator[tuple[list[Member], Opener]]:
    """Give a source's members, all of them, within the limits of `unpacking`, and what opens one for reading."""
    if source.is_dir():
        yield _limited(_folder_members(source), unpacking, None), lambda member: cast(Path, member.handle).open("rb")
        return
    size = source.stat().st_size
    if is_zip(source):
        _check_zip_entries(source, unpacking)
        with zipfile.ZipFile(source) as packed:
            entries = [_zip_member(info) for info in packed.infolist()]
            yield _limited(entries, unpacking, size), lambda member: cast(BinaryIO, packed.open(member.handle))
        return
    opened = gzip.open if is_gzip(source) else open
    with opened(source, "rb") as plain:
        bounded = _Bounded(cast(BinaryIO, plain), _most_bytes(unpacking, size) + unpacking.most_members * _USUAL_HEADER)
        with tarfile.open(fileobj=cast(BinaryIO, bounded), mode="r:") as tar:
            members = _limited(_tar_members(tar, bounded), unpacking, size)
            yield members, lambda member: cast(BinaryIO, tar.extractfile(member.handle))


class _Bounded:
    """A file that tarfile reads from, which keeps it from reading a bomb into memory or for ever."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file, self._most = file, most
        # How many bytes of headers may still be read; None while contents are.
        self.header: int | None = _MOST_HEADER

    def read(self, count: int = -1) -> bytes:
        """Read so many bytes, of which there is a limit."""
        if self.header is not None:
            self.header -= count
        if count < 0 or (count > _READ if self.header is None else self.header < 0):
            raise _Hostile(f"has a header of more than {_MOST_HEADER} bytes")
        if self._file.tell() > self._most:
            raise _Hostile(f"unpacks to more than {sizes(self._most)}")
        return self._file.read(count)

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position that an archive of the expected size can have."""
        if whence == os.SEEK_SET and not 0 <= position <= self._most:
            raise _Hostile(f"unpacks to more than {sizes(self._most)}")
        return self._file.seek(position, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()


def _limited(members: Iterable[Member], unpacking: Unpacking, size: int | None) -> list[Member]:
    """Return the members, unless there are too many or they are too large for a dataset, or for their archive."""
    listed = []
    total = 0
    most = _most_bytes(unpacking, size)
    for member in members:
        listed.append(member)
        if member.size < 0:
            raise _Hostile(f"has a member of {member.size} bytes, {shown(member.path)}")
        total += member.size
        if len(listed) > unpacking.most_members:
            raise _Hostile(f"has more than {unpacking.most_members} members")
        if total > most:
            raise _Hostile(f"unpacks to more than {sizes(most)}, from {sizes(size or 0)}")
    return listed


def _most_bytes(unpacking: Unpacking, size: int | None) -> int:
    # A small archive of uniform labels may well be packed a hundredfold, and harms nobody.
    return (
        unpacking.most_bytes if size is None else min(unpacking.most_bytes, max(size * unpacking.most_ratio, _HARMLESS))
    )


# The three kinds of sources


def _folder_members(folder: Path) -> Iterator[Member]:
    for path in files_below(folder):
        # A link in a person's own folder is their own affair, as long as it leads to a file.
        status = path.stat() if path.exists() else path.lstat()
        fault = "" if stat.S_ISREG(status.st_mode) else "is no plain file"
        yield Member(path.relative_to(folder).as_posix(), status.st_size, fault, path)


def _check_zip_entries(source: Path, unpacking: Unpacking) -> None:
    """Count the entries' marks before zipfile makes an object of each: they are all read at once."""
    count, carried = 0, b""
    with source.open("rb") as file:
        while chunk := file.read(CHUNK):
            count += (carried + chunk).count(b"PK\x01\x02")
            carried = chunk[-3:]
    if count > unpacking.most_members + 1000:  # some by chance, in what is packed
        raise _Hostile(f"has more than {unpacking.most_members} members")


def _zip_member(info: zipfile.ZipInfo) -> Member:
    # Some programs write Windows' separators.
    path = info.filename.replace("\\", "/")
    kind = stat.S_IFMT(info.external_attr >> 16)
    fault = ""
    if info.is_dir():
        fault = "is a folder"
    elif kind not in (0, stat.S_IFREG):
        fault = "is a symbolic link" if kind == stat.S_IFLNK else "is no plain file"
    elif info.flag_bits & 0x1:
        fault = "is encrypted"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        fault = f"is packed by method {info.compress_type}, which is not supported"
    return Member(path, info.file_size, fault, info)


def _tar_members(tar: tarfile.TarFile, file: _Bounded) -> Iterator[Member]:
    last, end, headers, count = -1, 0, 0, 0
    while (info := tar.next()) is not None:
        if info.offset <= last:
            raise _Hostile("has members that lead back to earlier ones")
        count += 1
        headers += info.offset_data - end
        if headers > count * _USUAL_HEADER + 2**20:
            raise _Hostile(f"has {headers} bytes of headers for {count} members")
        last, end = info.offset, tar.offset  # type: ignore[attr-defined]
        yield _tar_member(info)
        file.header = _MOST_HEADER
    file.header = None
    # tarfile takes any damaged header but the first for the end.
    tar.fileobj.seek(tar.offset)  # type: ignore[union-attr, attr-defined]
    if tar.fileobj.read(_BLOCK) != _NOTHING:  # type: ignore[union-attr]
        raise _Hostile("is damaged or cut off: it does not end where its members do")
    # To the last byte: only there does gzip tell whether all that came before is right.
    while tar.fileobj.read(_READ):  # type: ignore[union-attr]
        pass


def _tar_member(info: tarfile.TarInfo) -> Member:
    fault = ""
    if info.isdir():
        fault = "is a folder"
    elif info.issym() or info.islnk():
        fault = f"is a {'symbolic' if info.issym() else 'hard'} link"
    elif info.issparse() or info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
        fault = "is no plain file"
    return Member(info.name, info.size if info.isreg() else 0, fault, info)


# What is taken


def _choose(
    members: Iterable[Member], unpacking: Unpacking, prefer: str, source: Path, staging: Path
) -> dict[str, Member]:
    """Return the wanted members by their path below the folder that holds them, in the archive's order."""
    found: dict[str, Member] = {}
    doubles = set()
    for member in members:
        path = _clean(member)
        doubles |= {path} if path in found and not member.fault else set()
        if member.fault != "is a folder":
            found[path] = member
    base = _base(found, unpacking, prefer, source)
    chosen = {}
    for path, member in found.items():
        place = path.removeprefix(base)
        if path.startswith(base) and any(_matches(place.split("/"), pattern) for pattern in unpacking.take):
            if member.fault or path in doubles:
                raise _Hostile(f"has {shown(path)}, which {member.fault or 'is in it twice'}")
            _check_filter(member, staging)
            chosen[place] = member
    return chosen


def _clean(member: Member) -> str:
    """Return a member's path in one spelling; raises _Hostile for one that could lead out, or that no file has."""
    path = member.path
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", path) or ".." in re.split(r"[/\\]", path):
        raise _Hostile(f"has the member {shown(path)}, which leads out of its folder")
    if re.search(r"[\x00-\x1f\x7f]", path):
        raise _Hostile(f"has the member {shown(path)}, whose name holds control characters")
    if len(path) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_PART for part in parts):
        raise _Hostile(f"has a member with a name of {len(path)} characters, {shown(path)}")
    if len(parts) > _DEEPEST:
        raise _Hostile(f"has a member {len(parts)} folders deep, {shown(path)}")
    return "/".join(parts)


def _check_filter(member: Member, staging: Path) -> None:
    """Let Python's own filter judge too, where there is one (3.10.12, 3.11.4 and later)."""
    judge = getattr(tarfile, "data_filter", None)
    if judge is not None and isinstance(member.handle, tarfile.TarInfo):
        try:
            judge(member.handle, str(staging))
        except tarfile.TarError as error:
            raise _Hostile(f"has {shown(member.path)}, which Python's filter refuses ({error})") from None


def _base(paths: Iterable[str], unpacking: Unpacking, prefer: str, source: Path) -> str:
    """Return the folder that holds a file of each of its marks, with a slash at its end; "" is the top."""
    marked: list[set[str]] = [set() for _ in unpacking.marks]
    for path in paths:
        parts = path.split("/")
        if "__MACOSX" in parts:
            continue
        for mark, folders in zip(unpacking.marks, marked, strict=True):
            depth = mark.count("/") + 1
            if len(parts) >= depth and _matches(parts[-depth:], mark):
                folders.add("/".join([*parts[:-depth], ""]))
    bases = sorted(set.intersection(*marked), key=lambda base: (base.count("/"), base))
    fitting = [base for base in bases if base.rstrip("/").rpartition("/")[2] == prefer] or bases
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise Unusable(
            f"{source} is not what was expected: no folder of it holds {' and '.join(unpacking.marks)}. It has "
            f"{_outline(paths)}. If that is another archive, name the right one with --from FILE."
        )
    raise Unusable(
        f"{source} holds {' and '.join(unpacking.marks)} in several folders, {', '.join(map(shown, fitting))}: unpack "
        "the one that you want and name its folder with --from FOLDER."
    )


def _matches(parts: list[str], pattern: str) -> bool:
    """Whether a path fits a pattern part by part; files that macOS adds beside others (._NAME) fit none."""
    wanted = pattern.split("/")
    return len(parts) == len(wanted) and not parts[-1].startswith("._") and all(map(fnmatchcase, parts, wanted))


def _outline(paths: Iterable[str]) -> str:
    """Return the first folders of an archive, to say what it is."""
    tops = sorted({"/".join(path.split("/")[:-1]) + "/" if "/" in path else path for path in paths})
    return ", ".join(map(shown, tops[:8])) + (f" and {len(tops) - 8} more" if len(tops) > 8 else "") or "no files"


def _write(content: BinaryIO, path: Path, member: Member, bar: ProgressBar) -> str:
    """Write one member to a file that is not there yet; returns its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    count = 0
    with path.open("xb") as file:
        while chunk := content.read(_READ):
            count += len(chunk)
            if count > member.size:
                raise _Hostile(f"has {shown(member.path)}, which is larger than the {member.size} bytes it declares")
            file.write(chunk)
            digest.update(chunk)
            bar.add(len(chunk))
    if count != member.size:
        raise _Hostile(f"is cut off: {shown(member.path)} has {count} of {member.size} bytes")
    return digest.hexdigest()
