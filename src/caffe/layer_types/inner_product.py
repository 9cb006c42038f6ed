"""InnerProduct and Embed: products with a learned matrix (inner_product_layer.cpp, embed_layer.cpp)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blob import describe
from ..kernels.matrix_product import product
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Backward, Gradients, Plan, Shape, TensorLayer


@dataclass(frozen=True)
class InnerProductPlan(Plan):
    """The first of the axes that are taken as one, counted from the front; those before it are rows."""

    axis: int


@register("InnerProduct")
class InnerProduct(TensorLayer):
    """x W' + b, with the axes from `axis` on as one: M x K -> M x num_output.

    The weight is num_output x K, or with `transpose` K x num_output.
    """

    def configure(self, shapes: list[Shape]) -> None:
        """Read inner_product_param; K is found from the first bottom and fixed from then on."""
        param = self.layer_param.inner_product_param
        axis = self.axis_of(shapes[0], param.axis)
        if param.num_output < 1:
            raise self.fail("inner_product_param needs num_output of 1 or more.")
        self.outputs = param.num_output
        self.inputs = math.prod(shapes[0][axis:])
        self.bias, self.transposed = param.bias_term, param.transpose
        self.weight_filler, self.bias_filler = param.weight_filler, param.bias_filler

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return the weight's shape and, with a bias, num_output."""
        weight = (self.inputs, self.outputs) if self.transposed else (self.outputs, self.inputs)
        bias = [((self.outputs,), self.bias_filler)] if self.bias else []
        return [(weight, self.weight_filler), *bias]

    def plan(self, shapes: list[Shape]) -> InnerProductPlan:
        """Plan the axes before `axis`, then num_output."""
        shape = shapes[0]
        axis = self.axis_of(shape, self.layer_param.inner_product_param.axis)
        if math.prod(shape[axis:]) != self.inputs:
            raise self.fail(
                f"its weights are for {self.inputs} values from axis {axis} on; its bottom, {describe(shapes)}, "
                f"has {math.prod(shape[axis:])}. A net for images of any size needs a Convolution here."
            )
        return InnerProductPlan(((*shape[:axis], self.outputs),), axis)

    def compute(self, plan: InnerProductPlan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the products."""
        weight = params[0].t() if self.transposed else params[0]
        y = product(self._rows(plan, bottoms[0]), weight, params[1] if self.bias else None)
        return y.view(plan.tops[0])

    def gradient(self, plan: InnerProductPlan, b: Backward) -> Gradients:
        """Return dy W, dy' x and the sums of dy."""
        x, dy = self._rows(plan, b.bottoms[0]), b.top_diffs[0].reshape(-1, self.outputs)
        dx = dw = None
        if b.want_bottoms[0]:
            dx = product(dy, b.params[0] if self.transposed else b.params[0].t()).view(b.bottoms[0].shape)
        if b.want_params[0]:
            left, right = (x, dy) if self.transposed else (dy, x)
            weight = self.blobs[0]
            if weight.diff_is_zero:
                dw = torch.mm(left.t(), right)
            else:  # a matrix that fills memory is added to in one pass, and never made
                with weight.writing_diff() as diff:
                    diff.addmm_(left.t(), right)
        db = [dy.sum(0) if b.want_params[1] else None] if self.bias else []
        return Gradients([dx], [dw, *db])

    def _rows(self, plan: InnerProductPlan, x: Tensor) -> Tensor:
        return x.reshape(math.prod(x.shape[: plan.axis]), self.inputs)


@register("Embed")
class Embed(TensorLayer):
    """A learned vector of num_output values for each index (0 to input_dim - 1) in the bottom, plus a bias."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read embed_param."""
        param = self.layer_param.embed_param
        if param.num_output < 1 or param.input_dim < 1:
            raise self.fail("embed_param needs num_output and input_dim of 1 or more.")
        self.inputs, self.outputs, self.bias = param.input_dim, param.num_output, param.bias_term
        self.weight_filler, self.bias_filler = param.weight_filler, param.bias_filler

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Refuse the indices."""
        return False

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return the vectors' shape and, with a bias, num_output."""
        bias = [((self.outputs,), self.bias_filler)] if self.bias else []
        return [((self.inputs, self.outputs), self.weight_filler), *bias]

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan the bottom's shape with one more axis, num_output."""
        return Plan(((*shapes[0], self.outputs),))

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the vectors."""
        y = F.embedding(self._indices(bottoms[0]), params[0])
        return y.add_(params[1]) if self.bias else y

    def gradient(self, plan: Plan, b: Backward) -> Gradients:
        """Return each vector's sum over the places it went to, and the bias's sums."""
        if b.want_bottoms[0]:
            raise self.fail("cannot backpropagate to its indices.")
        dy = b.top_diffs[0].reshape(-1, self.outputs)
        dw = None
        if b.want_params[0]:
            dw = torch.zeros_like(b.params[0]).index_add_(0, self._indices(b.bottoms[0]).view(-1), dy)
        db = [dy.sum(0) if b.want_params[1] else None] if self.bias else []
        return Gradients([None], [dw, *db])

    def _indices(self, x: Tensor) -> Tensor:
        indices = x.long()
        if indices.numel():
            least, most = (int(v) for v in torch.aminmax(indices))
            if least < 0 or most >= self.inputs:
                raise self.fail(
                    f"index {least if least < 0 else most} is out of range: input_dim {self.inputs} allows 0 to "
                    f"{self.inputs - 1}."
                )
        return indices.contiguous()
