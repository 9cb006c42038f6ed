"""Protobuf's wire format: a message's bytes walked field by field, and a field's bytes written."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence

Buffer = mmap.mmap | bytes
Part = bytes | memoryview  # of bytes

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # protobuf's wire types


class Damage(Exception):
    """Bytes that are no protobuf message; the text says where."""


def fields(content: Buffer, start: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Walk a message: each field's number and wire type, and where it, its value and what follows it begin."""
    at = start
    while at < stop:
        begin = at
        tag, at = _varint(content, at, stop)
        number, kind = tag >> 3, tag & 7
        value = at
        if kind == VARINT:
            _, at = _varint(content, at, stop)
        elif kind == LENGTH:
            length, value = _varint(content, at, stop)
            at = value + length
        elif kind in (FIXED32, FIXED64):
            at += 4 if kind == FIXED32 else 8
        if number == 0 or kind in (3, 4, 6, 7):
            raise Damage(f"byte {begin} begins no field that Caffe has")
        if at > stop:
            raise Damage(f"the field that begins at byte {begin} needs {at - value} bytes, {stop - value} are there")
        yield number, kind, begin, value, at


def _varint(content: Buffer, at: int, stop: int) -> tuple[int, int]:
    """Read a number of seven bits a byte; return it and the place after it."""
    result = 0
    for shift in range(0, 70, 7):
        if at >= stop:
            raise Damage(f"it ends at byte {at}, within a number")
        byte = content[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
    raise Damage(f"the number before byte {at} has no end")


def number_bytes(value: int) -> bytes:
    """Write a number of seven bits a byte."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def field_start(number: int, length: int) -> bytes:
    """Begin a field whose value has `length` bytes."""
    return number_bytes(number << 3 | LENGTH) + number_bytes(length)


def byte_count(parts: Sequence[Part]) -> int:
    """Return how many bytes the parts have together."""
    return sum(len(part) for part in parts)


__all__ = [
    "FIXED32",
    "FIXED64",
    "LENGTH",
    "VARINT",
    "Buffer",
    "Damage",
    "Part",
    "byte_count",
    "field_start",
    "fields",
    "number_bytes",
]
