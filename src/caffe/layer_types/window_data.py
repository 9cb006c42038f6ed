"""WindowData: batches of windows of images, objects and background, as R-CNN trains on (window_data_layer.cpp)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..blob import MAX_COUNT
from ..data import image
from ..data.base_data_layer import AUGMENT, BatchDataLayer
from ..data.image_list import in_folder
from ..data.window_file import read_window_file
from ..errors import NetError
from ..layer import register
from ..tensor_layer import Shape

_CHANNELS = 3  # images are read in colour


@register("WindowData")
class WindowData(BatchDataLayer):
    """Windows drawn by chance: first the background's, then the objects', each warped to crop_size.

    A window is an object's if its overlap is at least fg_threshold, and background, of label 0, if it is below
    bg_threshold; fg_fraction of a batch are objects. With context_pad (or crop_mode "square") a window is taken with
    what surrounds it, so that context_pad pixels of the crop are context; what lies beyond the image is 0.
    """

    tops = (2, 2)

    def configure(self, shapes: list[Shape]) -> None:
        """Read the window file."""
        param = self.layer_param.window_data_param
        transform = self.layer_param.transform_param
        self.batch_size = self.checked_batch_size(param.batch_size)
        self.transformer = self.make_transformer(param, known=("scale",))
        self.crop = transform.crop_size
        if not self.crop:
            raise self.fail("transform_param needs a crop_size, to which each window is warped.")
        if 2 * param.context_pad >= self.crop:
            raise self.fail(
                f"context_pad is {param.context_pad} on each side; crop_size, {self.crop}, leaves no window."
            )
        if param.crop_mode not in ("warp", "square"):
            raise self.fail(f"crop_mode is '{param.crop_mode}'; it is 'warp' or 'square'.")
        if not 0 <= param.fg_fraction <= 1:
            raise self.fail(f"fg_fraction is {param.fg_fraction:g}; it is a share, 0 to 1.")
        if _CHANNELS * self.crop**2 > MAX_COUNT:
            raise self.fail(f"crop_size is {self.crop}; a blob has at most {MAX_COUNT} values.")
        self.scale = np.float32(transform.scale if transform.HasField("scale") else param.scale)
        self.mean = self._crop_mean()
        if not param.source:
            raise self.fail("window_data_param needs a source, a window file.")
        self.windows = read_window_file(param.source, param.fg_threshold, param.bg_threshold)
        self._objects = int(np.float32(self.batch_size) * np.float32(param.fg_fraction))
        if self._objects and not len(self.windows.foreground):
            raise self.fail(f"{param.source} has no object window, of overlap {param.fg_threshold:g} or more.")
        if self._objects < self.batch_size and not len(self.windows.background):
            raise self.fail(f"{param.source} has no background window, of overlap below {param.bg_threshold:g}.")
        self._cache: dict[int, bytes] = {}

    def first_shape(self) -> Shape:
        """Return the crop's shape."""
        return (_CHANNELS, self.crop, self.crop)

    def batch(self, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return some windows, N x 3 x crop_size x crop_size, and their labels, N."""
        data = np.zeros((len(numbers), *self.first_shape()), np.float32)
        labels = np.empty(len(numbers), np.float32)
        for place, number in enumerate(numbers):
            draw = self.generator(AUGMENT, number)
            is_object = place >= len(numbers) - self._objects
            windows = self.windows.foreground if is_object else self.windows.background
            picture, labels[place], *box = (int(value) for value in windows[draw.integers(len(windows))])
            mirror = self.layer_param.transform_param.mirror and bool(draw.integers(2))
            self._warp(picture, box, mirror, data[place])
        return data, labels

    def _warp(self, picture: int, box: list[int], mirror: bool, out: np.ndarray) -> None:
        """Write a picture's window, x1 y1 x2 y2, to `out`, 3 x crop_size x crop_size, which is 0."""
        pixels, where = self._picture(picture)
        param = self.layer_param.window_data_param
        x1, y1, x2, y2 = box
        half_height, half_width = np.float32((y2 - y1 + 1) / 2), np.float32((x2 - x1 + 1) / 2)
        middle_y, middle_x = np.float32(y1) + half_height, np.float32(x1) + half_width
        height = width = self.crop
        rows, columns, top, left = slice(y1, y2 + 1), slice(x1, x2 + 1), 0, 0
        inside = 0 <= x1 <= x2 < pixels.shape[1] and 0 <= y1 <= y2 < pixels.shape[0]
        if param.context_pad or param.crop_mode == "square":
            if param.crop_mode == "square":
                half_height = half_width = max(half_height, half_width)
            context = np.float32(self.crop) / np.float32(self.crop - 2 * param.context_pad)
            rows, height, top, _ = _with_context(middle_y, half_height * context, pixels.shape[0], self.crop)
            columns, width, left, right = _with_context(middle_x, half_width * context, pixels.shape[1], self.crop)
            left = right if mirror else left
            height, width = min(height, self.crop - top), min(width, self.crop - left)
            inside = x1 <= x2 and y1 <= y2 and rows.start < rows.stop and columns.start < columns.stop
        if not inside:
            raise NetError(
                f"{param.source}: the window {x1} {y1} {x2} {y2} (x1 y1 x2 y2) of {where} does not lie in its "
                f"{pixels.shape[1]} x {pixels.shape[0]} pixels."
            )
        if height < 1 or width < 1:
            return  # so little of the window is in the image that it rounds to no pixel of the crop
        warped = image.planes(image.resize(pixels[rows, columns], height, width))
        place = np.s_[:, top : top + height, left : left + width]
        np.subtract(warped[:, :, ::-1] if mirror else warped, self.mean[place], out=out[place])
        out[place] *= self.scale

    def _picture(self, number: int) -> tuple[np.ndarray, str]:
        """Return a picture, H x W x 3, and its path."""
        param = self.layer_param.window_data_param
        where = in_folder(param.root_folder, self.windows.images[number])
        if not param.cache_images:
            return image.read(where), where
        if number not in self._cache:
            self._cache[number] = image.read_file(where)
        return image.decode(self._cache[number], where), where

    def _crop_mean(self) -> np.ndarray:
        """Return what is subtracted from a crop, 3 x crop_size x crop_size: of a mean image, the middle."""
        mean: np.ndarray = np.zeros((1, 1, 1), np.float32)
        if self.transformer.mean_image is not None:
            mean = self.transformer.mean_image
            offset = (mean.shape[2] - self.crop) // 2  # Caffe takes the width's for both axes
            if mean.shape[0] != _CHANNELS or offset < 0 or mean.shape[1] < offset + self.crop:
                raise self.fail(
                    f"the mean file is of {' x '.join(map(str, mean.shape))} (channels x height x width); it needs "
                    f"{_CHANNELS} channels, and its middle to cover crop_size, {self.crop}."
                )
            mean = mean[:, offset : offset + self.crop, offset : offset + self.crop]
        elif len(self.transformer.mean_values):
            mean = self.transformer.mean_values
            if len(mean) not in (1, _CHANNELS):
                raise self.fail(
                    f"mean_value is given {len(mean)} times; for {_CHANNELS} channels once or {_CHANNELS} times."
                )
        return np.broadcast_to(mean, self.first_shape())


def _with_context(middle: np.float32, half: np.float32, extent: int, crop: int) -> tuple[slice, int, int, int]:
    """Return, for one axis of a window from middle - half to middle + half in an image of `extent` pixels:

    the part in the image, how many of the crop's pixels that is, and how many lie before and after it beyond the image.
    In Caffe's float32 and with its rounding, so that a crop is Caffe's to the pixel.
    """
    first, last = _round(middle - half), _round(middle + half)
    scale = np.float32(crop) / np.float32(max(last - first + 1, 1))
    before, after = max(0, -first), max(0, last - extent + 1)
    first, last = first + before, last - after
    return (
        slice(first, last + 1),
        _round(np.float32(last - first + 1) * scale),
        _round(np.float32(before) * scale),
        _round(np.float32(after) * scale),
    )


def _round(value: np.float32) -> int:
    """Round as C does: halves away from 0."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))
