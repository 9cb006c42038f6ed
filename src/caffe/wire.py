"""Binary protobuf files whose bulk is blobs, walked on the wire.

Parsing VGG's 538 MB takes protobuf seconds and three times the memory. So each BlobProto in a file is noted by its
place and replaced by a numbered stub, protobuf parses the few kilobytes that are left, and a blob's floats are copied
once, from the mapped file to their array. Writing goes the same way back, a part at a time.
"""

from __future__ import annotations

import functools
import math
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from .errors import FileFormatError
from .proto import caffe_pb2

Floats = NDArray[np.float32]
Buffer = mmap.mmap | bytes
Part = bytes | memoryview  # of bytes
AnyMessage = TypeVar("AnyMessage", bound=Message)

_MAX_COUNT = 2**31 - 1  # values in a blob (Blob::Reshape)
_MAX_AXES = 32  # kMaxBlobAxes

_PIECE = 1 << 24  # bytes that are copied before their pages of the file are let go

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types
_DATA, _DIFF, _SHAPE, _DOUBLE_DATA, _DOUBLE_DIFF = 5, 6, 7, 8, 9  # BlobProto's fields


@dataclass
class StoredBlob:
    """A blob as a file holds it: float32, C-contiguous, of `shape`.

    `legacy` says that the shape was stored as num, channels, height and width: always four axes, padded in front.
    """

    shape: tuple[int, ...]
    data: Floats
    diff: Floats | None = None
    legacy: bool = False


@functools.cache
def _holds_blobs(name: str) -> bool:
    """Tell whether a message of this name has a BlobProto at any depth."""
    if name == "BlobProto":
        return True
    fields = caffe_pb2.DESCRIPTOR.message_types_by_name[name].fields
    return any(inner.message_type is not None and _holds_blobs(inner.message_type.name) for inner in fields)


