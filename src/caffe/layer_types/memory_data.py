"""MemoryData: a net's input from arrays that a program hands over (memory_data_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .. import device, glog
from ..blob import Blob
from ..layer import register
from ..tensor_layer import Plan, Shape, TensorLayer


@register("MemoryData")
class MemoryData(TensorLayer):
    """Batches of the arrays that Net.set_input_arrays gives, in order and round again.

    The tops are data, N x C x H x W, and labels: N values at setup and, as in Caffe, N x 1 x 1 x 1 from the first
    forward on. transform_param does nothing: Caffe applies it to images that a C++ program adds, not to arrays.
    """

    bottoms = (0, 0)
    tops = (2, 2)

    def configure(self, shapes: list[Shape]) -> None:
        """Read the shape of a batch, which memory_data_param gives whole."""
        param = self.layer_param.memory_data_param
        self._item: Shape = (param.channels, param.height, param.width)
        self._batch_size: int = param.batch_size
        if 0 in (self._batch_size, *self._item):
            raise self.fail(
                "batch_size, channels, height, and width must be specified and positive in memory_data_param; they are "
                f"{self._batch_size}, {param.channels}, {param.height} and {param.width}."
            )
        self._arrays: tuple[np.ndarray, np.ndarray] | None = None
        self._next = 0  # the row that the next batch begins with

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan the batch's shape and, as long as there was no forward, the labels'."""
        return Plan(((self._batch_size, *self._item), (self._batch_size,)))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops once: forward gives the labels the shape that Caffe's have."""
        if self.planned is None:
            super().reshape(bottom, top)

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Read `data` (N x C x H x W) and `labels` (N x 1 x 1 x 1) from now on, from their first rows.

        The arrays are kept and read at each forward, so that what is written into them is seen. Raises RuntimeError
        for arrays that are not float32, C contiguous and of the layer's shape, or whose number of rows is 0 or no
        multiple of batch_size (_caffe.cpp Net_SetInputArrays).
        """
        _check_array(data, "data array", self._item)
        _check_array(labels, "labels array", (1, 1, 1))
        if len(data) != len(labels):
            raise RuntimeError(
                f"data and labels must have the same first dimension; they have {len(data)} and {len(labels)} rows"
            )
        if len(data) % self._batch_size or not len(data):
            raise RuntimeError(
                f"first dimensions of input arrays must be a multiple of batch size; they are {len(data)}, and the "
                f"batch size is {self._batch_size}"
            )
        if self.layer_param.HasField("transform_param"):
            glog.warning("MemoryData does not transform array data on Reset()", "memory_data_layer.cpp:90")
        self._arrays = (data, labels)
        self._next = 0

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops the next batch_size rows. Raises NetError if no arrays were given."""
        if self._arrays is None:
            raise self.fail(
                "MemoryDataLayer needs to be initialized by calling Reset: give it arrays by net.set_input_arrays."
            )
        first = self._next % len(self._arrays[0])
        for blob, array in zip(top, self._arrays, strict=True):
            rows = array[first : first + self._batch_size].copy()  # layers may write over them
            blob.set_data(torch.from_numpy(rows).to(device.current()))
        self._next = (first + self._batch_size) % len(self._arrays[0])

    def state(self) -> int:
        """Return the row that the next batch begins with."""
        return self._next

    def set_state(self, state: int) -> None:
        """Go on from a row; call it after set_input_arrays, which goes back to the first.

        Raises NetError if it is no row's number.
        """
        if not isinstance(state, int) or state < 0:
            raise self.fail(f"its saved position is {state!r}, not the number of a row.")
        self._next = state


def _check_array(array: np.ndarray, name: str, item: Shape) -> None:
    """Raise RuntimeError, with Caffe's words first, for what Caffe could not read as the layer's rows."""
    if not isinstance(array, np.ndarray):
        raise RuntimeError(f"{name} must be a numpy array, not {type(array).__name__}")
    if not array.flags.c_contiguous:
        raise RuntimeError(f"{name} must be C contiguous; numpy.ascontiguousarray makes it so")
    if array.ndim != 4:
        raise RuntimeError(f"{name} must be 4-d; its shape is {array.shape}")
    if array.dtype != np.float32:
        raise RuntimeError(f"{name} must be float32, not {array.dtype}")
    for axis, what in enumerate(("number of channels", "height", "width")):
        if array.shape[1 + axis] != item[axis]:
            raise RuntimeError(f"{name} has wrong {what}: {array.shape[1 + axis]}, where the layer has {item[axis]}")
