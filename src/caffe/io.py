"""caffe.io: BlobProto and Datum as arrays, image files, and the way from an image to a net's input (pycaffe's io.py).

Images are H x W x K, as Pillow and matplotlib have them; nets take K x H x W, and most published ones BGR in 0..255:

    transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.array([104, 117, 123]))
    net.blobs["data"].data[...] = transformer.preprocess("data", caffe.io.load_image("cat.jpg"))

Reading is Pillow's, resizing is done here and in scipy.ndimage, never by scikit-image: its releases resize differently,
and what is installed must not decide a net's result.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import IO, Any, Literal

import numpy as np
from PIL import Image

from .data import image
from .errors import FileFormatError
from .formats.stored_blob import encoded
from .proto import caffe_pb2

# Red, green and blue in a grey value (Rec. 709, in the digits of scikit-image's rgb2gray, which pycaffe used).
_GREY = np.array([0.2125, 0.7154, 0.0721])

# BlobProto and Datum


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> np.ndarray:
    """Return a BlobProto's data, or with `return_diff` its diff, as float64 of its shape.

    The shape is num x channels x height x width if any of these is set, as in old files. Raises ValueError if it does
    not go with the number of values.
    """
    kind: Literal["data", "diff"] = "diff" if return_diff else "data"
    found = encoded(blob, "The BlobProto")
    return _shaped(found.flat(kind, np.float64), found.shape, f"The BlobProto's {kind}")


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> caffe_pb2.BlobProto:
    """Return a BlobProto of an array's shape and values, and of a diff's values, which should have the same shape."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).ravel().tolist())
    if diff is not None:
        blob.diff.extend(diff.astype(float).ravel().tolist())
    return blob


def arraylist_to_blobprotovector_str(arraylist: Sequence[np.ndarray]) -> bytes:
    """Return a list of arrays as the bytes of a BlobProtoVector."""
    return caffe_pb2.BlobProtoVector(blobs=[array_to_blobproto(arr) for arr in arraylist]).SerializeToString()