class WireFile:
    """A binary file, mapped to memory, and the places of the blobs in it."""

    def __init__(self, path: str, content: Buffer) -> None:
        self._path = path
        self._content = content
        self._places: list[tuple[int, int]] = []

    @classmethod
    def open(cls, path: str) -> WireFile:
        """Map a file, which must not be empty."""
        with open(path, "rb") as file:
            return cls(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def parse(self, message: AnyMessage, wanted: str) -> AnyMessage:
        """Read the file into `message`, with a stub for each blob, whose `num` counts the blobs."""
        self._check_kind(message, wanted)
        try:
            message.ParseFromString(self._lift(0, len(self._content), message.DESCRIPTOR))
        except (_Damage, DecodeError, UnicodeError) as error:
            words = str(error) if isinstance(error, _Damage) else "protobuf cannot parse it"
            raise FileFormatError(f"{self._path} is cut off or damaged: {words}. Download or copy it again.") from None
        return message

    def blob(self, stub: caffe_pb2.BlobProto, where: str) -> StoredBlob:
        """Read the blob that a stub stands for; `where` names it in errors."""
        start, stop = self._places[stub.num]
        return decode_blob(self._content, start, stop, f"{self._path}: {where}")

    def _check_kind(self, message: Message, wanted: str) -> None:
        """Refuse a file that begins with fields of another message, and say of which."""
        firsts: list[tuple[int, int]] = []
        try:
            for number, kind, *_ in _fields(self._content, 0, len(self._content)):
                firsts.append((number, kind))
                if len(firsts) == 2:
                    break
        except _Damage:
            pass  # a field that begins well and breaks off is parse's affair
        is_mean = firsts == [(1, _VARINT), (2, _VARINT)]
        if firsts and not is_mean and _belongs(*firsts[0], message.DESCRIPTOR):
            return
        if is_mean:
            found = "an image mean (a BlobProto)"
        elif firsts[:1] == [(1, _VARINT)]:
            found = "a solver's state; the weights are the .caffemodel written with it"
        elif firsts[:1] in ([(1, _LENGTH)], [(2, _LENGTH)], [(100, _LENGTH)]):
            found = "a net's weights; the solver's state is the .solverstate written with them"
        else:
            found = f"of another format; it begins with {self._content[:8]!r}"
        raise FileFormatError(f"{self._path} is not {wanted}: it is {found}.")

    def _lift(self, start: int, stop: int, descriptor: Any) -> bytes:
        """Return a message's bytes with numbered stubs for its blobs, whose places are noted."""
        kept = bytearray()
        for number, kind, begin, value, end in _fields(self._content, start, stop):
            known = descriptor.fields_by_number.get(number)
            inner = known.message_type if known is not None and kind == _LENGTH else None
            if known is not None and kind == _LENGTH and known.cpp_type == FieldDescriptor.CPPTYPE_STRING:
                _check_utf8(self._content[value:end], known.name, value)
            if inner is None or not _holds_blobs(inner.name):
                kept += self._content[begin:end]
                continue
            if inner.name == "BlobProto":
                body = caffe_pb2.BlobProto(num=len(self._places)).SerializeToString()
                self._places.append((value, end))
            else:
                body = self._lift(value, end, inner)
            kept += field_start(number, len(body)) + body
        return bytes(kept)


def _check_utf8(content: bytes, name: str, at: int) -> None:
    """Refuse a name that is no text: proto2 lets it pass, and it would fail where it is used."""
    try:
        content.decode()
    except UnicodeDecodeError:
        raise _Damage(f"the {name} at byte {at} is not UTF-8 text") from None


def _belongs(number: int, kind: int, descriptor: Any) -> bool:
    """Tell whether a message has a field of this number and wire type."""
    known = descriptor.fields_by_number.get(number)
    if known is None:
        return False
    texts = (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_MESSAGE)
    return kind == (_LENGTH if known.cpp_type in texts else _VARINT)


class _Damage(Exception):
    """Bytes that are no protobuf message; the text says where."""


def _fields(content: Buffer, start: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Walk a message: each field's number and wire type, and where it, its value and what follows it begin."""
    at = start
    while at < stop:
        begin = at
        tag, at = _varint(content, at, stop)
        number, kind = tag >> 3, tag & 7
        value = at
        if kind == _VARINT:
            _, at = _varint(content, at, stop)
        elif kind == _LENGTH:
            length, value = _varint(content, at, stop)
            at = value + length
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        if number == 0 or kind in (3, 4, 6, 7):
            raise _Damage(f"byte {begin} begins no field that Caffe has")
        if at > stop:
            raise _Damage(f"the field that begins at byte {begin} needs {at - value} bytes, {stop - value} are there")
        yield number, kind, begin, value, at


def _varint(content: Buffer, at: int, stop: int) -> tuple[int, int]:
    """Read a number of seven bits a byte; return it and the place after it."""
    result = 0
    for shift in range(0, 70, 7):
        if at >= stop:
            raise _Damage(f"it ends at byte {at}, within a number")
        byte = content[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
    raise _Damage(f"the number before byte {at} has no end")


def decode_blob(content: Buffer, start: int, stop: int, where: str) -> StoredBlob:
    """Decode a BlobProto. Raises FileFormatError if its shape and its number of values disagree."""
    runs: dict[int, list[tuple[int, int]]] = {_DATA: [], _DIFF: [], _DOUBLE_DATA: [], _DOUBLE_DIFF: []}
    rest = bytearray()
    proto = caffe_pb2.BlobProto()
    try:
        for number, kind, begin, value, end in _fields(content, start, stop):
            if number not in runs:
                rest += content[begin:end]
            elif kind == _LENGTH:
                runs[number].append((value, end))
            else:  # each float has a tag of its own, as proto2 writes without [packed = true]
                if kind != (_FIXED32 if number in (_DATA, _DIFF) else _FIXED64):
                    raise _Damage("its values are no floats")
                packed = caffe_pb2.BlobProto.FromString(content[start:stop]).SerializeToString()
                return decode_blob(packed, 0, len(packed), where)
        proto.ParseFromString(bytes(rest))
    except (_Damage, DecodeError) as error:
        words = str(error) if isinstance(error, _Damage) else "protobuf cannot parse it"
        raise FileFormatError(f"{where} is damaged: {words}.") from None
    legacy = any(proto.HasField(axis) for axis in ("num", "channels", "height", "width"))
    dims = (proto.num, proto.channels, proto.height, proto.width) if legacy else tuple(proto.shape.dim)
    count = value_count(dims, where)

    def values(double: int, single: int, kind: str) -> Floats:
        wide = bool(runs[double])
        return _values(
            content, runs[double] if wide else runs[single], "<f8" if wide else "<f4", dims, count, where, kind
        )

    data = values(_DOUBLE_DATA, _DATA, "values")
    has_diff = runs[_DIFF] or runs[_DOUBLE_DIFF]
    return StoredBlob(dims, data, values(_DOUBLE_DIFF, _DIFF, "diffs") if has_diff else None, legacy)


def value_count(dims: tuple[int, ...], where: str) -> int:
    """Return the number of values of a shape. Raises FileFormatError if no blob can have it."""
    if len(dims) > _MAX_AXES:
        raise FileFormatError(f"{where} has {len(dims)} axes; a blob has at most {_MAX_AXES}.")
    if any(dim < 0 for dim in dims):
        raise FileFormatError(f"{where} has the shape {dims}, with a negative extent.")
    extent = math.prod(dim for dim in dims if dim)  # a zero does not excuse the others: no array can have them
    if extent > _MAX_COUNT:
        raise FileFormatError(f"{where} has the shape {dims}, {extent} values; a blob has at most {_MAX_COUNT}.")
    return math.prod(dims)


def _values(
    content: Buffer, runs: list[tuple[int, int]], dtype: str, dims: tuple[int, ...], count: int, where: str, kind: str
) -> Floats:
    """Copy packed runs of floats or doubles into one array of their own."""
    width = np.dtype(dtype).itemsize
    length = sum(stop - start for start, stop in runs)
    if length != count * width or any((stop - start) % width for start, stop in runs):
        raise FileFormatError(
            f"{where} has the shape {dims}, that is {count} values; the file holds {length / width:g} {kind}."
        )
    values = np.empty(count, np.float32)
    filled = 0
    with np.errstate(over="ignore"):  # a double beyond float32 becomes inf, as Caffe's cast has it
        for start, stop in runs:
            for at in range(start, stop, _PIECE):
                size = (min(stop, at + _PIECE) - at) // width
                values[filled : filled + size] = np.frombuffer(content, dtype, size, at)
                filled += size
                _forget(content, at, at + size * width)
    return values.reshape(dims)


def _forget(content: Buffer, start: int, stop: int) -> None:
    """Let go of a mapped file's pages that were copied, which would else count as memory beside the copy."""
    if isinstance(content, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        page = start // mmap.PAGESIZE * mmap.PAGESIZE
        content.madvise(mmap.MADV_DONTNEED, page, stop - page)


def _number(value: int) -> bytes:
    """Write a number of seven bits a byte."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def field_start(number: int, length: int) -> bytes:
    """Begin a field whose value has `length` bytes."""
    return _number(number << 3 | _LENGTH) + _number(length)


def byte_count(parts: Sequence[Part]) -> int:
    """Return how many bytes the parts have together."""
    return sum(len(part) for part in parts)


def message_with_blobs(message: Message, number: int, blobs: Sequence[StoredBlob]) -> list[Part]:
    """Return a message's bytes, in parts, with `blobs` as its field `number`, where protobuf itself would write it."""
    content = message.SerializeToString()
    split = next((begin for field, _, begin, *_ in _fields(content, 0, len(content)) if field > number), len(content))
    parts: list[Part] = [content[:split]]
    for blob in blobs:
        body = _blob_parts(blob)
        parts += [field_start(number, byte_count(body)), *body]
    return [*parts, content[split:]]


def _blob_parts(blob: StoredBlob) -> list[Part]:
    parts: list[Part] = []
    for number, values in ((_DATA, blob.data), (_DIFF, blob.diff)):
        if values is None:
            continue
        if values.size != math.prod(blob.shape):
            raise ValueError(f"A blob of shape {blob.shape} has {values.size} values.")
        if not values.size:
            continue  # protobuf leaves empty fields out
        raw = np.ascontiguousarray(values, "<f4").reshape(-1).view(np.uint8)
        parts += [field_start(number, raw.nbytes), raw.data]
    if blob.shape:
        dims = b"".join(_number(dim) for dim in blob.shape)
        shape = field_start(1, len(dims)) + dims
        parts.append(field_start(_SHAPE, len(shape)) + shape)
    return parts


__all__ = [
    "Part",
    "StoredBlob",
    "WireFile",
    "byte_count",
    "decode_blob",
    "field_start",
    "message_with_blobs",
    "value_count",
]
