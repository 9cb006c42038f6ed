"""Every layer's gradient against central differences, over shapes and settings that hypothesis draws.

As BVLC Caffe's GradientChecker does: one objective, the tops times fixed random weights, summed in float64; a step of
1e-2; agreement to 1e-3. Values that lie on kinks (0, maxima, margins) are drawn away from them by more than the step.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import caffe
from caffe.formats.prototxt import parse_text
from caffe.layer import layer_class
from caffe.proto import caffe_pb2

STEP, THRESHOLD = 1e-2, 1e-3
COORDINATES = 6  # of each blob, checked one by one; two directions move all of them


@dataclass
class Case:
    """A net of one layer, or two that share: text, inputs, and which of them have a gradient."""

    text: str
    inputs: dict
    fixed: tuple = ()  # inputs without one
    params: dict = field(default_factory=dict)  # values for parameters that cannot be any
    learned: bool = True
    silent: tuple = ()  # tops without one
    phase: int = caffe.TRAIN


def layer(type_, setting="", bottoms=("x",), tops=("y",), name="l"):
    ends = " ".join([f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops])
    return f'layer {{ name: "{name}" type: "{type_}" {ends} {setting} }}\n'


def build(case):
    text = "force_backward: true\n"
    for name, values in case.inputs.items():
        dims = " ".join(f"dim: {d}" for d in values.shape)
        text += layer("Input", f"input_param {{ shape {{ {dims} }} }}", (), (name,), name)
    param = parse_text(text + case.text, caffe_pb2.NetParameter())
    param.state.phase = case.phase
    return caffe.Net.from_proto(param)


def check(case, seed):
    """Compare what backward gives for every input and parameter with the slope of the objective."""
    draw = np.random.default_rng([seed, 1])
    caffe.set_random_seed(seed)
    net = build(case)
    start = {name: (net.blobs[name], values) for name, values in case.inputs.items()}
    for i, learned in enumerate(net.learnable):
        values = case.params.get(i, 0.6 * draw.standard_normal(learned.blob.data.shape))
        start[f"parameter {i}"] = (learned.blob, values)
    for blob, values in start.values():
        blob.data[...] = values

    def forward():
        caffe.set_random_seed(seed)  # what is drawn is drawn again
        net.forward()
        return {top: net.blobs[top].data.astype(np.float64) for top in net.outputs}

    weights = {}
    for top, values in forward().items():
        loss_weight = net.blob_loss_weights[top]
        drawn = draw.uniform(0.5, 1.5, values.shape) * draw.choice([-1, 1], values.shape)
        weights[top] = np.full_like(values, loss_weight) if loss_weight else drawn * (top not in case.silent)
    net.clear_param_diffs()
    net.backward(**weights)
    found = {key: blob.diff.astype(np.float64) for key, (blob, _) in start.items() if gets_gradient(case, key)}
    assert found

    def slope(blob, values, move):
        ends = []
        for sign in (1, -1):
            blob.data[...] = values + sign * move
            moved = forward()
            ends.append(sum(float((weights[top] * moved[top]).sum()) for top in moved))
        blob.data[...] = values
        return (ends[0] - ends[1]) / 2

    for key, gradient in found.items():
        blob, values = start[key]
        scale = max(0.1, np.abs(gradient).max(initial=0))
        places = draw.permutation(gradient.size)[:COORDINATES]
        moves = [np.eye(1, gradient.size, k).reshape(gradient.shape) for k in places]
        everywhere = [
            draw.choice([-1, 1], gradient.shape) / math.sqrt(gradient.size) for _ in range(2 * (len(places) > 1))
        ]
        for move in [*moves, *everywhere]:
            wanted = slope(blob, values, STEP * move) / STEP
            computed = float((gradient * move).sum())
            assert abs(computed - wanted) <= THRESHOLD * scale, (key, np.argwhere(move).tolist(), computed, wanted)


def gets_gradient(case, key):
    return key not in case.fixed and (case.learned or not key.startswith("parameter"))


# Values


def normal(draw, *shape):
    return np.random.default_rng(draw(st.integers(0, 9999))).standard_normal(shape)


def apart(draw, *shape):
    """Values of the order of 1, no two closer than 0.1, none closer than 0.05 to a multiple of 0.1."""
    count = math.prod(shape)
    values = (np.arange(count) - count // 2 + 0.5) * 0.1
    return np.random.default_rng(draw(st.integers(0, 9999))).permutation(values).reshape(shape)


def positive(draw, *shape):
    return 0.4 + 1.2 * np.random.default_rng(draw(st.integers(0, 9999))).random(shape)


def whole(draw, below, *shape):
    return np.random.default_rng(draw(st.integers(0, 9999))).integers(0, below, shape).astype(float)


def shape_of(draw, least=1, most=5, limit=60):
    shape = []
    for _ in range(draw(st.integers(least, most))):
        shape.append(draw(st.integers(1, max(1, min(4, limit // math.prod(shape))))))
    return tuple(shape)


def axis_of(draw, shape, least=0):
    axis = draw(st.integers(least, len(shape) - 1))
    return axis, draw(st.sampled_from([axis, axis - len(shape)]))


def one_of(draw, *texts):
    return draw(st.sampled_from(texts))


def number(draw, least, most):
    return round(draw(st.floats(least, most)), 2)


def flag(draw):
    return "true" if draw(st.booleans()) else "false"


def placed(draw, case, type_, setting):
    """Let the layer work in place, after a layer that makes its bottom, or not."""
    if draw(st.booleans()):
        case.text = layer("Power", tops=("x0",), name="source") + layer(type_, setting, ("x0",), ("x0",))
    return case


# Types of one bottom and one top of its shape


def neuron(values, least=1, in_place=True, **settings):
    """Return a drawer of cases of a type whose settings are drawn by `settings`' functions."""

    def of(draw, type_):
        words = " ".join(f"{name}: {value(draw)}" for name, value in settings.items())
        message = {"Clip": "clip_param", "PReLU": "prelu_param"}.get(type_, f"{type_.lower()}_param")
        setting = f"{message} {{ {words} }}" if words else ""
        case = Case(layer(type_, setting), {"x": values(draw, *shape_of(draw, least))})
        return placed(draw, case, type_, setting) if in_place else case

    return of


