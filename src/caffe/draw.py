"""Drawings of nets with Graphviz: layers as boxes, blobs as octagons (pycaffe's draw.py).

    caffe.draw.draw_net_to_file(net_param, "net.png")

Needs pydot (`pip install 'pycaffe-on-torch[draw]'`) and, for every format but dot itself, Graphviz's program `dot`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from .errors import CaffeError, NetError
from .formats import schema
from .formats.atomic import atomic_path
from .formats.upgrade import upgrade_net
from .proto import caffe_pb2

LAYER_STYLE = {"shape": "box", "style": "filled"}
IN_PLACE_STYLE: dict[str, Any] = {"shape": "box", "style": "filled", "fillcolor": "#90EE90"}
BLOB_STYLE: dict[str, Any] = {"shape": "octagon", "style": "filled", "fillcolor": "#E0E0E0"}
NOTHING = '""'  # an empty label, as dot spells it

_LEARNING = ("Convolution", "Deconvolution", "InnerProduct")
_COLORS = {"Convolution": "#FF5050", "Deconvolution": "#FF5050", "Pooling": "#FF9900", "InnerProduct": "#CC33FF"}
_SOURCE_FORMATS = ("dot", "gv", "raw")  # the graph's own text, which needs no Graphviz to write


def get_pooling_types_dict() -> dict[int, str]:
    """Return the name of each pooling method's number: {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}."""
    return {value.number: value.name for value in caffe_pb2.PoolingParameter.PoolMethod.DESCRIPTOR.values}


def get_edge_label(layer: caffe_pb2.LayerParameter) -> str:
    """Return what stands at a layer's tops: the channels it makes, or a data layer's batch size."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return NOTHING


def get_layer_lr_mult(layer: caffe_pb2.LayerParameter) -> tuple[float, float]:
    """Return the learning rate multipliers of weight and bias of a Convolution, Deconvolution or InnerProduct.

    Raises ValueError for another type, and for more than two `param` blocks.
    """
    if layer.type not in _LEARNING:
        raise ValueError(f"{layer.type} layers do not have a learning rate multiplier")
    if len(layer.param) > 2:
        raise ValueError(
            f"Could not parse the learning rate multiplier: layer '{layer.name}' has {len(layer.param)} param blocks, "
            "and a weight and a bias to multiply for."
        )
    weight, bias, *_ = [*(spec.lr_mult for spec in layer.param), 1.0, 1.0]
    return weight, bias


def get_layer_label(layer: caffe_pb2.LayerParameter, rankdir: str, display_lrm: bool = False) -> str:
    """Return a layer's text in quotes: its name, its type, and kernel, stride and pad where it has them.

    The parts stand side by side where the net runs from top to bottom ("TB", "BT"), else below each other. With
    `display_lrm` the learning rate multipliers are named too, unless all are zero.
    """
    separator = " " if rankdir in ("TB", "BT") else r"\n"
    if layer.type == "Pooling":
        parts = [_escaped(layer.name), f"(Pooling {get_pooling_types_dict()[layer.pooling_param.pool]})"]
    else:
        parts = [_escaped(layer.name), f"({_escaped(layer.type)})"]
    parts += _window(layer)
    if display_lrm and layer.type in _LEARNING:
        multipliers = get_layer_lr_mult(layer)
        if any(multipliers):
            parts.append("lr mult: {:.1f}, {:.1f}".format(*multipliers))
    return f'"{separator.join(parts)}"'


def choose_color_by_layertype(layertype: str) -> str:
    """Return the colour of a layer's box."""
    return _COLORS.get(layertype, "#6495ED")