def blobprotovector_str_to_arraylist(str: bytes) -> list[np.ndarray]:
    """Return the arrays that the bytes of a BlobProtoVector hold."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> caffe_pb2.Datum:
    """Return a K x H x W array as a Datum, uint8 as bytes, others as floats. Raises ValueError for other axes."""
    if arr.ndim != 3:
        raise ValueError("Incorrect array shape.")
    datum = caffe_pb2.Datum()
    datum.channels, datum.height, datum.width = arr.shape
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).ravel().tolist())
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: caffe_pb2.Datum) -> np.ndarray:
    """Return a Datum's values, K x H x W: uint8 if it holds bytes, float64 if it holds floats.

    An encoded Datum, whose bytes are an image file's, is decoded as Caffe's data layers do it: uint8, BGR, BGRA if it
    has an alpha channel, or one channel if it is grey. Raises ValueError if the values do not go with the shape, and
    FileFormatError for an encoded image that is damaged.
    """
    if datum.encoded:
        return np.ascontiguousarray(image.planes(image.decode(datum.data, "The image in an encoded Datum", color=None)))
    shape = (datum.channels, datum.height, datum.width)
    if len(datum.data):
        return _shaped(np.frombuffer(datum.data, np.uint8).copy(), shape, "The Datum's data")
    return _shaped(np.fromiter(datum.float_data, np.float64, len(datum.float_data)), shape, "The Datum's float_data")


def _shaped(values: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    if any(extent < 0 for extent in shape) or math.prod(shape) != len(values):
        described = " x ".join(map(str, shape)) if shape else "no shape, which is that of one value"
        raise ValueError(f"{what} has {len(values)} values, and its message gives it {described}.")
    return values.reshape(shape)


# From an image to a net's input and back


class Transformer:
    """What is done to an image before it enters a net, for each of the net's inputs.

    `inputs` maps the inputs' names to their shapes, N x K x H x W. Nothing is done but resizing until it is set.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = inputs
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def __check_input(self, in_: str) -> None:
        if in_ not in self.inputs:
            raise Exception(f"{in_} is not one of the net inputs: {self.inputs}")

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Return an image, H' x W' x K, as float32 K x H x W for input `in_`; `data` stays as it is.

        In this order: resize to the input's H x W, transpose, swap channels, times raw_scale, minus mean, times
        input_scale.
        """
        self.__check_input(in_)
        caffe_in = np.array(data, dtype=np.float32)
        in_dims = tuple(self.inputs[in_][2:])
        if caffe_in.shape[:2] != in_dims:
            caffe_in = resize_image(caffe_in, in_dims)
        if in_ in self.transpose:
            caffe_in = caffe_in.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            caffe_in = caffe_in[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            caffe_in *= self.raw_scale[in_]
        if in_ in self.mean:
            caffe_in -= self.mean[in_]
        if in_ in self.input_scale:
            caffe_in *= self.input_scale[in_]
        return caffe_in

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Undo preprocess, but for the size: return K x H x W, or 1 x K x H x W, as an image H x W x K."""
        self.__check_input(in_)
        decaf_in = np.array(data, dtype=data.dtype if data.dtype.kind == "f" else np.float32).squeeze()
        axes = len(self.inputs[in_]) - 1
        if decaf_in.ndim < axes and (in_ in self.transpose or in_ in self.channel_swap or in_ in self.mean):
            decaf_in = decaf_in.reshape(data.shape[-axes:])  # an axis of 1, such as one channel, is needed below
        if in_ in self.input_scale:
            decaf_in /= self.input_scale[in_]
        if in_ in self.mean:
            decaf_in += self.mean[in_]
        if in_ in self.raw_scale:
            decaf_in /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            decaf_in = decaf_in[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            decaf_in = decaf_in.transpose(np.argsort(self.transpose[in_]))
        return decaf_in

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of an image's axes: (2, 0, 1) makes K x H x W of H x W x K."""
        self.__check_input(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise Exception("Transpose order needs to have the same number of dimensions as the input.")
        if sorted(order) != list(range(len(order))):
            raise ValueError(f"{order} is no order of {len(order)} axes, which are counted from 0.")
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of the channels, the first axis after the transpose: (2, 1, 0) makes BGR of RGB."""
        self.__check_input(in_)
        if len(order) != self.inputs[in_][1]:
            raise Exception("Channel swap needs to have the same number of dimensions as the input channels.")
        if not all(0 <= channel < len(order) for channel in order):
            raise ValueError(f"{order} names channels that are not there; they are 0 to {len(order) - 1}.")
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Set what an image is multiplied with before the mean is subtracted: 255 where a net wants 0..255."""
        self.__check_input(in_)
        self.raw_scale[in_] = _number(scale, "raw_scale")

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """Set what is subtracted: K values, or an image K x H x W or H x W, resized to the input's size.

        Raises ValueError if it has other channels than the input, or other axes.
        """
        self.__check_input(in_)
        mean = np.asarray(mean)
        channels, *in_dims = self.inputs[in_][1:]
        if mean.ndim == 1:
            if len(mean) != channels:
                raise ValueError("Mean channels incompatible with input.")
            mean = mean[:, np.newaxis, np.newaxis]
        else:
            if mean.ndim == 2:
                mean = mean[np.newaxis]
            if mean.ndim != 3:
                raise ValueError("Mean shape invalid")
            if len(mean) not in (1, channels):
                raise ValueError("Mean channels incompatible with input.")
            if list(mean.shape[1:]) != list(in_dims):
                mean = resize_image(mean.transpose(1, 2, 0), in_dims).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Set what the input is multiplied with last, after the mean is subtracted."""
        self.__check_input(in_)
        self.input_scale[in_] = _number(scale, "input_scale")


def _number(value: Any, what: str) -> Any:
    """Return a number, or an array of numbers, as it is. Raises TypeError for anything else."""
    if np.asarray(value).dtype.kind not in "biuf":
        raise TypeError(f"{what} is a number, not {value!r}.")
    return value


# Images


def load_image(filename: str | os.PathLike[str] | IO[bytes], color: bool = True) -> np.ndarray:
    """Read an image file as float32 in [0, 1]: H x W x 3 in RGB, or without `color` H x W x 1 in grey.

    Palettes are looked up, alpha is left out, and the camera's orientation (EXIF) is not applied, as in pycaffe.
    Raises OSError if the file is missing or may not be read, FileFormatError if it is no image or a damaged one,
    TypeError for what is neither a path nor an open file.
    """
    if not isinstance(filename, (str, os.PathLike)) and not hasattr(filename, "read"):
        raise TypeError(f"load_image takes a path or a file that is open for reading, not {filename!r}.")
    name = os.fspath(filename) if isinstance(filename, (str, os.PathLike)) else getattr(filename, "name", "The image")
    pixels, full_scale = _pixels(_opened(filename, str(name)))
    if pixels.ndim == 2:
        grey = (pixels.astype(np.float32) / np.float32(full_scale))[:, :, np.newaxis]
        return np.tile(grey, (1, 1, 3)) if color else grey
    if color:
        return pixels.astype(np.float32) / np.float32(full_scale)
    return (pixels @ (_GREY / full_scale)).astype(np.float32)[:, :, np.newaxis]


def _opened(source: Any, name: str) -> Image.Image:
    """Return an image with its pixels in memory."""
    try:
        with Image.open(source) as picture:
            picture.load()
    except OSError as error:
        if error.errno is not None:  # it is the file that cannot be opened
            raise
        raise FileFormatError(f"{name} is no image that Pillow can read, or a damaged one: {error}.") from error
    except Exception as error:  # Pillow's readers raise anything on damaged files, and on sizes that cannot be honest
        raise FileFormatError(f"{name} is a damaged image, or too large: {error}.") from error
    return picture


def _pixels(picture: Image.Image) -> tuple[np.ndarray, float]:
    """Return an image's values, H x W or H x W x 3 (RGB), and the value that means 1."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        return np.asarray(picture), 65535.0
    if picture.mode == "I":
        return np.asarray(picture), 2.0**31 - 1
    if picture.mode == "F":
        return np.asarray(picture), 1.0
    if picture.mode in ("1", "L"):
        return np.asarray(picture.convert("L")), 255.0
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return np.asarray(picture.convert("RGBA"))[:, :, :3], 255.0
    return np.asarray(picture.convert("RGB")), 255.0


def resize_image(im: np.ndarray, new_dims: Sequence[int] | np.ndarray, interp_order: int = 1) -> np.ndarray:
    """Return an image, H x W x K, as float32 new_dims[0] x new_dims[1] x K, not antialiased.

    Images of 1 or 3 channels are sampled at half-pixel centres, and beyond the border they have their least value, so
    that an enlarged image darkens there; for other numbers of channels the corners' centres stay where they are (in
    pycaffe, scikit-image's resize and scipy.ndimage's zoom). `interp_order` is the spline's, 0 nearest, 1 linear, up to
    5. Raises ValueError for sizes or orders that cannot be.
    """
    im = np.asarray(im)
    new_dims = tuple(int(extent) for extent in new_dims)
    if im.ndim != 3 or not im.size:
        raise ValueError(f"resize_image takes an image H x W x K with values in it, not one of shape {im.shape}.")
    if len(new_dims) != 2 or min(new_dims) < 1:
        raise ValueError(f"resize_image takes (height, width), both 1 or more, as new size, not {new_dims}.")
    if interp_order not in range(6):
        raise ValueError(f"interp_order is a spline's order, 0 to 5, not {interp_order!r}.")
    height, width = new_dims
    if im.shape[2] not in (1, 3):
        return _zoom(im, (height, width), interp_order, mode="mirror")  # what is beyond the border plays no part
    low, high = float(im.min()), float(im.max())
    if not high > low:
        return np.full((height, width, im.shape[2]), low, np.float32)
    if interp_order != 1:
        zoomed = _zoom(im, (height, width), interp_order, mode="grid-constant", cval=low, grid_mode=True)
        clipped: np.ndarray = np.clip(zoomed, low, high)  # splines overshoot
        return clipped
    return _linear(_linear(im.astype(np.float32), 0, height, low), 1, width, low)


def _zoom(im: np.ndarray, new_dims: tuple[int, int], order: int, **border: Any) -> np.ndarray:
    """Resize each channel with scipy.ndimage.zoom."""
    from scipy import ndimage  # noqa: PLC0415  a tenth of a second that few programs need

    scale = (new_dims[0] / im.shape[0], new_dims[1] / im.shape[1])
    channels = np.moveaxis(im.astype(np.float32), 2, 0)
    return np.stack([ndimage.zoom(channel, scale, order=order, **border) for channel in channels], axis=2)


def _linear(values: np.ndarray, axis: int, size: int, outside: float) -> np.ndarray:
    """Interpolate along one axis at half-pixel centres; values beyond the border are `outside`."""
    old = values.shape[axis]
    if size == old:
        return values
    at = (np.arange(size) + 0.5) * (old / size) - 0.5
    before = np.floor(at).astype(int)
    after = before + 1
    towards_after = at - before
    along = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    weight_before = np.where(before >= 0, 1 - towards_after, 0).astype(np.float32).reshape(along)
    weight_after = np.where(after < old, towards_after, 0).astype(np.float32).reshape(along)
    result: np.ndarray = values.take(np.maximum(before, 0), axis) * weight_before
    result += values.take(np.minimum(after, old - 1), axis) * weight_after
    if size > old:  # only then does a sample lie beyond the outermost centres
        result += np.float32(outside) * (1 - weight_before - weight_after)
    return result


def oversample(images: Sequence[np.ndarray], crop_dims: Sequence[int] | np.ndarray) -> np.ndarray:
    """Cut ten crops from each image H x W x K: four corners, the centre, and these five mirrored.

    Returns float32 10 N x crop_dims[0] x crop_dims[1] x K. Raises ValueError if the images differ in shape, or are
    smaller than a crop.
    """
    images = list(images)
    if not images or any(np.shape(im) != np.shape(images[0]) or np.ndim(im) != 3 for im in images):
        raise ValueError(f"oversample takes images of one shape, H x W x K, not {[np.shape(im) for im in images]}.")
    height, width, channels = images[0].shape
    crop_h, crop_w = (int(extent) for extent in crop_dims)
    if not (0 < crop_h <= height and 0 < crop_w <= width):
        raise ValueError(f"Crops of {crop_h} x {crop_w} do not fit into images of {height} x {width}.")
    places = [(top, left) for top in (0, height - crop_h) for left in (0, width - crop_w)]
    places.append(((height - crop_h) // 2, (width - crop_w) // 2))
    crops = np.empty((len(images), 10, crop_h, crop_w, channels), dtype=np.float32)
    for im, of_image in zip(images, crops, strict=True):
        for crop, (top, left) in zip(of_image, places, strict=False):
            crop[...] = im[top : top + crop_h, left : left + crop_w]
        of_image[5:] = of_image[:5, :, ::-1]
    return crops.reshape(-1, crop_h, crop_w, channels)
