"""Scale and Bias: a learned factor, a learned term, or a second bottom, spread over the first (scale_layer.cpp)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..blob import describe
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Backward, Gradients, Plan, Shape, TensorLayer


@dataclass(frozen=True)
class BroadcastPlan(Plan):
    """How an operand goes with the bottom.

    spread: its shape as one that broadcasts over the bottom. folded: the bottom as outer x operand x inner values, for
    the sums over what a value of the operand was spread to.
    """

    spread: Shape
    folded: tuple[int, int, int]


class _Broadcast(TensorLayer):
    """What both share: an operand whose axes are those of the bottom from `axis` on, learned or a second bottom."""

    bottoms = (1, 2)

    def _read(self, shapes: list[Shape], axis: int, num_axes: int) -> None:
        """Find the operand's axes for a bottom of shapes[0]; a learned one's number is `num_axes`, -1 for the rest."""
        self.learned = len(shapes) == 1
        self.given_axis = axis
        self.operand: Shape = () if self.learned else shapes[1]
        if self.learned:
            axis = self._axis(shapes[0], self.operand)
            if num_axes < -1:
                raise self.fail(f"num_axes must be -1 (to the last axis), 0 (a scalar) or more, not {num_axes}.")
            end = len(shapes[0]) if num_axes == -1 else axis + num_axes
            if end > len(shapes[0]):
                raise self.fail(
                    f"num_axes {num_axes} from axis {axis} reaches past the last axis of its bottom, "
                    f"{describe(shapes[:1])}."
                )
            self.operand = shapes[0][axis:end]

    def _axis(self, shape: Shape, operand: Shape) -> int:
        """Return the first of the bottom's axes that are the operand's."""
        if not shape or (not self.learned and not operand):
            return 0  # a scalar goes with any axis
        return self.axis_of(shape, self.given_axis)

    def plan(self, shapes: list[Shape]) -> BroadcastPlan:
        """Plan the first bottom's shape, once the operand's fits into it."""
        x, operand = shapes[0], self.operand if self.learned else shapes[1]
        axis = self._axis(x, operand)
        end = axis + len(operand)
        if x[axis:end] != operand:
            raise self.fail(
                f"its {'parameter' if self.learned else 'second bottom'}, {describe([operand])}, does not match "
                f"its bottom, {describe([x])}, from axis {axis} on."
            )
        folded = (math.prod(x[:axis]), math.prod(operand), math.prod(x[end:]))
        return BroadcastPlan((x,), (*operand, *[1] * (len(x) - end)), folded)


def _collect(plan: BroadcastPlan, values: Tensor, like: Tensor) -> Tensor:
    """Sum what belongs to each value of the operand."""
    return values.reshape(plan.folded).sum((0, 2)).view(like.shape)


def _filler(given: caffe_pb2.FillerParameter, is_given: bool, default: float) -> caffe_pb2.FillerParameter:
    return given if is_given else caffe_pb2.FillerParameter(type="constant", value=default)


@register("Scale")
class Scale(_Broadcast):
    """x * scale, plus a bias with bias_term; each has the bottom's axes from `axis` on, num_axes of them."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read scale_param."""
        param = self.layer_param.scale_param
        self._read(shapes, param.axis, param.num_axes)
        self.in_place = self.layer_param.bottom[:1] == self.layer_param.top[:1]
        self.bias = param.bias_term
        self.filler = _filler(param.filler, param.HasField("filler"), 1.0)
        self.bias_filler = _filler(param.bias_filler, param.HasField("bias_filler"), 0.0)

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return the scale's shape unless a bottom is the scale, and the bias's, which is the same."""
        scale = [(self.operand, self.filler)] if self.learned else []
        bias = [(self.operand, self.bias_filler)] if self.bias else []
        return [*scale, *bias]

    def compute(self, plan: BroadcastPlan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the scaled bottom."""
        scale = (params[0] if self.learned else bottoms[1]).reshape(plan.spread)
        if self.bias:
            return torch.addcmul(params[-1].reshape(plan.spread), bottoms[0], scale)
        return bottoms[0] * scale

    def gradient(self, plan: BroadcastPlan, b: Backward) -> Gradients:
        """Return dy * scale, and for scale and bias the sums of dy * x and dy."""
        x, dy = b.bottoms[0], b.top_diffs[0]
        scale = b.params[0] if self.learned else b.bottoms[1]
        want_scale = b.want_params[0] if self.learned else b.want_bottoms[1]
        dx = dy * scale.reshape(plan.spread) if b.want_bottoms[0] else None
        ds = None
        if want_scale:
            product = dy * x
            ds = _collect(plan, product, scale)
            if dx is None and not self.in_place and scale.numel() != x.numel():
                dx = product  # Caffe leaves it in the diff of a bottom that needs no gradient (scale_layer.cpp)
        db = [_collect(plan, dy, b.params[-1]) if b.want_params[-1] else None] if self.bias else []
        return Gradients([dx], [ds, *db]) if self.learned else Gradients([dx, ds], db)


@register("Bias")
class Bias(_Broadcast):
    """x + bias, which has the bottom's axes from `axis` on, num_axes of them (bias_layer.cpp)."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read bias_param."""
        param = self.layer_param.bias_param
        self._read(shapes, param.axis, param.num_axes)
        self.filler = _filler(param.filler, param.HasField("filler"), 0.0)

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return the bias's shape, unless a bottom is the bias."""
        return [(self.operand, self.filler)] if self.learned else []

    def compute(self, plan: BroadcastPlan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the sum."""
        return bottoms[0] + (params[0] if self.learned else bottoms[1]).reshape(plan.spread)

    def gradient(self, plan: BroadcastPlan, b: Backward) -> Gradients:
        """Return dy, and for the bias its sums."""
        dy = b.top_diffs[0]
        bias = b.params[0] if self.learned else b.bottoms[1]
        want_bias = b.want_params[0] if self.learned else b.want_bottoms[1]
        dx = dy.clone() if b.want_bottoms[0] else None
        db = _collect(plan, dy, bias) if want_bias else None
        return Gradients([dx], [db]) if self.learned else Gradients([dx, db])
