"""Image sets: a list of images to a database, and a database's mean (convert_imageset.cpp, compute_image_mean.cpp)."""

from __future__ import annotations

import os

import numpy as np

from .. import glog, rng
from ..blob import describe
from ..data import datum, image
from ..data.database import DatabaseWriter, open_database
from ..data.image_list import in_folder, read_list
from ..errors import CaffeError, FileFormatError
from ..formats.binaryproto import write_mean
from ..proto import caffe_pb2


def convert_imageset(
    root_folder: str,
    list_file: str,
    db_name: str,
    *,
    gray: bool = False,
    shuffle: bool = False,
    backend: str = "lmdb",
    resize_width: int = 0,
    resize_height: int = 0,
    check_size: bool = False,
    encoded: bool = False,
    encode_type: str = "",
    seed: int | None = None,
) -> int:
    """Write the images of a list of `path label` lines to a new database, and return how many they are.

    A record is a Datum under the key `<line, 8 digits>_<path>`: raw bytes, C x H x W in the order blue, green, red, or
    with `encoded` (which `encode_type`, "jpg" or "png" say, implies) an image file's, as it is on disk where nothing
    has to change. With `shuffle` the order is drawn, from `seed` or else from caffe.set_random_seed's. `check_size`
    refuses images of different sizes.

    Raises CaffeError for settings that contradict each other, an image that cannot be read (by name), and a database
    that exists already; none is left behind then.
    """
    if bool(resize_width) != bool(resize_height) or min(resize_width, resize_height) < 0:
        raise CaffeError(
            f"resize_width is {resize_width} and resize_height {resize_height}; give both, or neither to keep the size."
        )
    lines = read_list(list_file)
    if shuffle:
        glog.info("Shuffling data", "convert_imageset.cpp:86")
        order = np.random.default_rng((rng.shared_seed() if seed is None else seed) & (2**64 - 1)).permutation(
            len(lines)
        )
        lines = [lines[place] for place in order]
    glog.info(f"A total of {len(lines)} images.", "convert_imageset.cpp:89")
    if encode_type and not encoded:
        glog.info("encode_type specified, assuming encoded=true.", "convert_imageset.cpp:92")
    encoded = encoded or bool(encode_type)
    first: tuple[int, ...] | None = None
    with DatabaseWriter(db_name, backend) as db:
        for number, (path, label) in enumerate(lines):
            file = in_folder(root_folder, path)
            content = image.read_file(file)
            pixels = image.decode(content, file, color=not gray)
            keeps_bytes = encoded and not resize_height and _is_stored_so(content, file, gray, encode_type)
            if resize_height:
                pixels = image.resize(pixels, resize_height, resize_width)
            if check_size and first is not None and pixels.shape != first:
                raise CaffeError(
                    f"{file} is of {describe([pixels.shape])}, the first image of {describe([first])}. Resize them, or "
                    "do without check_size."
                )
            first = first or pixels.shape
            if keeps_bytes:
                record = caffe_pb2.Datum(data=content, label=label, encoded=True)
            elif encoded:
                kind = encode_type or os.path.splitext(path)[1]
                record = caffe_pb2.Datum(data=image.encode(pixels, kind), label=label, encoded=True)
            else:
                record = datum.from_image(pixels, label)
            db.put(b"%08d_%s" % (number, os.fsencode(path)), record.SerializeToString())
            if (number + 1) % 1000 == 0:
                glog.info(f"Processed {number + 1} files.", "convert_imageset.cpp:147")
    if len(lines) % 1000:
        glog.info(f"Processed {len(lines)} files.", "convert_imageset.cpp:153")
    return len(lines)


def _is_stored_so(content: bytes, path: str, gray: bool, encode_type: str) -> bool:
    """Tell whether a file's own bytes will do: of the encoding that is asked for, and gray if that is."""
    extension = os.path.splitext(path)[1].lower().lstrip(".").replace("jpeg", "jpg")
    if encode_type and encode_type.lower().lstrip(".").replace("jpeg", "jpg") != extension:
        return False
    return not gray or image.decode(content, path, color=None).ndim == 2


def compute_image_mean(db_name: str, mean_file: str | None = None, *, backend: str = "lmdb") -> np.ndarray:
    """Return the mean of a database's images, C x H x W, float32, and write it to a .binaryproto file if one is named.

    Logs the mean of each channel. Raises FileFormatError for an image of another size than the first, by its key.
    """
    database = open_database(db_name, backend)
    total: np.ndarray | None = None
    number = 0
    glog.info("Starting iteration", "compute_image_mean.cpp:70")
    while database.count is None or number < database.count:
        key, record = database.record(number)
        if number == database.count:  # a LevelDB tells its length at its end
            break
        where = f"{db_name}, record '{key.decode(errors='backslashreplace')}'"
        pixels = datum.pixels(datum.parse(record, where), where)
        if total is None:
            total = np.zeros(pixels.shape, np.float64)
        if pixels.shape != total.shape:
            raise FileFormatError(
                f"{where} is an image of {describe([pixels.shape])}, the first one of {describe([total.shape])}. A "
                "mean needs images of one size: resize them when the database is made."
            )
        total += pixels
        number += 1
        if number % 10000 == 0:
            glog.info(f"Processed {number} files.", "compute_image_mean.cpp:95")
    assert total is not None
    if number % 10000:
        glog.info(f"Processed {number} files.", "compute_image_mean.cpp:101")
    mean = (total / number).astype(np.float32)
    if mean_file is not None:
        glog.info(f"Write to {mean_file}", "compute_image_mean.cpp:108")
        write_mean(mean_file, mean)
    glog.info(f"Number of channels: {len(mean)}", "compute_image_mean.cpp:114")
    for channel, values in enumerate(mean):
        glog.info(f"mean_value channel [{channel}]: {glog.number(values.mean())}", "compute_image_mean.cpp:119")
    return mean
