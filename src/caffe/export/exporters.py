"""Export: a net with its weights as ONNX, and weights alone as safetensors."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable

import numpy as np

from .. import glog
from ..errors import CaffeError, NetError
from ..formats import file_kind
from ..formats.atomic import atomic_path
from ..formats.prototxt import PathLike, read_net
from ..formats.snapshot import read_weights
from ..formats.wire_file import WireFile
from ..layer import layer_class
from ..net import Net
from ..proto import caffe_pb2
from ..splits import filter_layers
from ..tensor_layer import LossLayer
from .onnx import OnnxGraph, translation, translations
from .onnx.check import check_file
from .onnx.sizes import free_sizes

MAX_MODEL = 2**31 - 2**20  # bytes of constants; a protobuf message ends at 2^31 - 1
MAX_CHECKED = 2**31  # bytes of blobs with which a net is still run to check what was written

_DATA = "reads data, which an ONNX net is given. Export the deploy net, whose inputs are Input layers"
_SCORES = "is for training and testing. Export the deploy net, without it"
_STATE = "keeps a state from item to item, for which ONNX has no operator with Caffe's meaning"
_REFUSED = {
    **dict.fromkeys(("Data", "HDF5Data", "ImageData", "MemoryData", "WindowData"), _DATA),
    **dict.fromkeys(("LSTM", "LSTMUnit", "RNN"), _STATE),
    "Accuracy": _SCORES,
    "HDF5Output": "writes a file. Leave it out",
    "Python": "runs a program, which an ONNX net cannot hold. Replace it by other layers, or end the net before it",
}


def to_onnx(net_file: PathLike, weights_file: PathLike, onnx_file: PathLike, *, check: bool = True) -> None:
    """Write a deploy net and its weights as ONNX, whole or not at all.

    Inputs and outputs have the blobs' names. Their batch, height and width are free where the net allows another one;
    parameters are the initializers <layer>/<index>. With `check` the file must pass onnx.checker and give in ONNX
    Runtime what the net gives here, at the net's own size and another one: max |difference| <= 1e-4 max(1, max |y|).
    A size at which the blobs take more than 2 GB is passed over.

    Raises CaffeError: for layers that ONNX cannot hold, by name; for files that cannot be read or written; for weights
    above 2 GB; for a net too large to check; and if the check fails, with figures. ImportError without the packages of
    the extra `export`.
    """
    _need("onnx", *(["onnxruntime"] if check else []))
    param = read_net(net_file)
    param.state.phase = caffe_pb2.TEST
    _refuse(param, os.fspath(net_file))
    net = Net.from_proto(param)
    net.copy_from(os.fspath(weights_file))
    _warn_of_missing_weights(net, os.fspath(weights_file))
    known = {node.layer.type: translation(node.layer.type) for node in net._nodes}
    sizes = free_sizes(net, fixed_image=any(t.fixed_image for t in known.values() if t))
    graph = OnnxGraph(net.inputs, net.blobs)
    for node in net._nodes:
        graph.add(node)
    if graph.size > MAX_MODEL:
        raise CaffeError(
            f"The net has {graph.size / 1e9:.2f} GB of weights; an ONNX file without external data ends at 2.15 GB."
        )
    examples = [shapes for shapes, memory in sizes.examples if memory <= MAX_CHECKED]
    if check and not examples:
        raise CaffeError(
            f"To check the ONNX net it is run at the size in {os.fspath(net_file)}, where its blobs would take "
            f"{sizes.examples[0][1] / 1e9:.1f} GB. Give its inputs a smaller shape there (free extents of the ONNX net "
            "stay free), or export with check=False."
        )
    names = graph.name_outputs(net.outputs)
    outputs = {names[blob]: dims for blob, dims in sizes.outputs.items()}
    with atomic_path(onnx_file) as path:
        with open(path, "wb") as file:
            file.write(graph.model(net.name, sizes.inputs, outputs).SerializeToString())
        if check:
            steps = any(t.steps for t in known.values() if t)
            check_file(path, net, names, examples, graph.input_limits, steps)


def to_safetensors(weights_file: PathLike, out_file: PathLike) -> None:
    """Write the parameters of a .caffemodel of any version, or of HDF5, as safetensors, whole or not at all.

    Tensors are named <layer>/<index>, as in Caffe's HDF5, and keep their shapes; of two layers of one name the first
    is taken, as by Net.copy_from. The metadata has `format`, which is "caffe", and `net`, the net's name.

    Raises CaffeError for files that cannot be read or written, ImportError without the extra `export`.
    """
    _need("safetensors")
    from safetensors.numpy import save  # noqa: PLC0415  an extra

    tensors: dict[str, np.ndarray] = {}
    for layer in read_weights(weights_file):
        for index, blob in enumerate(layer.blobs):
            if blob is not None:
                tensors.setdefault(f"{layer.name}/{index}", np.ascontiguousarray(blob.data).reshape(blob.shape))
    with atomic_path(out_file) as path, open(path, "wb") as file:
        file.write(save(tensors, {"format": "caffe", "net": _net_name(os.fspath(weights_file))}))


def _need(*packages: str) -> None:
    """Raise ImportError that says how to get a package of the extra, if one is missing."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ImportError(
                f"The export needs the package {package} ({error}). Install the extra: "
                "pip install 'pycaffe-on-torch[export]'"
            ) from error


def _refuse(param: caffe_pb2.NetParameter, net_file: str) -> None:
    """Raise NetError, naming every layer that ONNX cannot hold, before any of them is made."""
    layers = filter_layers(param).layer
    refused = [(layer, reason) for layer in layers if (reason := _reason(layer.type))]
    if refused:
        listed = "".join(f"\n  Layer '{layer.name}' ({layer.type}) {reason}." for layer, reason in refused)
        raise NetError(f"{net_file} cannot be exported to ONNX:{listed}")
    if not any(layer.type == "Input" for layer in layers):
        raise NetError(f"{net_file} cannot be exported to ONNX: it has no inputs. Export the deploy net.")


def _reason(layer_type: str) -> str | None:
    """Say why a layer type cannot be exported; None if it can, or if the engine does not know it either."""
    cls = layer_class(layer_type)
    if translation(layer_type) is not None or (cls is None and layer_type not in _REFUSED):
        return None
    if cls is not None and issubclass(cls, LossLayer):
        return _SCORES
    other = (
        f"has no form in ONNX here. These have: {', '.join(translations())}. A program adds one with "
        "caffe.export.onnx.translates"
    )
    return _REFUSED.get(layer_type, other)


def _warn_of_missing_weights(net: Net, weights_file: str) -> None:
    """Warn of layers with parameters that the weights file lacks: they are exported as their fillers left them."""
    stored = {layer.name for layer in read_weights(weights_file)}
    missing = [name for name in net.params if name not in stored]
    if missing:
        glog.warning(
            f"{weights_file} has no weights for {_listed(missing)}: they are exported as the prototxt fills them. "
            "Weights are found by layer name."
        )


def _net_name(weights_file: str) -> str:
    """Return the net's name in a weights file that can be read; HDF5 has none."""
    if file_kind.is_hdf5(weights_file):
        return ""
    return WireFile.open(weights_file).parse(caffe_pb2.NetParameter(), "weights").name


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
