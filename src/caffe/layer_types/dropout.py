"""Dropout (dropout_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import rng
from ..blob import Blob
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Shape, TensorLayer


@register("Dropout")
class Dropout(TensorLayer):
    """Set each value to zero with probability dropout_ratio, and scale the others by 1 / (1 - ratio), in TRAIN.

    In TEST it is the identity. Each value falls on its own, not channel by channel.
    """

    def configure(self, shapes: list[Shape]) -> None:
        """Read dropout_ratio."""
        self.ratio = self.layer_param.dropout_param.dropout_ratio
        if not 0 <= self.ratio < 1:
            raise self.fail(f"dropout_ratio must be at least 0 and below 1, not {self.ratio:g}.")
        self.drops = self.phase == caffe_pb2.TRAIN and self.ratio > 0
        self._factors: Tensor | None = None  # 0 or 1 / (1 - ratio) for each value, as forward drew them

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the values that stay, scaled."""
        in_place = top[0] is bottom[0]
        if in_place and not self.drops:
            return
        x = bottom[0].data_tensor()
        with top[0].writing_data(like=x) as out:
            if self.drops:
                torch.mul(x, self._draw(x), out=out)
            else:
                out.copy_(x)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write the gradient of the values that stayed, scaled the same."""
        in_place = top[0] is bottom[0]
        if not propagate_down[0] or (in_place and not self.drops):
            return
        dy = top[0].diff_tensor()
        if self._factors is not None:
            self.check_kept(self._factors, top[0].dims)
        with bottom[0].writing_diff(like=dy) as out:
            if self.drops:
                torch.mul(dy, self._draw(dy) if self._factors is None else self._factors, out=out)
            else:
                out.copy_(dy)

    def _draw(self, x: Tensor) -> Tensor:
        """Draw anew which values stay."""
        factors = self._factors
        if factors is None or factors.shape != x.shape or factors.device != x.device:
            factors = self._factors = torch.empty_like(x)
        # Thresholding uniform draws is several times faster on a CPU than drawing from bernoulli_.
        factors.uniform_(generator=rng.generator(x.device))
        return torch.ge(factors, self.ratio, out=factors).mul_(1 / (1 - self.ratio))
