"""HDF5Data: rows of the datasets in a list of HDF5 files (hdf5_data_layer.cpp, util/hdf5.cpp)."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import h5py
import numpy as np
import torch

from .. import rng, world
from ..blob import Blob, describe
from ..errors import NetError
from ..formats import file_kind
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Plan, Shape, TensorLayer

_DEFLATE_RATIO = 1032  # a compressed dataset holds at most so many bytes a stored byte
_SMALL = 2**24  # bytes that a dataset may take even if none of them is in the file: it reads as zeros


@register("HDF5Data")
class HDF5Data(TensorLayer):
    """Batches of rows: each top is the dataset of its name, `batch_size` x the rows' shape, in float32.

    The source lists HDF5 files, whose rows make one endless sequence: the files in order, then again from the first,
    so that a batch may span files. With `shuffle` each round has an order of files, and of rows in each, of its own. Of
    n solvers that train together, that of rank r takes the rows r, r + n, ... of the sequence. One file at a time is in
    memory, in the numbers' type if that is at most four bytes wide, else as float32.
    """

    bottoms = (0, 0)
    tops = (1, None)
    prefetch: ClassVar[bool] = True

    def configure(self, shapes: list[Shape]) -> None:
        """Read the list, and look into every file: what cannot be is told now, not hours later."""
        param = self.layer_param.hdf5_data_param
        if self.layer_param.HasField("transform_param"):
            raise self.fail(
                "HDF5Data does not transform data. Write the data as the net takes it, and remove transform_param."
            )
        if not param.batch_size:
            raise self.fail("hdf5_data_param needs a batch_size of 1 or more.")
        self._batch_size: int = param.batch_size
        self._shuffle: bool = param.shuffle
        self._names = list(self.layer_param.top)
        self._paths = self._listed(param.source)
        self._rows: list[Shape] = []  # the shape of a row, one for each top
        self._counts = np.array([self._checked(path) for path in self._paths], dtype=np.int64)
        self._total = int(self._counts.sum())
        if not self._total:
            raise self.fail(f"the files that {param.source} lists hold no rows.")
        self._seed = rng.shared_seed()
        # Test nets run on the root alone, whose rank does not matter to them.
        alone = self.phase == caffe_pb2.TEST
        self._rank, self._ranks = (0, 1) if alone else (world.solver_rank(), world.solver_count())
        self._next = 0  # the first row of the sequence that no rank has taken
        self._loaded: tuple[int, dict[str, np.ndarray]] | None = None
        self._permuted: tuple[tuple[int, int], np.ndarray] | None = None

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan batch_size x the shape of a row, for each dataset."""
        return Plan(tuple((self._batch_size, *row) for row in self._rows))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops the next batch_size rows. Raises NetError if a file is gone or changed since setup."""
        batch = [np.empty((self._batch_size, *row), np.float32) for row in self._rows]
        filled = 0
        while filled < self._batch_size:
            epoch, offset = divmod(self._next + self._rank + filled * self._ranks, self._total)
            order = self._order((epoch,), len(self._paths))
            starts = np.cumsum(self._counts[order]) - self._counts[order]
            place = int(np.searchsorted(starts, offset, side="right")) - 1
            file, first = int(order[place]), offset - int(starts[place])
            count = min(self._batch_size - filled, -(-(int(self._counts[file]) - first) // self._ranks))
            rows: slice | np.ndarray = slice(first, first + count * self._ranks, self._ranks)
            if self._shuffle:
                rows = self._rows_order(epoch, file)[rows]
            for values, name in zip(batch, self._names, strict=True):
                values[filled : filled + count] = self._values(file)[name][rows]
            filled += count
        self._next += self._batch_size * self._ranks
        for blob, values in zip(top, batch, strict=True):
            blob.set_data(torch.from_numpy(values))

    def state(self) -> dict[str, int]:
        """Return where the sequence is, for all ranks alike: its seed, and how many of its rows were taken."""
        return {"seed": self._seed, "next": self._next}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was returned. Raises NetError if it is not of this layer's kind."""
        try:
            self._seed, self._next = int(state["seed"]), max(0, int(state["next"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self.fail(f"{state!r} is no position in HDF5 data.") from error
        self._permuted = None

    # The sequence: a function of the seed, the round and the file, so that a position is one number

    def _order(self, key: tuple[int, ...], count: int) -> np.ndarray:
        """Return the order of `count` files, or rows, that belongs to (round,) or to (round, 1 + file)."""
        if not self._shuffle:
            return np.arange(count)
        layer = zlib.crc32(self.name.encode())  # two layers of a net are shuffled apart
        return np.random.default_rng([self._seed % 2**64, layer, *key]).permutation(count)

    def _rows_order(self, epoch: int, file: int) -> np.ndarray:
        if self._permuted is None or self._permuted[0] != (epoch, file):
            self._permuted = ((epoch, file), self._order((epoch, 1 + file), int(self._counts[file])))
        return self._permuted[1]

    # The files

    def _listed(self, source: str) -> list[str]:
        """Return the paths that a list names, separated by white space; a path with spaces has a line of its own."""
        if not os.path.isfile(source):
            raise self.fail(f"Failed to open source file: {source!r}. hdf5_data_param's source lists HDF5 files.")
        if file_kind.is_hdf5(source):
            raise self.fail(
                f"its source {source} is an HDF5 file. Write the file's path into a text file, and name that."
            )
        paths: list[str] = []
        with open(source, encoding="utf-8", errors="surrogateescape") as lines:
            for line in map(str.strip, lines):
                paths += [line] if os.path.exists(line) else line.split()
        if not paths:
            raise self.fail(f"Must have at least 1 HDF5 filename listed in {source}.")
        return paths

    def _checked(self, path: str) -> int:
        """Return a file's number of rows, once it has every dataset in the shape that the first file's has."""
        with self._opened(path) as file:
            shapes = [self._dataset(file, path, name).shape for name in self._names]
        if len({shape[0] for shape in shapes}) != 1:
            counts = ", ".join(f"{name} {shape[0]}" for name, shape in zip(self._names, shapes, strict=True))
            raise self.fail(f"the datasets of {path} have different numbers of rows: {counts}.")
        rows = [shape[1:] for shape in shapes]
        self._rows = self._rows or rows
        for name, row, wanted in zip(self._names, rows, self._rows, strict=True):
            if row != wanted:
                raise self.fail(
                    f"the rows of dataset '{name}' are {describe([row])} in {path}, and {describe([wanted])} in "
                    f"{self._paths[0]}; all files need the same."
                )
        return int(shapes[0][0])

    def _values(self, index: int) -> dict[str, np.ndarray]:
        """Return a file's datasets by name; the file before makes room for it."""
        if self._loaded is None or self._loaded[0] != index:
            self._loaded = None
            self._loaded = (index, self._read(index))
        return self._loaded[1]

    def _read(self, index: int) -> dict[str, np.ndarray]:
        path, values = self._paths[index], {}
        with self._opened(path) as file:
            for name, row in zip(self._names, self._rows, strict=True):
                dataset = self._dataset(file, path, name)
                wanted = (int(self._counts[index]), *row)
                if dataset.shape != wanted:
                    raise self.fail(
                        f"dataset '{name}' of {path} is {describe([dataset.shape])} now, and was {describe([wanted])} "
                        "when the net was built."
                    )
                values[name] = np.empty(wanted, dataset.dtype if dataset.dtype.itemsize <= 4 else np.float32)
                if values[name].size:
                    dataset.read_direct(values[name])  # HDF5 converts wider types while it reads
        return values

    def _dataset(self, file: h5py.File, path: str, name: str) -> h5py.Dataset:
        """Return a dataset of numbers. Raises NetError if there is none, or the file cannot hold what it promises."""
        dataset = file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            raise self.fail(
                f"Failed to find HDF5 dataset {name} in {path}, which has: {', '.join(file) or 'nothing'}. Each top is "
                "the dataset of its name."
            )
        where = f"dataset '{name}' of {path}"
        if dataset.shape is None or dataset.dtype.kind not in "fiu" or h5py.check_enum_dtype(dataset.dtype):
            raise self.fail(f"{where} has the type {dataset.dtype}; it takes integers or floats.")
        if not dataset.shape:
            raise self.fail(f"{where} is a single value; its first axis are the rows.")
        if dataset.external or dataset.nbytes > max(_SMALL, _DEFLATE_RATIO * dataset.id.get_storage_size()):
            raise self.fail(f"{where} is {describe([dataset.shape])}, and the file does not hold so many values.")
        return dataset

    @contextmanager
    def _opened(self, path: str) -> Iterator[h5py.File]:
        """Open a file, and tell h5py's errors with its path."""
        if not os.path.exists(path):
            raise self.fail(
                f"Failed opening HDF5 file: {path}, which {self.layer_param.hdf5_data_param.source} lists, is not "
                f"there (in {os.getcwd()})."
            )
        try:
            with h5py.File(path, "r") as file:
                yield file
        except NetError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise self.fail(f"Failed opening HDF5 file: {path} cannot be read as HDF5 ({error}).") from error
