"""Ahead: runs a data layer one item ahead of the net, on a thread, so that reading overlaps computing.

Only a layer without bottoms whose class says `prefetch = True` is run so; any other runs where and when Caffe would run
it. A subclass inherits it, and says `prefetch = False` if it does what a thread may not. Order and values are those of
running in place: one thread, one item ahead, each item made by the layer's own reshape and forward. An error surfaces
at the forward that would have met it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from .. import device
from ..blob import Blob, RawBlobVec
from ..errors import NetError
from ..layer import Layer

NO_BOTTOM = RawBlobVec()


class Ahead:
    """What the net calls in place of a prefetching data layer's reshape and forward."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self._next: Future[list[Blob]] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._process = os.getpid()  # a process forked from this one has no such thread
        self._consumed: Any = None  # the layer's state once the net's current item was made

    @staticmethod
    def allowed(layer: Layer, bottom: Sequence[Blob]) -> bool:
        """Tell whether a layer may run ahead: it has no bottoms and its class asks for it."""
        return not bottom and getattr(type(layer), "prefetch", False) is True

    def forward(self, top: Sequence[Blob]) -> None:
        """Give the tops the next item, and start on the one after.

        Raises NetError in a process that was forked after the first forward: the thread stayed behind.
        """
        if self._thread is not None and self._process != os.getpid():
            raise NetError(
                f"Layer '{self.layer.layer_param.name}': this process was forked while a thread read its data, and has "
                "no such thread. Build the net in the process that runs it."
            )
        if self._next is None:
            made = self._make(len(top))
            self._consumed = _state(self.layer)
        else:
            pending = self._next
            try:
                made = pending.result()
            finally:
                if pending.done():  # else Ctrl-C came while waiting, and the item is still the next one
                    self._next = None
            self._consumed = _state(self.layer)
        for blob, item in zip(top, made, strict=True):
            blob.reshape(*item.dims)
            blob.set_data(item.data_tensor().to(device.current()))
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="caffe-data")
        self._next = self._thread.submit(self._make, len(top))

    def _make(self, tops: int) -> list[Blob]:
        items = [Blob(0) for _ in range(tops)]
        with torch.enable_grad():
            self.layer.reshape(NO_BOTTOM, items)
            self.layer.forward(NO_BOTTOM, items)
        return items

    def state(self) -> Any:
        """Return the layer's state as of the item that the net has, not of the one being made."""
        return _state(self.layer) if self._next is None else self._consumed

    def set_state(self, state: Any) -> None:
        """Put the layer back to a state; the item made ahead is dropped."""
        if self._next is not None:
            self._next.exception()  # wait for it
            self._next = None
        self.layer.set_state(state)  # type: ignore[attr-defined]


def _state(layer: Layer) -> Any:
    return layer.state() if hasattr(layer, "state") else None
