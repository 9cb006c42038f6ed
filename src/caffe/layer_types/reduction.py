"""Reduction: the axes from `axis` on, reduced to one value (reduction_layer.cpp)."""

from __future__ import annotations

from torch import Tensor

from ..blob import describe
from ..layer import Backward, Gradients, Shape, TensorLayer, register
from ..proto import caffe_pb2

Operation = caffe_pb2.ReductionParameter.ReductionOp


@register("Reduction")
class Reduction(TensorLayer):
    """coeff times the SUM, the MEAN, the sum of |x| (ASUM) or of x^2 (SUMSQ)."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read reduction_param."""
        param = self.layer_param.reduction_param
        self.operation, self.coefficient = param.operation, param.coeff

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return the axes before `axis`."""
        self.axis = self.axis_of(shapes[0], self.layer_param.reduction_param.axis)
        if self.operation == Operation.MEAN and 0 in shapes[0][self.axis :]:
            raise self.fail(f"a mean of no values is a division by zero; its bottom is {describe(shapes)}.")
        return [shapes[0][: self.axis]]

    def compute(self, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the reduced values."""
        x = bottoms[0].flatten(self.axis)
        if self.operation == Operation.ASUM:
            x = x.abs()
        elif self.operation == Operation.SUMSQ:
            x = x.square()
        return x.sum(-1) * self._factor(x)

    def gradient(self, b: Backward) -> Gradients:
        """Return coeff dy, times what the operation's slope is."""
        x = b.bottoms[0].flatten(self.axis)
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
