"""DataTransformer: transform_param's crop, mirror, mean and scale (data_transformer.cpp)."""

from __future__ import annotations

import numpy as np

from ..blob import describe
from ..errors import NetError
from ..formats.binaryproto import read_mean
from ..proto import caffe_pb2

Shape = tuple[int, ...]


class DataTransformer:
    """Makes a net's input of an image: (pixel - mean) * scale, cropped, and mirrored by chance.

    A crop is anywhere in TRAIN, and in the middle in TEST; a mirror has a chance of one half in both phases. The mean
    file's image is of the whole image's size, and is cropped and mirrored with it. Raises NetError for settings that
    contradict each other, and what read_mean raises.
    """

    def __init__(self, param: caffe_pb2.TransformationParameter, phase: int) -> None:
        if param.HasField("mean_file") and param.mean_value:
            raise NetError("transform_param has both mean_file and mean_value; give one of them.")
        if param.force_color and param.force_gray:
            raise NetError("transform_param sets both force_color and force_gray; set one of them.")
        self.crop_size = param.crop_size
        # How an encoded image is decoded: to 3 channels, to 1, or None as it is stored.
        self.color = True if param.force_color else False if param.force_gray else None
        self._scale = np.float32(param.scale)
        self._mirror = param.mirror
        self._crop_at_random = bool(param.crop_size) and phase == caffe_pb2.TRAIN
        self._mean_file = param.mean_file
        # C x H x W, and one or C of 1 x 1; one of the two at most.
        self.mean_image = read_mean(param.mean_file) if param.HasField("mean_file") else None
        self.mean_values = np.array(param.mean_value, np.float32).reshape(-1, 1, 1)

    @property
    def draws(self) -> bool:
        """Whether the result is a matter of chance, so that `transform` needs a generator."""
        return self._mirror or self._crop_at_random

    def shape(self, image: Shape) -> Shape:
        """Return the result's shape for an image's, both C x H x W. Raises NetError if the image does not fit."""
        channels, height, width = image
        crop = self.crop_size
        if crop > min(height, width):
            raise NetError(f"crop_size is {crop}; an image of {height} x {width} is smaller.")
        if self.mean_image is not None and self.mean_image.shape != image:
            raise NetError(
                f"the mean file {self._mean_file} is of {describe([self.mean_image.shape])} (channels x height x "
                f"width), an image of {describe([image])}; they must be of one size."
            )
        if len(self.mean_values) not in (0, 1, channels):
            raise NetError(
                f"mean_value is given {len(self.mean_values)} times; for {channels} channels it is once or {channels} "
                "times."
            )
        return (channels, crop, crop) if crop else image

    def transform(self, image: np.ndarray, out: np.ndarray, draw: np.random.Generator | None = None) -> None:
        """Write an image's transform to `out`, float32 and of the shape that `shape` gives.

        `image` is C x H x W, uint8 or float32, in any memory order.
        """
        _, height, width = image.shape
        crop = self.crop_size
        mirror = self._mirror and bool(self._drawn(draw).integers(2))
        top, left = (height - crop) // 2, (width - crop) // 2
        if self._crop_at_random:
            top = int(self._drawn(draw).integers(height - crop + 1))
            left = int(self._drawn(draw).integers(width - crop + 1))
        place = np.s_[:, top : top + crop, left : left + crop] if crop else np.s_[:]
        target = out[:, :, ::-1] if mirror else out
        if self.mean_image is not None:
            np.subtract(image[place], self.mean_image[place], out=target)
        elif len(self.mean_values):
            np.subtract(image[place], self.mean_values, out=target)
        else:
            target[...] = image[place]
        if self._scale != 1:
            out *= self._scale

    @staticmethod
    def _drawn(draw: np.random.Generator | None) -> np.random.Generator:
        assert draw is not None, "a transform of chance needs a generator"
        return draw
