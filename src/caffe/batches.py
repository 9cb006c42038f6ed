"""Running a net over more items than fit in its batch (pycaffe.py's _Net_forward_all and _Net_batch)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .net import Arrays, Net


def forward_all(net: Net, blobs: Sequence[str] | None, inputs: Arrays) -> Arrays:
    """Return the outputs, and the `blobs` named, of all items, one row an item; see Net.forward_all."""
    if not inputs or set(inputs) != set(net.inputs):
        raise Exception("Input blob arguments do not match net inputs.")
    outputs = _Rows([*net.outputs, *(blobs or [])])
    for batch in cut(net, inputs):
        outputs.add(net.forward(blobs, **batch))  # type: ignore[arg-type]
    return outputs.first(_items(inputs))


def forward_backward_all(
    net: Net, blobs: Sequence[str] | None, diffs: Sequence[str] | None, given: Arrays
) -> tuple[Arrays, Arrays]:
    """Return the outputs and the inputs' diffs, with what is named beside, of all items; see forward_all."""
    if not given or not set(given) <= {*net.inputs, *net.outputs}:
        raise Exception("Input blob arguments do not match net inputs.")
    outputs, gradients = _Rows([*net.outputs, *(blobs or [])]), _Rows([*net.inputs, *(diffs or [])])
    inputs = cut(net, {name: given[name] for name in net.inputs if name in given})
    top_diffs = cut(net, {name: given[name] for name in net.outputs if name in given})
    nothing: Arrays = {}
    for below, above in zip_longest(inputs, top_diffs, fillvalue=nothing):
        outputs.add(net.forward(blobs, **below))  # type: ignore[arg-type]
        gradients.add(net.backward(diffs, **above))  # type: ignore[arg-type]
    return outputs.first(_items(given)), gradients.first(_items(given))


def cut(net: Net, arrays: Arrays) -> Iterator[Arrays]:
    """Cut arrays into batches of the net's size, the last filled up with zeros."""
    if not arrays:
        return
    size = net.blobs[next(iter(arrays))].dims[0]
    total = _items(arrays)
    for begin in range(0, total, size):
        batch = {name: np.asarray(values[begin : begin + size]) for name, values in arrays.items()}
        missing = size - min(size, total - begin)
        if missing:
            batch = {n: np.concatenate([v, np.zeros((missing, *v.shape[1:]), v.dtype)]) for n, v in batch.items()}
        yield batch


class _Rows:
    """Copies of what each batch gave, row by row; a scalar gives one a batch."""

    def __init__(self, names: Iterable[str]) -> None:
        self._rows: dict[str, list[np.ndarray]] = {name: [] for name in dict.fromkeys(names)}

    def add(self, arrays: Arrays) -> None:
        for name, values in arrays.items():
            self._rows[name].extend(np.atleast_1d(values).copy())

    def first(self, count: int) -> Arrays:
        """Return the rows stacked, without those that filled the last batch."""
        return {name: np.asarray(rows)[:count] for name, rows in self._rows.items()}


def _items(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))
