"""Exact rewrites: what is computed in the place of what the prototxt says, with the same result and less work.

The one place for them between the wired graph and what runs, so that none touches a layer's formula. Each takes a plan
(and a weight, where it follows from one) and gives another for the same kernels.

* Padding that reaches further than the kernel makes a frame of outputs that see nothing of the image: they are the
  bias alone, and only the core inside is convolved (`without_frame`).
* Interpolation is often written as a dense deconvolution of whose weight only the diagonal, each channel onto itself,
  is not zero. It runs channel by channel, a tenth of the work (`per_channel`, `Diagonal`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .sliding import Extents, Sliding


def without_frame(sliding: Sliding) -> tuple[Sliding, Extents]:
    """Return the convolution of the core, and the width of the frame around it, for each spatial axis."""
    if sliding.transposed or len(sliding.kernel) != 2 or sliding.stride != (1, 1):
        return sliding, (0,) * len(sliding.kernel)
    frame = tuple(max(0, pad + 1 - sliding.reach(i)) for i, pad in enumerate(sliding.pad))
    return replace(sliding, pad=tuple(p - f for p, f in zip(sliding.pad, frame, strict=True))), frame


def per_channel(sliding: Sliding) -> Sliding:
    """Return the convolution of each channel with its own kernel, which a diagonal weight is."""
    return replace(sliding, groups=sliding.channels)


class Diagonal:
    """The diagonal of a weight C x C x kernel that is zero beside it; looked for once in each version of the weight."""

    def __init__(self, sliding: Sliding, version: Callable[[], int | None]) -> None:
        """Take what tells the weight's version: another number once it may have changed, None while it may at any time.

        (Blob.data_version)
        """
        self._possible = sliding.transposed and sliding.groups == 1 and sliding.channels == sliding.outputs > 1
        self._version = version
        self._found: tuple[int, Tensor | None] | None = None

    def of(self, weight: Tensor) -> Tensor | None:
        """Return it as C x 1 x kernel, or None if there is more in the weight."""
        if not self._possible:
            return None
        version = self._version()
        if version is None or self._found is None or self._found[0] != version:
            found = _only_diagonal(weight)
            if version is None:
                return found
            self._found = version, found
        return self._found[1]


def _only_diagonal(weight: Tensor) -> Tensor | None:
    each = torch.arange(len(weight), device=weight.device)
    diagonal = weight[each, each].unsqueeze(1)
    return diagonal if int(torch.count_nonzero(weight)) == int(torch.count_nonzero(diagonal)) else None
