"""Eltwise: several bottoms of one shape, combined value by value (eltwise_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..blob import Blob, describe
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Backward, Gradients, Plan, Shape, TensorLayer


@register("Eltwise")
class Eltwise(TensorLayer):
    """The product, the maximum, or the sum weighted by `coeff`, of two or more bottoms."""

    bottoms = (2, None)

    def configure(self, shapes: list[Shape]) -> None:
        """Read the operation and the coefficients."""
        param = self.layer_param.eltwise_param
        self.operation = param.operation
        self.sums = param.operation == param.SUM
        coefficients = list(param.coeff)
        if coefficients and len(coefficients) != len(shapes):
            raise self.fail(f"coeff is given {len(coefficients)} times for {len(shapes)} bottoms; once for each.")
        if coefficients and param.operation == param.PROD:
            raise self.fail("coeff is for the operation SUM; a product has none.")
        self.coefficients = coefficients or [1.0] * len(shapes)

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan the bottoms' one shape."""
        if any(s != shapes[0] for s in shapes):
            raise self.fail(f"all bottoms must have one shape, not {describe(shapes)}.")
        return Plan((shapes[0],))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the sum into the top's memory; the rarer operations go through `compute`."""
        if not self.sums:
            super().forward(bottom, top)
            return
        first, second, *others = (b.data_tensor() for b in bottom)
        weight, *weights = self.coefficients
        with top[0].writing_data(like=first) as out:
            if weight != 1:
                first = torch.mul(first, weight, out=out)
            torch.add(first, second, alpha=weights[0], out=out)
            for x, w in zip(others, weights[1:], strict=True):
                out.add_(x, alpha=w)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write each bottom's diff; a sum's are the top's diff times the coefficients."""
        if not self.sums:
            super().backward(top, propagate_down, bottom)
            return
        dy = top[0].diff_tensor()
        # Backwards, because in place the first bottom's diff is the top's.
        for blob, weight, wanted in reversed(list(zip(bottom, self.coefficients, propagate_down, strict=True))):
            if not wanted:
                continue
            with blob.writing_diff(like=dy) as out:
                if weight != 1:
                    torch.mul(dy, weight, out=out)
                elif blob is not top[0]:
                    out.copy_(dy)

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the product or the maximum."""
        first, second, *others = bottoms
        combine = torch.mul if self.operation == caffe_pb2.EltwiseParameter.PROD else torch.maximum
        y = combine(first, second)
        for x in others:
            combine(y, x, out=y)
        return y

    def gradient(self, plan: Plan, b: Backward) -> Gradients:
        """Return dy times the product of the others (stable_prod_grad), or dy where a bottom is the maximum."""
        dy = b.top_diffs[0]
        if self.operation == caffe_pb2.EltwiseParameter.PROD:
            return Gradients([self._product_gradient(b, i) if w else None for i, w in enumerate(b.want_bottoms)])
        # Of equal values the second bottom's wins over the first's, and any later one's loses (eltwise_layer.cpp).
        winner = (b.bottoms[0] <= b.bottoms[1]).to(torch.int16)
        y = torch.maximum(b.bottoms[0], b.bottoms[1])
        for i, x in enumerate(b.bottoms[2:], start=2):
            winner.masked_fill_(x > y, i)
            torch.maximum(y, x, out=y)
        zero = dy.new_zeros(())
        return Gradients([torch.where(winner == i, dy, zero) if w else None for i, w in enumerate(b.want_bottoms)])

    def _product_gradient(self, b: Backward, index: int) -> Tensor:
        others = [x for i, x in enumerate(b.bottoms) if i != index]
        product = b.top_diffs[0] * others[0]
        for x in others[1:]:
            product.mul_(x)
        return product
