"""BatchDataLayer: what the layers that read batches from files share: Data, ImageData, WindowData.

Items are numbered: item i of the one sequence that a seed gives is the same on whatever rank, and after whatever
resume, for its record, its shuffle and its random crop are functions of (seed, layer name, i) alone. In TRAIN, rank r
of n takes items r, r + n, r + 2n, ...; test nets run on one rank only, which takes them all (data_layer.cpp Skip).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from .. import glog, rng
from ..blob import Blob, describe
from ..errors import CaffeError, NetError
from ..proto import caffe_pb2
from ..tensor_layer import Plan, Shape, TensorLayer
from ..world import solver_count, solver_rank
from .data_transformer import DataTransformer

# What random numbers are drawn for; each has a sequence of its own.
AUGMENT, SHUFFLE, SKIP = range(3)


class BatchDataLayer(TensorLayer):
    """A layer whose tops are a batch of images, N x C x H x W, and their labels, N.

    A subclass sets batch_size and transformer in `configure`, and gives `read`. It is run ahead of the net on a thread.
    """

    bottoms = (0, 0)
    prefetch: ClassVar[bool] = True

    batch_size: int
    transformer: DataTransformer
    rand_skip = 0  # up to how many items are left out at the start, by chance

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the settings, open the source, and shape the tops for the first item."""
        self._seed = rng.shared_seed()
        self._tag = zlib.crc32(self.name.encode())
        self._next = 0  # the first item that no rank has taken
        self.rank, self.ranks = (solver_rank(), solver_count()) if self.phase == caffe_pb2.TRAIN else (0, 1)
        super().setup(bottom, top)
        self._first = Plan(((self.batch_size, *self.first_shape()), (self.batch_size,))[: len(top)])
        for blob, shape in zip(top, self._first.tops, strict=True):
            blob.reshape(*shape)

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan the first batch; another may be of another shape, which its first item tells."""
        return self._first

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Do nothing: each batch brings its shape."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops the next batch, in the shape of its first item.

        Raises NetError, naming the item, if one cannot be read; the same batch is then the next one again.
        """
        stop = self._next + self.batch_size * self.ranks
        try:
            data, labels = self.batch(range(self._next + self.rank, stop, self.ranks))
        except CaffeError as error:
            raise self.fail(str(error)) from error
        self._next = stop
        for blob, values in zip(top, (data, labels), strict=False):
            blob.set_data(torch.from_numpy(values))

    def state(self) -> dict[str, int]:
        """Return where the layer is in its data, for a snapshot."""
        return {"seed": self._seed, "next": self._next}

    def set_state(self, state: dict[str, int]) -> None:
        """Go on from where a state says. Raises NetError if it is none of this layer's."""
        values = [state.get("seed"), state.get("next")] if isinstance(state, dict) else []
        if not values or not all(isinstance(value, int) for value in values) or state["next"] < 0:
            raise self.fail(f"its saved position is {state!r}, not a seed and the number of its next item.")
        self._seed, self._next = state["seed"], state["next"]

    # What a subclass gives

    def read(self, number: int) -> tuple[np.ndarray, int, str]:
        """Return item `number`: an image, C x H x W, uint8 or float32, its label, and what to call it in errors."""
        raise NotImplementedError

    # What a subclass may replace

    def first_shape(self) -> Shape:
        """Return the shape of one item's data, C x H x W, for the first batch."""
        image, _, where = self.read(self._skipped() + self.rank)
        return self._shape(image, where)

    def batch(self, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the data, N x C x H x W, and the labels, N, of some items, float32."""
        labels = np.empty(len(numbers), np.float32)
        data = np.empty(0, np.float32)
        skipped = self._skipped()
        for place, number in enumerate(numbers):
            image, labels[place], where = self.read(number + skipped)
            shape = self._shape(image, where)
            if place == 0:
                data = np.empty((len(numbers), *shape), np.float32)
            elif shape != data.shape[1:]:
                raise NetError(
                    f"{where} gives {describe([shape])}, the batch's first image {describe([data.shape[1:]])}. Images "
                    "of several sizes need crop_size, a common size, or batch_size: 1."
                )
            draw = self.generator(AUGMENT, number) if self.transformer.draws else None
            self.transformer.transform(image, data[place], draw)
        return data, labels

    # What a subclass calls

    def generator(self, purpose: int, number: int) -> np.random.Generator:
        """Return the generator of the random numbers that item (or epoch) `number` needs for a purpose."""
        return np.random.default_rng([self._seed & (2**64 - 1), self._tag, purpose, number])

    def checked_batch_size(self, size: int) -> int:
        """Return the batch size. Raises NetError if it is 0."""
        if size < 1:
            raise self.fail("batch_size is missing or 0; give how many images a batch has.")
        return size

    def make_transformer(self, settings: Any, known: Sequence[str] = ()) -> DataTransformer:
        """Return transform_param's transformer; warn of its settings where they have no effect (any longer)."""
        for name in ("scale", "mean_file", "crop_size", "mirror"):
            if settings.HasField(name) and name not in known:
                glog.warning(
                    f"Layer '{self.name}' ({self.type}): {name} has no effect outside transform_param; put it there."
                )
        return DataTransformer(self.layer_param.transform_param, self.phase)

    def _skipped(self) -> int:
        return int(self.generator(SKIP, 0).integers(self.rand_skip)) if self.rand_skip else 0

    def _shape(self, image: np.ndarray, where: str) -> Shape:
        try:
            return self.transformer.shape(image.shape)
        except NetError as error:
            raise NetError(f"{where}: {error}") from None
