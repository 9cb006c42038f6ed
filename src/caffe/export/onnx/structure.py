"""Layers that move values and compute little, in ONNX: joins, cuts, shapes, sums; and a net's constants."""

from __future__ import annotations

from itertools import pairwise

from ...layer_types.reduction import Operation
from ...proto import caffe_pb2
from .onnx_graph import Site, translates

TO_THE_END = 2**63 - 1  # the end of a Slice that takes all that is left


@translates("Input")
def inputs(at: Site) -> list[str]:
    """The net's inputs, which the graph begins with."""
    return at.top_names


@translates("Split")
def split(at: Site) -> list[str]:
    """The bottom under several names."""
    return [at.bottom] * at.tops


@translates("Silence")
def silence(at: Site) -> list[str]:
    """Nothing."""
    return []


@translates("Parameter")
def parameter(at: Site) -> str:
    """A learned blob."""
    return at.weight(0)


@translates("DummyData")
def dummy_data(at: Site) -> list[str]:
    """Constants."""
    fillers = list(at.layer.layer_param.dummy_data_param.data_filler) or [caffe_pb2.FillerParameter()]
    if any(filler.type != "constant" for filler in fillers):
        raise at.fail("it draws random values at each pass; make its tops inputs, with an Input layer.")
    fillers = fillers * at.tops if len(fillers) == 1 else fillers
    return [
        at.node("Expand", at.number(filler.value), at.integers(shape))
        for filler, shape in zip(fillers, at.top_shapes, strict=True)
    ]


@translates("Concat")
def concat(at: Site) -> str:
    """The bottoms one after the other along an axis."""
    return at.node("Concat", *at.bottoms, axis=at.plan.axis) if len(at.bottoms) > 1 else at.bottom


@translates("Slice")
def slices(at: Site) -> list[str]:
    """The bottom cut along an axis, at slice_point or in equal parts."""
    layer = at.layer
    if at.tops == 1:
        return [at.bottom]
    if not layer.points:
        return at.nodes("Split", at.tops, at.bottom, axis=at.plan.axis)
    edges = pairwise([0, *layer.points, TO_THE_END])
    axis = at.integers([at.plan.axis])
    return [at.node("Slice", at.bottom, at.integers([start]), at.integers([end]), axis) for start, end in edges]


@translates("Crop")
def crop(at: Site) -> str:
    """The first bottom, cut to the extents that the second has when the graph runs."""
    axes = [axis for axis, _, _ in at.plan.windows]
    start = at.integers([offset for _, offset, _ in at.plan.windows])
    end = at.node("Add", start, at.extents(at.bottoms[1], axes[0], at.rank))
    return at.node("Slice", at.bottom, start, end, at.integers(axes))


@translates("Tile")
def tile(at: Site) -> str:
    """The bottom several times, one after the other along an axis."""
    repeats = [at.layer.tiles if axis == at.plan.axis else 1 for axis in range(at.rank)]
    return at.node("Tile", at.bottom, at.integers(repeats))


@translates("Flatten")
def flatten(at: Site) -> str:
    """One axis of the axes from `axis` to end_axis."""
    start, end = at.layer.axis % at.rank, at.layer.end_axis % at.rank + 1
    return _with_axes(at, start, end, [-1])


@translates("Reshape")
def reshape(at: Site) -> str:
    """New extents for the axes from `axis` on: 0 copies the bottom's, -1 follows from the rest."""
    layer = at.layer
    start = layer.axis if layer.axis >= 0 else at.rank + 1 + layer.axis
    end = at.rank if layer.num_axes == -1 else start + layer.num_axes
    return _with_axes(at, start, end, list(layer.extents))


def _with_axes(at: Site, start: int, end: int, extents: list[int]) -> str:
    """Return the bottom with other extents in place of its axes from `start` to before `end`."""
    front = at.integers([*[0] * start, *extents])  # ONNX's 0 copies the extent in the same place, as Caffe's does
    behind = [at.extents(at.bottom, end)] if end < at.rank else []
    return at.node("Reshape", at.bottom, at.joined_extents(front, *behind))


@translates("Eltwise")
def eltwise(at: Site) -> str:
    """The product, the maximum, or the weighted sum of the bottoms."""
    layer = at.layer
    if layer.sums:
        parts = zip(at.bottoms, layer.coefficients, strict=True)
        return at.node("Sum", *(at.affine(value, weight, 0) for value, weight in parts))
    if layer.operation == caffe_pb2.EltwiseParameter.MAX:
        return at.node("Max", *at.bottoms)
    product = at.bottom
    for value in at.bottoms[1:]:
        product = at.node("Mul", product, value)
    return product


@translates("Reduction")
def reduction(at: Site) -> str:
    """The axes from `axis` on, summed up in one of four ways."""
    layer = at.layer
    axes = list(range(at.plan.axis, at.rank))
    if layer.operation == Operation.SUM:
        y = at.node("ReduceSum", at.bottom, at.integers(axes), keepdims=0)
    else:
        op = {Operation.ASUM: "ReduceL1", Operation.SUMSQ: "ReduceSumSquare", Operation.MEAN: "ReduceMean"}
        y = at.node(op[layer.operation], at.bottom, axes=axes, keepdims=0)
    return at.affine(y, layer.coefficient, 0)
