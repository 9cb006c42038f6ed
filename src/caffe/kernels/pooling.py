"""Sliding windows over images, and ways to find their maxima and means, with Caffe's count and Caffe's divisors.

Per spatial axis there are ceil((in + 2 pad - kernel) / stride) + 1 windows (floor where asked); if any axis is padded,
a last window that starts at or past in + pad is dropped. Windows are clipped to the image for maxima. For means the
padding counts as zeros, but nothing beyond in + pad does (pooling_layer.cpp). torch's ceil mode differs where the
stride is above the kernel, and torch refuses a pad above half the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]

LOWEST = torch.finfo(torch.float32).min  # the maximum of an empty window, -FLT_MAX
BLOCK = 1 << 20  # values that the processor's cache holds from one pass to the next
SEPARABLE = 4  # kernels up to this size are pooled row by row, then column by column


@dataclass(frozen=True)
class Windows:
    """The windows over an image; each pair is (height, width)."""

    image: Pair
    kernel: Pair
    stride: Pair
    pad: Pair
    ceil: bool
    count: Pair
    native: bool  # torch makes the same windows

    @classmethod
    def over(cls, image: Pair, kernel: Pair, stride: Pair, pad: Pair, ceil: bool = True) -> Windows:
        """Count the windows; a count below 1 says that the kernel is larger than the padded image."""
        axes = list(zip(image, kernel, stride, pad, strict=True))
        full = [(-((k - size - 2 * p) // s) if ceil else (size + 2 * p - k) // s) + 1 for size, k, s, p in axes]
        # Windows up to the last that starts before in + pad; torch never makes more.
        inside = [min(n, (size + p - 1) // s + 1) for n, (size, _, s, p) in zip(full, axes, strict=True)]
        height, width = inside if any(pad) else full
        native = [height, width] == inside and all(2 * p <= k for _, k, _, p in axes)
        return cls(image, kernel, stride, pad, ceil, (height, width), native)

    @cached_property
    def separable(self) -> bool:
        """Tell whether the maxima are found fastest row by row, then column by column."""
        return self.native and not any(self.pad) and max(self.kernel) <= SEPARABLE

    @cached_property
    def halves(self) -> bool:
        """Tell whether they are 2 x 2 windows side by side, of which the last of an axis may be cut short."""
        half = tuple(-(-size // 2) for size in self.image)
        return self.separable and self.kernel == self.stride == (2, 2) and self.count == half

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """The padding, for F.pad, after which no window is clipped: left, right, top, bottom."""
        axes = zip(self.image, self.kernel, self.stride, self.pad, self.count, strict=True)
        bottom, right = (max(0, (n - 1) * s + k - size - p) for size, k, s, p, n in axes)
        return self.pad[1], right, self.pad[0], bottom

    def divisors(self, like: Tensor) -> Tensor:
        """Return the number of cells that each mean divides by, height x width."""
        axes = zip(self.image, self.kernel, self.stride, self.pad, self.count, strict=True)
        rows, columns = (
            torch.tensor([max(1, min(i * s - p + k, size + p) - (i * s - p)) for i in range(n)], device=like.device)
            for size, k, s, p, n in axes
        )
        return (rows[:, None] * columns[None, :]).to(like.dtype)


@dataclass(frozen=True)
class MaxWay:
    """A way to find maxima.

    forward(w, y, x, places) writes them to y and returns where they are, or None from a way that need not know; places
    is what it returned the last time. backward(w, dx, dy, x, places) writes the gradient.
    """

    name: str
    forward: Callable[[Windows, Tensor, Tensor, Tensor | None], Tensor | None]
    backward: Callable[[Windows, Tensor, Tensor, Tensor, Tensor | None], None]


def choose(w: Windows, x: Tensor, with_places: bool, with_gradient: bool) -> MaxWay:
    """Return the way to find the maxima of x (N x C x H x W) where it is.

    with_places: someone wants to know where they are. with_gradient: a backward pass may follow.
    """
    if not with_places and x.device.type == "cpu":
        if w.halves and x.is_contiguous():
            return FROM_VALUES
        if w.separable and not with_gradient:
            return SEPARATELY
    return NATIVE if w.native else PADDED


def _native_forward(w: Windows, y: Tensor, x: Tensor, places: Tensor | None) -> Tensor:
    if places is None or places.shape != y.shape or places.device != y.device:
        places = torch.empty_like(y, dtype=torch.int64)
    torch.ops.aten.max_pool2d_with_indices.out(x, w.kernel, w.stride, w.pad, (1, 1), w.ceil, out=y, indices=places)
    return places


def _native_backward(w: Windows, dx: Tensor, dy: Tensor, x: Tensor, places: Tensor | None) -> None:
    places = max_pool(x, w)[1] if places is None else places
    torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
        dy, x, w.kernel, w.stride, w.pad, (1, 1), w.ceil, places, grad_input=dx
    )


def _padded_forward(w: Windows, y: Tensor, x: Tensor, places: Tensor | None) -> Tensor:
    values, places = max_pool(x, w)
    y.copy_(values)
    return places


def _padded_backward(w: Windows, dx: Tensor, dy: Tensor, x: Tensor, places: Tensor | None) -> None:
    dx.copy_(put_back(dy, max_pool(x, w)[1] if places is None else places, x))


def _separate_forward(w: Windows, y: Tensor, x: Tensor, places: Tensor | None) -> None:
    max_pool_into(y, x, w)


def _values_backward(w: Windows, dx: Tensor, dy: Tensor, x: Tensor, places: Tensor | None) -> None:
    max_pool_2x2_backward_into(dx, dy.contiguous(), x)


# torch's own.
NATIVE = MaxWay("native", _native_forward, _native_backward)
# Windows that torch does not make: the image is padded first.
PADDED = MaxWay("padded", _padded_forward, _padded_backward)
# Rows before columns, without a note of where the maxima are; a gradient looks for them again.
SEPARATELY = MaxWay("separately", _separate_forward, _native_backward)
# Both passes from the values alone: half the time and memory.
FROM_VALUES = MaxWay("from values", _separate_forward, _values_backward)


def max_pool(x: Tensor, w: Windows) -> tuple[Tensor, Tensor]:
    """Return the maxima of N x C x H x W, and where they are: row * W + column, or -1 for an empty window.

    Of equal values the first wins.
    """
    if w.native:
        return F.max_pool2d(x, w.kernel, w.stride, w.pad, ceil_mode=w.ceil, return_indices=True)
    left, _, top, _ = w.frame
    padded = F.pad(x, w.frame, value=LOWEST)
    maxima, places = F.max_pool2d(padded, w.kernel, w.stride, return_indices=True)
    rows, columns = places // padded.shape[3] - top, places % padded.shape[3] - left
    inside = (rows >= 0) & (rows < x.shape[2]) & (columns >= 0) & (columns < x.shape[3])
    return maxima, torch.where(inside, rows * x.shape[3] + columns, -1)


def mean_pool(x: Tensor, w: Windows) -> Tensor:
    """Return the means of N x C x H x W."""
    if w.native:
        return F.avg_pool2d(x, w.kernel, w.stride, w.pad, ceil_mode=w.ceil)
    return F.avg_pool2d(F.pad(x, w.frame), w.kernel, w.stride, divisor_override=1) / w.divisors(x)


def mean_pool_into(y: Tensor, x: Tensor, w: Windows) -> None:
    """Write the means of native windows."""
    torch.ops.aten.avg_pool2d.out(x, w.kernel, w.stride, w.pad, w.ceil, True, None, out=y)


def mean_pool_backward_into(dx: Tensor, dy: Tensor, x: Tensor, w: Windows) -> None:
    """Write the gradient of native windows' means."""
    torch.ops.aten.avg_pool2d_backward.grad_input(dy, x, w.kernel, w.stride, w.pad, w.ceil, True, None, grad_input=dx)


