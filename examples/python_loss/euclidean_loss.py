"""EuclideanLoss as a Python layer: 1 / (2 N) times the sum of squared differences of two blobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import caffe


class EuclideanLossLayer(caffe.Layer):
    """Two bottoms of the same number of values, N x ...; one scalar top."""

    difference: np.ndarray

    def setup(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        """Check the wiring, once."""
        if len(bottom) != 2 or len(top) != 1:
            raise ValueError(f"EuclideanLossLayer takes 2 bottoms and 1 top, not {len(bottom)} and {len(top)}.")

    def reshape(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        """Check the shapes before each pass; the loss is one value."""
        if bottom[0].count != bottom[1].count:
            raise ValueError(f"The bottoms have {bottom[0].count} and {bottom[1].count} values; they must agree.")
        top[0].reshape()

    def forward(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        """Write the loss, and keep the difference for backward."""
        self.difference = bottom[0].data - bottom[1].data.reshape(bottom[0].data.shape)
        top[0].data[...] = np.sum(self.difference**2) / bottom[0].num / 2

    def backward(self, top: Sequence[Any], propagate_down: Sequence[bool], bottom: Sequence[Any]) -> None:
        """Write the gradient of each bottom that wants one. top[0].diff holds the layer's loss_weight."""
        for i, sign in enumerate((1, -1)):
            if propagate_down[i]:
                gradient = sign * self.difference * (float(top[0].diff) / bottom[i].num)
                bottom[i].diff[...] = gradient.reshape(bottom[i].diff.shape)
