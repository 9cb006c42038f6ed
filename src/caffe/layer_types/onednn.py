"""oneDNN's matrix product, which on some processors runs at twice the speed of the one that torch.mm calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# torch has it where it was built with oneDNN for x86.
_linear: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
AVAILABLE = _linear is not None


def matrix_product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return rows (M x K) times the transpose of weight (N x K), plus bias (N): M x N. On a CPU, where AVAILABLE."""
    return _linear(rows, weight, bias, "none", [], "")
