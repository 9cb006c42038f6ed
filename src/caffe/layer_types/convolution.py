"""Convolution and Deconvolution, N-dimensional, with groups and dilation (base_conv_layer.cpp, conv_layer.cpp).

Weights are output channels x input channels / group x kernel; a Deconvolution's are input channels x output
channels / group x kernel. Output extents: convolution floor((in + 2 pad - extent) / stride) + 1; deconvolution
stride (in - 1) + extent - 2 pad; extent = dilation (kernel - 1) + 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..blob import describe
from ..layer import Backward, Gradients, Shape, TensorLayer, canonical_axis, register
from ..proto import caffe_pb2

# The kernels torch has; more spatial axes than that are refused by name.
MAX_SPATIAL_AXES = 3


class _SlidingKernel(TensorLayer):
    """What both directions share: settings, shapes and the gradient."""

    bottoms = (1, None)
    tops = (1, None)
    transposed = False

    def configure(self, shapes: list[Shape]) -> None:
        """Read convolution_param for bottoms N x C x spatial..., with C at `axis`."""
        param = self.layer_param.convolution_param
        axes = len(shapes[0])
        axis = canonical_axis(param.axis, axes)
        if axis is None:
            raise self.fail(f"axis {param.axis} is not an axis of its bottom, {describe(shapes[:1])}.")
        self.axis = axis
        spatial = axes - axis - 1
        if not 1 <= spatial <= MAX_SPATIAL_AXES:
            raise self.fail(
                f"its bottom, {describe(shapes[:1])}, has {spatial} spatial axes after axis {axis}; "
                f"1 to {MAX_SPATIAL_AXES} can be convolved."
            )
        self.channels = shapes[0][axis]
        self.outputs = param.num_output
        self.groups = param.group
        self.bias = param.bias_term
        self.kernel = self._extents("kernel", param, spatial, None)
        self.stride = self._extents("stride", param, spatial, 1)
        self.pad = self._extents("pad", param, spatial, 0)
        self.dilation = self._extents("dilation", param, spatial, 1)
        if self.outputs < 1:
            raise self.fail("convolution_param needs num_output of 1 or more.")
        if self.groups < 1 or self.channels % self.groups or self.outputs % self.groups:
            raise self.fail(
                f"group {self.groups} must divide both its {self.channels} input channels and its num_output, "
                f"{self.outputs}."
            )
        self.weight_filler = param.weight_filler
        self.bias_filler = param.bias_filler
        self.no_padding = [0] * spatial
        # A transposed convolution is torch's convolution with the roles of input and output exchanged.
        self.arguments = (self.stride, self.pad, self.dilation, self.transposed, self.no_padding, self.groups)

    def _extents(
        self, name: str, param: caffe_pb2.ConvolutionParameter, spatial: int, default: int | None
    ) -> list[int]:
        """Return one setting an axis from `kernel_size: 3`, repeated values, or the _h and _w pair."""
        field = "kernel_size" if name == "kernel" else name
        values = list(getattr(param, field))
        pair = f"{name}_h", f"{name}_w"
        if name != "dilation" and (param.HasField(pair[0]) or param.HasField(pair[1])):
            if values:
                raise self.fail(f"give either {field} or {pair[0]} and {pair[1]}, not both.")
            if spatial != 2:
                raise self.fail(f"{pair[0]} and {pair[1]} are for 2 spatial axes; this bottom has {spatial}.")
            values = [getattr(param, pair[0]), getattr(param, pair[1])]
        if not values:
            if default is None:
                raise self.fail("convolution_param needs kernel_size, or kernel_h and kernel_w.")
            values = [default]
        if len(values) not in (1, spatial):
            raise self.fail(f"{field} is given {len(values)} times; once, or once for each of {spatial} spatial axes.")
        if name != "pad" and min(values) < 1:
            raise self.fail(f"{field} must be 1 or more, not {min(values)}.")
        return values * spatial if len(values) == 1 else values

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return the weight's shape and, with a bias, num_output."""
        first, second = (self.channels, self.outputs) if self.transposed else (self.outputs, self.channels)
        weight = (first, second // self.groups, *self.kernel)
        params: list[tuple[Shape, caffe_pb2.FillerParameter | None]] = [(weight, self.weight_filler)]
        if self.bias:
            params.append(((self.outputs,), self.bias_filler))
        return params

    def output_extent(self, size: int, axis: int) -> int:
        """Return the output's extent along a spatial axis, for an input of `size`."""
        raise NotImplementedError

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return N x num_output x output extents, for each bottom."""
        if any(s != shapes[0] for s in shapes):
            raise self.fail(f"all bottoms must have one shape, not {describe(shapes)}.")
        shape = shapes[0]
        if len(shape) <= self.axis or shape[self.axis] != self.channels:
            raise self.fail(
                f"its weights are for {self.channels} input channels at axis {self.axis}; "
                f"its bottom is {describe([shape])}."
            )
        sizes = shape[self.axis + 1 :]
        if len(sizes) != len(self.kernel):
            raise self.fail(f"its kernel has {len(self.kernel)} spatial axes; its bottom is {describe([shape])}.")
        extents = tuple(self.output_extent(size, i) for i, size in enumerate(sizes))
        if min(extents) < 1:
            raise self.fail(
                f"kernel {self.kernel}, pad {self.pad}, stride {self.stride} and dilation {self.dilation} leave "
                f"nothing of its bottom, {describe([shape])}: the output would be {describe([extents])}."
            )
        return [(*shape[: self.axis], self.outputs, *extents)] * len(shapes)

    def _extent(self, axis: int) -> int:
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def _as_batch(self, x: Tensor) -> Tensor:
        """View the axes before the channels as one batch axis."""
        return x if self.axis == 1 else x.reshape(math.prod(x.shape[: self.axis]), *x.shape[self.axis :])

    def _as_shape(self, x: Tensor, like: Tensor) -> Tensor:
        """Undo _as_batch: give the result the leading axes of `like`."""
        return x if self.axis == 1 else x.reshape(*like.shape[: self.axis], *x.shape[1:])

    def compute(self, bottoms: list[Tensor], params: list[Tensor]) -> Sequence[Tensor]:
        """Convolve each bottom with the one weight."""
        bias = params[1] if self.bias else None
        return [self._as_shape(self._convolve(self._as_batch(x), params[0], bias), x) for x in bottoms]

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.convolution(x, weight, bias, *self.arguments)

    def gradient(self, b: Backward) -> Gradients:
        """Return the gradients that torch's own convolution gives, summed over the bottoms for the parameters."""
        want_weight, want_bias = b.want_params[0], self.bias and b.want_params[1]
        bottoms: list[Tensor | None] = []
        weight: Tensor | None = None
        bias: Tensor | None = None
        for x, dy, wanted in zip(b.bottoms, b.top_diffs, b.want_bottoms, strict=True):
            dx, dw, db = self._backward(
                self._as_batch(dy), self._as_batch(x), b.params[0], (wanted, want_weight, want_bias)
            )
            bottoms.append(None if dx is None else self._as_shape(dx, x))
            if dw is not None:
                weight = dw if weight is None else weight.add_(dw)
            if db is not None:
                bias = db if bias is None else bias.add_(db)
        return Gradients(bottoms, [weight, bias])

    def _backward(
        self, dy: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        sizes = [self.outputs] if self.bias else None
        dx, dw, db = torch.ops.aten.convolution_backward(dy, x, weight, sizes, *self.arguments, list(wanted))
        return dx, dw, db


@register("Convolution")
class Convolution(_SlidingKernel):
    """Correlate the bottom with a bank of kernels (conv_layer.cpp)."""

    def output_extent(self, size: int, axis: int) -> int:
        """Return floor((size + 2 pad - extent) / stride) + 1."""
        return (size + 2 * self.pad[axis] - self._extent(axis)) // self.stride[axis] + 1


@register("Deconvolution")
class Deconvolution(_SlidingKernel):
    """Spread each input value over the output by a kernel: a convolution's transpose (deconv_layer.cpp)."""

    transposed = True

    def output_extent(self, size: int, axis: int) -> int:
        """Return stride (size - 1) + extent - 2 pad."""
        return self.stride[axis] * (size - 1) + self._extent(axis) - 2 * self.pad[axis]
