"""Weights and solver states on disk: .caffemodel and .solverstate, binary and HDF5.

Files are known by their content, written whole or not at all, and refused with a sentence that says what they are.

Sources: Caffe's src/caffe/net.cpp (ToProto, ToHDF5, CopyTrainedLayersFrom), blob.cpp (FromProto, ToProto),
solvers/sgd_solver.cpp (SnapshotSolverStateTo...) and util/hdf5.cpp.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from ..errors import CaffeError, FileFormatError, why_not_opened
from ..proto import caffe_pb2
from . import file_kind
from .atomic import atomic_path
from .file_kind import Kind
from .prototxt import PathLike
from .stored_blob import StoredBlob, message_with_blobs, value_count
from .upgrade import upgrade_net
from .wire import Part, byte_count, field_start
from .wire_file import WireFile

_MAX_BINARY = 2**31 - 1  # bytes that Caffe's own reader accepts (kProtoReadBytesLimit)
_MAX_INDEX = 10_000  # parameters of one layer in HDF5, whose names are their indices
_DEFLATE_RATIO = 1032  # a compressed dataset cannot hold more than this many bytes a stored byte
_LAYER, _LAYER_BLOBS, _HISTORY = 100, 7, 3  # field numbers: of NetParameter, LayerParameter, SolverState


@dataclass
class StoredLayer:
    """A layer's name, parameters and, if known, its other settings.

    A blob is None where HDF5 leaves it out, because another layer owns it; `blobs` may then also be too short.
    """

    name: str
    blobs: list[StoredBlob | None] = field(default_factory=list)
    param: caffe_pb2.LayerParameter | None = None


@dataclass
class SolverStateData:
    """What a solver goes on from: iterations done, the weights' path, the lr policy's step, the update history."""

    iter: int
    learned_net: str
    current_step: int
    history: list[StoredBlob]


def read_weights(path: PathLike) -> list[StoredLayer]:
    """Read the layers of a .caffemodel of any Caffe version, or of an HDF5 file; the content tells which.

    Raises CaffeError `Could not open file X`, and FileFormatError for a file that is empty, cut off, damaged or of
    another kind.
    """
    name = _checked(path, "weights")
    if file_kind.is_hdf5(name):
        return _read_weights_hdf5(name)
    wire = WireFile.open(name)
    net = wire.parse(caffe_pb2.NetParameter(), "weights")
    try:
        upgrade_net(net)
    except CaffeError as error:
        raise FileFormatError(f"{name}: {error}") from error
    if not net.layer:
        raise FileFormatError(f"{name} holds no layers: it is no weights file, or only the beginning of one.")
    layers = []
    for param in net.layer:
        blobs: list[StoredBlob | None] = [
            wire.blob(stub, f'layer "{param.name}", blob {index}') for index, stub in enumerate(param.blobs)
        ]
        param.ClearField("blobs")
        layers.append(StoredLayer(param.name, blobs, param))
    return layers


def write_weights(path: PathLike, net_name: str, layers: Sequence[StoredLayer], hdf5: bool = False) -> None:
    """Write layers as a .caffemodel, or as HDF5, whole or not at all.

    The bytes are those that Caffe writes. Raises FileFormatError for a binary file of more than 2 GB, which no Caffe
    could read, and CaffeError where the file cannot be written.
    """
    if hdf5:
        with _written_hdf5(path) as file:
            _write_weights_hdf5(file, layers)
        return
    parts: list[Part] = [caffe_pb2.NetParameter(name=net_name).SerializeToString()]
    for layer in layers:
        param = caffe_pb2.LayerParameter()
        if layer.param is not None:
            param.CopyFrom(layer.param)
        param.name = layer.name
        param.ClearField("blobs")
        if any(blob is None for blob in layer.blobs):
            raise ValueError(f'Layer "{layer.name}" lacks a blob; only HDF5 can leave one out.')
        body = message_with_blobs(param, _LAYER_BLOBS, [blob for blob in layer.blobs if blob is not None])
        parts += [field_start(_LAYER, byte_count(body)), *body]
    _write_binary(path, parts, "Net.save_hdf5, or snapshot_format: HDF5 in the solver's prototxt,")


def read_state(path: PathLike) -> SolverStateData:
    """Read a .solverstate, binary or HDF5; the content tells which. Raises as read_weights does."""
    name = _checked(path, "a solver's state")
    if file_kind.is_hdf5(name):
        return _read_state_hdf5(name)
    wire = WireFile.open(name)
    state = wire.parse(caffe_pb2.SolverState(), "a solver's state")
    if not state.HasField("iter"):
        raise FileFormatError(f"{name} is not a solver's state: it has no iter.")
    history = [wire.blob(stub, f"history {index}") for index, stub in enumerate(state.history)]
    return SolverStateData(state.iter, state.learned_net, state.current_step, history)


def write_state(path: PathLike, state: SolverStateData, hdf5: bool = False) -> None:
    """Write a solver's state as Caffe does, whole or not at all. Raises as write_weights does."""
    if hdf5:
        with _written_hdf5(path) as file:
            _write_state_hdf5(file, state)
        return
    message = caffe_pb2.SolverState(iter=state.iter, learned_net=state.learned_net, current_step=state.current_step)
    _write_binary(path, message_with_blobs(message, _HISTORY, state.history), "snapshot_format: HDF5")


