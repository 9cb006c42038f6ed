"""Where a layer writes a large result: over the memory that the blob already has.

On a CPU fresh memory costs more than the arithmetic that fills it: 100 MB take about 40 ms to come from the system
and 5 ms to be written by a ReLU. Layers with large results therefore write with `out=` into these tensors, and call
`blob.touch()` when they are done. A program's view of the blob shows the result without a copy.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..blob import Blob


def data_out(blob: Blob, like: Tensor) -> Tensor:
    """Return the blob's data tensor, of its shape, to be overwritten; laid out in memory as `like` is."""
    out = blob.data_tensor()
    if out.is_contiguous() == like.is_contiguous():
        return out
    blob.set_data(_empty(blob, like))
    return blob.data_tensor()


def diff_out(blob: Blob, like: Tensor) -> Tensor:
    """Return the blob's diff tensor, of its shape, to be overwritten; laid out in memory as `like` is."""
    out = blob.diff_tensor()
    if out.is_contiguous() == like.is_contiguous():
        return out
    blob.set_diff(_empty(blob, like))
    return blob.diff_tensor()


def _empty(blob: Blob, like: Tensor) -> Tensor:
    channels_last = len(blob.dims) == 4 and not like.is_contiguous()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(blob.dims, device=like.device, memory_format=layout)
