"""Normalisation: LRN, BatchNorm, MVN (lrn_layer.cpp, batch_norm_layer.cpp, mvn_layer.cpp)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blob import Blob, describe
from ..kernels.normalization import LocalResponse
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Backward, Gradients, Plan, Shape, TensorLayer


@register("LRN")
class LRN(TensorLayer):
    """Local response normalisation of N x C x H x W (Krizhevsky et al. 2012).

    ACROSS_CHANNELS: x (k + alpha / n sum of x^2 over n channels) ^ -beta. WITHIN_CHANNEL: the mean of x^2 over n x n
    pixels instead, alpha undivided, and 1 for k whatever the prototxt says.
    """

    def configure(self, shapes: list[Shape]) -> None:
        """Read lrn_param."""
        param = self.layer_param.lrn_param
        self.size, self.alpha, self.beta, self.k = param.local_size, param.alpha, param.beta, param.k
        self.across = param.norm_region == param.ACROSS_CHANNELS
        self.response = LocalResponse(self.size, self.alpha, self.beta, self.k)
        if self.size % 2 == 0:
            raise self.fail(f"local_size must be odd, so that it has a middle, not {self.size}.")

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan the bottom's shape."""
        if len(shapes[0]) != 4:
            raise self.fail(f"its bottom must have 4 axes, N x C x H x W, not {describe(shapes)}.")
        return Plan((shapes[0],))

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the normalised values, within a channel."""
        x = bottoms[0]
        mean = F.avg_pool2d(x.square(), self.size, 1, self.size // 2)
        return x * (1 + self.alpha * mean) ** -self.beta

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the normalised values; in place within a channel only."""
        if not self.across:
            super().forward(bottom, top)
            return
        x = bottom[0].data_tensor()
        if top[0] is bottom[0]:
            self._input = x.clone() if self.needs_backward else None
        with top[0].writing_data(like=x) as y:
            self.response.forward(y, x)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write the gradient."""
        if not self.across:
            super().backward(top, propagate_down, bottom)
            return
        if not propagate_down[0]:
            return
        in_place = top[0] is bottom[0]
        x = self._input if in_place and self._input is not None else bottom[0].data_tensor()
        dy = top[0].diff_tensor()
        with bottom[0].writing_diff(like=x) as dx:
            self.response.backward(dx, dy, x)


@register("BatchNorm")
class BatchNorm(TensorLayer):
    """(x - mean) / sqrt(variance + eps) for each channel; a Scale layer after it brings factor and term.

    Parameters, which forward updates and no solver learns: the sums of means and of variances (C values each), and
    by how much to divide them (1 value). Each TRAIN pass multiplies them by moving_average_fraction and adds its own,
    the variance as unbiased. With use_global_stats, the default in TEST, the sums are used, otherwise the batch's own.
    """

    def configure(self, shapes: list[Shape]) -> None:
        """Read batch_norm_param."""
        param = self.layer_param.batch_norm_param
        is_test = self.phase == caffe_pb2.TEST
        self.uses_sums = param.use_global_stats if param.HasField("use_global_stats") else is_test
        self.fraction, self.eps = param.moving_average_fraction, param.eps
        self.channels = self._channels(shapes[0])
        self._statistics: tuple[Tensor, Tensor] | None = None  # the mean, 1 / deviation that forward used

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the parameters, and take them out of the solver's hands."""
        super().setup(bottom, top)
        for index in range(len(self.blobs)):
            if index == len(self.layer_param.param):
                self.layer_param.param.add(lr_mult=0.0)
            elif self.layer_param.param[index].lr_mult != 0:
                raise self.fail(
                    f"param {index} has lr_mult {self.layer_param.param[index].lr_mult:g}, but a batch's statistics "
                    "cannot be learned; leave its param messages out, or set lr_mult: 0."
                )

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return the shapes of the means, the variances and the divisor, which start at 0."""
        return [((self.channels,), None), ((self.channels,), None), ((1,), None)]

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan the bottom's shape."""
        if self._channels(shapes[0]) != self.channels:
            raise self.fail(f"it has statistics of {self.channels} channels; its bottom is {describe(shapes)}.")
        if 0 in shapes[0] and not self.uses_sums:
            raise self.fail(f"a mean needs at least one element; its bottom is {describe(shapes)}.")
        return Plan((shapes[0],))

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the normalised values, and in TRAIN update the sums."""
        if not bottoms[0].numel():
            return bottoms[0].clone()
        x = self._with_channels(bottoms[0])
        if self.uses_sums:
            divisor = params[2]
            inverse = torch.where(divisor == 0, 0, 1 / divisor)
            mean, variance = params[0] * inverse, params[1] * inverse
            y, _, _ = torch.native_batch_norm(x, None, None, mean, variance, False, 0.0, self.eps)
            self._statistics = mean, (variance + self.eps).rsqrt()
        else:
            # With momentum 1 torch leaves the batch's own mean and unbiased variance in its running statistics.
            mean, variance = torch.zeros_like(params[0]), torch.zeros_like(params[1])
            y, *statistics = torch.native_batch_norm(x, None, None, mean, variance, True, 1.0, self.eps)
            self._statistics = statistics[0], statistics[1]
            if x.numel() == self.channels:
                variance.zero_()  # one value has no deviation from itself, where the unbiased form would be 0 / 0
            for blob, new in zip(self.blobs, (mean, variance, torch.ones_like(params[2])), strict=True):
                with blob.writing_data() as sums:
                    sums.mul_(self.fraction).add_(new)
        return y.view(bottoms[0].shape)

    def gradient(self, plan: Plan, b: Backward) -> Gradients:
        """Return the gradient through the batch's statistics, or past the stored ones, which are constants."""
        x, dy = self._with_channels(b.bottoms[0]), self._with_channels(b.top_diffs[0])
        if not x.numel():
            return Gradients([b.top_diffs[0].clone()])
        if self._statistics is None:
            raise self.fail("its gradient needs the statistics of a forward pass; run forward first.")
        mean, factor = self._statistics
        if self.uses_sums:
            dx = dy * factor.view(-1, *[1] * (x.ndim - 2))
        else:
            dx, _, _ = torch.ops.aten.native_batch_norm_backward(
                dy, x, None, None, None, mean, factor, True, self.eps, [True, False, False]
            )
        return Gradients([dx.view(b.bottoms[0].shape)])

    def _channels(self, shape: Shape) -> int:
        if not shape:
            raise self.fail("its bottom needs 1 axis or more, not a scalar.")
        return shape[1] if len(shape) > 1 else 1

    def _with_channels(self, x: Tensor) -> Tensor:
        return x if x.ndim > 1 else x.unsqueeze(1)