def power(draw, type_):
    exponent = one_of(draw, 0, 1, 2, 3, -1, 0.5, 1.7)
    setting = f"power_param {{ power: {exponent} scale: {number(draw, 0.3, 2)} shift: {number(draw, 0.1, 1)} }}"
    return placed(draw, Case(layer(type_, setting), {"x": positive(draw, *shape_of(draw))}), type_, setting)


def batch_norm(draw, type_):
    shape = (draw(st.integers(2, 4)), *shape_of(draw, 1, 3, 15))
    setting = f"batch_norm_param {{ use_global_stats: {flag(draw)} eps: {one_of(draw, 1e-5, 0.1)} }}"
    channels = shape[1]
    stored = {0: normal(draw, channels), 1: positive(draw, channels), 2: np.array([1.0])}
    case = Case(layer(type_, setting), {"x": 10 * apart(draw, *shape)}, params=stored, learned=False)
    return placed(draw, case, type_, setting)


def mvn(draw, type_):
    shape = (*shape_of(draw, 2, 2, 6), draw(st.integers(2, 3)), draw(st.integers(2, 4)))
    setting = f"mvn_param {{ normalize_variance: {flag(draw)} across_channels: {flag(draw)} }}"
    return placed(draw, Case(layer(type_, setting), {"x": 10 * apart(draw, *shape)}), type_, setting)


def lrn(draw, type_):
    region = one_of(draw, "ACROSS_CHANNELS", "WITHIN_CHANNEL")
    setting = f"local_size: {one_of(draw, 1, 3, 5, 7)} alpha: {number(draw, 0.1, 1)} beta: {one_of(draw, 0.75, 0.6)}"
    setting = f"lrn_param {{ {setting} k: {number(draw, 1, 2)} norm_region: {region} }}"
    return placed(draw, Case(layer(type_, setting), {"x": normal(draw, *shape_of(draw, 4, 4))}), type_, setting)


