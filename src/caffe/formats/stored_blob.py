"""Blobs in files: the one decoding of a BlobProto, and its writing (blob.cpp FromProto and ToProto).

A blob's floats are copied once, from the file's bytes to their array: through protobuf it takes seconds and three times
the memory for VGG's 538 MB.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import DTypeLike, NDArray

from ..errors import FileFormatError
from ..proto import caffe_pb2
from .wire import FIXED32, FIXED64, LENGTH, Buffer, Damage, Part, byte_count, field_start, fields, number_bytes

Floats = NDArray[np.float32]
Kind = Literal["data", "diff"]

_MAX_COUNT = 2**31 - 1  # values in a blob (Blob::Reshape)
_MAX_AXES = 32  # kMaxBlobAxes

_PIECE = 1 << 24  # bytes that are copied before their pages of the file are let go

_DATA, _DIFF, _SHAPE, _DOUBLE_DATA, _DOUBLE_DIFF = 5, 6, 7, 8, 9  # BlobProto's fields
_PLACES = {"data": (_DOUBLE_DATA, _DATA), "diff": (_DOUBLE_DIFF, _DIFF)}


@dataclass
class StoredBlob:
    """A blob as a file holds it: float32, C-contiguous, of `shape`.

    `legacy` says that the shape was stored as num, channels, height and width: always four axes, padded in front.
    """

    shape: tuple[int, ...]
    data: Floats
    diff: Floats | None = None
    legacy: bool = False


class EncodedBlob:
    """A BlobProto's bytes: its shape, and where its values lie.

    `shape` is num x channels x height x width where any of these old fields is set, as `legacy` then says; () is the
    shape of a single value, and also of a BlobProto that gives none.
    """

    def __init__(self, content: Buffer, start: int, stop: int, where: str) -> None:
        """Find the values of the BlobProto in these bytes; `where` names it in errors.

        Raises FileFormatError for bytes that are none.
        """
        self._where = where
        self._runs: dict[int, list[tuple[int, int]]] = {_DATA: [], _DIFF: [], _DOUBLE_DATA: [], _DOUBLE_DIFF: []}
        try:
            self._content, rest = self._find(content, start, stop)
            proto = caffe_pb2.BlobProto.FromString(rest)
        except (Damage, DecodeError) as error:
            words = str(error) if isinstance(error, Damage) else "protobuf cannot parse it"
            raise FileFormatError(f"{where} is damaged: {words}.") from None
        self.legacy = any(proto.HasField(axis) for axis in ("num", "channels", "height", "width"))
        self.has_shape = self.legacy or proto.HasField("shape")
        self.shape: tuple[int, ...] = (
            (proto.num, proto.channels, proto.height, proto.width) if self.legacy else tuple(proto.shape.dim)
        )

    def _find(self, content: Buffer, start: int, stop: int) -> tuple[Buffer, bytes]:
        """Note the runs of values; return the bytes that they lie in, and the fields that are none."""
        rest = bytearray()
        for number, kind, begin, value, end in fields(content, start, stop):
            if number not in self._runs:
                rest += content[begin:end]
            elif kind == LENGTH:
                self._runs[number].append((value, end))
            else:  # each float has a tag of its own, as proto2 writes without [packed = true]
                if kind != (FIXED32 if number in (_DATA, _DIFF) else FIXED64):
                    raise Damage("its values are no floats")
                for runs in self._runs.values():
                    runs.clear()
                packed = caffe_pb2.BlobProto.FromString(content[start:stop]).SerializeToString()
                return self._find(packed, 0, len(packed))
        return content, bytes(rest)

    def has(self, kind: Kind) -> bool:
        """Tell whether there are values of a kind."""
        return any(self._runs[number] for number in _PLACES[kind])

    def values(self, kind: Kind = "data", dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Return the values in their shape. Raises FileFormatError if their number is not the shape's."""
        count = value_count(self.shape, self._where)
        held, odd = self._held(kind)
        if held != count or odd:
            raise FileFormatError(
                f"{self._where} has the shape {self.shape}, that is {count} values; the file holds {held:g} "
                f"{'values' if kind == 'data' else 'diffs'}."
            )
        return self.flat(kind, dtype).reshape(self.shape)

    def flat(self, kind: Kind = "data", dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Return the values, doubles if it holds any of these, in a row, whatever the shape: an array of its own."""
        held, odd = self._held(kind)
        if odd:
            raise FileFormatError(f"{self._where} is damaged: it holds {held:g} values.")
        runs, stored = self._stored(kind)
        values = np.empty(int(held), dtype)
        filled = 0
        with np.errstate(over="ignore"):  # a double beyond float32 becomes inf, as Caffe's cast has it
            for start, stop in runs:
                for at in range(start, stop, _PIECE):
                    size = (min(stop, at + _PIECE) - at) // stored.itemsize
                    values[filled : filled + size] = np.frombuffer(self._content, stored, size, at)
                    filled += size
                    _forget(self._content, at, at + size * stored.itemsize)
        return values

    def _stored(self, kind: Kind) -> tuple[list[tuple[int, int]], np.dtype[Any]]:
        """Return where the values of a kind lie, and their type there."""
        double, single = _PLACES[kind]
        wide = bool(self._runs[double])
        return self._runs[double if wide else single], np.dtype("<f8" if wide else "<f4")

    def _held(self, kind: Kind) -> tuple[float, bool]:
        """Return how many values the bytes are, and whether one of them is cut in two."""
        runs, stored = self._stored(kind)
        length = sum(stop - start for start, stop in runs)
        return length / stored.itemsize, any((stop - start) % stored.itemsize for start, stop in runs)


def decode_blob(content: Buffer, start: int, stop: int, where: str) -> StoredBlob:
    """Decode a BlobProto. Raises FileFormatError if its shape and its number of values disagree."""
    found = EncodedBlob(content, start, stop, where)
    diff = found.values("diff") if found.has("diff") else None
    return StoredBlob(found.shape, found.values(), diff, found.legacy)


def encoded(proto: caffe_pb2.BlobProto, where: str) -> EncodedBlob:
    """Return what a BlobProto holds, to be decoded."""
    content = proto.SerializeToString()
    return EncodedBlob(content, 0, len(content), where)


def blob_from_proto(proto: caffe_pb2.BlobProto, where: str = "the blob") -> StoredBlob:
    """Return what a BlobProto holds. Raises FileFormatError if its shape and its number of values disagree."""
    content = proto.SerializeToString()
    return decode_blob(content, 0, len(content), where)


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


def _forget(content: Buffer, start: int, stop: int) -> None:
    """Let go of a mapped file's pages that were copied, which would else count as memory beside the copy."""
    if isinstance(content, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        page = start // mmap.PAGESIZE * mmap.PAGESIZE
        content.madvise(mmap.MADV_DONTNEED, page, stop - page)


def message_with_blobs(message: Message, number: int, blobs: Sequence[StoredBlob]) -> list[Part]:
    """Return a message's bytes, in parts, with `blobs` as its field `number`, where protobuf itself would write it."""
    content = message.SerializeToString()
    split = next((begin for field, _, begin, *_ in fields(content, 0, len(content)) if field > number), len(content))
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
        dims = b"".join(number_bytes(dim) for dim in blob.shape)
        shape = field_start(1, len(dims)) + dims
        parts.append(field_start(_SHAPE, len(shape)) + shape)
    return parts


__all__ = [
    "EncodedBlob",
    "StoredBlob",
    "blob_from_proto",
    "decode_blob",
    "encoded",
    "message_with_blobs",
    "value_count",
]
