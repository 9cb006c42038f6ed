"""Datum: a database record's image, raw or encoded, and its label."""

from __future__ import annotations

import numpy as np
from google.protobuf.message import DecodeError

from ..errors import FileFormatError
from ..proto import caffe_pb2
from . import image


def parse(record: bytes, where: str) -> caffe_pb2.Datum:
    """Read a record. Raises FileFormatError, with `where` in front, if it is no Datum."""
    try:
        return caffe_pb2.Datum.FromString(record)
    except (DecodeError, UnicodeError):
        raise FileFormatError(f"{where} is no Datum: protobuf cannot parse its {len(record)} bytes.") from None


def pixels(datum: caffe_pb2.Datum, where: str, color: bool | None = None) -> np.ndarray:
    """Return the image, C x H x W, uint8 or float32; an encoded one BGR, decoded to `color` as image.decode does.

    Raises FileFormatError, with `where` in front, if the values are not as many as the extents say, or do not decode.
    """
    if datum.encoded:
        return image.planes(image.decode(datum.data, where, color))
    shape = (datum.channels, datum.height, datum.width)
    if min(shape) <= 0:
        raise FileFormatError(
            f"{where} holds no image: its channels, height and width are {shape[0]}, {shape[1]} and {shape[2]}. "
            "It may be a message of another kind than Datum."
        )
    count = shape[0] * shape[1] * shape[2]
    found = len(datum.data) or len(datum.float_data)
    if found != count:
        kind = "bytes" if datum.data else "floats"
        raise FileFormatError(
            f"{where} has {found} {kind}; an image of {shape[0]} x {shape[1]} x {shape[2]} has {count}."
        )
    if datum.data:
        return np.frombuffer(datum.data, np.uint8).reshape(shape)
    return np.array(datum.float_data, np.float32).reshape(shape)


def from_image(pixels: np.ndarray, label: int) -> caffe_pb2.Datum:
    """Make a Datum of an H x W x 3 or H x W uint8 image, its bytes in the order C x H x W (io.cpp CVMatToDatum)."""
    planes = image.planes(pixels)
    channels, height, width = planes.shape
    return caffe_pb2.Datum(
        channels=channels, height=height, width=width, data=planes.tobytes(), label=label, encoded=False
    )