@register("MVN")
class MVN(TensorLayer):
    """Subtract the mean of each channel (across_channels: of each item), and divide by its deviation + eps."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read mvn_param."""
        param = self.layer_param.mvn_param
        self.divides, self.eps = param.normalize_variance, param.eps
        self.kept_axes = 1 if param.across_channels else 2
        if len(shapes[0]) < self.kept_axes:
            raise self.fail(f"its bottom must have 2 axes or more, N x C..., not {describe(shapes)}.")

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the normalised values."""
        centred, deviation = self._centre(bottoms[0])
        y = centred.div_(deviation) if self.divides else centred
        return y.view(bottoms[0].shape)

    def gradient(self, plan: Plan, b: Backward) -> Gradients:
        """Return (dy - mean(dy) - y mean(dy y)) / deviation, without the last term where nothing is divided."""
        dy = self._rows(b.top_diffs[0])
        dx = dy - dy.mean(1, keepdim=True)
        if self.divides:
            centred, deviation = self._centre(b.bottoms[0])
            y = centred.div_(deviation)
            dx = dx.sub_(y * (y * dy).mean(1, keepdim=True)).div_(deviation)
        return Gradients([dx.view(b.bottoms[0].shape)])

    def _rows(self, x: Tensor) -> Tensor:
        """View what has a mean of its own, a channel or an item, as a row."""
        return x.reshape(math.prod(x.shape[: self.kept_axes]), math.prod(x.shape[self.kept_axes :]))

    def _centre(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows of which each has mean 0, and their deviations, eps added (not under the root)."""
        rows = self._rows(x)
        centred = rows - rows.mean(1, keepdim=True)
        return centred, centred.square().mean(1, keepdim=True).sqrt_().add_(self.eps)
