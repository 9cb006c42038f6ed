"""What a file is, by its content: the one answer of all that read files, whatever the name says."""

from __future__ import annotations

import codecs
import enum
import re
from typing import Any

import h5py
from google.protobuf.descriptor import FieldDescriptor

from .wire import LENGTH, VARINT, Buffer, Damage, fields

FIRST = 4096  # bytes of a file that are enough to tell


class Kind(enum.Enum):
    """A kind of file, with the words for it in a sentence: "net.caffemodel is ..."."""

    EMPTY = "empty"
    WEB_PAGE = "a web page, perhaps a download's error message"
    LFS_POINTER = "a git-lfs pointer, not the file that it stands for (`git lfs pull` fetches that)"
    GZIP = "a gzip archive: unpack it first"
    ZIP = "a zip archive (or a PyTorch file)"
    PICKLE = "a Python pickle"
    NUMPY = "a NumPy array (.npy)"
    HDF5 = "an HDF5 file (weights or a solver's state)"
    PROTOTXT = "a prototxt: the description of a net or solver"
    TEXT = "a text file"
    MEAN = "an image mean (a BlobProto)"
    STATE = "a solver's state"
    WEIGHTS = "a net's weights"
    BINARY = "of another format"


# The frequent mistakes, none of which is a file of Caffe's.
_STRANGERS = {
    Kind.WEB_PAGE: rb"\s*(<!--.*?-->\s*)*<(!doctype html|html|head|\?xml)",
    Kind.LFS_POINTER: rb"version https://git-lfs",
    Kind.GZIP: rb"\x1f\x8b",
    Kind.ZIP: rb"PK\x03\x04",
    Kind.PICKLE: rb"\x80[\x02-\x05]",
    Kind.NUMPY: rb"\x93NUMPY",
}


def stranger(start: bytes) -> Kind | None:
    """Return the kind of file that begins with these bytes, where it is none of Caffe's and a frequent mistake."""
    for kind, pattern in _STRANGERS.items():
        if re.match(pattern, start, re.IGNORECASE | re.DOTALL):
            return kind
    return None


def kind_of(start: bytes) -> Kind:
    """Return the kind of file that begins with these bytes, of which FIRST are enough."""
    if not start:
        return Kind.EMPTY
    if start.startswith(b"\x89HDF"):
        return Kind.HDF5
    return stranger(start) or _text_kind(start) or message_kind(start)


def is_hdf5(path: str) -> bool:
    """Tell whether a file is HDF5, which may begin with a block of its user's."""
    return bool(h5py.is_hdf5(path))


def is_text(start: bytes) -> bool:
    """Tell whether bytes may be a text's beginning: they hold no control characters, as protobuf's tags soon are."""
    return re.search(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]", start) is None


def _text_kind(start: bytes) -> Kind | None:
    """Return the kind of text that begins with these bytes, or None if it is none."""
    if not is_text(start):
        return None
    if re.search(rb"^\s*(layers?\s*\{|(name|input|net|train_net|base_lr)\s*:)", start, re.MULTILINE):
        return Kind.PROTOTXT
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)  # which a character that is cut off at the end passes
    except UnicodeDecodeError:
        return None
    return Kind.TEXT


# Binary protobuf, known by its first two fields


def message_kind(content: Buffer) -> Kind:
    """Return the kind of binary file: MEAN, STATE, WEIGHTS, or BINARY for what is none of these."""
    firsts = _first_fields(content)
    if firsts == [(1, VARINT), (2, VARINT)]:
        return Kind.MEAN
    if firsts[:1] == [(1, VARINT)]:
        return Kind.STATE
    if firsts[:1] in ([(1, LENGTH)], [(2, LENGTH)], [(100, LENGTH)]):
        return Kind.WEIGHTS
    return Kind.BINARY


def may_be(content: Buffer, descriptor: Any) -> bool:
    """Tell whether a binary file begins as a message of this descriptor does, and not as a mean."""
    firsts = _first_fields(content)
    return bool(firsts) and firsts != [(1, VARINT), (2, VARINT)] and _belongs(*firsts[0], descriptor)


def _first_fields(content: Buffer) -> list[tuple[int, int]]:
    """Return number and wire type of the first two fields, or of as many as are whole."""
    firsts: list[tuple[int, int]] = []
    try:
        for number, kind, *_ in fields(content, 0, len(content)):
            firsts.append((number, kind))
            if len(firsts) == 2:
                break
    except Damage:
        pass  # a field that begins well and breaks off is its reader's affair
    return firsts


def _belongs(number: int, kind: int, descriptor: Any) -> bool:
    """Tell whether a message has a field of this number and wire type."""
    known = descriptor.fields_by_number.get(number)
    if known is None:
        return False
    texts = (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_MESSAGE)
    return kind == (LENGTH if known.cpp_type in texts else VARINT)


__all__ = ["FIRST", "Kind", "is_hdf5", "is_text", "kind_of", "may_be", "message_kind", "stranger"]
