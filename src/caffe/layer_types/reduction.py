"""Reduction: the axes from `axis` on, reduced to one value (reduction_layer.cpp)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..blob import describe
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Backward, Gradients, Plan, Shape, TensorLayer

Operation = caffe_pb2.ReductionParameter.ReductionOp


@dataclass(frozen=True)
class ReductionPlan(Plan):
    """The first axis that is reduced, counted from the front."""

    axis: int


@register("Reduction")
class Reduction(TensorLayer):
    """coeff times the SUM, the MEAN, the sum of |x| (ASUM) or of x^2 (SUMSQ)."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read reduction_param."""
        param = self.layer_param.reduction_param
        self.operation, self.coefficient = param.operation, param.coeff

    def plan(self, shapes: list[Shape]) -> ReductionPlan:
        """Plan the axes before `axis`."""
        axis = self.axis_of(shapes[0], self.layer_param.reduction_param.axis)
        if self.operation == Operation.MEAN and 0 in shapes[0][axis:]:
            raise self.fail(f"a mean of no values is a division by zero; its bottom is {describe(shapes)}.")
        return ReductionPlan((shapes[0][:axis],), axis)

    def compute(self, plan: ReductionPlan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the reduced values."""
        x = bottoms[0].flatten(plan.axis)
        if self.operation == Operation.ASUM:
            x = x.abs()
        elif self.operation == Operation.SUMSQ:
            x = x.square()
        return x.sum(-1) * self._factor(x)

    def gradient(self, plan: ReductionPlan, b: Backward) -> Gradients:
        """Return coeff dy, times what the operation's slope is."""
        x = b.bottoms[0].flatten(plan.axis)
        dy = (b.top_diffs[0] * self._factor(x)).unsqueeze(-1)
        if self.operation == Operation.ASUM:
            dx = x.sign() * dy
        elif self.operation == Operation.SUMSQ:
            dx = x * (2 * dy)
        else:
            dx = dy.expand(x.shape).contiguous()
        return Gradients([dx.view(b.bottoms[0].shape)])

    def _factor(self, x: Tensor) -> float:
        return self.coefficient / x.shape[-1] if self.operation == Operation.MEAN else self.coefficient
