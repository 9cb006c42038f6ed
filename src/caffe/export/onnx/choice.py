"""Layers that choose, in ONNX: ArgMax among values, BatchReindex and Filter among items."""

from __future__ import annotations

from .onnx_graph import BOOL, FLOAT, INT64, Site, translates


@translates("ArgMax", steps=True)
def argmax(at: Site) -> str:
    """The top_k highest values' places, or the values; of equal values the last comes first."""
    layer = at.layer
    if layer.axis is not None:
        if layer.top_k == 1 and not layer.with_values:
            return at.node("Cast", at.node("ArgMax", at.bottom, axis=layer.axis, select_last_index=1), to=FLOAT)
        places, values = _highest(at, at.bottom, layer.axis)
        return values if layer.with_values else places
    # Of whole items: N x 1 (2 with values) x top_k, and axes of 1 behind to as many as the bottom has.
    places, values = _highest(at, at.node("Flatten", at.bottom, axis=1), 1)
    middle = at.integers([1])
    rows = [at.node("Unsqueeze", row, middle) for row in ([places, values] if layer.with_values else [places])]
    y = at.node("Concat", *rows, axis=1) if len(rows) > 1 else rows[0]
    behind = list(range(3, at.rank))
    return at.node("Unsqueeze", y, at.integers(behind)) if behind else y


def _highest(at: Site, value: str, axis: int) -> tuple[str, str]:
    """Return the places (as floats) and the values of the top_k highest along an axis."""
    along = at.integers([axis])
    # ONNX puts the first of equal values first; so it is asked about the values in reverse.
    backwards = at.node("Slice", value, at.integers([-1]), at.integers([-(2**63) + 1]), along, at.integers([-1]))
    values, found = at.nodes("TopK", 2, backwards, at.integers([at.layer.top_k]), axis=axis)
    last = at.node("Sub", at.extents(value, axis, axis + 1), at.integers([1]))
    return at.node("Cast", at.node("Sub", last, found), to=FLOAT), values


@translates("BatchReindex", integers=lambda node: {1: node.bottom[0].dims[0]})
def batch_reindex(at: Site) -> str:
    """The items of the first bottom that the second names."""
    return at.node("Gather", at.bottom, at.node("Cast", at.bottoms[1], to=INT64), axis=0)


@translates("Filter", integers=lambda node: {len(node.bottom) - 1: 2})
def item_filter(at: Site) -> list[str]:
    """The items of each bottom for which the last bottom is not 0."""
    *filtered, selector = at.bottoms
    chosen = at.node("Cast", at.node("Reshape", selector, at.integers([-1])), to=BOOL)
    return [at.node("Compress", value, chosen, axis=0) for value in filtered]