def put_back(dy: Tensor, places: Tensor, like: Tensor) -> Tensor:
    """Return zeros like `like` with each dy added where its value came from; nowhere for a place of -1."""
    dx = torch.zeros_like(like, memory_format=torch.contiguous_format)
    values = torch.where(places < 0, 0, dy)
    dx.flatten(2).scatter_add_(2, places.clamp(min=0).flatten(2), values.flatten(2))
    return dx


def max_pool_into(out: Tensor, x: Tensor, w: Windows) -> None:
    """Write the maxima of unpadded windows, but not where they are: ten times as fast as torch's on a CPU.

    Rows are combined before columns, for a block of windows at a time so that it stays in the cache.
    """
    (kernel, across), (stride, along), (height, width) = w.kernel, w.stride, w.count
    step = max(1, BLOCK // max(1, out[:, :, 0].numel() * along))
    for start in range(0, height, step):
        block = out[:, :, start : start + step]
        rows = _max_along(x[:, :, start * stride :], 2, kernel, stride, block.shape[2])
        _max_along(rows, 3, across, along, width, block)


def max_pool_2x2_backward_into(dx: Tensor, dy: Tensor, x: Tensor) -> None:
    """Write the gradient of 2 x 2 windows at stride 2 without padding, from the values alone.

    Of equal values the first in row-major order gets the gradient: the left column is preferred within each row,
    then the upper row. A block of windows at a time, as in max_pool_into.
    """
    height, width = x.shape[2:]
    step = max(1, BLOCK // max(1, dy[:, :, 0].numel() * 2))
    for start in range(0, dy.shape[2], step):
        block = dy[:, :, start : start + step]
        rows = slice(2 * start, min(2 * (start + step), height))
        x_rows, dx_rows = x[:, :, rows], dx[:, :, rows]
        pairs, whole = width // 2, x_rows.shape[2] // 2  # a last column or row may stand alone
        left, right = x_rows[..., 0 : 2 * pairs : 2], x_rows[..., 1 : 2 * pairs : 2]
        across = x_rows.new_empty(*x_rows.shape[:3], dy.shape[3])
        first = torch.ones_like(across, dtype=torch.bool)
        torch.maximum(left, right, out=across[..., :pairs])
        torch.ge(left, right, out=first[..., :pairs])
        if width % 2:
            across[..., pairs] = x_rows[..., -1]
        upper = across[:, :, 0 : 2 * whole : 2] >= across[:, :, 1 : 2 * whole : 2]
        torch.mul(block[:, :, :whole], upper, out=across[:, :, 0 : 2 * whole : 2])
        torch.mul(block[:, :, :whole], upper.logical_not_(), out=across[:, :, 1 : 2 * whole : 2])
        if x_rows.shape[2] % 2:
            across[:, :, -1] = block[:, :, -1]
        torch.mul(across, first, out=dx_rows[..., 0::2])
        torch.mul(across[..., :pairs], first[..., :pairs].logical_not_(), out=dx_rows[..., 1::2])


def _max_along(x: Tensor, axis: int, kernel: int, stride: int, count: int, out: Tensor | None = None) -> Tensor:
    """Return the maxima of `count` windows along an axis; some at the end may reach past it."""
    before = (slice(None),) * axis
    span = (count - 1) * stride + 1
    y = x[(*before, slice(0, span, stride))]
    for offset in range(1, kernel):
        value = x[(*before, slice(offset, offset + span, stride))]
        reached = value.shape[axis]  # windows that have a value at this offset
        if reached == count:
            y = out = torch.maximum(y, value, out=out)
        else:
            if y is not out:
                y = out = y.clone() if out is None else out.copy_(y)
            part = y.narrow(axis, 0, reached)
            torch.maximum(part, value, out=part)
    if y is not out and out is not None:
        out.copy_(y)
    return y
