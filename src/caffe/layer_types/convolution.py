"""Convolution and Deconvolution, N-dimensional, with groups and dilation (base_conv_layer.cpp, conv_layer.cpp).

Weights are output channels x input channels / group x kernel; a Deconvolution's are input channels x output
channels / group x kernel. How they are computed is in kernels/convolution.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import device
from ..blob import Blob, describe
from ..kernels import convolution as ways
from ..kernels import rewrites
from ..kernels.sliding import Extents, Sliding
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Backward, Gradients, Plan, Shape, TensorLayer

# The kernels torch has; more spatial axes than that are refused by name.
MAX_SPATIAL_AXES = 3


@dataclass(frozen=True)
class ConvolutionPlan(Plan):
    """How the kernel moves over the bottoms; each is viewed as `images`, its top as `results`, N x C x spatial axes.

    `one_batch_axis` says that they are of these shapes as they are.
    """

    sliding: Sliding
    images: Shape
    results: Shape
    one_batch_axis: bool

    def as_images(self, x: Tensor) -> Tensor:
        """View a bottom, or its gradient, as N x C x spatial axes."""
        return x if self.one_batch_axis else x.reshape(self.images)

    def as_results(self, y: Tensor) -> Tensor:
        """View a top, or its gradient, as N x C x spatial axes."""
        return y if self.one_batch_axis else y.reshape(self.results)

    def as_top(self, y: Tensor) -> Tensor:
        """Undo as_results."""
        return y if self.one_batch_axis else y.reshape(self.tops[0])


class _Convolving(TensorLayer):
    """What both directions share: settings, shapes, and running the way that is chosen."""

    bottoms = (1, None)
    tops = (1, None)
    transposed = False

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the settings, and make the parameters."""
        super().setup(bottom, top)
        if len(top) != len(bottom):
            raise self.fail(f"it has {len(bottom)} bottom(s) and {len(top)} top(s); each bottom needs a top.")

    def configure(self, shapes: list[Shape]) -> None:
        """Read convolution_param for bottoms N x C x spatial..., with C at `axis`."""
        param = self.layer_param.convolution_param
        axis = self.axis = self.axis_of(shapes[0], param.axis)
        spatial = len(shapes[0]) - axis - 1
        if not 1 <= spatial <= MAX_SPATIAL_AXES:
            raise self.fail(
                f"its bottom, {describe(shapes[:1])}, has {spatial} spatial axes after axis {axis}; "
                f"1 to {MAX_SPATIAL_AXES} can be convolved."
            )
        self.sliding = Sliding(
            shapes[0][axis],
            param.num_output,
            *window_extents(self, param, spatial),
            groups=param.group,
            transposed=self.transposed,
        )
        self.bias, self.weight_filler, self.bias_filler = param.bias_term, param.weight_filler, param.bias_filler
        if param.num_output < 1:
            raise self.fail("convolution_param needs num_output of 1 or more.")
        if param.group < 1 or self.sliding.channels % param.group or param.num_output % param.group:
            raise self.fail(
                f"group {param.group} must divide both its {self.sliding.channels} input channels and its num_output, "
                f"{param.num_output}."
            )
        self.diagonal = rewrites.Diagonal(self.sliding, lambda: self.blobs[0].data_version)
        self._chosen: tuple[ConvolutionPlan, torch.device, ways.Way] | None = None

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return the weight's shape and, with a bias, num_output."""
        bias = [((self.sliding.outputs,), self.bias_filler)] if self.bias else []
        return [(self.sliding.weight_shape, self.weight_filler), *bias]

    def plan(self, shapes: list[Shape]) -> ConvolutionPlan:
        """Plan N x num_output x output extents, for each bottom."""
        if any(s != shapes[0] for s in shapes):
            raise self.fail(f"all bottoms must have one shape, not {describe(shapes)}.")
        shape, s = shapes[0], self.sliding
        if len(shape) <= self.axis or shape[self.axis] != s.channels:
            raise self.fail(
                f"its weights are for {s.channels} input channels at axis {self.axis}; its bottom is "
                f"{describe([shape])}."
            )
        extents = output_extents(self, s, shape, self.axis)
        if min(extents) < 1:
            raise self.fail(
                f"kernel {list(s.kernel)}, pad {list(s.pad)}, stride {list(s.stride)} and dilation "
                f"{list(s.dilation)} leave nothing of its bottom, {describe([shape])}: the output would be "
                f"{describe([extents])}."
            )
        leading = shape[: self.axis]
        batch = math.prod(leading)
        return ConvolutionPlan(
            ((*leading, s.outputs, *extents),) * len(shapes),
            s,
            (batch, *shape[self.axis :]),
            (batch, s.outputs, *extents),
            len(leading) == 1,
        )

    def way(self, where: torch.device) -> ways.Way:
        """Return the way in which the layer's last plan is computed on a device."""
        if self._chosen is None or self._chosen[0] is not self.planned or self._chosen[1] != where:
            self._chosen = self.planned, where, ways.choose(self.planned, where, self.diagonal)
        return self._chosen[2]

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Convolve each bottom with the one weight, over the memory that the tops have where the way can."""
        plan, way = self.planned, self.way(device.current())
        if way.forward_into is None:
            super().forward(bottom, top)
            return
        weight = self.blobs[0].data_tensor()
        bias = self.blobs[1].data_tensor() if self.bias else None
        for x, y in zip(bottom, top, strict=True):
            with y.writing_data(like=weight) as out:
                way.forward_into(plan.as_results(out), plan.as_images(x.data_tensor()), weight, bias)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write the bottoms' gradients and add to the parameters'."""
        plan, way = self.planned, self.way(device.current())
        if way.backward_into is None:
            super().backward(top, propagate_down, bottom)
            return
        weight = self.blobs[0].data_tensor()
        want_weight, want_bias = self.param_propagate_down[0], self.bias and self.param_propagate_down[1]
        for y, x, wanted in zip(top, bottom, propagate_down, strict=True):
            with x.writing_diff(like=weight) if wanted else nullcontext() as dx:
                way.backward_into(
                    None if dx is None else plan.as_images(dx),
                    plan.as_results(y.diff_tensor()),
                    plan.as_images(x.data_tensor()),
                    weight,
                    (wanted, want_weight, want_bias),
                    [param.add_diff for param in self.blobs],
                )

    def compute(self, plan: ConvolutionPlan, bottoms: list[Tensor], params: list[Tensor]) -> Sequence[Tensor]:
        """Return each bottom convolved with the one weight."""
        bias = params[1] if self.bias else None
        run = self.way(params[0].device).forward
        return [plan.as_top(run(plan.as_images(x), params[0], bias)) for x in bottoms]

    def gradient(self, plan: ConvolutionPlan, b: Backward) -> Gradients:
        """Return the gradients, summed over the bottoms for the parameters."""
        run = self.way(b.params[0].device).backward
        bottoms: list[Tensor | None] = []
        params: list[Tensor | None] = [None, None]
        for x, dy, wanted in zip(b.bottoms, b.top_diffs, b.want_bottoms, strict=True):
            asked = (wanted, b.want_params[0], self.bias and b.want_params[1])
            dx, *of_params = run(plan.as_results(dy), plan.as_images(x), b.params[0], asked)
            bottoms.append(dx if dx is None or plan.one_batch_axis else dx.reshape(x.shape))
            for index, found in enumerate(of_params):
                if found is not None:
                    so_far = params[index]
                    params[index] = found if so_far is None else so_far.add_(found)
        return Gradients(bottoms, params)


@register("Convolution")
class Convolution(_Convolving):
    """Correlate the bottom with a bank of kernels (conv_layer.cpp)."""


@register("Deconvolution")
class Deconvolution(_Convolving):
    """Spread each input value over the output by a kernel: a convolution's transpose (deconv_layer.cpp)."""

    transposed = True


def window_extents(
    layer: TensorLayer, param: caffe_pb2.ConvolutionParameter, spatial: int
) -> tuple[Extents, Extents, Extents, Extents]:
    """Return kernel, stride, pad and dilation, one extent for each of `spatial` axes; a layer's error says what is not.

    Each is given once for all axes, once for each, or all but dilation as the _h and _w pair.
    """
    return (
        _extents(layer, param, "kernel", spatial, None),
        _extents(layer, param, "stride", spatial, 1),
        _extents(layer, param, "pad", spatial, 0),
        _extents(layer, param, "dilation", spatial, 1),
    )


def _extents(
    layer: TensorLayer, param: caffe_pb2.ConvolutionParameter, name: str, spatial: int, default: int | None
) -> Extents:
    field = "kernel_size" if name == "kernel" else name
    values = list(getattr(param, field))
    pair = f"{name}_h", f"{name}_w"
    if name != "dilation" and (param.HasField(pair[0]) or param.HasField(pair[1])):
        if values:
            raise layer.fail(f"give either {field} or {pair[0]} and {pair[1]}, not both.")
        if spatial != 2:
            raise layer.fail(f"{pair[0]} and {pair[1]} are for 2 spatial axes; this bottom has {spatial}.")
        values = [getattr(param, pair[0]), getattr(param, pair[1])]
    if not values:
        if default is None:
            raise layer.fail("convolution_param needs kernel_size, or kernel_h and kernel_w.")
        values = [default]
    if len(values) not in (1, spatial):
        raise layer.fail(f"{field} is given {len(values)} times; once, or once for each of {spatial} spatial axes.")
    if name != "pad" and min(values) < 1:
        raise layer.fail(f"{field} must be 1 or more, not {min(values)}.")
    return tuple(values) * (spatial if len(values) == 1 else 1)


def output_extents(layer: TensorLayer, sliding: Sliding, shape: Shape, axis: int) -> Extents:
    """Return the output's spatial extents; a layer's error tells of a bottom that the kernel cannot move over."""
    sizes = shape[axis + 1 :]
    if len(sizes) != len(sliding.kernel):
        raise layer.fail(f"its kernel has {len(sliding.kernel)} spatial axes; its bottom is {describe([shape])}.")
    if 0 in sizes:
        raise layer.fail(f"its bottom, {describe([shape])}, has no place where a kernel could be.")
    return tuple(sliding.output_extent(size, i) for i, size in enumerate(sizes))
