"""Summary: what a net's layers are, hold and cost at given input sizes, without computing anything.

One multiply-add counts 1. Counted are the products with weights in Convolution, Deconvolution, InnerProduct, RNN and
LSTM, as the papers' figures do; biases, activations, pooling, normalisation, element-wise layers, Embed (a look-up) and
Python layers count 0. Memory is that of the tops' data, in float32; a top in place, or of memory that another top has
(Split, Reshape, Flatten), takes none. Training takes as much again for the diffs, and what layers keep for themselves.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ..blob import describe
from ..errors import CaffeError
from ..formats.prototxt import PathLike, read_net
from ..graph import Node
from ..net import Net
from ..proto import caffe_pb2
from ..splits import filter_layers
from ..tensor_layer import Shape

FLOAT_BYTES = 4
TABLE_WIDTH = 120


@dataclass(frozen=True)
class Row:
    """One layer: its tops and their shapes, its parameters, and what a forward pass costs.

    Parameters that it shares with an earlier layer are that layer's. `memory` is of the tops' data, in bytes.
    """

    layer: str
    type: str
    tops: tuple[str, ...]
    shapes: tuple[Shape, ...]
    parameters: int
    learnable_parameters: int  # those whose lr_mult is not 0
    multiply_adds: int
    memory: int


@dataclass(frozen=True)
class Summary:
    """A net's layers, splits included, and their sums. `str` gives a table of at most 120 columns."""

    name: str
    phase: int
    rows: list[Row] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """The number of parameters, each shared one counted once."""
        return sum(row.parameters for row in self.rows)

    @property
    def learnable_parameters(self) -> int:
        """The number of parameters whose lr_mult is not 0."""
        return sum(row.learnable_parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of one forward pass."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def memory(self) -> int:
        """The bytes of all blobs' data."""
        return sum(row.memory for row in self.rows)

    @property
    def parameter_memory(self) -> int:
        """The bytes of all parameters."""
        return FLOAT_BYTES * self.parameters

    def __str__(self) -> str:
        head = ("layer", "type", "top", "parameters", "multiply-adds", "memory")
        lines = [head, *(line for row in self.rows for line in _lines(row))]
        total = f"{self.parameters:,}", f"{self.multiply_adds:,}", _size(self.memory)
        table = _aligned([*lines, ("total", "", "", *total)])
        rule = "-" * len(table[0])
        phase = "TRAIN" if self.phase == caffe_pb2.TRAIN else "TEST"
        return "\n".join(
            [
                f"{self.name or 'net'}, {phase}",
                *(table[0], rule, *table[1:-1], rule, table[-1]),
                f"{self.learnable_parameters:,} of {self.parameters:,} parameters are learnable; "
                f"all take {_size(self.parameter_memory)}.",
            ]
        )


def summarize(
    net_file: PathLike, *, phase: int = caffe_pb2.TEST, shapes: dict[str, tuple[int, ...]] | None = None
) -> Summary:
    """Build a net, give its inputs `shapes` by name, and return what its layers hold and cost.

    Nothing is computed, and no filler draws. Data layers give their shapes only where their data is.

    Raises CaffeError for what cannot be built or reshaped, for a name in `shapes` that is no input, and for a data
    layer that cannot start.
    """
    param = read_net(net_file)
    param.state.phase = cast("caffe_pb2.Phase", phase)
    _clear_fillers(param)
    net = _built(param, os.fspath(net_file))
    for name, shape in (shapes or {}).items():
        if name not in net.inputs:
            raise CaffeError(
                f"A shape is given for '{name}', which is no input of {os.fspath(net_file)}. "
                f"Its inputs are: {', '.join(net.inputs) or 'none'}."
            )
        net.blobs[name].reshape(*shape)
    if shapes:
        net.reshape()
    return Summary(net.name, phase, list(_rows(net)))


def _built(param: caffe_pb2.NetParameter, net_file: str) -> Net:
    """Build a net; tell of a data layer that cannot start why a summary wants it to."""
    try:
        return Net.from_proto(param)
    except Exception as error:
        made = ("Input", "DummyData", "Parameter")
        sources = [layer for layer in filter_layers(param).layer if not layer.bottom and layer.type not in made]
        failed = [s for s in sources if f"'{s.name}'" in str(error) or not isinstance(error, CaffeError)]
        if not failed:
            raise
        words = f"layer '{failed[0].name}' ({failed[0].type}) cannot give them: {str(error).rstrip('.')}"
        raise CaffeError(
            f"{net_file}: a summary needs the shapes of the data, and {words}. Put the data where the layer looks for "
            "it, or summarise the deploy net."
        ) from error


def _clear_fillers(message: Message) -> None:
    """Take every filler out of a message: what a parameter holds is not asked for, and drawing it takes time."""
    for settings, value in message.ListFields():
        if settings.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        if settings.message_type is caffe_pb2.FillerParameter.DESCRIPTOR:
            message.ClearField(settings.name)
            continue
        for inner in [value] if isinstance(value, Message) else value:
            _clear_fillers(inner)


def _rows(net: Net) -> Iterable[Row]:
    learnable = {id(param.blob): param.lr_mult != 0 for param in net.learnable}  # each shared one once, by its owner
    seen: set[int] = set()  # the memory of blobs so far
    for node in net._nodes:
        owned = [blob for blob in node.layer.blobs if id(blob) in learnable]
        rule = _multiply_adds.get(node.layer.type)
        memory = 0
        for blob in node.top:
            if id(blob.data_memory) not in seen:
                seen.add(id(blob.data_memory))
                memory += FLOAT_BYTES * blob.count
        yield Row(
            node.name,
            node.layer.type,
            tuple(node.top_names),
            tuple(blob.dims for blob in node.top),
            sum(blob.count for blob in owned),
            sum(blob.count for blob in owned if learnable[id(blob)]),
            rule(node) if rule else 0,
            memory,
        )


# Multiply-adds

Rule = Callable[[Node], int]

_multiply_adds: dict[str, Rule] = {}


def counts(*layer_types: str) -> Callable[[Rule], Rule]:
    """Register a function as what counts the multiply-adds of a layer of these types."""

    def put(rule: Rule) -> Rule:
        _multiply_adds.update(dict.fromkeys(layer_types, rule))
        return rule

    return put


@counts("Convolution")
def _of_convolution(node: Node) -> int:
    """Each output value is a product with one kernel of all channels of its group."""
    weight = node.layer.blobs[0].dims
    return sum(top.count for top in node.top) * math.prod(weight[1:])


@counts("Deconvolution")
def _of_deconvolution(node: Node) -> int:
    """Each input value is spread by one kernel to all channels of its group."""
    weight = node.layer.blobs[0].dims
    return sum(bottom.count for bottom in node.bottom) * math.prod(weight[1:])


@counts("InnerProduct")
def _of_inner_product(node: Node) -> int:
    """Each row of the bottom is multiplied by the whole weight."""
    return node.top[0].count // node.top[0].dims[-1] * node.layer.blobs[0].count


@counts("RNN", "LSTM")
def _of_recurrent(node: Node) -> int:
    """Each step of each stream is multiplied by every matrix, a static input once a stream."""
    steps, streams = node.bottom[0].dims[:2]
    static = 2 if node.layer.has_static else None  # type: ignore[attr-defined]
    matrices = ((i, blob) for i, blob in enumerate(node.layer.blobs) if len(blob.dims) == 2)
    return sum(streams * (1 if i == static else steps) * blob.count for i, blob in matrices)


# The table

Cells = tuple[str, ...]


def _lines(row: Row) -> list[Cells]:
    """Return a layer's lines: one, or one a top where their shapes differ."""
    shapes = [describe([shape]) for shape in row.shapes] or [""]
    if len(shapes) > 1 and len(set(shapes)) == 1:
        shapes = [f"{len(shapes)} of {shapes[0]}"]
    first = (row.layer, row.type, shapes[0], f"{row.parameters:,}", f"{row.multiply_adds:,}", _size(row.memory))
    return [first, *(("", "", shape, "", "", "") for shape in shapes[1:])]


def _aligned(lines: Sequence[Cells]) -> list[str]:
    """Return lines of one width, at most TABLE_WIDTH: words to the left, figures to the right, long words cut."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    words = 3
    while sum(widths) + 2 * (len(widths) - 1) > TABLE_WIDTH:
        widest = max(range(words), key=lambda column: widths[column])
        widths[widest] -= 1
    return [
        "  ".join(
            _cut(cell, width).ljust(width) if column < words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."


def _size(count: int) -> str:
    """Spell a number of bytes in the unit that suits it."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
