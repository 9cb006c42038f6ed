"""Sliding: how a convolution's kernel moves over N x C x spatial axes, in either direction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

Extents = tuple[int, ...]


@dataclass(frozen=True)
class Sliding:
    """The settings of a convolution, or with `transposed` of its transpose; one extent for each spatial axis."""

    channels: int
    outputs: int
    kernel: Extents
    stride: Extents
    pad: Extents
    dilation: Extents
    groups: int = 1
    transposed: bool = False

    @cached_property
    def arguments(self) -> tuple[Any, ...]:
        """What torch.convolution takes after input, weight and bias: its roles exchange where `transposed`."""
        return self.stride, self.pad, self.dilation, self.transposed, (0,) * len(self.kernel), self.groups

    @property
    def weight_shape(self) -> Extents:
        """Output channels x input channels / group x kernel; transposed, the first two exchanged."""
        first, second = (self.channels, self.outputs) if self.transposed else (self.outputs, self.channels)
        return (first, second // self.groups, *self.kernel)

    def reach(self, axis: int) -> int:
        """Return how far a kernel reaches along a spatial axis, its dilation counted in."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def output_extent(self, size: int, axis: int) -> int:
        """Return the output's extent along a spatial axis, for an input of `size`.

        floor((in + 2 pad - reach) / stride) + 1, or transposed stride (in - 1) + reach - 2 pad.
        """
        stride, pad, reach = self.stride[axis], self.pad[axis], self.reach(axis)
        if self.transposed:
            return stride * (size - 1) + reach - 2 * pad
        return (size + 2 * pad - reach) // stride + 1
