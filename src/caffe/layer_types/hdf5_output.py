"""HDF5Output: writes its two bottoms into an HDF5 file (hdf5_output_layer.cpp)."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import ClassVar
from weakref import WeakValueDictionary

import h5py
import numpy as np

from .. import world
from ..blob import Blob, describe
from ..layer import register
from ..tensor_layer import Plan, Shape, TensorLayer

_CHUNK = 1 << 16  # bytes, of rows that the file keeps together; at least one row


@register("HDF5Output")
class HDF5Output(TensorLayer):
    """Appends the rows of its bottoms to the datasets "data" and "label" at each forward.

    As in Caffe the file is begun anew when the net is built, and a dataset has four axes, N x C x H x W, missing ones
    as 1 (a bottom of more axes keeps its own); Caffe's layer ends the process at its second forward. No gradient.

    Between forwards the file is closed: complete, and readable by anyone, also after the process was killed there. A
    process that is killed while forward writes may leave a file that HDF5 cannot open; a disk that is full leaves it as
    it was, where the system can reserve room (Linux).
    Of several solvers the root writes to file_name, the one of rank r to `<file_name>.rank<r>`.
    """

    bottoms = (2, 2)
    tops = (0, 0)

    # Which layer writes a file: the one that began it last, as a train and a test net may have the same prototxt.
    _writers: ClassVar[WeakValueDictionary[str, HDF5Output]] = WeakValueDictionary()

    def configure(self, shapes: list[Shape]) -> None:
        """Begin the file; a missing folder is made. Raises NetError if it cannot be written."""
        name = self.layer_param.hdf5_output_param.file_name
        if not name:
            raise self.fail("hdf5_output_param needs a file_name.")
        self._path = os.path.abspath(name if world.root_solver() else f"{name}.rank{world.solver_rank()}")
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            h5py.File(self._path, "w").close()
        except (OSError, ValueError) as error:
            raise self.fail(f"Failed to open HDF5 file {self._path}: {error}.") from error
        self._writers[self._path] = self

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan nothing: it has no tops. Raises NetError unless the bottoms have the same number of rows."""
        if (*shapes[0], 1)[0] != (*shapes[1], 1)[0]:
            raise self.fail(f"data blob and label blob must have the same batch size, not {describe(shapes)}.")
        return Plan(())

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Append the bottoms' rows. Raises NetError for rows of another shape than before, or a failed write."""
        if self._writers.get(self._path) is not self:
            raise self.fail(
                f"another net has begun {self._path} anew. Give each net's layer a file_name of its own, or an "
                "include { phase: ... } so that only one has it."
            )
        batch = {name: _rows(blob) for name, blob in zip(("data", "label"), bottom, strict=True)}
        try:
            self._reserve(sum(rows.nbytes + _CHUNK + rows.nbytes // 8 for rows in batch.values()))
            # Without the cache of chunks a write fails where it is asked for; in it, HDF5 1.14 crashes at the end.
            with h5py.File(self._path, "a", rdcc_nbytes=0) as file:
                self._check(file, batch)
                for name, rows in batch.items():
                    if name not in file:
                        together = max(1, _CHUNK // max(1, rows[:1].nbytes))
                        chunks = (together, *rows.shape[1:]) if rows.size else True
                        file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=chunks)
                        continue
                    before = len(file[name])
                    file[name].resize(before + len(rows), axis=0)
                    file[name][before:] = rows
        except OSError as error:
            raise self.fail(f"could not write {self._path}: {error}.") from error

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Do nothing: it has no gradient."""

    def _reserve(self, size: int) -> None:
        """Find out whether `size` more bytes fit on the disk before the file is touched. Raises OSError if not."""
        if not hasattr(os, "posix_fallocate"):
            return
        with open(self._path, "r+b") as file:
            end = file.seek(0, os.SEEK_END)
            try:
                os.posix_fallocate(file.fileno(), end, size)  # what is not used HDF5 gives back when it closes the file
            except OSError as error:
                file.truncate(end)
                if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                    raise

    def _check(self, file: h5py.File, batch: dict[str, np.ndarray]) -> None:
        """Refuse rows of another shape than the file's before any is written."""
        for name, rows in batch.items():
            if name in file and file[name].shape[1:] != rows.shape[1:]:
                raise self.fail(
                    f"the rows of '{name}' in {self._path} are {describe([file[name].shape[1:]])}, and now "
                    f"{describe([rows.shape[1:]])} came; a file holds rows of one shape."
                )


def _rows(blob: Blob) -> np.ndarray:
    """Return a blob's values with Caffe's four axes, or its own if it has more."""
    values = blob.data_tensor().contiguous().cpu().numpy()
    return values.reshape(values.shape + (1,) * (4 - values.ndim))
