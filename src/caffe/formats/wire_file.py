"""Binary protobuf files whose bulk is blobs.

Parsing VGG's 538 MB takes protobuf seconds and three times the memory. So each BlobProto in a file is noted by its
place and replaced by a numbered stub, protobuf parses the few kilobytes that are left, and a blob's floats are copied
once, from the mapped file to their array.
"""

from __future__ import annotations

import functools
import mmap
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from ..errors import FileFormatError
from ..proto import caffe_pb2
from . import file_kind
from .file_kind import Kind
from .stored_blob import StoredBlob, decode_blob
from .wire import LENGTH, Buffer, Damage, field_start, fields

AnyMessage = TypeVar("AnyMessage", bound=Message)


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
        except (Damage, DecodeError, UnicodeError) as error:
            words = str(error) if isinstance(error, Damage) else "protobuf cannot parse it"
            raise FileFormatError(f"{self._path} is cut off or damaged: {words}. Download or copy it again.") from None
        return message

    def blob(self, stub: caffe_pb2.BlobProto, where: str) -> StoredBlob:
        """Read the blob that a stub stands for; `where` names it in errors."""
        start, stop = self._places[stub.num]
        return decode_blob(self._content, start, stop, f"{self._path}: {where}")

    def _check_kind(self, message: Message, wanted: str) -> None:
        """Refuse a file that begins with fields of another message, and say of which."""
        if file_kind.may_be(self._content, message.DESCRIPTOR):
            return
        kind = file_kind.message_kind(self._content)
        advice = {
            Kind.STATE: "; the weights are the .caffemodel written with it",
            Kind.WEIGHTS: "; the solver's state is the .solverstate written with them",
            Kind.BINARY: f"; it begins with {self._content[:8]!r}",
        }
        raise FileFormatError(f"{self._path} is not {wanted}: it is {kind.value}{advice.get(kind, '')}.")

    def _lift(self, start: int, stop: int, descriptor: Any) -> bytes:
        """Return a message's bytes with numbered stubs for its blobs, whose places are noted."""
        kept = bytearray()
        for number, kind, begin, value, end in fields(self._content, start, stop):
            known = descriptor.fields_by_number.get(number)
            inner = known.message_type if known is not None and kind == LENGTH else None
            if known is not None and kind == LENGTH and known.cpp_type == FieldDescriptor.CPPTYPE_STRING:
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
        raise Damage(f"the {name} at byte {at} is not UTF-8 text") from None


__all__ = ["WireFile"]
