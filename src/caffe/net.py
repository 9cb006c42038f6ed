"""Net: runs a graph of layers, forward and backward, with pycaffe's surface (_caffe.cpp, pycaffe.py, net.cpp)."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, overload

import numpy as np
import torch

from . import batches, checked, debug_info, device, glog
from .batches import Arrays
from .blob import Blob, BlobVec, DtypeVec, IntVec, StringVec, describe
from .checked import FilePath
from .errors import NetError
from .formats import schema, snapshot
from .formats.prototxt import read_net
from .formats.upgrade import upgrade_net
from .graph import Graph, LearnableParam, Node
from .layer import Layer, LayerVec
from .layer_types.memory_data import MemoryData
from .proto import caffe_pb2

Hook = Callable[[int], None]


class Net:
    """A network of layers and blobs, built from a prototxt.

    Net(network_file, phase, level=0, stages=None, weights=None), or as older programs write it,
    Net(network_file, weights_file, phase). `phase` is caffe.TRAIN or caffe.TEST.

    Raises RuntimeError if a file cannot be opened, and its subclass CaffeError for what cannot be built or read.
    """

    @overload
    def __init__(
        self,
        network_file: FilePath,
        phase: int,
        level: int = 0,
        stages: Sequence[str] | None = None,
        weights: FilePath | None = None,
    ) -> None: ...

    @overload
    def __init__(self, network_file: FilePath, weights: FilePath, phase: int) -> None: ...

    def __init__(self, network_file: FilePath, *args: Any, **kwargs: Any) -> None:
        phase, level, stages, weights = checked.net_arguments(*args, **kwargs)
        if args and isinstance(args[0], (str, os.PathLike)):
            glog.warning(
                'DEPRECATION WARNING - deprecated use of Python interface. Use this instead (with the named "weights" '
                f"parameter): Net('...', {phase}, weights='{weights}')",
                "_caffe.cpp:139",
            )
        param = read_net(os.fspath(network_file))
        param.state.phase = phase
        param.state.level = level
        param.state.stage.extend(stages)
        self._build(param)
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def from_proto(cls, param: caffe_pb2.NetParameter) -> Net:
        """Build from a NetParameter whose `state` says what for."""
        net = cls.__new__(cls)
        net._build(param)
        return net

    def _build(self, param: caffe_pb2.NetParameter) -> None:
        built = caffe_pb2.NetParameter()
        built.CopyFrom(schema.plain(param))
        upgrade_net(built)
        self._graph = Graph(built)
        self._nodes: list[Node] = self._graph.nodes
        self.name: str = param.name
        self.phase: int = param.state.phase
        self.debug_info: bool = param.debug_info  # log the mean magnitude of everything that is computed
        self.blobs: OrderedDict[str, Blob] = OrderedDict(self._graph.blobs)
        self.learnable: list[LearnableParam] = self._graph.learnable
        self.inputs: list[str] = StringVec(self._graph.inputs)
        self.outputs: list[str] = StringVec(self._graph.outputs)
        self._before_forward: list[Hook] = []
        self._after_forward: list[Hook] = []
        self._before_backward: list[Hook] = []
        self._after_backward: list[Hook] = []

    def __reduce__(self) -> Any:
        """Refuse to be pickled or copied, as pycaffe's nets do."""
        raise TypeError(
            "A net cannot be pickled or copied. Send its prototxt and weights (net.save), and build it again; "
            "net.share_with(other) makes two nets use one set of weights."
        )

    # What the net is made of

    @property
    def layers(self) -> LayerVec:
        """Every layer, splits included; a Python layer is the program's own object."""
        return LayerVec(node.layer for node in self._nodes)

    @property
    def layer_dict(self) -> OrderedDict[str, Layer]:
        """Every layer by name."""
        return OrderedDict((node.name, node.layer) for node in self._nodes)

    @property
    def params(self) -> OrderedDict[str, BlobVec]:
        """The parameter blobs of each layer that has any: 0 the weight, 1 the bias."""
        return OrderedDict((node.name, node.layer.blobs) for node in self._nodes if len(node.layer.blobs))

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        """The names of each layer's tops."""
        return OrderedDict((node.name, list(node.top_names)) for node in self._nodes)

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        """The names of each layer's bottoms."""
        return OrderedDict((node.name, list(node.bottom_names)) for node in self._nodes)

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """Each blob's weight in the loss; 0 for most."""
        return OrderedDict((name, self._graph.loss_weights[name]) for name in self.blobs)

    @property
    def _layer_names(self) -> list[str]:
        return StringVec(node.name for node in self._nodes)

    @property
    def _blob_names(self) -> list[str]:
        return StringVec(self.blobs)

    @property
    def _blobs(self) -> BlobVec:
        return BlobVec(self.blobs.values())

    @property
    def _blob_loss_weights(self) -> DtypeVec:
        return DtypeVec(self.blob_loss_weights.values())

    @property
    def _inputs(self) -> IntVec:
        return self._blob_ids(self.inputs)

    @property
    def _outputs(self) -> IntVec:
        return self._blob_ids(self.outputs)

    def _top_ids(self, layer: int) -> IntVec:
        return self._blob_ids(self._nodes[layer].top_names)

    def _bottom_ids(self, layer: int) -> IntVec:
        return self._blob_ids(self._nodes[layer].bottom_names)

    def _blob_ids(self, names: Sequence[str]) -> IntVec:
        places = {name: i for i, name in enumerate(self.blobs)}
        return IntVec(places[name] for name in names)

    # Forward

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: np.ndarray,
    ) -> Arrays:
        """Run the layers from `start` to `end` (names, both included; default all).

        kwargs are arrays for the net's inputs, all of them or none. Returns the outputs, or the tops of `end`,
        and the `blobs` named, as live views that the next forward overwrites.
        """
        extra = checked.names(blobs or [], "forward's blobs")
        first = self._index(start) if start is not None else 0
        if end is not None:
            last = self._index(end)
            wanted = [*self._nodes[last].top_names, *extra]
        else:
            last = len(self._nodes) - 1
            wanted = [*self.outputs, *extra]
        if kwargs:
            if set(kwargs) != set(self.inputs):
                raise Exception("Input blob arguments do not match net inputs.")
            for name, values in kwargs.items():
                blob = self.blobs[name]
                if np.shape(values)[:1] != blob.dims[:1]:
                    raise Exception("Input is not batch sized")
                _write(blob.data, values, f"Input '{name}'")
        self._forward(first, last)
        return {name: self._view(name, "data") for name in dict.fromkeys(wanted)}

    def forward_pass(self) -> float:
        """Run every layer and return the weighted loss."""
        return self._forward(0, len(self._nodes) - 1)

    def _forward(self, start: int, end: int) -> float:
        """Run layers by index, both ends included, and return their weighted loss (net.cpp ForwardFromTo)."""
        self._check_range(start, end)
        loss = 0.0
        for i in range(start, end + 1):
            for hook in self._before_forward:
                hook(i)
            node = self._nodes[i]
            with node.explained:
                if node.ahead is not None:
                    node.ahead.forward(node.top)
                else:
                    node.layer._forward_pass(node.bottom, node.top)
            if any(node.loss_weights):
                loss += self._weighted_loss(node)
            if self.debug_info:
                debug_info.log_forward(node)
            for hook in self._after_forward:
                hook(i)
        self.refresh_views()
        return loss

    def _weighted_loss(self, node: Node) -> float:
        """Return a layer's part of the loss: its tops times the weights that wait in their diffs."""
        loss = 0.0
        for top, weight in zip(node.top, node.loss_weights, strict=True):
            if weight:
                if top.diff_is_zero:  # the top grew, and its weights went with the old memory
                    top.set_diff(torch.full(top.dims, weight, device=device.current()))
                loss += float((top.data_tensor() * top.diff_tensor()).sum())
        return loss

    def reshape(self) -> None:
        """Give every blob the shape that follows from the inputs' shapes, without computing anything."""
        for node in self._nodes:
            if node.ahead is None:  # what runs ahead has its next item in hand, and shapes its tops with it
                with node.explained:
                    node.layer.reshape(node.bottom, node.top)

    # Backward

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: np.ndarray,
    ) -> Arrays:
        """Run the layers backward from `start` (default the last) to `end` (default the first).

        kwargs are diffs of the net's outputs, all of them or none. Returns the diffs of the inputs, or of the
        bottoms of `end`, and the `diffs` named. Parameter diffs are added to; see clear_param_diffs.
        """
        extra = checked.names(diffs or [], "backward's diffs")
        first = self._index(start) if start is not None else len(self._nodes) - 1
        if end is not None:
            last = self._index(end)
            wanted = [*self._nodes[last].bottom_names, *extra]
        else:
            last = 0
            wanted = [*self.inputs, *extra]
        if kwargs:
            if set(kwargs) != set(self.outputs):
                raise Exception("Top diff arguments do not match net outputs.")
            for name, values in kwargs.items():
                blob = self.blobs[name]
                if np.shape(values)[:1] != blob.dims[:1]:
                    raise Exception("Diff is not batch sized")
                _write(blob.diff, values, f"The diff of output '{name}'")
        self._backward(first, last)
        return {name: self._view(name, "diff") for name in dict.fromkeys(wanted)}

    def backward_pass(self) -> None:
        """Run every layer backward, from the loss weights."""
        self._backward(len(self._nodes) - 1, 0)
        if self.debug_info:
            debug_info.log_backward_total(self.learnable)

    def _backward(self, start: int, end: int) -> None:
        """Run layers backward by index, both ends included (net.cpp BackwardFromTo)."""
        self._check_range(end, start)
        for i in range(start, end - 1, -1):
            for hook in self._before_backward:
                hook(i)
            node = self._nodes[i]
            if node.need_backward:
                with node.explained:
                    node.layer._backward_pass(node.top, node.bottom_need_backward, node.bottom)
                if self.debug_info:
                    debug_info.log_backward(node)
            for hook in self._after_backward:
                hook(i)
        self.refresh_views()

    def clear_param_diffs(self) -> None:
        """Set the gradients of all learnable parameters to zero."""
        for param in self.learnable:
            param.blob.clear_diff()

    def refresh_views(self) -> None:
        """Let numpy views that a program still holds follow what the GPU computed."""
        if device.current().type != "cpu":
            for blob in self.blobs.values():
                blob.refresh_views()
            for param in self.learnable:
                param.blob.refresh_views()

    # Arrays as input

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Let the MemoryData layer that the net begins with read `data` (N x C x H x W) and `labels` (N values).

        Raises RuntimeError if the first layer is of another type.
        """
        if isinstance(labels, np.ndarray) and labels.ndim == 1:
            labels = np.ascontiguousarray(labels[:, np.newaxis, np.newaxis, np.newaxis])
        self._set_input_arrays(data, labels)

    def _set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        first = self._nodes[0].layer if self._nodes else None
        if not isinstance(first, MemoryData):
            raise RuntimeError("set_input_arrays may only be called if the first layer is a MemoryDataLayer")
        first.set_input_arrays(data, labels)

    # Batches

    def forward_all(self, blobs: Sequence[str] | None = None, **kwargs: np.ndarray) -> Arrays:
        """Run forward over more items than fit in a batch and return copies of the outputs, one row an item.

        kwargs are arrays for the net's inputs, all of them, of as many items each.
        """
        if not kwargs or set(kwargs) != set(self.inputs):
            raise Exception("Input blob arguments do not match net inputs.")
        outputs = batches.Rows([*self.outputs, *(blobs or [])])
        for batch in self._batch(kwargs):
            outputs.add(self.forward(blobs, **batch))  # type: ignore[arg-type]
        return outputs.first(batches.item_count(kwargs))

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **kwargs: np.ndarray
    ) -> tuple[Arrays, Arrays]:
        """Run forward and backward over more items than fit in a batch; return copies of outputs and diffs.

        kwargs are arrays for the net's inputs, and diffs of its outputs: all or none of either.
        """
        if not kwargs or not set(kwargs) <= {*self.inputs, *self.outputs}:
            raise Exception("Input blob arguments do not match net inputs.")
        outputs, gradients = batches.Rows([*self.outputs, *(blobs or [])]), batches.Rows([*self.inputs, *(diffs or [])])
        inputs = self._batch({name: kwargs[name] for name in self.inputs if name in kwargs})
        top_diffs = self._batch({name: kwargs[name] for name in self.outputs if name in kwargs})
        nothing: Arrays = {}
        for below, above in zip_longest(inputs, top_diffs, fillvalue=nothing):
            outputs.add(self.forward(blobs, **below))  # type: ignore[arg-type]
            gradients.add(self.backward(diffs, **above))  # type: ignore[arg-type]
        count = batches.item_count(kwargs)
        return outputs.first(count), gradients.first(count)

    def _batch(self, blobs: Arrays) -> Iterator[Arrays]:
        """Yield arrays, by the name of a blob, in batches of that blob's size."""
        if blobs:
            yield from batches.cut(blobs, self.blobs[next(iter(blobs))].dims[0])

    # Weights

    def copy_from(self, path: FilePath) -> None:
        """Take the weights that `path` (.caffemodel, or HDF5 by content) has for layers of the same names.

        Layers of the file that the net lacks are passed over; layers of the net that the file lacks keep theirs.
        Raises NetError on a different number or shape of blobs, FileFormatError for a damaged file.
        """
        targets = {node.name: node.layer for node in reversed(self._nodes)}  # the first of a name
        for stored in snapshot.read_weights(os.fspath(path)):
            layer = targets.get(stored.name)
            if layer is None:
                continue
            # HDF5 leaves out a parameter that another layer owns.
            sources = [*stored.blobs]
            while len(sources) < len(layer.blobs) and not self._graph.owns(layer.blobs[len(sources)]):
                sources.append(None)
            self._check_blob_count(stored.name, len(layer.blobs), len(sources), os.fspath(path))
            for index, (blob, source) in enumerate(zip(layer.blobs, sources, strict=True)):
                if source is None:
                    continue
                if not _fits(blob, source):
                    raise NetError(
                        f"Cannot copy param {index} weights from layer '{stored.name}'; shape mismatch. Source param "
                        f"shape is {describe([source.shape])}; target param shape is {describe([blob])}. To learn this "
                        "layer's parameters from scratch rather than copying from a saved net, rename the layer."
                    )
                blob.set_data(_on_device(source.data, blob.dims))
        self.refresh_views()

    def load_hdf5(self, path: FilePath) -> None:
        """Take weights from an HDF5 file that save_hdf5 or Caffe wrote."""
        self.copy_from(path)

    def share_with(self, other: Net) -> None:
        """Use the data of `other`'s layers of the same names from now on, without copying it.

        Raises NetError on a different number or shape of blobs.
        """
        if not isinstance(other, Net):
            raise TypeError(f"share_with takes the Net whose weights are to be used, not {other!r}.")
        targets = {node.name: node.layer for node in reversed(self._nodes)}  # the first of a name
        for node in other._nodes:
            layer = targets.get(node.name)
            if layer is None:
                continue
            self._check_blob_count(node.name, len(layer.blobs), len(node.layer.blobs), "the other net")
            for index, (blob, source) in enumerate(zip(layer.blobs, node.layer.blobs, strict=True)):
                if blob.dims != source.dims:
                    raise NetError(
                        f"Cannot share param {index} weights from layer '{node.name}'; shape mismatch. Source param "
                        f"shape is {describe([source])}; target param shape is {describe([blob])}."
                    )
                blob.share_data(source)

    def save(self, path: FilePath) -> None:
        """Write the weights as a binary .caffemodel, whole or not at all."""
        snapshot.write_weights(os.fspath(path), self.name, self.stored_layers())

    def save_hdf5(self, path: FilePath) -> None:
        """Write the weights as HDF5: data/<layer>/<index>; a shared parameter once, under its owner."""
        snapshot.write_weights(os.fspath(path), self.name, self.stored_layers(hdf5=True), hdf5=True)

    def stored_layers(self, with_diff: bool = False, hdf5: bool = False) -> list[snapshot.StoredLayer]:
        """Return every layer's settings and blobs as a snapshot holds them."""

        def stored(blob: Blob) -> snapshot.StoredBlob | None:
            if hdf5 and not self._graph.owns(blob):
                return None
            diff = np.array(blob.diff) if with_diff else None
            return snapshot.StoredBlob(shape=blob.dims, data=blob.data, diff=diff, legacy=False)

        return [
            snapshot.StoredLayer(
                name=node.name,
                blobs=[stored(blob) for blob in node.layer.blobs],
                param=node.layer.layer_param,
            )
            for node in self._nodes
        ]

    def data_sources(self) -> list[tuple[str, Any]]:
        """Return, by layer name, what has a position in its data: state() tells it and set_state() sets it."""
        return [
            (node.name, node.layer if node.ahead is None else node.ahead)
            for node in self._nodes
            if hasattr(node.layer, "state") and hasattr(node.layer, "set_state")
        ]

    # Hooks

    def before_forward(self, hook: Hook) -> None:
        """Call `hook(layer_index)` before each layer's forward."""
        self._before_forward.append(checked.function(hook, "A function of a layer's index"))

    def after_forward(self, hook: Hook) -> None:
        """Call `hook(layer_index)` after each layer's forward."""
        self._after_forward.append(checked.function(hook, "A function of a layer's index"))

    def before_backward(self, hook: Hook) -> None:
        """Call `hook(layer_index)` before each layer's backward."""
        self._before_backward.append(checked.function(hook, "A function of a layer's index"))

    def after_backward(self, hook: Hook) -> None:
        """Call `hook(layer_index)` after each layer's backward."""
        self._after_backward.append(checked.function(hook, "A function of a layer's index"))

    def _view(self, name: str, kind: str) -> np.ndarray:
        """Return a blob's data or diff; an error, which is one of memory, names the layer that makes the blob."""
        try:
            values: np.ndarray = getattr(self.blobs[name], kind)
        except NetError as error:
            maker = next((node.name for node in self._nodes if name in node.top_names), "")
            raise NetError(f"Layer '{maker}': blob '{name}' cannot be shown. {error}") from error
        return values

    def _check_range(self, first: int, last: int) -> None:
        if first < 0 or last >= len(self._nodes):
            raise NetError(f"Layers {first} to {last} were asked for; this net's are 0 to {len(self._nodes) - 1}.")

    def _index(self, layer_name: str) -> int:
        return list(self._layer_names).index(layer_name)

    def _check_blob_count(self, name: str, wanted: int, found: int, source: str) -> None:
        if wanted != found:
            raise NetError(
                f"Incompatible number of blobs for layer '{name}': the net has {wanted}, {source} has {found}. "
                "Rename the layer to learn it from scratch."
            )


def _write(array: np.ndarray, values: Any, what: str) -> None:
    """Copy a program's values into a blob's. Raises numpy's ValueError, with the blob's name in front."""
    try:
        array[...] = values
    except ValueError as error:
        raise ValueError(f"{what}: {error}. Reshape the blob first, or the values.") from None


def _fits(blob: Blob, source: snapshot.StoredBlob) -> bool:
    """Tell whether a stored blob is of a blob's shape; old files pad shapes to four axes with ones in front."""
    if source.legacy:
        return len(blob.dims) <= 4 and (1,) * (4 - len(blob.dims)) + blob.dims == tuple(source.shape)
    return blob.dims == tuple(source.shape)


def _on_device(values: np.ndarray, dims: tuple[int, ...]) -> torch.Tensor:
    """Hand an array that nobody else holds to the current device."""
    return torch.from_numpy(values).view(dims).to(device.current())
