"""Classifier: a net that takes images and gives their classes' probabilities (pycaffe's classifier.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import io
from .errors import NetError
from .net import Net
from .proto import caffe_pb2


class Classifier(Net):
    """A net in TEST phase that classifies images, H x W x K.

    `image_dims` is the (height, width) that images are scaled to before they are cropped to the input's size (default:
    that size, so that the crop is the whole image). mean, input_scale, raw_scale and channel_swap are those of
    caffe.io.Transformer. Raises NetError if the net's first input is no image N x K x H x W.
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        image_dims: Sequence[int] | None = None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, caffe_pb2.TEST, weights=pretrained_file)
        self.transformer = transformer_of(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].data.shape[2:])
        self.image_dims: Any = self.crop_dims if image_dims is None or not len(image_dims) else image_dims

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Return the net's first output for images H x W x K, N x C for N images and C classes.

        With `oversample` it is averaged over ten crops of each image (four corners, centre, mirrored); without, it is
        that of the central crop. Raises ValueError if there is no image, or the crop is larger than image_dims.
        """
        images = [np.asarray(image) for image in inputs]
        if not images or any(image.ndim != 3 for image in images):
            shapes = [image.shape for image in images]
            raise ValueError(f"predict takes a list of images, each H x W x K (a single one as [image]), not {shapes}.")
        scaled = [io.resize_image(image, self.image_dims) for image in images]
        crops = io.oversample(scaled, self.crop_dims) if oversample else self._centers(scaled)
        name = self.inputs[0]
        caffe_in: dict[str, Any] = {name: np.stack([self.transformer.preprocess(name, crop) for crop in crops])}
        predictions = self.forward_all(**caffe_in)[self.outputs[0]]
        return predictions.reshape(len(images), 10, -1).mean(1) if oversample else predictions

    def _centers(self, images: list[np.ndarray]) -> list[np.ndarray]:
        margins = np.array(self.image_dims) - self.crop_dims
        if (margins < 0).any():
            raise ValueError(f"The net's input of {self.crop_dims} is larger than image_dims, {self.image_dims}.")
        top, left = margins // 2
        height, width = self.crop_dims
        return [image[top : top + height, left : left + width] for image in images]


def transformer_of(
    net: Net,
    mean: np.ndarray | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> io.Transformer:
    """Return the Transformer for a net's first input, which takes images H x W x K; None leaves a step out."""
    if not net.inputs or len(net.blobs[net.inputs[0]].dims) != 4:
        raise NetError(
            f"Net '{net.name}' has no image as its first input: it takes an Input layer of shape N x K x H x W."
        )
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].dims})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer
