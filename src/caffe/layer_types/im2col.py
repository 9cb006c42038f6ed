"""Im2col: what a convolution's kernel sees at each place, as channels (im2col_layer.cpp)."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from ..blob import describe
from ..layer import Backward, Gradients, Shape, TensorLayer, canonical_axis, register
from ..proto import caffe_pb2
from .convolution import Convolution


@register("Im2col")
class Im2col(Convolution):
    """N x C x spatial... -> N x (C * kernel) x output extents: a convolution's windows without its product."""

    bottoms = (1, 1)  # type: ignore[assignment]
    tops = (1, 1)  # type: ignore[assignment]

    def configure(self, shapes: list[Shape]) -> None:
        """Read what convolution_param says of windows."""
        param = self.layer_param.convolution_param
        axis = canonical_axis(param.axis, len(shapes[0]))
        spatial = 0 if axis is None else len(shapes[0]) - axis - 1
        if axis is None or spatial < 1:
            raise self.fail(f"axis {param.axis} leaves no spatial axes of its bottom, {describe(shapes)}.")
        self.axis = axis
        self.kernel = self._extents("kernel", param, spatial, None)
        self.stride = self._extents("stride", param, spatial, 1)
        self.pad = self._extents("pad", param, spatial, 0)
        self.dilation = self._extents("dilation", param, spatial, 1)

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return nothing: there are no weights."""
        return []

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return the columns' shape."""
        shape = shapes[0]
        self.extents = self.output_extents(shape)
        if min(self.extents) < 1:
            raise self.fail(
                f"kernel {self.kernel} with pad {self.pad} is too large for its bottom, {describe(shapes)}."
            )
        return [(*shape[: self.axis], shape[self.axis] * math.prod(self.kernel), *self.extents)]

    def compute(self, bottoms: list[Tensor], params: list[Tensor]) -> list[Tensor]:
        """Return the columns: channel by channel, and for each its kernel's cells in order."""
        x = bottoms[0].reshape(-1, *bottoms[0].shape[self.axis :])
        padded = F.pad(x, [p for pad in reversed(self.pad) for p in (pad, pad)])
        steps = padded.stride()[2:]
        cells = [step * dilation for step, dilation in zip(steps, self.dilation, strict=True)]
        moves = [step * stride for step, stride in zip(steps, self.stride, strict=True)]
        windows = padded.as_strided(
            (*padded.shape[:2], *self.kernel, *self.extents), (*padded.stride()[:2], *cells, *moves)
        )
        return [windows.reshape(self._top_shapes[0])]

    def gradient(self, b: Backward) -> Gradients:
        """Return each value's sum over the columns it is in, by autograd."""
        return TensorLayer.gradient(self, b)
