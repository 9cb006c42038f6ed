"""What a downloaded file has to look like: tar, zip, caffemodel, text.

Servers answer with web pages where a file is gone, and connections end early. A digest tells, where one is known;
these checks tell where none is, and say what the file is instead. They read headers only, save for the list of a
zip, so a file that passes may still be damaged inside.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_GZIP = b"\x1f\x8b\x08"
_ZIP = b"PK\x03\x04"
_BLOCK = 512
_MOST_TEXT = 2**20

# The fields of NetParameter by number, with their wire types: 0 a varint, 2 with a length (caffe.proto).
_NET_FIELDS = {1: 2, 2: 2, 3: 2, 4: 0, 5: 0, 6: 2, 7: 0, 8: 2, 100: 2}
_NET_LAYERS = (2, 100)


class FormatError(Exception):
    """A file is not what its name says; the message says what it is, to follow on the file's name."""


def check(path: Path, kind: str) -> None:
    """Raise FormatError if the file is no `kind`, a name in KINDS."""
    with path.open("rb") as file:
        start = file.read(_BLOCK)
        if not start:
            raise FormatError("is empty")
        text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
            raise FormatError(f"is a web page, no {kind} file")
        KINDS[kind](path, file, start)


def is_gzip(path: Path) -> bool:
    """Whether the file begins as gzip does, whatever it is called."""
    with path.open("rb") as file:
        return file.read(3) == _GZIP


def is_zip(path: Path) -> bool:
    """Whether the file begins as a zip with members does, whatever it is called."""
    with path.open("rb") as file:
        return file.read(4) == _ZIP


def _check_tar(path: Path, file: BinaryIO, start: bytes) -> None:
    if start[:3] == _GZIP:
        return
    try:
        # The first header, whose own checksum it holds.
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise FormatError(f"is neither a tar file nor one packed with gzip: it begins with {start[:8]!r}") from None


def _check_zip(path: Path, file: BinaryIO, start: bytes) -> None:
    if start[:4] != _ZIP:
        raise FormatError(f"is no zip file: it begins with {start[:8]!r}")
    if not zipfile.is_zipfile(path):
        raise FormatError("is a zip file that was cut off: the list at its end is missing")


def _check_caffemodel(path: Path, file: BinaryIO, start: bytes) -> None:
    """Walk over the outermost fields of a NetParameter: they are known ones and end where the file ends."""
    size = path.stat().st_size
    file.seek(0)
    layers = 0
    while file.tell() < size:
        at = file.tell()
        tag = _varint(file)
        number, wire = tag >> 3, tag & 7
        if _NET_FIELDS.get(number) != wire and not (number == 4 and wire == 2):  # input_dim may be packed
            raise FormatError(f"is no caffemodel: at byte {at} there is no field of a net")
        length = _varint(file)
        if wire == 2:
            if length > size - file.tell():
                raise FormatError(f"is a caffemodel that was cut off: {length} bytes begin at {at} of {size}")
            file.seek(length, 1)
        layers += number in _NET_LAYERS
    if not layers:
        raise FormatError("is no caffemodel with weights: it holds no layer")


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise FormatError("is no caffemodel, or one that was cut off")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise FormatError("is no caffemodel: it has a number of more than 64 bits")


def _check_text(path: Path, file: BinaryIO, start: bytes) -> None:
    if path.stat().st_size > _MOST_TEXT:
        raise FormatError("is larger than a list can be")
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("is no text") from None
    if b"\0" in content:
        raise FormatError("is no text")


KINDS: dict[str, Callable[[Path, BinaryIO, bytes], None]] = {
    "tar": _check_tar,
    "zip": _check_zip,
    "caffemodel": _check_caffemodel,
    "text": _check_text,
}
