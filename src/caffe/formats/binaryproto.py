"""Image means on disk: a .binaryproto file is one BlobProto (io.cpp ReadProtoFromBinaryFile)."""

from __future__ import annotations

import os

import numpy as np

from ..errors import CaffeError, FileFormatError, why_not_opened
from ..proto import caffe_pb2
from . import file_kind
from .atomic import atomic_path
from .stored_blob import decode_blob


def read_mean(path: str | os.PathLike[str]) -> np.ndarray:
    """Return a mean image, C x H x W, float32.

    Raises CaffeError if the file cannot be read, and FileFormatError if it is empty, damaged, of another kind, or
    holds no single image.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            content = file.read()
    except (OSError, ValueError) as error:
        raise CaffeError(f"Could not open the mean file {name}: {why_not_opened(error)}.") from None
    found = file_kind.Kind.EMPTY if not content else file_kind.stranger(content[: file_kind.FIRST])
    if found is not None:
        raise FileFormatError(f"The mean file {name} is {found.value}; it should be a .binaryproto (a BlobProto).")
    blob = decode_blob(content, 0, len(content), f"The mean file {name}")
    shape = blob.shape[1:] if len(blob.shape) == 4 and blob.shape[0] == 1 else blob.shape
    if len(shape) != 3 or 0 in shape:
        raise FileFormatError(f"The mean file {name} has the shape {blob.shape}; a mean image is 1 x C x H x W.")
    return np.asarray(blob.data, np.float32).reshape(shape)


def write_mean(path: str | os.PathLike[str], mean: np.ndarray) -> None:
    """Write a mean image, C x H x W, as Caffe's compute_image_mean does: whole or not at all."""
    channels, height, width = mean.shape
    proto = caffe_pb2.BlobProto(num=1, channels=channels, height=height, width=width)
    proto.data.extend(mean.astype(np.float32).ravel())
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(proto.SerializeToString())
