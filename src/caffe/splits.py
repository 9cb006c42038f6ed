"""What happens to a NetParameter before its layers are made: rules, then splits (net.cpp, insert_splits.cpp)."""

from __future__ import annotations

from collections import defaultdict

from .errors import NetError, nearest
from .proto import caffe_pb2

TopIndex = tuple[int, int]  # a layer's place in the net, and one of its tops


def filter_layers(param: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return the net with only the layers that its `state` (phase, level, stages) includes.

    Raises NetError for a layer with both include and exclude rules.
    """
    kept = caffe_pb2.NetParameter()
    kept.CopyFrom(param)
    del kept.layer[:]
    for layer in param.layer:
        if layer.include and layer.exclude:
            raise NetError(f"Layer '{layer.name}': give either include rules or exclude rules, not both.")
        if layer.include:
            included = any(meets_rule(param.state, rule) for rule in layer.include)
        else:
            included = not any(meets_rule(param.state, rule) for rule in layer.exclude)
        if included:
            kept.layer.add().CopyFrom(layer)
    return kept


def meets_rule(state: caffe_pb2.NetState, rule: caffe_pb2.NetStateRule) -> bool:
    """Tell whether a net's state meets a rule: phase, levels, every `stage`, no `not_stage`."""
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and all(stage in state.stage for stage in rule.stage)
        and not any(stage in state.stage for stage in rule.not_stage)
    )


def insert_splits(param: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return the net with a Split layer after every top that is used more than once.

    An explicit loss weight counts as a use; the Split then carries it. Names are Caffe's:
    `<blob>_<layer>_<top index>_split`, its tops the same with _0, _1, ...

    Raises NetError for a bottom that no earlier layer makes.
    """
    producer: dict[str, TopIndex] = {}
    source: dict[tuple[int, int], TopIndex] = {}
    uses: defaultdict[TopIndex, int] = defaultdict(int)
    loss_weight: dict[TopIndex, float] = {}
    for i, layer in enumerate(param.layer):
        for j, blob in enumerate(layer.bottom):
            if blob not in producer:
                raise NetError(
                    f"Unknown bottom blob '{blob}' (layer '{layer.name}', bottom index {j}): "
                    f"no layer before it makes a top of that name.{_hint(blob, param, producer)}"
                )
            source[i, j] = producer[blob]
            uses[producer[blob]] += 1
        for j, blob in enumerate(layer.top):
            producer[blob] = (i, j)
        for blob, weight in zip(layer.top, layer.loss_weight, strict=False):
            loss_weight[producer[blob]] = weight
            uses[producer[blob]] += weight != 0

    split = caffe_pb2.NetParameter()
    split.CopyFrom(param)
    del split.layer[:]
    taken: defaultdict[TopIndex, int] = defaultdict(int)
    for i, layer in enumerate(param.layer):
        added = split.layer.add()
        added.CopyFrom(layer)
        for j, blob in enumerate(layer.bottom):
            top = source[i, j]
            if uses[top] > 1:
                added.bottom[j] = f"{_split_name(param, top, blob)}_{taken[top]}"
                taken[top] += 1
        for j, blob in enumerate(layer.top):
            top = (i, j)
            if uses[top] > 1:
                name = _split_name(param, top, blob)
                copies = split.layer.add(name=name, type="Split", bottom=[blob])
                copies.top.extend(f"{name}_{k}" for k in range(uses[top]))
                if loss_weight.get(top):
                    copies.loss_weight.extend([loss_weight[top]] + [0.0] * (uses[top] - 1))
                    del added.loss_weight[:]
                    taken[top] = 1
    return split


def _split_name(param: caffe_pb2.NetParameter, top: TopIndex, blob: str) -> str:
    layer, index = top
    return f"{blob}_{param.layer[layer].name}_{index}_split"


def _hint(blob: str, param: caffe_pb2.NetParameter, made: dict[str, TopIndex]) -> str:
    """Say what may be meant: a later layer's top (layers in the wrong order, a loop), or a name like it."""
    for layer in param.layer:
        if blob in layer.top:
            return f" Layer '{layer.name}' makes it, later: layers run in the order in which they are written."
    name = nearest(blob, made)
    return f" Did you mean '{name}'?" if name else ""
