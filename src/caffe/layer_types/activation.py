"""Activations: functions of one value at a time (neuron_layer.hpp), of the bottom's shape, mostly used in place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blob import Blob, describe
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Backward, Gradients, Plan, Shape, TensorLayer


@register("ReLU")
class ReLU(TensorLayer):
    """max(x, 0) + negative_slope * min(x, 0) (relu_layer.cpp).

    The gradient tests the bottom's data as it is at backward, which in place is the result: both have one sign.
    """

    def configure(self, shapes: list[Shape]) -> None:
        """Read negative_slope."""
        self.slope = self.layer_param.relu_param.negative_slope

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the rectified values, in place without a copy."""
        x = bottom[0].data_tensor()
        with top[0].writing_data(like=x) as out:
            if self.slope:
                torch.ops.aten.leaky_relu.out(x, self.slope, out=out)
            else:
                torch.clamp_min(x, 0, out=out)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write the gradient: the top's diff where the bottom is above 0, times negative_slope elsewhere."""
        if not propagate_down[0]:
            return
        x, dy = bottom[0].data_tensor(), top[0].diff_tensor()
        with bottom[0].writing_diff(like=dy) as out:
            if self.slope:
                torch.ops.aten.leaky_relu_backward.grad_input(dy, x, self.slope, False, grad_input=out)
            else:
                torch.ops.aten.threshold_backward.grad_input(dy, x, 0, grad_input=out)


@register("PReLU")
class PReLU(TensorLayer):
    """max(x, 0) + a * min(x, 0) with one learned slope a channel, or one in all (prelu_layer.cpp)."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read prelu_param; channels are the bottom's second axis."""
        param = self.layer_param.prelu_param
        if len(shapes[0]) < 2:
            raise self.fail(f"its bottom needs 2 axes or more, N x C..., not {describe(shapes)}.")
        self.shared = param.channel_shared
        self.channels = shapes[0][1]
        self.filler = caffe_pb2.FillerParameter(type="constant", value=0.25)
        if param.HasField("filler"):
            self.filler = param.filler

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return the slopes' shape: C, or a scalar."""
        return [(() if self.shared else (self.channels,), self.filler)]

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan the bottom's shape."""
        if not self.shared and shapes[0][1:2] != (self.channels,):
            raise self.fail(f"it has slopes for {self.channels} channels; its bottom is {describe(shapes)}.")
        return Plan((shapes[0],))

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the rectified values."""
        return F.prelu(bottoms[0], params[0].reshape(-1))


@register("ELU")
class ELU(TensorLayer):
    """x above 0, alpha (exp(x) - 1) elsewhere (elu_layer.cpp)."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read alpha."""
        self.alpha = self.layer_param.elu_param.alpha

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the activation."""
        return F.elu(bottoms[0], self.alpha)


@register("Sigmoid")
class Sigmoid(TensorLayer):
    """1 / (1 + exp(-x)) (sigmoid_layer.cpp)."""

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the activation."""
        return torch.sigmoid(bottoms[0])

    def gradient(self, plan: Plan, b: Backward) -> Gradients:
        """Return dy * y (1 - y), from the top's data as Caffe does."""
        return Gradients([torch.ops.aten.sigmoid_backward(b.top_diffs[0], b.tops[0])])


@register("TanH")
class TanH(TensorLayer):
    """The hyperbolic tangent (tanh_layer.cpp)."""

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the activation."""
        return torch.tanh(bottoms[0])

    def gradient(self, plan: Plan, b: Backward) -> Gradients:
        """Return dy * (1 - y^2), from the top's data as Caffe does."""
        return Gradients([torch.ops.aten.tanh_backward(b.top_diffs[0], b.tops[0])])


@register("Swish")
class Swish(TensorLayer):
    """x * sigmoid(beta x) (swish_layer.cpp)."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read beta."""
        self.beta = self.layer_param.swish_param.beta

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the activation."""
        return bottoms[0] * torch.sigmoid(self.beta * bottoms[0])


@register("BNLL")
class BNLL(TensorLayer):
    """log(1 + exp(x)), the binomial normal log likelihood (bnll_layer.cpp)."""

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the activation, which does not overflow for large x."""
        return F.softplus(bottoms[0])


@register("AbsVal")
class AbsVal(TensorLayer):
    """|x| (absval_layer.cpp)."""

    refuses_in_place = True

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the absolute values; their gradient at 0 is 0."""
        return bottoms[0].abs()


@register("Clip")
class Clip(TensorLayer):
    """x cut to min..max (clip_layer.cpp); the gradient passes where min <= x <= max."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read min and max."""
        param = self.layer_param.clip_param
        self.least, self.most = param.min, param.max

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the clipped values."""
        return bottoms[0].clamp(self.least, self.most)


@register("Power")
class Power(TensorLayer):
    """(shift + scale x) ^ power (power_layer.cpp)."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read power, scale and shift."""
        param = self.layer_param.power_param
        self.power, self.scale, self.shift = param.power, param.scale, param.shift

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the powers, in as few passes as the settings allow."""
        x = bottoms[0]
        if self.power == 0:
            return torch.ones_like(x)
        y = self._inner(x)
        return y if self.power == 1 else y.pow_(self.power)

    def gradient(self, plan: Plan, b: Backward) -> Gradients:
        """Return dy * power scale (shift + scale x) ^ (power - 1)."""
        dy, factor = b.top_diffs[0], self.power * self.scale
        if factor == 0:
            return Gradients([torch.zeros_like(dy)])
        if self.power == 1:
            return Gradients([dy * factor])
        return Gradients([self._inner(b.bottoms[0]).pow_(self.power - 1).mul_(dy).mul_(factor)])

    def _inner(self, x: Tensor) -> Tensor:
        y = x * self.scale
        return y.add_(self.shift) if self.shift else y


class _WithBase(TensorLayer):
    """What Exp and Log share: a base, e by default, with a scale and a shift of x."""

    def _read(self, param: caffe_pb2.ExpParameter | caffe_pb2.LogParameter) -> None:
        self.scale, self.shift = param.scale, param.shift
        if param.base != -1 and param.base <= 0:
            raise self.fail(f"base must be above 0, or -1 for e, not {param.base:g}.")
        self.log_base = 1.0 if param.base == -1 else math.log(param.base)


@register("Exp")
class Exp(_WithBase):
    """base ^ (shift + scale x) (exp_layer.cpp)."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read exp_param."""
        self._read(self.layer_param.exp_param)

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the exponentials."""
        return torch.exp(bottoms[0] * (self.scale * self.log_base) + self.shift * self.log_base)


@register("Log")
class Log(_WithBase):
    """log to `base` of (shift + scale x) (log_layer.cpp)."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read log_param."""
        self._read(self.layer_param.log_param)
        if self.log_base == 0:
            raise self.fail("base 1 has no logarithm; give another base, or -1 for e.")

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the logarithms."""
        return torch.log(bottoms[0] * self.scale + self.shift) / self.log_base