def softmax(draw, type_):
    shape = shape_of(draw)
    setting = f"softmax_param {{ axis: {axis_of(draw, shape)[1]} }}"
    return placed(draw, Case(layer(type_, setting), {"x": normal(draw, *shape)}), type_, setting)


def dropout(draw, type_):
    """Each forward pass draws the same values, since the seed is set anew."""
    setting = f"dropout_param {{ dropout_ratio: {number(draw, 0, 0.9)} }}"
    case = Case(
        layer(type_, setting), {"x": normal(draw, *shape_of(draw))}, phase=one_of(draw, caffe.TRAIN, caffe.TEST)
    )
    return placed(draw, case, type_, setting)


def broadcast(draw, type_):
    shape = shape_of(draw, 1, 4)
    axis, written = axis_of(draw, shape)
    count = draw(st.integers(0, len(shape) - axis))
    words = f"axis: {written} " + ("bias_term: true" if type_ == "Scale" and draw(st.booleans()) else "")
    if draw(st.booleans()):
        setting = f"{type_.lower()}_param {{ {words} num_axes: {one_of(draw, count, -1)} }}"
        return placed(draw, Case(layer(type_, setting), {"x": normal(draw, *shape)}), type_, setting)
    inputs = {"x": normal(draw, *shape), "z": normal(draw, *shape[axis : axis + count])}
    return Case(layer(type_, f"{type_.lower()}_param {{ {words} }}", ("x", "z")), inputs)


# Windows