def get_pydot_graph(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> Any:
    """Return the pydot.Dot of a NetParameter of any Caffe version.

    `rankdir` is the direction from data to loss: "LR", "TB" or "BT". With a `phase` only its layers are drawn.
    Raises ImportError without pydot, NetError for a layer with both include and exclude rules.
    """
    try:
        import pydot  # noqa: PLC0415  an extra, needed here only
    except ImportError as error:
        raise ImportError("Drawing nets needs pydot: pip install 'pycaffe-on-torch[draw]'.") from error
    nodes: dict[str, Any] = {}
    edges: dict[tuple[str, str], str] = {}  # without doubles: a layer may be there once for each phase
    for layer in _today(caffe_net).layer:
        if phase is not None and not _in_phase(layer, phase):
            continue
        name = f"{layer.name}_{layer.type}"
        style: dict[str, Any] = {**LAYER_STYLE, "fillcolor": choose_color_by_layertype(layer.type)}
        if list(layer.bottom) == list(layer.top) and len(layer.top) == 1:
            style = IN_PLACE_STYLE
        label = get_layer_label(layer, rankdir, display_lrm)
        nodes[name] = pydot.Node(f'"{_escaped(name)}"', label=label, **style)
        for blob in (*layer.bottom, *layer.top):
            key = f"{blob}_blob"
            nodes[key] = pydot.Node(f'"{_escaped(key)}"', label=f'"{_escaped(blob)}"', **BLOB_STYLE)
        edges.update({(f"{blob}_blob", name): NOTHING for blob in layer.bottom})
        made = get_edge_label(layer) if label_edges else NOTHING
        edges.update({(name, f"{blob}_blob"): made for blob in layer.top})
    graph = pydot.Dot(f'"{_escaped(caffe_net.name or "Net")}"', graph_type="digraph", rankdir=rankdir)
    for node in nodes.values():
        graph.add_node(node)
    for (source, target), label in edges.items():
        graph.add_edge(pydot.Edge(nodes[source], nodes[target], label=label))
    return graph


def draw_net(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    ext: str = "png",
    phase: int | None = None,
    display_lrm: bool = False,
) -> bytes:
    """Return the drawing of a net as the bytes of a file of format `ext`: png, svg, pdf, or another that Graphviz has.

    "dot" (also "gv" and "raw") is the graph's text, for Graphviz to lay out later. The rest is as in get_pydot_graph.
    Raises CaffeError if the program dot is missing or does not know the format.
    """
    graph = get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm)
    source: bytes = graph.to_string().encode()
    return source if ext in _SOURCE_FORMATS else _laid_out(source, ext)


def draw_net_to_file(
    caffe_net: caffe_pb2.NetParameter,
    filename: str | os.PathLike[str],
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Write the drawing of a net, in the format that the file's ending names, whole or not at all; see draw_net."""
    ext = os.path.splitext(filename)[1][1:]
    if not ext:
        raise CaffeError(f"{os.fspath(filename)} has no ending that says what to draw: .png, .svg, .pdf or .dot.")
    content = draw_net(caffe_net, rankdir, ext, phase, display_lrm)
    with atomic_path(filename) as temporary, open(temporary, "wb") as file:
        file.write(content)


def _today(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return a net in today's fields; the one given stays as it is. Raises TypeError for what is no NetParameter."""
    if getattr(getattr(net, "DESCRIPTOR", None), "name", None) != "NetParameter":
        raise TypeError(f"draw takes a NetParameter, as prototxt.read_net or NetSpec.to_proto give one, not {net!r}.")
    if not (net.layers or net.input):
        return net
    upgraded = caffe_pb2.NetParameter()
    upgraded.CopyFrom(schema.plain(net))
    upgrade_net(upgraded)
    return upgraded


def _in_phase(layer: caffe_pb2.LayerParameter, phase: int) -> bool:
    """Tell whether a layer may be part of a net of this phase, whatever the net's level and stages are."""
    if layer.include and layer.exclude:
        raise NetError(f"Layer '{layer.name}' has both include and exclude rules; give it one kind of them.")
    if layer.include:
        return any(not rule.HasField("phase") or rule.phase == phase for rule in layer.include)
    return not any(rule.HasField("phase") and rule.phase == phase for rule in layer.exclude)


def _window(layer: caffe_pb2.LayerParameter) -> list[str]:
    """Return the words for kernel, stride and pad of a layer that has a window."""
    if layer.type == "Pooling":
        pooling = layer.pooling_param
        if pooling.global_pooling:
            return ["global"]
        kernel: Sequence[int] = [pooling.kernel_size]
        stride: Sequence[int] = [pooling.stride]
        pad: Sequence[int] = [pooling.pad]
        settings: Any = pooling
    elif layer.type in ("Convolution", "Deconvolution"):
        settings = layer.convolution_param
        kernel, stride, pad = settings.kernel_size or [1], settings.stride or [1], settings.pad or [0]
    else:
        return []
    if settings.kernel_h or settings.kernel_w:
        kernel = [settings.kernel_h, settings.kernel_w]
    if settings.stride_h or settings.stride_w:
        stride = [settings.stride_h, settings.stride_w]
    if settings.pad_h or settings.pad_w:
        pad = [settings.pad_h, settings.pad_w]
    return [f"kernel size: {_by(kernel)}", f"stride: {_by(stride)}", f"pad: {_by(pad)}"]


def _by(sizes: Sequence[int]) -> str:
    """Spell sizes: 3 where all are 3, else 3x5."""
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))


def _escaped(text: str) -> str:
    """Spell a name for a quoted string of dot's, in which backslashes and quotes mean something."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _laid_out(source: bytes, ext: str) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise CaffeError(
            f"Drawing a .{ext} needs Graphviz's program `dot`, which is not on PATH. Install Graphviz, or draw to a "
            ".dot file, which needs none."
        )
    ran = subprocess.run([program, f"-T{ext}"], input=source, capture_output=True, check=False)
    if ran.returncode:
        raise CaffeError(f"Graphviz's dot could not draw a .{ext}: {ran.stderr.decode(errors='replace').strip()}")
    return ran.stdout
