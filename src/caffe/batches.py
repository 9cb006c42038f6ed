"""More items than fit in a net's batch: cut into batches, and put together again (pycaffe.py's _Net_batch)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

Arrays = dict[str, np.ndarray]


def cut(arrays: Arrays, size: int) -> Iterator[Arrays]:
    """Cut arrays, by name, of as many items each, into batches of `size` items, the last filled up with zeros."""
    total = item_count(arrays)
    for begin in range(0, total, size):
        batch = {name: np.asarray(values[begin : begin + size]) for name, values in arrays.items()}
        missing = size - min(size, total - begin)
        if missing:
            batch = {n: np.concatenate([v, np.zeros((missing, *v.shape[1:]), v.dtype)]) for n, v in batch.items()}
        yield batch


def item_count(arrays: Arrays) -> int:
    """Return how many items arrays of as many each have; 0 where there are no arrays."""
    return len(next(iter(arrays.values()))) if arrays else 0


class Rows:
    """Copies of what each batch gave, row by row; a scalar gives one a batch."""

    def __init__(self, names: Iterable[str]) -> None:
        self._rows: dict[str, list[np.ndarray]] = {name: [] for name in dict.fromkeys(names)}

    def add(self, arrays: Arrays) -> None:
        """Append what one batch gave, by name."""
        for name, values in arrays.items():
            self._rows[name].extend(np.atleast_1d(values).copy())

    def first(self, count: int) -> Arrays:
        """Return the rows stacked, without those that filled the last batch."""
        return {name: np.asarray(rows)[:count] for name, rows in self._rows.items()}


__all__ = ["Arrays", "Rows", "cut", "item_count"]