def windows(draw, type_):
    """Draw a convolution, a deconvolution or an im2col, in 1 to 3 dimensions, of one or several bottoms."""
    spatial, transposed = draw(st.integers(1, 3)), type_ == "Deconvolution"
    batch = shape_of(draw, 1, 2, 3)
    group = 1 if type_ == "Im2col" else draw(st.integers(1, 2))
    channels, outputs = group * draw(st.integers(1, 2)), group * draw(st.integers(1, 2))
    kernel, stride, pad, dilation = (
        [draw(st.integers(least, most)) for _ in range(spatial)] for least, most in ((1, 3), (1, 2), (0, 1), (1, 2))
    )
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    least = [
        max(1, -(-2 * p // s)) if transposed else max(1, r - 2 * p) for r, p, s in zip(reach, pad, stride, strict=True)
    ]
    sizes = [n + 1 + draw(st.integers(0, 1)) for n in least]
    together = spatial == 2 and draw(st.booleans())
    words = (
        f"kernel_h: {kernel[0]} kernel_w: {kernel[1]} " if together else " ".join(f"kernel_size: {k}" for k in kernel)
    )
    for name, values in (("stride", stride), ("pad", pad), ("dilation", dilation)):
        words += " " + " ".join(f"{name}: {v}" for v in values)
    words += f" axis: {one_of(draw, len(batch), -1 - spatial)} "
    if type_ != "Im2col":
        words += f"num_output: {outputs} group: {group} bias_term: {flag(draw)}"
    shape = (*batch, channels, *sizes)
    number_of = 1 if type_ == "Im2col" else draw(st.integers(1, 2))
    inputs = {name: normal(draw, *shape) for name in ("x", "z")[:number_of]}
    return Case(layer(type_, f"convolution_param {{ {words} }}", tuple(inputs), ("y", "w")[:number_of]), inputs)


def pooling(draw, type_):
    """MAX and AVE; what STOCHASTIC pooling does is held in test_random.py."""
    method, shape = one_of(draw, "MAX", "AVE"), (*shape_of(draw, 2, 2, 4), *(draw(st.integers(3, 5)) for _ in range(2)))
    if draw(st.integers(0, 4)) == 4:
        words = "global_pooling: true"
    else:
        kernel = [draw(st.integers(1, 3)) for _ in range(2)]
        pads = [draw(st.integers(0, k - 1)) for k in kernel]
        strides = [draw(st.integers(1, 3)) for _ in range(2)]
        words = " ".join(
            f"{name}_h: {h} {name}_w: {w}" for name, (h, w) in (("kernel", kernel), ("pad", pads), ("stride", strides))
        )
        # Rounding up, a stride above the kernel may leave a window of nothing, which is -FLT_MAX.
        within = all(s <= k for s, k in zip(strides, kernel, strict=True))
        words += f" round_mode: {one_of(draw, 'CEIL', 'FLOOR') if within else 'FLOOR'}"
    tops = ("y", "mask") if method == "MAX" and draw(st.booleans()) else ("y",)
    setting = f"pooling_param {{ pool: {method} {words} }}"
    return Case(layer(type_, setting, tops=tops), {"x": apart(draw, *shape)}, silent=("mask",))


def halving(draw, type_):
    """MAX pooling 2 x 2 at stride 2 has a gradient of its own."""
    shape = (*shape_of(draw, 2, 2, 4), *(draw(st.integers(1, 6)) for _ in range(2)))
    return Case(layer(type_, "pooling_param { kernel_size: 2 stride: 2 }"), {"x": apart(draw, *shape)})


def spp(draw, type_):
    setting = f"spp_param {{ pyramid_height: {one_of(draw, 1, 2)} pool: {one_of(draw, 'MAX', 'AVE')} }}"
    return Case(layer(type_, setting), {"x": apart(draw, 2, 2, *(draw(st.integers(2, 5)) for _ in range(2)))})


# Routing


def concat(draw, type_):
    shape = shape_of(draw, 1, 4, 16)
    axis, written = axis_of(draw, shape)
    parts = [(*shape[:axis], draw(st.integers(1, 3)), *shape[axis + 1 :]) for _ in range(draw(st.integers(1, 4)))]
    inputs = {f"x{i}": normal(draw, *part) for i, part in enumerate(parts)}
    twice = ["x0"] if draw(st.booleans()) else []
    return Case(layer(type_, f"concat_param {{ axis: {written} }}", (*inputs, *twice)), inputs)


def slices(draw, type_):
    shape, count = list(shape_of(draw, 1, 4, 12)), draw(st.integers(1, 3))
    axis, written = axis_of(draw, shape)
    sizes = [draw(st.integers(1, 3)) for _ in range(count)]
    points = " ".join(f"slice_point: {p}" for p in np.cumsum(sizes)[:-1])
    if draw(st.booleans()):
        points, sizes = "", [2] * count
    shape[axis] = sum(sizes)
    tops = tuple(f"y{i}" for i in range(count))
    return Case(layer(type_, f"slice_param {{ axis: {written} {points} }}", tops=tops), {"x": normal(draw, *shape)})


def crop(draw, type_):
    shape = shape_of(draw, 1, 4)
    axis, written = axis_of(draw, shape)
    sizes = [draw(st.integers(1, n)) for n in shape]
    offsets = [draw(st.integers(0, n - s)) for n, s in zip(shape, sizes, strict=True)][axis:]
    setting = f"crop_param {{ axis: {written} {' '.join(f'offset: {o}' for o in offsets)} }}"
    inputs = {"x": normal(draw, *shape), "z": normal(draw, *sizes)}
    return Case(layer(type_, setting, ("x", "z")), inputs, fixed=("z",))


def tile(draw, type_):
    shape = shape_of(draw, 1, 4, 20)
    setting = f"tile_param {{ axis: {axis_of(draw, shape)[1]} tiles: {draw(st.integers(1, 3))} }}"
    return Case(layer(type_, setting), {"x": normal(draw, *shape)})


def split(draw, type_):
    tops = tuple(f"y{i}" for i in range(draw(st.integers(1, 3))))
    return Case(layer(type_, "", tops=tops), {"x": normal(draw, *shape_of(draw))})


def same_memory(draw, type_):
    """Reshape and Flatten, whose top is the bottom's memory, between two layers of their own."""
    shape = shape_of(draw, 2, 4)
    axis = draw(st.integers(0, len(shape) - 1))
    end = draw(st.integers(axis, len(shape) - 1))
    setting = f"flatten_param {{ axis: {axis} end_axis: {end - len(shape)} }}"
    if type_ == "Reshape":
        setting = f"reshape_param {{ shape {{ dim: 1 dim: -1 }} axis: {axis} num_axes: {end - axis + 1} }}"
    text = layer("TanH", tops=("a",), name="before") + layer(type_, setting, ("a",), ("b",))
    return Case(text + layer("Power", "power_param { power: 2 }", ("b",), ("y",), "after"), {"x": normal(draw, *shape)})


def eltwise(draw, type_):
    operation, shape = one_of(draw, "SUM", "PROD", "MAX"), shape_of(draw, 1, 4, 16)
    count = draw(st.integers(2, 4))
    words = f"operation: {operation} stable_prod_grad: {flag(draw)}"
    if operation == "SUM" and draw(st.booleans()):
        words += "".join(f" coeff: {number(draw, -2, 2)}" for _ in range(count))
    values = np.split(apart(draw, count * math.prod(shape)), count)
    inputs = {f"x{i}": part.reshape(shape) for i, part in enumerate(values)}
    return Case(layer(type_, f"eltwise_param {{ {words} }}", inputs), inputs)


def reduction(draw, type_):
    shape = shape_of(draw, 1, 4)
    words = f"operation: {one_of(draw, 'SUM', 'ASUM', 'SUMSQ', 'MEAN')} coeff: {number(draw, -2, 2)}"
    setting = f"reduction_param {{ {words} axis: {axis_of(draw, shape)[1]} }}"
    return Case(layer(type_, setting), {"x": apart(draw, *shape)})


def chosen_items(draw, type_):
    items, shape = draw(st.integers(1, 4)), shape_of(draw, 0, 3, 10)
    inputs = {"x": normal(draw, items, *shape)}
    if type_ == "BatchReindex":
        which = whole(draw, items, draw(st.integers(1, 6)))
    else:
        inputs |= {"z": normal(draw, items, 2)} if draw(st.booleans()) else {}
        which = np.ones(items) if items == 1 else whole(draw, 2, items)
        which[0] = 1
    tops = tuple(f"y{i}" for i in range(len(inputs)))
    inputs["which"] = which
    return Case(layer(type_, "", inputs, tops), inputs, fixed=("which",))


# Products


def inner_product(draw, type_):
    shape = shape_of(draw, 1, 4, 24)
    words = f"num_output: {draw(st.integers(1, 4))} bias_term: {flag(draw)} transpose: {flag(draw)}"
    setting = f"inner_product_param {{ {words} axis: {axis_of(draw, shape)[1]} }}"
    inputs = {"x": normal(draw, *shape)}
    if draw(st.booleans()):
        return Case(layer(type_, setting), inputs)
    shared = 'param { name: "w" } ' + ('param { name: "b" } ' if "bias_term: true" in words else "") + setting
    inputs["z"] = normal(draw, *shape)
    return Case(layer(type_, shared) + layer(type_, shared, ("z",), ("v",), "m"), inputs)


def embed(draw, type_):
    inputs = {"x": whole(draw, 4, *shape_of(draw, 1, 3, 12))}
    setting = f"embed_param {{ input_dim: 4 num_output: {draw(st.integers(1, 3))} bias_term: {flag(draw)} }}"
    return Case(layer(type_, setting), inputs, fixed=("x",))


def parameter(draw, type_):
    dims = " ".join(f"dim: {d}" for d in shape_of(draw))
    return Case(layer(type_, f"parameter_param {{ shape {{ {dims} }} }}", ()), {})


def recurrent(draw, type_):
    steps, streams, outputs = (draw(st.integers(1, 3)) for _ in range(3))
    exposed, states = draw(st.booleans()), {"RNN": ["h"], "LSTM": ["h", "c"]}[type_]
    cont = np.array(one_of(draw, 0, 1, 0.4)) + np.zeros((steps, streams))
    if not exposed:
        cont[0] = 0  # else the state moves on from one forward pass to the next
    inputs = {"x": normal(draw, steps, streams, *shape_of(draw, 1, 2, 4)), "cont": cont}
    inputs |= {"static": normal(draw, streams, 2)} if draw(st.booleans()) else {}
    inputs |= {state: normal(draw, 1, streams, outputs) for state in states} if exposed else {}
    tops = ("y", *(f"{state}_T" for state in states if exposed))
    setting = f"recurrent_param {{ num_output: {outputs} expose_hidden: {str(exposed).lower()} }}"
    return Case(layer(type_, setting, inputs, tops), inputs, fixed=("cont",))


def lstm_unit(draw, type_):
    streams, cells = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    inputs = {"c": normal(draw, 1, streams, cells), "x": normal(draw, 1, streams, 4 * cells)}
    inputs["cont"] = np.random.default_rng(draw(st.integers(0, 99))).choice([0, 1, 0.4], (1, streams))
    return Case(layer(type_, "", inputs, ("C", "H")), inputs, fixed=("cont",))


# Losses


def weight(draw):
    return f"loss_weight: {number(draw, 0.5, 3)} "


def labelled(draw, type_):
    """Draw a loss of scores N x C x ... with labels, its normalization and its ignored label."""
    batch, classes, places = draw(st.integers(1, 3)), draw(st.integers(2, 4)), shape_of(draw, 0, 2, 5)
    labels = whole(draw, classes, batch, *places)
    words = f"normalization: {one_of(draw, 'FULL', 'VALID', 'BATCH_SIZE', 'NONE')} "
    words += f"ignore_label: {one_of(draw, 0, 255)}" if draw(st.booleans()) else ""
    setting, inputs = f"loss_param {{ {words} }}", {"x": normal(draw, batch, classes, *places), "label": labels}
    tops = ("loss", "p") if draw(st.booleans()) else ("loss",)
    setting += weight(draw) + ("loss_weight: 0" if len(tops) > 1 else "")
    if type_ == "InfogainLoss":
        inputs["H"] = positive(draw, classes, classes)
    case = Case(layer(type_, setting, inputs, tops), inputs, fixed=("label", "H"), silent=("p",))
    if type_ == "SigmoidCrossEntropyLoss":
        x = inputs["x"]
        targets = np.where(np.random.default_rng(batch).random(x.shape) < 0.3, 1.0, positive(draw, *x.shape) / 2)
        case.inputs, case.text = (
            {"x": x, "label": targets},
            layer(type_, f"loss_param {{ {words} }}{weight(draw)}", ("x", "label"), ("loss",)),
        )
    return case


def rows_with_labels(draw, type_):
    """Draw HingeLoss or MultinomialLogisticLoss."""
    batch, classes = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    scores = apart(draw, batch, classes) if type_ == "HingeLoss" else positive(draw, batch, classes)
    setting = weight(draw) + (
        f"hinge_loss_param {{ norm: {one_of(draw, 'L1', 'L2')} }}" if type_ == "HingeLoss" else ""
    )
    inputs = {"x": scores, "label": whole(draw, classes, batch)}
    return Case(layer(type_, setting, inputs, ("loss",)), inputs, fixed=("label",))


def euclidean(draw, type_):
    shape = shape_of(draw, 1, 4, 30)
    inputs = {"x": normal(draw, *shape), "z": normal(draw, *shape)}
    return Case(layer(type_, weight(draw), inputs, ("loss",)), inputs)


def contrastive(draw, type_):
    """Draw pairs, and a margin that none of them is close to."""
    pairs, width = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    a, b = 0.5 * normal(draw, pairs, width), 1 + 0.5 * normal(draw, pairs, width)
    legacy = draw(st.booleans())
    distances = ((a - b) ** 2).sum(1) ** (1 if legacy else 0.5)
    margin = next(m for m in np.arange(number(draw, 0.5, 3), 99, 0.1) if np.abs(distances - m).min() > 0.1)
    setting = f"contrastive_loss_param {{ margin: {margin} legacy_version: {str(legacy).lower()} }}"
    inputs = {"x": a, "z": b, "same": whole(draw, 2, pairs)}
    return Case(layer(type_, weight(draw) + setting, inputs, ("loss",)), inputs, fixed=("same",))


CASES = {
    "AbsVal": neuron(apart, in_place=False),
    "BNLL": neuron(normal),
    "BatchNorm": batch_norm,
    "BatchReindex": chosen_items,
    "Bias": broadcast,
    "Clip": neuron(apart, min=lambda draw: one_of(draw, -9, -0.4), max=lambda draw: one_of(draw, 9, 0.3)),
    "Concat": concat,
    "ContrastiveLoss": contrastive,
    "Convolution": windows,
    "Crop": crop,
    "Deconvolution": windows,
    "Dropout": dropout,
    "ELU": neuron(apart, alpha=lambda draw: number(draw, 0, 2)),
    "Eltwise": eltwise,
    "Embed": embed,
    "EuclideanLoss": euclidean,
    "Exp": neuron(
        normal, base=lambda draw: one_of(draw, -1, 2), scale=lambda draw: number(draw, -1, 1), shift=lambda _: 0.3
    ),
    "Filter": chosen_items,
    "Flatten": same_memory,
    "HingeLoss": rows_with_labels,
    "Im2col": windows,
    "InfogainLoss": labelled,
    "InnerProduct": inner_product,
    "LRN": lrn,
    "LSTM": recurrent,
    "LSTMUnit": lstm_unit,
    "Log": neuron(
        positive, base=lambda draw: one_of(draw, -1, 10), scale=lambda draw: number(draw, 0.5, 2), shift=lambda _: 0.1
    ),
    "MVN": mvn,
    "MultinomialLogisticLoss": rows_with_labels,
    "PReLU": neuron(apart, least=2, channel_shared=flag),
    "Parameter": parameter,
    "Pooling": lambda draw, type_: (halving if draw(st.integers(0, 3)) == 3 else pooling)(draw, type_),
    "Power": power,
    "RNN": recurrent,
    "ReLU": neuron(apart, negative_slope=lambda draw: one_of(draw, 0, 0.2)),
    "Reduction": reduction,
    "Reshape": same_memory,
    "SPP": spp,
    "Scale": broadcast,
    "Sigmoid": neuron(normal),
    "SigmoidCrossEntropyLoss": labelled,
    "Slice": slices,
    "Softmax": softmax,
    "SoftmaxWithLoss": labelled,
    "Split": split,
    "Swish": neuron(normal, beta=lambda draw: number(draw, -1, 2)),
    "TanH": neuron(normal),
    "Tile": tile,
}
EXCLUDED = {
    **dict.fromkeys(
        ("Data", "DummyData", "HDF5Data", "ImageData", "Input", "MemoryData", "WindowData"),
        "it has neither bottoms nor parameters",
    ),
    **dict.fromkeys(("Accuracy", "ArgMax", "Threshold"), "Caffe has no gradient for it"),
    **dict.fromkeys(("HDF5Output", "Silence"), "it has no tops for a gradient to come from"),
    "Python": "its gradient is the program's",
}


def types_of_the_engine():
    """Return the registered types, without those that a program, or another test, has added."""
    found = {name: layer_class(name) for name in caffe.layer_type_list()}
    return [name for name, cls in found.items() if cls is None or cls.__module__.startswith("caffe.")]


@pytest.mark.parametrize("type_", types_of_the_engine())
def test_every_type_is_checked_or_has_a_reason_not_to_be(type_):
    assert (type_ in CASES) != (type_ in EXCLUDED)


@pytest.mark.parametrize("type_", CASES)
@settings(max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_gradient_is_the_slope(type_, data):
    case = CASES[type_](data.draw, type_)
    note(f"{case.text}inputs { ({name: values.shape for name, values in case.inputs.items()}) }")
    check(case, data.draw(st.integers(0, 999)))
