"""Layers under settings, shapes and values that make no sense: a result, or an error in Caffe's terms.

Most cases are the smallest form of what a fuzzer found; the last test draws new ones, the same in every run.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor

import caffe
from caffe.errors import NetError
from caffe.proto import caffe_pb2
from tests import forked

SUM = "layer { name: 'z' type: 'Power' bottom: 'x' top: 'z' power_param { shift: 0.5 } }\n"


def inputs(*shapes: tuple[int, ...], names: str = "xyh") -> str:
    """Return Input layers x, y, h of the shapes given."""
    form = "layer {{ name: '{0}' type: 'Input' top: '{0}' input_param {{ shape {{ {1} }} }} }}\n"
    return "".join(form.format(n, " ".join(f"dim: {d}" for d in s)) for n, s in zip(names, shapes, strict=False))


def layer(type_: str, bottoms: str = "x", tops: str = "t", setting: str = "") -> str:
    ends = [f"bottom: '{b}'" for b in bottoms.split()] + [f"top: '{t}'" for t in tops.split()]
    return f"layer {{ name: 'l' type: '{type_}' {' '.join(ends)} {setting} }}\n"


def build(text: str, phase: int = caffe.TRAIN) -> caffe.Net:
    param = caffe.prototxt.parse_text(text, caffe_pb2.NetParameter())
    param.state.phase = phase
    param.force_backward = True
    return caffe.Net.from_proto(param)


IMAGE, KERNEL = (2, 3, 6, 6), "convolution_param { num_output: 2 kernel_size: 2 }"
REFUSED = {
    "a loss of scalars": (inputs((), ()) + layer("EuclideanLoss", "x y"), "same first dimension, not a scalar"),
    "a hinge of scalars": (inputs((), ()) + layer("HingeLoss", "x y"), "same first dimension, not a scalar"),
    "a likelihood of scalars": (
        inputs((), ()) + layer("MultinomialLogisticLoss", "x y"),
        "same first dimension, not a scalar",
    ),
    "similarity as a scalar": (inputs((1, 1), (1, 1), ()) + layer("ContrastiveLoss", "x y h"), "N similarities"),
    "a scalar for a selector": (inputs((), ()) + layer("Filter", "x y"), "selector must have one value an item"),
    "statistics of a scalar": (inputs(()) + layer("BatchNorm"), "1 axis or more"),
    "statistics of nothing": (inputs((2, 0)) + layer("BatchNorm"), "at least one element"),
    "the highest of a scalar": (inputs(()) + layer("ArgMax"), "no axis 0"),
    "a mean of nothing": (
        inputs((2, 0)) + layer("Reduction", setting="reduction_param { operation: MEAN axis: 1 }"),
        "mean of no values.*2 x 0",
    ),
    "two bottoms, one top": (inputs(IMAGE, IMAGE) + layer("Convolution", "x y", setting=KERNEL), "bottom needs a top"),
    "one bottom, two tops": (inputs(IMAGE) + layer("Convolution", "x", "t u", KERNEL), "bottom needs a top"),
    "an image without rows": (
        inputs((2, 3, 0, 6)) + layer("Deconvolution", setting=KERNEL),
        "no place where a kernel could be",
    ),
    "pooling no channels": (
        inputs((2, 0, 6, 6)) + layer("Pooling", setting="pooling_param { kernel_size: 2 }"),
        "no channel, or no pixel",
    ),
    "a crop of 4 G": (
        layer("WindowData", "", "a b", "window_data_param { batch_size: 1 } transform_param { crop_size: 4000000000 }"),
        "crop_size is 4000000000",
    ),
    "extents that a zero hides": (
        inputs((0, 65536, 1)) + layer("Tile", setting="tile_param { tiles: 65536 axis: 2 }"),
        "limit of 2147483647",
    ),
    "a range of more than float": (
        layer("DummyData", "", setting="dummy_data_param { shape { dim: 2 } data_filler { type: 'uniform' "
              "min: -3e38 max: 3e38 } }"),
        "range of finite numbers",
    ),
    "a deviation of NaN": (
        inputs((2, 3)) + layer("PReLU", setting="prelu_param { filler { type: 'gaussian' std: nan } }"),
        "std is nan",
    ),
    "blobs of too few values": (
        inputs((2,)) + layer("Python", setting="python_param { module: 'caffe' layer: 'Layer' } "
                             "blobs { shape { dim: 6 } data: 1 }"),
        "blob 0 of the prototxt has the shape",
    ),
}  # fmt: skip
# In place where the result would be silently wrong, or has no room.
for type_, setting in {
    "Pooling": "pooling_param { kernel_size: 3 pad: 1 }",
    "Convolution": KERNEL,
    "Im2col": KERNEL,
    "InnerProduct": "inner_product_param { num_output: 5 }",
    "Reduction": "",
    "SPP": "spp_param { pyramid_height: 1 }",
    "Tile": "tile_param { tiles: 2 }",
    "ArgMax": "",
}.items():
    REFUSED[f"{type_} in place"] = inputs(IMAGE) + SUM + layer(type_, "z", "z", setting), "cannot work in place"
for type_ in ("EuclideanLoss", "Concat", "Filter"):
    second = (2,) if type_ == "Filter" else IMAGE
    REFUSED[f"{type_} in place"] = inputs(IMAGE, second) + SUM + layer(type_, "z y", "z"), "cannot work in place"


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_with_the_layer_and_its_shapes(case: str) -> None:
    text, said = REFUSED[case]
    with pytest.raises(caffe.CaffeError, match=f"(?s)Layer 'l' .*{said}") as caught:
        build(text).forward()
    assert "failed on its bottoms" not in str(caught.value)


@pytest.mark.parametrize("module", ["..x", ".x", "", "no.such"])
def test_a_module_that_cannot_be_is_an_import_error_of_the_layer(module: str) -> None:
    with pytest.raises(ImportError, match=r"Layer 'l': .*python_param"):
        build(layer("Python", "", setting=f"python_param {{ module: '{module}' layer: 'L' }}"))


# A bottom that gets another number of axes: a negative axis is counted anew, as in Caffe, which finds axes at Reshape.
MOVES = {
    "Softmax": ("softmax_param { axis: -1 }", (2, 3, 4)),
    "Reduction": ("reduction_param { axis: -1 }", (2, 3)),
    "Tile": ("tile_param { axis: -1 tiles: 2 }", (2, 3, 8)),
    "Slice": ("slice_param { axis: -1 slice_point: 1 }", (2, 3, 1)),
    "Concat": ("concat_param { axis: -1 }", (2, 3, 8)),
    "InnerProduct": ("inner_product_param { axis: -1 num_output: 5 }", (2, 3, 5)),
    "Bias": ("bias_param { axis: -1 }", (2, 3, 4)),
}


@pytest.mark.parametrize("type_", MOVES)
def test_a_negative_axis_follows_the_bottoms_number_of_axes(type_: str) -> None:
    setting, expected = MOVES[type_]
    two = "x y" if type_ == "Concat" else "x"
    net = build(inputs((3, 4), (3, 4)) + layer(type_, two, "t u" if type_ == "Slice" else "t", setting))
    net.forward()
    for name in "xy":
        net.blobs[name].reshape(2, 3, 4)
        net.blobs[name].data[...] = np.arange(24).reshape(2, 3, 4)
    out = net.forward()["t"]
    assert out.shape == expected
    if type_ == "Softmax":
        assert np.allclose(out.sum(2), 1)
    net.backward()


@pytest.mark.parametrize(
    "type_", ["Softmax", "Reduction", "Tile", "Slice", "Concat", "Convolution", "Im2col", "ArgMax"]
)
def test_a_bottom_that_becomes_a_scalar_is_refused(type_: str) -> None:
    settings_ = {"Tile": "tile_param { tiles: 2 }", "Convolution": KERNEL, "Im2col": KERNEL}
    net = build(inputs(IMAGE) + layer(type_, setting=settings_.get(type_, "")))
    net.blobs["x"].reshape()
    with pytest.raises(NetError, match=r"Layer 'l' .*a scalar") as caught:
        net.forward()
    assert "failed on its bottoms" not in str(caught.value)


def test_the_highest_value_of_items_of_one_value_is_their_only_one() -> None:
    net = build(inputs((3,)) + layer("ArgMax"))
    assert net.forward()["t"].tolist() == [[[0]], [[0]], [[0]]]


def test_a_batch_of_nothing_passes_through_statistics_that_are_stored() -> None:
    net = build(inputs((0, 3, 2, 2)) + layer("BatchNorm", setting="batch_norm_param { use_global_stats: true }"))
    assert net.forward()["t"].shape == (0, 3, 2, 2) and net.backward()["x"].shape == (0, 3, 2, 2)


@pytest.mark.parametrize("shape", [(2, 0), (0, 3), (3,), (2, 1, 300, 300)])
def test_rows_of_any_size_are_written_to_hdf5(tmp_path: Path, shape: tuple[int, ...]) -> None:
    net = build(
        inputs(shape, shape) + layer("HDF5Output", "x y", "", f"hdf5_output_param {{ file_name: '{tmp_path}/o' }}")
    )
    net.blobs["x"].data[...] = 3
    for _ in range(2):
        net.forward()
    with h5py.File(tmp_path / "o", "r") as file:
        assert file["data"].shape[:2] == (2 * shape[0], *shape[1:2], 1)[:2] and (file["data"][...] == 3).all()


# Values that are no numbers


LABELLED = {
    "SoftmaxWithLoss": inputs((2, 3), (2,)) + layer("SoftmaxWithLoss", "x y"),
    "HingeLoss": inputs((2, 3), (2,)) + layer("HingeLoss", "x y"),
    "MultinomialLogisticLoss": inputs((2, 3), (2,)) + layer("MultinomialLogisticLoss", "x y"),
    "InfogainLoss": inputs((2, 3), (2,), (3, 3)) + layer("InfogainLoss", "x y h"),
    "Accuracy": inputs((2, 3), (2,)) + layer("Accuracy", "x y"),
    "Embed": inputs((2, 3), (2,)) + layer("Embed", "y", setting="embed_param { num_output: 2 input_dim: 3 }"),
    "BatchReindex": inputs((2, 3), (2,)) + layer("BatchReindex", "x y"),
}


@pytest.mark.parametrize("type_", LABELLED)
@pytest.mark.parametrize("label", [-1, 3, 1e9, -1e9, 1e30, np.inf, -np.inf])
def test_a_label_that_is_no_class_is_refused(type_: str, label: float) -> None:
    net = build(LABELLED[type_])
    net.blobs["y"].data[1] = label
    with pytest.raises(NetError, match=r"Layer 'l' .*out of range"):
        net.forward()


@pytest.mark.parametrize(
    "type_", ["SoftmaxWithLoss", "HingeLoss", "MultinomialLogisticLoss", "InfogainLoss", "Accuracy"]
)
def test_a_label_of_nan_is_refused_by_its_place(type_: str) -> None:
    net = build(LABELLED[type_])
    net.blobs["y"].data[1] = np.nan
    with pytest.raises(NetError, match=r"Layer 'l' .*label nan \(value 1 of 2\)"):
        net.forward()


@pytest.mark.parametrize("type_", ["SoftmaxWithLoss", "EuclideanLoss", "SigmoidCrossEntropyLoss", "HingeLoss"])
def test_a_net_of_nan_has_a_loss_of_nan_and_a_gradient_of_nan(type_: str) -> None:
    second = (2, 4) if type_ in ("EuclideanLoss", "SigmoidCrossEntropyLoss") else (2,)
    text = inputs((2, 3), second) + "layer { name: 'ip' type: 'InnerProduct' bottom: 'x' top: 'ip' inner_product_param "
    net = build(text + "{ num_output: 4 } }\n" + layer(type_, "ip y"))
    net.blobs["x"].data[...] = 1
    net.params["ip"][0].data[...] = np.nan
    net.forward()
    assert np.isnan(net.blobs["t"].data)
    net.backward()
    assert type_ == "HingeLoss" or np.isnan(net.params["ip"][0].diff).any()


# Many layers, tops and axes


@pytest.mark.slow
def test_3000_layers_above_each_other_are_built_run_saved_and_loaded(tmp_path: Path) -> None:
    text = inputs((1, 2)) + "".join(
        f"layer {{ name: 'l{i}' type: 'Power' bottom: '{'x' if i == 0 else f't{i - 1}'}' top: 't{i}' "
        "power_param { shift: 1 } }\n"
        for i in range(3000)
    )
    net = build(text, caffe.TEST)
    assert (net.forward()["t2999"] == 3000).all()
    net.blobs["t2999"].diff[...] = 2
    assert (net.backward()["x"] == 2).all()
    for save, name in ((net.save, "w.caffemodel"), (net.save_hdf5, "w.h5")):
        save(str(tmp_path / name))
        net.copy_from(str(tmp_path / name))


def test_1000_tops_of_a_slice_meet_again_in_a_concat() -> None:
    tops = " ".join(f"s{i}" for i in range(1000))
    join = layer("Concat", tops, "c").replace("'l'", "'j'")
    net = build(inputs((2, 1000)) + SUM + layer("Slice", "z", tops, "slice_param { axis: 1 }") + join)
    net.blobs["x"].data[...] = np.arange(2000).reshape(2, 1000)
    assert (net.forward()["c"] == net.blobs["x"].data + 0.5).all()
    net.blobs["c"].diff[...] = net.blobs["x"].data
    assert (net.backward()["x"] == net.blobs["x"].data).all()


@pytest.mark.parametrize("type_", ["ReLU", "Reduction", "Flatten", "Softmax", "BatchNorm", "Scale", "PReLU", "MVN"])
def test_32_axes_run_and_a_33rd_is_refused(type_: str) -> None:
    net = build(inputs((2, 1, 2, *[1] * 29)) + layer(type_))
    net.forward()
    net.backward()
    with pytest.raises(NetError, match="up to 32 axes"):
        net.blobs["x"].reshape(*[1] * 33)


# Settings drawn at random, of every message that a layer type reads, in a process of its own that has little memory.

OWN = {
    "Convolution": "convolution_param", "Deconvolution": "convolution_param", "Im2col": "convolution_param",
    "Pooling": "pooling_param", "SPP": "spp_param", "InnerProduct": "inner_product_param", "Embed": "embed_param",
    "LRN": "lrn_param", "Reshape": "reshape_param", "Flatten": "flatten_param", "Slice": "slice_param",
    "Concat": "concat_param", "Crop": "crop_param", "Tile": "tile_param", "Scale": "scale_param", "Bias": "bias_param",
    "Reduction": "reduction_param", "ArgMax": "argmax_param", "Softmax": "softmax_param", "LSTM": "recurrent_param",
    "SoftmaxWithLoss": "loss_param", "Accuracy": "accuracy_param", "DummyData": "dummy_data_param",
    "Input": "input_param", "Parameter": "parameter_param", "Eltwise": "eltwise_param", "Power": "power_param",
    "Exp": "exp_param", "Log": "log_param", "Clip": "clip_param", "Dropout": "dropout_param", "MVN": "mvn_param",
    "BatchNorm": "batch_norm_param", "PReLU": "prelu_param", "MemoryData": "memory_data_param",
}  # fmt: skip
BOTTOMS = {"Crop": 2, "Eltwise": 2, "LSTM": 2, "SoftmaxWithLoss": 2, "Accuracy": 2, "Concat": 2}
BOTTOMS |= dict.fromkeys(("DummyData", "Input", "Parameter", "MemoryData"), 0)
# What a type must have; the settings drawn are put over it.
NEEDS = {
    "Clip": "clip_param { min: 0 max: 1 }",
    "Convolution": KERNEL,
    "Deconvolution": KERNEL,
    "DummyData": "dummy_data_param { shape { dim: 2 dim: 3 } }",
    "Embed": "embed_param { num_output: 2 input_dim: 3 }",
    "Im2col": KERNEL,
    "InnerProduct": "inner_product_param { num_output: 2 }",
    "LSTM": "recurrent_param { num_output: 2 }",
    "Pooling": "pooling_param { kernel_size: 2 }",
    "SPP": "spp_param { pyramid_height: 2 }",
    "Tile": "tile_param { tiles: 2 }",
}
NUMBERS = [0, 1, 2, 3, 5, 100, 65536, 2**31 - 1, 2**32 - 1, -1, -2, -(2**31), 2**62]
REALS = [0.0, 1.0, -1.0, 0.5, 1e-30, 3e38, float("inf"), float("nan")]


def draw_net(draw: random.Random) -> bytes:
    """Draw a net of one layer with a few settings, and return its bytes."""
    net = caffe_pb2.NetParameter(force_backward=True)
    type_ = draw.choice(sorted(OWN))
    shape = draw.choice([(2, 3, 5, 5), (2, 4), (3,), (), (0, 3, 4, 4), (1, 2, 1, 1), (2, 1, 3, 3, 3)])
    for i in range(BOTTOMS.get(type_, 1)):
        source = net.layer.add(name=f"in{i}", type="Input", top=[f"b{i}"])
        labels = type_ in ("SoftmaxWithLoss", "Accuracy", "LSTM") and i
        source.input_param.shape.add(dim=shape[: 2 if type_ == "LSTM" else 1] if labels else shape)
    made = net.layer.add(name="l", type=type_, bottom=[f"b{i}" for i in range(BOTTOMS.get(type_, 1))])
    made.top.extend(draw.choice([["t"], ["t"], ["t", "u"], ["b0"]]))
    caffe.prototxt.parse_text(NEEDS.get(type_, ""), made)
    message = getattr(made, OWN[type_])
    for _ in range(draw.randrange(5)):
        _put(draw, message)
    return net.SerializeToString()


def _put(draw: random.Random, message: Any, depth: int = 0) -> None:
    field = draw.choice(list(message.DESCRIPTOR.fields))
    repeated = not isinstance(getattr(message, field.name), bool | int | float | str) and field.message_type is None
    if field.message_type is not None:
        inner = getattr(message, field.name)
        inner = inner.add() if hasattr(inner, "add") else inner
        if depth < 2:
            _put(draw, inner, depth + 1)
        return
    kinds = {
        FieldDescriptor.CPPTYPE_BOOL: [True, False],
        FieldDescriptor.CPPTYPE_STRING: ["", "constant", "xavier", "gaussian", "bilinear", "no"],
        FieldDescriptor.CPPTYPE_FLOAT: REALS,
        FieldDescriptor.CPPTYPE_ENUM: [v.number for v in field.enum_type.values] if field.enum_type else [],
        FieldDescriptor.CPPTYPE_UINT32: [n for n in NUMBERS if 0 <= n < 2**32],
        FieldDescriptor.CPPTYPE_INT32: [n for n in NUMBERS if abs(n) <= 2**31 and n < 2**31],
    }
    value = draw.choice(kinds.get(field.cpp_type, NUMBERS))
    if repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


RUN = """
import resource, sys
import numpy as np
import caffe
from caffe.proto import caffe_pb2
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)
caffe.init_log(3)
for line in sys.stdin:
    for phase in (caffe.TRAIN, caffe.TEST):
        param = caffe_pb2.NetParameter.FromString(bytes.fromhex(line))
        param.state.phase = phase
        try:
            net = caffe.Net.from_proto(param)
            net.forward()
            net.backward()
            print("ran", flush=True)
        except caffe.CaffeError as error:
            print(str(error).replace(chr(10), " "), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and reads the process's memory as Linux does")
def test_any_setting_of_any_layer_is_a_result_or_an_error_that_names_it() -> None:
    draw = random.Random(7)
    drawn = [draw_net(draw) for _ in range(600)]
    text = "".join(net.hex() + "\n" for net in drawn)
    ran = forked.run("-c", RUN, input=text)
    said = ran.stdout.splitlines()
    assert ran.returncode == 0, (len(said), caffe_pb2.NetParameter.FromString(drawn[len(said) // 2]), ran.stderr[-500:])
    assert len(said) == 2 * len(drawn) and 0.1 < said.count("ran") / len(said) < 0.9
    for number, line in enumerate(said):
        net = caffe_pb2.NetParameter.FromString(drawn[number // 2])
        named = line == "ran" or "layer 'l'" in line.lower()
        assert named and "failed on its bottoms" not in line and len(line) < 1000, (line, net)
