"""Local response normalisation across channels, in pieces that stay in a CPU's cache from step to step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PIECE_VALUES = 1 << 16  # 256 KB


@dataclass(frozen=True)
class LocalResponse:
    """x (k + alpha / size * sum of x^2 over `size` channels) ^ -beta, of N x C x H x W; `size` is odd."""

    size: int
    alpha: float
    beta: float
    k: float

    def forward(self, y: Tensor, x: Tensor) -> None:
        """Write the normalised values; y may be x."""
        for piece in _pieces(x):
            values = x[piece]
            power = self._power(self._scale_of(values))
            torch.mul(power, values, out=y[piece])

    def backward(self, dx: Tensor, dy: Tensor, x: Tensor) -> None:
        """Write dy scale^-beta - 2 alpha beta / size x (sum of dy y / scale over `size` channels); dx may be dy."""
        factor = 2 * self.alpha * self.beta / self.size
        for piece in _pieces(x):
            values, above = x[piece], dy[piece]
            scale = self._scale_of(values)
            power = self._power(scale)
            share = (power * values).mul_(above).div_(scale)
            ratio = self._window_sum(share).mul_(values)
            torch.sub(power.mul_(above), ratio, alpha=factor, out=dx[piece])

    def _scale_of(self, x: Tensor) -> Tensor:
        return self._window_sum(x.square()).mul_(self.alpha / self.size).add_(self.k)

    def _window_sum(self, values: Tensor) -> Tensor:
        """Return the sums of `size` channels around each channel."""
        channels = values.shape[1]
        sums = values.clone()
        for offset in range(1, min(self.size // 2, channels - 1) + 1):
            sums[:, offset:] += values[:, :-offset]
            sums[:, :-offset] += values[:, offset:]
        return sums

    def _power(self, scale: Tensor) -> Tensor:
        """Return scale ^ -beta, by square roots for the usual 0.75, which is quicker than a general power."""
        if self.beta != 0.75:
            return scale.pow(-self.beta)
        root = scale.rsqrt()
        return root.sqrt().mul_(root)


def _pieces(x: Tensor) -> list[tuple[slice, slice, slice]]:
    """Cut N x C x H x W into pieces: some items, or some rows of one; on a GPU there is one."""
    number, channels, height, width = x.shape
    if x.device.type != "cpu":
        return [(slice(None),) * 3]
    rows = max(1, min(height, PIECE_VALUES // max(1, channels * width)))
    items = max(1, PIECE_VALUES // max(1, channels * height * width))
    return [
        (slice(item, item + items), slice(None), slice(row, row + rows))
        for item in range(0, number, items)
        for row in range(0, height, rows)
    ]
