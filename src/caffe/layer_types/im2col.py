"""Im2col: what a convolution's kernel sees at each place, as channels (im2col_layer.cpp)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..blob import describe
from ..kernels.sliding import Extents, Sliding
from ..layer import register
from ..tensor_layer import Plan, Shape, TensorLayer, canonical_axis
from .convolution import output_extents, window_extents


@dataclass(frozen=True)
class Im2colPlan(Plan):
    """How many places a kernel has along each spatial axis."""

    places: Extents


@register("Im2col")
class Im2col(TensorLayer):
    """N x C x spatial... -> N x (C * kernel) x output extents: a convolution's windows without its product."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read what convolution_param says of windows."""
        param = self.layer_param.convolution_param
        axis = canonical_axis(param.axis, len(shapes[0]))
        spatial = 0 if axis is None else len(shapes[0]) - axis - 1
        if axis is None or spatial < 1:
            raise self.fail(f"axis {param.axis} leaves no spatial axes of its bottom, {describe(shapes)}.")
        self.axis = axis
        self.sliding = Sliding(shapes[0][axis], 0, *window_extents(self, param, spatial))

    def plan(self, shapes: list[Shape]) -> Im2colPlan:
        """Plan the columns."""
        shape, s = shapes[0], self.sliding
        places = output_extents(self, s, shape, self.axis)
        if min(places) < 1:
            raise self.fail(
                f"kernel {list(s.kernel)} with pad {list(s.pad)} is too large for its bottom, {describe(shapes)}."
            )
        return Im2colPlan(((*shape[: self.axis], shape[self.axis] * math.prod(s.kernel), *places),), places)

    def compute(self, plan: Im2colPlan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the columns: channel by channel, and for each its kernel's cells in order."""
        s = self.sliding
        x = bottoms[0].reshape(-1, *bottoms[0].shape[self.axis :])
        padded = F.pad(x, [p for pad in reversed(s.pad) for p in (pad, pad)])
        steps = padded.stride()[2:]
        cells = [step * dilation for step, dilation in zip(steps, s.dilation, strict=True)]
        moves = [step * stride for step, stride in zip(steps, s.stride, strict=True)]
        windows = padded.as_strided(
            (*padded.shape[:2], *s.kernel, *plan.places), (*padded.stride()[:2], *cells, *moves)
        )
        return windows.reshape(plan.tops[0])
