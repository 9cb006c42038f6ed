"""An ONNX graph in the making, and the registry of the functions that write each layer type in ONNX.

A translation is one function, found by the layer type that it registers for:

    @translates("AbsVal")
    def absolute(at: Site) -> str:
        return at.node("Abs", at.bottom)

It gets the layer's Site, makes nodes there, and returns the name of the top's value, or a list for several tops. What
it returns may be a bottom: then the top is that value under another name, and costs nothing.

ONNX names each value once, where Caffe writes a blob over (a ReLU in place). So a blob here is a name for the value
that it holds at the moment; at the end the value that a blob holds last gets the blob's own name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...blob import Blob
from ...errors import NetError
from ...graph import Node
from ...tensor_layer import Shape

# ONNX Runtime 1.12 and newer run these; IR version 8 came with opset 17.
OPSET, IR_VERSION = 17, 8

FLOAT, INT64, BOOL = 1, 7, 9  # TensorProto's numbers, for Cast

Dims = Sequence[int | str]  # an extent, or the name of one that is free


@dataclass(frozen=True)
class Translation:
    """What is known of a layer type: how it is written in ONNX, and what an exporter must know beside that."""

    write: Callable[[Site], str | Sequence[str]]
    fixed_image: bool  # what it writes holds for the image's present size only
    steps: bool  # its result jumps: a rounding error may change it by more than a rounding error
    integers: Callable[[Node], dict[int, int]] | None  # bottoms that hold 0 to n - 1, and n


_translations: dict[str, Translation] = {}

Write = Callable[["Site"], str | Sequence[str]]


def translates(
    layer_type: str,
    *,
    fixed_image: bool = False,
    steps: bool = False,
    integers: Callable[[Node], dict[int, int]] | None = None,
) -> Callable[[Write], Write]:
    """Register a function as the translation of a layer type; a second one takes the first one's place.

    `fixed_image`, `steps` and `integers` are Translation's fields.
    """

    def put(write: Write) -> Write:
        _translations[layer_type] = Translation(write, fixed_image, steps, integers)
        return write

    return put


def translation(layer_type: str) -> Translation | None:
    """Return the translation of a layer type, or None if ONNX cannot say it."""
    return _translations.get(layer_type)


def translations() -> list[str]:
    """Return the layer types that can be written in ONNX, sorted."""
    return sorted(_translations)


@dataclass
class OnnxNode:
    """One ONNX node: operator, name, values in and out, and attributes."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


class OnnxGraph:
    """The nodes and constants of an ONNX graph, and the value that each blob holds."""

    def __init__(self, inputs: Sequence[str], blobs: Iterable[str]) -> None:
        """Start with the net's inputs; no value made later takes the name of one of `blobs`."""
        self.values = {name: name for name in inputs}  # by blob
        self.input_limits: dict[str, int] = {}  # inputs that hold 0 to n - 1, and n
        self._inputs = list(inputs)
        self._taken = {*inputs, *blobs}
        self._nodes: list[OnnxNode] = []
        self._constants: dict[str, np.ndarray] = {}
        self._weights: dict[tuple[int, Shape], str] = {}  # by memory and shape: shared weights are stored once

    @property
    def size(self) -> int:
        """The bytes of all constants."""
        return sum(values.nbytes for values in self._constants.values())

    def add(self, node: Node) -> None:
        """Write a layer, whose type has a translation, after those written so far."""
        known = _translations[node.layer.type]
        at = Site(self, node, [self.values[name] for name in node.bottom_names])
        for index, limit in (known.integers(node) if known.integers else {}).items():
            if at.bottoms[index] in self._inputs:
                self.input_limits[at.bottoms[index]] = limit
        tops = known.write(at)
        self.values.update(zip(node.top_names, [tops] if isinstance(tops, str) else tops, strict=True))

    def node(self, name: str, op: str, inputs: Sequence[str], outputs: int, attributes: dict[str, Any]) -> list[str]:
        """Append a node; return the names of its outputs."""
        made = [self._unique(f"{name}/{op}") for _ in range(outputs)]
        self._nodes.append(OnnxNode(op, made[0], list(inputs), made, attributes))
        return made

    def constant(self, name: str, values: np.ndarray) -> str:
        """Store a constant, under `name` if that is free; return its name."""
        unique = self._unique(name)
        self._constants[unique] = values
        return unique

    def weight(self, name: str, blob: Blob, shape: Shape) -> str:
        """Store a parameter blob as a constant of `shape`, unless it is stored already; return its name."""
        values = blob.data_tensor()
        key = values.data_ptr(), shape
        if key not in self._weights:
            self._weights[key] = self.constant(name, values.cpu().contiguous().numpy().reshape(shape))
        return self._weights[key]

    def name_outputs(self, outputs: Sequence[str]) -> dict[str, str]:
        """Give the values that blobs hold at the end the blobs' names; return each output's name in the graph.

        That is the blob's own, unless the graph has an input of that name, which a layer then wrote over.
        """
        made = {value for node in self._nodes for value in node.outputs}
        names: dict[str, str] = {}  # of values
        for blob in [*outputs, *(b for b in self.values if b not in outputs)]:
            value = self.values[blob]
            if value in made and value not in names and blob not in self._inputs:
                names[value] = blob
        for node in self._nodes:
            node.inputs = [names.get(value, value) for value in node.inputs]
            node.outputs = [names.get(value, value) for value in node.outputs]
        self.values = {blob: names.get(value, value) for blob, value in self.values.items()}
        return {blob: self._output(blob) for blob in outputs}

    def _output(self, blob: str) -> str:
        """Return the name of an output: if its value is another's, an input or a constant, a copy of it."""
        value = self.values[blob]
        if value == blob and blob not in self._inputs:
            return blob
        name = self._unique(f"{blob}/output") if blob in self._inputs else blob
        self._nodes.append(OnnxNode("Identity", name, [value], [name], {}))
        return name

    def model(self, name: str, inputs: Mapping[str, Dims], outputs: Mapping[str, Dims]) -> Any:
        """Return the onnx.ModelProto, with inputs and outputs of the given names and extents."""
        from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415  an extra

        def described(values: Mapping[str, Dims]) -> list[Any]:
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(dims)) for n, dims in values.items()]

        nodes = [helper.make_node(n.op, n.inputs, n.outputs, n.name, **n.attributes) for n in self._nodes]
        constants = [numpy_helper.from_array(values, n) for n, values in self._constants.items()]
        graph = helper.make_graph(nodes, name or "net", described(inputs), described(outputs), constants)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="pycaffe-on-torch",
        )

    def _unique(self, name: str) -> str:
        found, number = name, 1
        while found in self._taken:
            found, number = f"{name}_{number}", number + 1
        self._taken.add(found)
        return found


