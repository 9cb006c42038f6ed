"""Momentum and batch size: which go together, and how much each example weighs in a step (PAMI 6.2)."""

from __future__ import annotations

import numpy as np


def equivalent_momentum(momentum: float, batch: int, to: int) -> float:
    """Return the momentum at batches of `to` that is like `momentum` at batches of `batch`: p'^(1/to) = p^(1/batch)."""
    if not 0 <= momentum < 1 or batch < 1 or to < 1:
        raise ValueError(
            f"The momentum is {momentum} and the batches {batch} and {to}: expected 0 <= momentum < 1, and 1 or more "
            "images a batch."
        )
    return float(momentum ** (to / batch))


def gradient_weights(momentum: float, batch: int, count: int) -> np.ndarray:
    """Return how much each of the last `count` examples' gradients weighs in a step, the newest first.

    Unrolled step by step, as the solver does it: the history is multiplied by the momentum, and the batch's summed
    gradient added. It comes to momentum^floor(j / batch) for example j.
    """
    history = np.zeros(0)
    while history.size < count:
        history = np.concatenate([np.ones(batch), momentum * history])
    return history[:count]