def _checked(path: PathLike, wanted: str) -> str:
    """Return the path of a file that can be read and is none of the frequent mistakes."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            start = file.read(file_kind.FIRST)
    except FileNotFoundError:
        raise CaffeError(f"Could not open file {name}") from None
    except (OSError, ValueError) as error:
        raise CaffeError(f"Could not open file {name}: {why_not_opened(error)}.") from None
    if not start:
        raise FileFormatError(f"{name} is empty (0 bytes), so it is not {wanted}. Download or copy it again.")
    found = file_kind.kind_of(start)
    if found not in (Kind.HDF5, Kind.MEAN, Kind.STATE, Kind.WEIGHTS, Kind.BINARY):
        raise FileFormatError(f"{name} is not {wanted} but {found.value}.")
    return name


def _write_binary(path: PathLike, parts: Sequence[Part], instead: str) -> None:
    size = byte_count(parts)
    if size > _MAX_BINARY:
        raise FileFormatError(
            f"{os.fspath(path)} would have {size / 1e9:.2f} GB; Caffe's binary files end at 2.15 GB (2^31 - 1 bytes). "
            f"{instead} writes any size."
        )
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for part in parts:
            file.write(part)


# HDF5


class _NeverFailing(io.FileIO):
    """A file that keeps its first error to itself: the HDF5 library crashes where a disk is full."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of `data`, unless something has failed."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += super().write(view[done:])
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file, unless something has failed."""
        try:
            return super().truncate(size) if self.error is None else size or 0
        except OSError as error:
            self.error = error
            return size or 0


@contextmanager
def _written_hdf5(path: PathLike) -> Iterator[h5py.File]:
    """Give an HDF5 file to write to, which takes the place of `path` as atomic_path says."""
    with atomic_path(path) as temporary, _NeverFailing(temporary, "w+") as disk:
        with h5py.File(disk, "w") as file:
            yield file
        if disk.error is not None:
            raise disk.error


@contextmanager
def _open_hdf5(path: str) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except CaffeError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError) as error:
        raise FileFormatError(f"{path} is an HDF5 file that is cut off or damaged: {error}") from error


def _read_weights_hdf5(path: str) -> list[StoredLayer]:
    with _open_hdf5(path) as file:
        if not isinstance(file.get("data"), h5py.Group):
            found = "a solver's state" if "history" in file else f"HDF5 with {', '.join(file) or 'nothing'}"
            raise FileFormatError(f"{path} is not weights but {found}: Caffe's have the group data.")
        layers: dict[str, dict[int, StoredBlob]] = {}

        def visit(name: str, found: h5py.Group | h5py.Dataset) -> None:
            if isinstance(found, h5py.Group):
                if not len(found):
                    layers[name] = {}
                return
            layer, _, index = name.rpartition("/")
            if not layer or not index.isdecimal() or int(index) > _MAX_INDEX:
                raise FileFormatError(f"{path}: data/{name} is no parameter; they are data/<layer>/<number>.")
            blob = _hdf5_blob(found, f'{path}: layer "{layer}", blob {int(index)}')
            diff = file.get(f"diff/{name}")
            if diff is not None:
                stored = _hdf5_blob(diff, f'{path}: layer "{layer}", diff {int(index)}')
                if stored.shape != blob.shape:
                    raise FileFormatError(f"{path}: data/{name} has the shape {blob.shape}, its diff {stored.shape}.")
                blob.diff = stored.data
            layers.setdefault(layer, {})[int(index)] = blob

        # Names with slashes are groups in groups. visititems enters each group once and follows no links out.
        file["data"].visititems(visit)
    if not layers:
        raise FileFormatError(f"{path} holds no layers.")
    return [
        StoredLayer(name, [blobs.get(i) for i in range(max(blobs, default=-1) + 1)]) for name, blobs in layers.items()
    ]


def _hdf5_blob(dataset: h5py.Dataset, where: str) -> StoredBlob:
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None or dataset.dtype.kind not in "fiu":
        raise FileFormatError(f"{where} is not an array of numbers.")
    count = value_count(dataset.shape, where)
    if dataset.nbytes > _DEFLATE_RATIO * dataset.id.get_storage_size() or dataset.external:
        raise FileFormatError(f"{where} has the shape {dataset.shape}, and the file does not hold its {count} values.")
    data = np.empty(dataset.shape, np.float32)
    if count:
        dataset.read_direct(data)
    return StoredBlob(dataset.shape, data)


def _write_weights_hdf5(file: h5py.File, layers: Sequence[StoredLayer]) -> None:
    with_diff = any(blob is not None and blob.diff is not None for layer in layers for blob in layer.blobs)
    for kind in ("data", "diff") if with_diff else ("data",):
        top = file.create_group(kind)
        for layer in layers:
            group = top.require_group(layer.name)
            for index, blob in enumerate(layer.blobs):
                values = None if blob is None else getattr(blob, kind)
                if blob is not None and values is not None:
                    group.create_dataset(str(index), data=np.asarray(values, np.float32).reshape(blob.shape))


def _read_state_hdf5(path: str) -> SolverStateData:
    with _open_hdf5(path) as file:
        if "iter" not in file or not isinstance(file.get("history"), h5py.Group):
            found = "a net's weights" if "data" in file else f"HDF5 with {', '.join(file) or 'nothing'}"
            raise FileFormatError(f"{path} is not a solver's state but {found}: Caffe's have iter and history.")
        group = file["history"]
        if set(group) != {str(index) for index in range(len(group))}:
            raise FileFormatError(f"{path}: its history has {', '.join(group)}, not 0 to {len(group) - 1}.")
        history = [_hdf5_blob(group[str(index)], f"{path}: history {index}") for index in range(len(group))]
        learned_net = np.ravel(file["learned_net"][()])[0] if "learned_net" in file else b""
        return SolverStateData(
            iter=int(np.ravel(file["iter"][()])[0]),
            learned_net=learned_net.decode() if isinstance(learned_net, bytes) else str(learned_net),
            current_step=int(np.ravel(file["current_step"][()])[0]) if "current_step" in file else 0,
            history=history,
        )


def _write_state_hdf5(file: h5py.File, state: SolverStateData) -> None:
    file.create_dataset("iter", data=np.array([state.iter], np.int32))
    # Caffe reads the name as a C string, so it needs its closing zero in the file.
    text = state.learned_net.encode() + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(text))
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    name = h5py.h5d.create(file.id, b"learned_net", kind, h5py.h5s.create(h5py.h5s.SCALAR))
    name.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(text, f"S{len(text)}"), mtype=kind)
    file.create_dataset("current_step", data=np.array([state.current_step], np.int32))
    group = file.create_group("history")
    for index, blob in enumerate(state.history):
        group.create_dataset(str(index), data=np.asarray(blob.data, np.float32).reshape(blob.shape))


__all__ = [
    "SolverStateData",
    "StoredBlob",
    "StoredLayer",
    "read_state",
    "read_weights",
    "write_state",
    "write_weights",
]