class Site:
    """Where a translation writes: one layer, the values of its bottoms, and the graph behind them."""

    def __init__(self, graph: OnnxGraph, node: Node, bottoms: list[str]) -> None:
        self.layer: Any = node.layer
        self.plan: Any = getattr(node.layer, "planned", None)  # a Python layer has none
        self.bottoms = bottoms
        self.shapes: list[Shape] = [blob.dims for blob in node.bottom]
        self.top_names = list(node.top_names)
        self.top_shapes: list[Shape] = [blob.dims for blob in node.top]
        self._graph = graph
        self._name = node.name

    @property
    def bottom(self) -> str:
        """The value of the first bottom."""
        return self.bottoms[0]

    @property
    def tops(self) -> int:
        """The number of tops."""
        return len(self.top_names)

    @property
    def rank(self) -> int:
        """The number of axes of the first bottom."""
        return len(self.shapes[0])

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; return the output's name. An input that is left out is ""."""
        return self._graph.node(self._name, op, inputs, 1, attributes)[0]

    def nodes(self, op: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Append a node with several outputs; return their names."""
        return self._graph.node(self._name, op, inputs, outputs, attributes)

    def weight(self, index: int, shape: Shape | None = None) -> str:
        """Return the layer's parameter, in its own or another shape, as the constant <layer>/<index>."""
        blob = self.layer.blobs[index]
        return self._graph.weight(f"{self._name}/{index}", blob, blob.dims if shape is None else shape)

    def number(self, value: float) -> str:
        """Return a float32 scalar."""
        return self._graph.constant(f"{self._name}/number", np.array(value, np.float32))

    def array(self, values: np.ndarray) -> str:
        """Return a float32 array."""
        return self._graph.constant(f"{self._name}/array", np.ascontiguousarray(values, np.float32))

    def integers(self, values: Sequence[int]) -> str:
        """Return int64 values: a list of axes, extents or places."""
        return self._graph.constant(f"{self._name}/integers", np.array(values, np.int64))

    def extents(self, value: str, start: int = 0, end: int | None = None) -> str:
        """Return the extents that a value has when the graph runs, from axis `start` to before `end`."""
        return (
            self.node("Shape", value, start=start) if end is None else self.node("Shape", value, start=start, end=end)
        )

    def affine(self, value: str, factor: float, term: float) -> str:
        """Return factor * value + term, in as few nodes as that takes."""
        if factor != 1:
            value = self.node("Mul", value, self.number(factor))
        return self.node("Add", value, self.number(term)) if term else value

    def joined_extents(self, *parts: str) -> str:
        """Return lists of extents, one after the other."""
        return self.node("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]

    def fail(self, what: str) -> NetError:
        """Make the error that names this layer: `raise at.fail("...")`."""
        return NetError(f"Layer '{self._name}' ({self.layer.type}) cannot be exported to ONNX: {what}")
