"""Export: every layer type in ONNX Runtime beside the engine, whole nets at any size, refusals, safetensors."""

import math
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import caffe
from caffe.errors import CaffeError, FileFormatError, NetError
from caffe.export import exporters, to_onnx, to_safetensors
from caffe.export.onnx import onnx_graph, translates, translation, translations
from caffe.layer import type_names

onnx = pytest.importorskip("onnx", reason="needs the extra `export`")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")

IMAGE = {"x": (2, 4, 11, 9)}
IMAGES = [IMAGE, {"x": (1, 4, 7, 8)}, {"x": (3, 4, 12, 16)}, {"x": (1, 4, 13, 5)}]


def one(type_, setting="", bottoms="x", tops="y", name="l"):
    """Return the text of one layer."""
    ends = " ".join([f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in tops.split()])
    return f'layer {{ name: "{name}" type: "{type_}" {ends} {setting} }}\n'


def net_text(layers, inputs):
    """Return a net of `layers` over inputs of the given shapes."""
    text = 'name: "Tested"\n'
    for name, shape in inputs.items():
        dims = " ".join(f"dim: {d}" for d in shape)
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    return text + layers


@pytest.fixture
def files(tmp_path):
    """Write a net and random weights; return the paths of net, weights and the ONNX file to be."""

    def put(layers, inputs):
        path, weights = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
        path.write_text(net_text(layers, inputs))
        net = caffe.Net(str(path), caffe.TEST)
        rng = np.random.default_rng(5)
        for name, blobs in net.params.items():
            for blob in blobs:
                fan = max(1, math.prod(blob.shape[1:]))
                blob.data[...] = rng.standard_normal(blob.data.shape) / math.sqrt(fan)
            if net.layer_dict[name].type == "BatchNorm":
                blobs[1].data[...] = rng.uniform(1, 3, blobs[1].data.shape)
                blobs[2].data[...] = 2.5
        net.save(str(weights))
        return str(path), str(weights), str(tmp_path / "net.onnx")

    return put


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def draw(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def same_as_engine(paths, sizes, made=draw, tolerance=2e-5):
    """At each of some sizes, ONNX Runtime's outputs are the engine's, in name, shape and value."""
    net_file, weights, onnx_file = paths
    net = caffe.Net(net_file, caffe.TEST, weights=weights)
    runner = session(onnx_file)
    assert {o.name for o in runner.get_outputs()} == set(net.outputs)
    for shapes in sizes:
        inputs = {name: made(shape) for name, shape in shapes.items()}
        for name, values in inputs.items():
            net.blobs[name].reshape(*values.shape)
            net.blobs[name].data[...] = values
        wanted = net.forward()
        found = runner.run(list(wanted), {i.name: inputs[i.name] for i in runner.get_inputs()})
        for name, values in zip(wanted, found, strict=True):
            assert values.shape == wanted[name].shape, (name, shapes)
            scale = max(1, np.abs(wanted[name]).max(initial=0))
            np.testing.assert_allclose(values, wanted[name], rtol=0, atol=tolerance * scale, err_msg=f"{name} {shapes}")


# Each layer type

PAIR = {"x": (2, 3, 4, 5), "z": (2, 3, 4, 5)}
PAIRS = [PAIR, {"x": (1, 3, 6, 3), "z": (1, 3, 6, 3)}]
ROWS = [{"x": (2, 6)}, {"x": (5, 6)}]
CASES = {
    "relu": ("ReLU", "", IMAGES),
    "relu, leaky": ("ReLU", "relu_param { negative_slope: 0.2 }", IMAGES),
    "prelu": ("PReLU", "", IMAGES),
    "prelu, shared": ("PReLU", "prelu_param { channel_shared: true }", IMAGES),
    "prelu of rows": ("PReLU", "", ROWS),
    "elu": ("ELU", "elu_param { alpha: 0.7 }", IMAGES),
    "sigmoid": ("Sigmoid", "", IMAGES),
    "tanh": ("TanH", "", IMAGES),
    "absval": ("AbsVal", "", IMAGES),
    "bnll": ("BNLL", "", IMAGES),
    "swish": ("Swish", "swish_param { beta: 1.5 }", IMAGES),
    "clip": ("Clip", "clip_param { min: -0.5 max: 1 }", IMAGES),
    "threshold": ("Threshold", "threshold_param { threshold: 0.3 }", IMAGES),
    "dropout": ("Dropout", "", IMAGES),
    "power": ("Power", "power_param { power: 3 scale: 0.5 shift: 2 }", IMAGES),
    "power 1": ("Power", "power_param { scale: -2 }", IMAGES),
    "power 0": ("Power", "power_param { power: 0 shift: 2 }", IMAGES),
    "exp": ("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }", IMAGES),
    "exp e": ("Exp", "", IMAGES),
    "log": ("Log", "log_param { base: 10 scale: 0.01 shift: 3 }", IMAGES),
    "convolution": ("Convolution", "convolution_param { num_output: 3 kernel_size: 3 stride: 2 pad: 1 }", IMAGES),
    "convolution, pad above kernel": (
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 3 pad: 20 bias_term: false }",
        IMAGES,
    ),
    "convolution, grouped, dilated": (
        "Convolution",
        "convolution_param { num_output: 6 kernel_h: 3 kernel_w: 2 group: 2 dilation: 2 pad_h: 2 pad_w: 1 }",
        IMAGES,
    ),
    "convolution of a line": (
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 3 }",
        [{"x": (2, 4, 9)}, {"x": (1, 4, 12)}],
    ),
    "convolution of a volume": (
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 3 kernel_size: 2 kernel_size: 1 pad: 1 stride: 2 }",
        [{"x": (2, 4, 5, 6, 7)}, {"x": (1, 4, 8, 4, 4)}],
    ),
    "convolution, axis 2": (
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 3 axis: 2 }",
        [{"x": (2, 3, 4, 6, 7)}, {"x": (5, 3, 4, 6, 7)}],
    ),
    "convolution, axis 0": (
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 3 axis: 0 }",
        [{"x": (4, 6, 7)}, {"x": (4, 6, 9)}],
    ),
    "deconvolution": ("Deconvolution", "convolution_param { num_output: 3 kernel_size: 4 stride: 2 pad: 1 }", IMAGES),
    "deconvolution, grouped, dilated": (
        "Deconvolution",
        "convolution_param { num_output: 4 kernel_size: 3 group: 4 dilation: 2 stride: 3 bias_term: false }",
        IMAGES,
    ),
    "inner product": ("InnerProduct", "inner_product_param { num_output: 3 }", [IMAGE, {"x": (5, 4, 11, 9)}]),
    "inner product, axis 2": (
        "InnerProduct",
        "inner_product_param { num_output: 3 axis: 2 transpose: true bias_term: false }",
        [{"x": (2, 3, 4, 5)}, {"x": (4, 3, 4, 5)}],
    ),
    "inner product, axis 0": ("InnerProduct", "inner_product_param { num_output: 3 axis: 0 }", [{"x": (2, 6)}]),
    "lrn": ("LRN", "lrn_param { local_size: 3 alpha: 0.9 beta: 0.75 k: 1.5 }", IMAGES),
    "lrn within": ("LRN", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.9 beta: 0.6 }", IMAGES),
    "batch norm": ("BatchNorm", "", IMAGES),
    "batch norm of rows": ("BatchNorm", "", ROWS),
    "batch norm of values": ("BatchNorm", "", [{"x": (6,)}, {"x": (9,)}]),
    "scale": ("Scale", "scale_param { bias_term: true }", IMAGES),
    "scale, 2 axes": ("Scale", "scale_param { axis: 0 num_axes: 2 }", [IMAGE, {"x": (2, 4, 3, 3)}]),
    "scale, a scalar": ("Scale", "scale_param { num_axes: 0 bias_term: true }", IMAGES),
    "scale by a bottom": (
        "Scale",
        "scale_param { axis: 0 }",
        [{"x": (2, 3, 4), "z": (2, 3)}, {"x": (4, 3, 4), "z": (4, 3)}],
    ),
    "scale by a whole bottom": ("Scale", "scale_param { axis: 0 }", PAIRS),
    "bias": ("Bias", "", IMAGES),
    "bias by a bottom": ("Bias", "bias_param { axis: 1 }", [{"x": (2, 3, 4, 5), "z": (3, 4)}]),
    "mvn": ("MVN", "", IMAGES),
    "mvn, across channels": ("MVN", "mvn_param { across_channels: true normalize_variance: false }", IMAGES),
    "softmax": ("Softmax", "", IMAGES),
    "softmax, axis 2": ("Softmax", "softmax_param { axis: 2 }", IMAGES),
    "concat": ("Concat", "", PAIRS),
    "concat, axis 2": ("Concat", "concat_param { axis: -2 }", [PAIR, {"x": (1, 3, 2, 3), "z": (1, 3, 6, 3)}]),
    "concat of one": ("Concat", "", IMAGES),
    "eltwise sum": ("Eltwise", "eltwise_param { coeff: 2 coeff: -1 }", PAIRS),
    "eltwise product": ("Eltwise", "eltwise_param { operation: PROD }", PAIRS),
    "eltwise maximum": ("Eltwise", "eltwise_param { operation: MAX }", PAIRS),
    "crop": (
        "Crop",
        "crop_param { offset: 4 offset: 1 }",
        [{"x": (1, 2, 9, 8), "z": (1, 9, 3, 4)}, {"x": (2, 2, 12, 8), "z": (2, 9, 8, 7)}],
    ),
    "crop, axis 1": (
        "Crop",
        "crop_param { axis: 1 offset: 2 }",
        [{"x": (1, 7, 9, 8), "z": (3, 5, 3, 4)}, {"x": (1, 7, 6, 8), "z": (3, 5, 4, 4)}],
    ),
    "tile": ("Tile", "tile_param { axis: 2 tiles: 3 }", IMAGES),
    "flatten": ("Flatten", "", [IMAGE, {"x": (3, 4, 11, 9)}]),
    "flatten, middle": ("Flatten", "flatten_param { axis: 1 end_axis: -2 }", IMAGES),
    "reshape": ("Reshape", "reshape_param { shape { dim: 0 dim: 2 dim: -1 } }", IMAGES),
    "reshape, middle": ("Reshape", "reshape_param { axis: 1 num_axes: 1 shape { dim: 2 dim: -1 } }", IMAGES),
    "reshape, new axis": ("Reshape", "reshape_param { axis: -1 num_axes: 0 shape { dim: 1 } }", IMAGES),
    "reduction": ("Reduction", "reduction_param { axis: 1 coeff: 0.5 }", IMAGES),
    "reduction, all": ("Reduction", "reduction_param { operation: ASUM }", IMAGES),
    "reduction, squares": ("Reduction", "reduction_param { operation: SUMSQ axis: -1 }", IMAGES),
    "reduction, mean": ("Reduction", "reduction_param { operation: MEAN axis: 2 coeff: 3 }", IMAGES),
    "argmax": ("ArgMax", "argmax_param { axis: 1 }", IMAGES),
    "argmax, top 3": ("ArgMax", "argmax_param { axis: 1 top_k: 3 }", IMAGES),
    "argmax, values": ("ArgMax", "argmax_param { axis: 2 top_k: 2 out_max_val: true }", IMAGES),
    "argmax of items": ("ArgMax", "argmax_param { top_k: 2 }", IMAGES),
    "argmax of items, with values": ("ArgMax", "argmax_param { top_k: 2 out_max_val: true }", IMAGES),
    "argmax of rows": ("ArgMax", "", ROWS),
    "spp": ("SPP", "spp_param { pyramid_height: 3 }", [IMAGE, {"x": (3, 4, 11, 9)}]),
    "spp, means": ("SPP", "spp_param { pyramid_height: 2 pool: AVE }", [IMAGE, {"x": (3, 4, 11, 9)}]),
}


@pytest.mark.parametrize("name", CASES)
def test_each_layer_type(files, name):
    type_, setting, sizes = CASES[name]
    paths = files(one(type_, setting, " ".join(sizes[0])), sizes[0])
    to_onnx(*paths)
    same_as_engine(paths, sizes)


POOLS = {
    "kernel_size: 2 stride: 2": IMAGES,
    "kernel_size: 3 stride: 2": IMAGES,
    "kernel_size: 3 stride: 2 pad: 1": IMAGES,
    "kernel_size: 3 stride: 2 pad: 2": IMAGES,
    "kernel_size: 4 stride: 3 pad: 1": IMAGES,
    "kernel_size: 3 stride: 1 pad: 1": IMAGES,
    "kernel_size: 5 stride: 3 pad: 4": IMAGES,
    "kernel_size: 2 stride: 3": IMAGES,
    "kernel_size: 1 stride: 4": IMAGES,
    "kernel_size: 2 stride: 5 pad: 1": IMAGES,
    "kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 pad_h: 0 pad_w: 1": IMAGES,
    "kernel_size: 9 stride: 2": IMAGES[:1],
    "kernel_size: 3 stride: 2 round_mode: FLOOR": IMAGES,
    "kernel_size: 3 stride: 2 pad: 2 round_mode: FLOOR": IMAGES,
    "kernel_size: 2 stride: 3 round_mode: FLOOR": IMAGES,
    "global_pooling: true": IMAGES,
}


@pytest.mark.parametrize("setting", POOLS)
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_pooling_has_caffes_windows_and_divisors(files, method, setting):
    paths = files(one("Pooling", f"pooling_param {{ pool: {method} {setting} }}"), IMAGE)
    to_onnx(*paths)
    same_as_engine(paths, POOLS[setting])


@st.composite
def pools(draw):
    """Draw pooling_param, and two image sizes that have a window."""
    kernel, stride = draw(st.tuples(*[st.integers(1, 5)] * 2)), draw(st.tuples(*[st.integers(1, 6)] * 2))
    pad = [draw(st.integers(0, k - 1)) for k in kernel]
    setting = f"kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]} "
    setting += f"pad_h: {pad[0]} pad_w: {pad[1]} pool: {draw(st.sampled_from(['MAX', 'AVE']))} "
    setting += f"round_mode: {draw(st.sampled_from(['CEIL', 'FLOOR']))}"
    return setting, [tuple(draw(st.integers(k, 17)) for k in kernel) for _ in range(2)]


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pools())
def test_pooling_of_any_setting_and_size(files, case):
    setting, sizes = case
    shapes = [{"x": (1, 2, *size)} for size in sizes]
    paths = files(one("Pooling", f"pooling_param {{ {setting} }}"), shapes[0])
    to_onnx(*paths)
    same_as_engine(paths, shapes)


def test_stochastic_pooling_expects_its_draws(files):
    paths = files(one("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }"), IMAGE)
    to_onnx(*paths, check=False)
    same_as_engine(paths, IMAGES, lambda shape: np.abs(draw(shape)) + 0.1)


@pytest.mark.parametrize("setting", ["kernel_size: 3 stride: 2", "kernel_size: 3 stride: 2 pad: 1"])
def test_the_mask_counts_within_each_plane(files, setting):
    paths = files(one("Pooling", f"pooling_param {{ {setting} }}", tops="y mask"), IMAGE)
    to_onnx(*paths)
    same_as_engine(paths, IMAGES)


def test_argmax_takes_the_last_of_equal_values(files):
    text = one("ArgMax", "argmax_param { axis: 1 }") + one("ArgMax", "argmax_param { top_k: 3 }", tops="z", name="m")
    paths = files(text, IMAGE)
    to_onnx(*paths)
    same_as_engine(paths, IMAGES, lambda shape: np.round(draw(shape)))


def test_slices_at_points_and_in_equal_parts(files):
    text = one("Slice", "slice_param { slice_point: 1 slice_point: 3 }", tops="a b c")
    text += one("Slice", "slice_param { axis: 2 }", "c", "d e", name="m")
    text += one("Slice", "", "b", "f", name="n")
    paths = files(text, {"x": (2, 4, 6, 5)})
    to_onnx(*paths)
    same_as_engine(paths, [{"x": (2, 4, 6, 5)}, {"x": (1, 4, 10, 3)}])


@pytest.mark.parametrize("bias", ["", "bias_term: false"])
def test_embed(files, bias):
    def numbers(shape):
        return (np.arange(math.prod(shape)) % 7).reshape(shape).astype(np.float32)

    paths = files(one("Embed", f"embed_param {{ input_dim: 7 num_output: 3 {bias} }}"), {"x": (2, 5)})
    to_onnx(*paths)
    same_as_engine(paths, [{"x": (2, 5)}, {"x": (3, 5)}], numbers)


def test_items_are_chosen(files):
    text = one("BatchReindex", "", "x index", "y") + one("Filter", "", "y z chosen", "kept also", name="m")
    shapes = {"x": (3, 4), "z": (5, 2, 2), "index": (5,), "chosen": (5, 1)}
    paths = files(text, shapes)
    to_onnx(*paths)
    arrays = {(5,): [2, 0, 0, 1, 2], (5, 1): [[0], [1], [-2], [0], [1]]}
    same_as_engine(paths, [shapes], lambda shape: np.array(arrays.get(shape, draw(shape)), np.float32))


def test_a_nets_constants(files):
    text = one("DummyData", "dummy_data_param { shape { dim: 4 } data_filler { value: 0.5 } }", "", "c", name="c")
    text += 'layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 4 } } }'
    text += one("Bias", "bias_param { axis: 1 }", "x c") + one("Scale", "", "y p", "z", name="m")
    paths = files(text + 'layer { name: "q" type: "Parameter" top: "q" parameter_param { shape { dim: 2 } } }', IMAGE)
    to_onnx(*paths)
    same_as_engine(paths, IMAGES)


def test_random_dummy_data_is_refused(files):
    filler = 'dummy_data_param { shape { dim: 4 } data_filler { type: "gaussian" } }'
    paths = files(one("DummyData", filler, "", "c", name="noise") + one("Bias", "", "x c"), {"x": (2, 4)})
    with pytest.raises(NetError, match=r"'noise' \(DummyData\).*draws random values"):
        to_onnx(*paths)


# Values' names, shared weights

CONV = "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }"


def test_in_place_layers_and_outputs_keep_the_blobs_names(files):
    text = one("Convolution", CONV, name="conv") + one("ReLU", "", "y", "y", name="relu")
    text += one("Dropout", "", "y", "y", name="drop") + one("TanH", "", "y", "t", name="t")
    text += one("Dropout", "", "y", "copy", name="copy") + one("Silence", "", "t", "", name="s")
    paths = files(text, IMAGE)
    to_onnx(*paths)
    same_as_engine(paths, IMAGES)
    made = onnx.load(paths[2]).graph
    assert [node.op_type for node in made.node] == ["Conv", "Relu", "Tanh"]
    assert made.node[1].output == ["copy"]  # y under an output's name
    assert {c.name for c in made.initializer} == {"conv/0", "conv/1"}
    assert made.name == "Tested"


def test_an_input_that_is_written_over_comes_out_under_another_name(files):
    paths = files(one("ReLU", "", "x", "x"), IMAGE)
    to_onnx(*paths)
    values = draw(IMAGE["x"])
    runner = session(paths[2])
    assert [o.name for o in runner.get_outputs()] == ["x/output"]
    np.testing.assert_array_equal(runner.run(None, {"x": values})[0], np.maximum(values, 0))


def test_values_that_nodes_make_take_no_blobs_name(files):
    text = one("Convolution", CONV, tops="l/0") + one("ReLU", "", "l/0", "p/Mul", "r")
    paths = files(text + one("Power", "power_param { scale: 2 shift: 1 }", "p/Mul", "z", "p"), IMAGE)
    to_onnx(*paths)
    same_as_engine(paths, IMAGES)
    made = onnx.load(paths[2]).graph
    assert [node.output[0] for node in made.node] == ["l/0", "p/Mul", "p/Mul_1", "z"]
    assert {c.name for c in made.initializer} >= {"l/0_1", "l/1"}


def test_shared_weights_are_stored_once(files):
    shared = f'{CONV} param {{ name: "w" }} param {{ name: "b" }}'
    text = one("Convolution", shared, name="one") + one("Convolution", shared, "y", "z", name="two")
    paths = files(text, IMAGE)
    to_onnx(*paths)
    same_as_engine(paths, IMAGES)
    assert {c.name for c in onnx.load(paths[2]).graph.initializer} == {"one/0", "one/1"}


# Free extents


def extents(path):
    """Return the extents of a file's inputs and outputs, by name."""
    made = onnx.load(path).graph
    return {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in [*made.input, *made.output]
    }


def test_a_convolutional_net_takes_any_batch_height_and_width(files):
    paths = files(one("Convolution", CONV) + pool("z", "y"), IMAGE)
    to_onnx(*paths)
    assert extents(paths[2]) == {"x": ["batch", 4, "height", "width"], "z": ["batch", 4, "z_2", "z_3"]}


def test_a_classifier_takes_any_batch(files):
    paths = files(one("InnerProduct", "inner_product_param { num_output: 3 }"), IMAGE)
    to_onnx(*paths)
    assert extents(paths[2]) == {"x": ["batch", 4, 11, 9], "y": ["batch", 3]}


def test_a_net_that_fixes_its_batch(files):
    paths = files(one("Reshape", "reshape_param { num_axes: 2 shape { dim: 2 dim: 4 } }"), IMAGE)
    to_onnx(*paths)
    assert extents(paths[2]) == {"x": [2, 4, "height", "width"], "y": [2, 4, "height", "width"]}


def test_a_net_that_asks_for_multiples_is_found_free(files):
    text = one("Pooling", "pooling_param { kernel_size: 16 stride: 16 }", tops="p", name="p")
    up = "convolution_param { num_output: 4 kernel_size: 16 stride: 16 bias_term: false }"
    text += one("Deconvolution", up, "p", "d", name="d") + one("Eltwise", "", "x d")
    paths = files(text, {"x": (1, 4, 32, 16)})
    to_onnx(*paths)
    assert extents(paths[2])["y"] == ["batch", 4, "height", "width"]
    same_as_engine(paths, [{"x": (1, 4, 32, 16)}, {"x": (2, 4, 16, 48)}])


def test_inputs_whose_extents_are_free_one_by_one(files):
    text = one("Bias", "bias_param { axis: 0 }", "x term")
    paths = files(text, {"x": (4, 3, 5, 6), "term": (4, 3)})
    to_onnx(*paths)
    assert extents(paths[2])["x"] == ["batch", 3, "x_height", "x_width"]
    paths = files(one("Scale", "scale_param { axis: 1 }", "x factor"), {"x": (2, 3, 5, 6), "factor": (3,)})
    to_onnx(*paths)
    assert extents(paths[2]) == {name: ["x_batch", 3, "x_height", "x_width"] for name in "xy"} | {"factor": [3]}


# Whole nets


def conv(name, bottom, number, kernel, pad=0, relu=True):
    """Return a convolution, and a ReLU in place."""
    setting = f"convolution_param {{ num_output: {number} kernel_size: {kernel} pad: {pad} }}"
    text = one("Convolution", setting, bottom, name, name)
    return text + (one("ReLU", "", name, name, f"relu_{name}") if relu else "")


def pool(name, bottom, setting="kernel_size: 2 stride: 2"):
    return one("Pooling", f"pooling_param {{ {setting} }}", bottom, name, name)


def up(name, bottom, kernel, stride):
    setting = f"num_output: 3 kernel_size: {kernel} stride: {stride} bias_term: false"
    return one("Deconvolution", f"convolution_param {{ {setting} }}", bottom, name, name)


def crop(name, bottoms, offset):
    return one("Crop", f"crop_param {{ axis: 2 offset: {offset} }}", bottoms, name, name)


def dense_net():
    """Return a thin net of five stages, padded by 100, with three scores joined at strides 32, 16 and 8."""
    text = conv("c1", "data", 4, 3, 100) + pool("p1", "c1") + conv("c2", "p1", 4, 3, 1) + pool("p2", "c2")
    text += conv("c3", "p2", 4, 3, 1) + pool("p3", "c3") + conv("c4", "p3", 6, 3, 1) + pool("p4", "c4")
    text += conv("c5", "p4", 6, 3, 1) + pool("p5", "c5") + conv("fc6", "p5", 8, 7)
    text += one("Dropout", "", "fc6", "fc6", "drop6") + conv("score", "fc6", 3, 1, relu=False)
    text += up("up2", "score", 4, 2) + conv("score4", "p4", 3, 1, relu=False) + crop("crop4", "score4 up2", 5)
    text += one("Eltwise", "", "up2 crop4", "sum4", "sum4") + up("up4", "sum4", 4, 2)
    text += conv("score3", "p3", 3, 1, relu=False) + crop("crop3", "score3 up4", 9)
    text += one("Eltwise", "", "up4 crop3", "sum3", "sum3") + up("up8", "sum3", 16, 8)
    return text + crop("out", "up8 data", 31)


def test_a_dense_net_at_any_size(files):
    paths = files(dense_net(), {"data": (1, 3, 40, 56)})
    to_onnx(*paths)
    assert extents(paths[2]) == {
        "data": ["batch", 3, "height", "width"],
        "out": ["batch", 3, "height", "width"],
    }
    sizes = [(1, 1), (33, 47), (31, 64), (65, 38)]
    same_as_engine(paths, [{"data": (1, 3, *size)} for size in sizes] + [{"data": (2, 3, 35, 21)}])


def test_an_inception_block(files):
    text = conv("stem", "data", 6, 3, 1) + one("LRN", "lrn_param { local_size: 5 alpha: 0.1 }", "stem", "norm", "norm")
    text += pool("p", "norm", "kernel_size: 3 stride: 2") + conv("b1", "p", 3, 1)
    text += conv("b3r", "p", 2, 1) + conv("b3", "b3r", 4, 3, 1) + conv("b5r", "p", 2, 1) + conv("b5", "b5r", 2, 5, 2)
    text += pool("bp", "p", "kernel_size: 3 stride: 1 pad: 1") + conv("bpp", "bp", 2, 1)
    text += one("Concat", "", "b1 b3 b5 bpp", "joined", "joined") + one("BatchNorm", "", "joined", "joined", "bn")
    text += one("Scale", "scale_param { bias_term: true }", "joined", "joined", "scale")
    text += pool("mean", "joined", "pool: AVE global_pooling: true") + one("Flatten", "", "mean", "flat", "flat")
    text += one("InnerProduct", "inner_product_param { num_output: 5 }", "flat", "fc", "fc")
    paths = files(text + one("Softmax", "", "fc", "prob", "prob"), {"data": (2, 3, 17, 14)})
    to_onnx(*paths)
    assert extents(paths[2]) == {"data": ["batch", 3, "height", "width"], "prob": ["batch", 5]}
    same_as_engine(paths, [{"data": s} for s in [(2, 3, 17, 14), (1, 3, 22, 31), (3, 3, 9, 8)]])


# What cannot be


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (one("Python", 'python_param { module: "nowhere" layer: "X" }'), "'l' .Python. runs a program"),
        (one("Data", 'data_param { source: "nowhere" }', "", "d"), "'l' .Data. reads data.*deploy net"),
        (one("EuclideanLoss", "", "x x"), "'l' .EuclideanLoss. is for training"),
        (one("Accuracy", "", "x x"), "'l' .Accuracy. is for training and testing"),
        (one("Im2col", "convolution_param { kernel_size: 3 }"), "'l' .Im2col. has no form in ONNX here.*Convolution"),
        (one("LSTM", "recurrent_param { num_output: 3 }", "x x"), "'l' .LSTM. keeps a state"),
        (one("HDF5Output", "", "x x", ""), "'l' .HDF5Output. writes a file"),
    ],
)
def test_what_onnx_cannot_hold_is_refused_by_name(write, tmp_path, layer, words):
    other = one("SoftmaxWithLoss", "", "x x", "loss", "the loss")
    path = write(net_text(layer + other, IMAGE))
    with pytest.raises(NetError, match=words) as caught:
        to_onnx(path, "no weights needed", tmp_path / "net.onnx")
    assert "'the loss' (SoftmaxWithLoss)" in str(caught.value)
    assert not (tmp_path / "net.onnx").exists()


def test_every_layer_type_is_translated_or_refused():
    for name in [*type_names(), "Data", "HDF5Data", "ImageData", "MemoryData", "WindowData", "RNN"]:
        assert (translation(name) is None) == (exporters._reason(name) is not None), name
    assert exporters._reason("Unheard") is None  # which the engine refuses, with the nearest name
    assert len(translations()) > 40


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (one("BatchNorm", "batch_norm_param { use_global_stats: false }"), "set it to true"),
        (one("Pooling", "pooling_param { global_pooling: true }", tops="y m"), "mask of global pooling"),
        (one("Pooling", "pooling_param { kernel_size: 1 stride: 3 }", tops="y m"), "mask with a stride above"),
        (one("Pooling", "pooling_param { pool: STOCHASTIC global_pooling: true }"), "global STOCHASTIC"),
    ],
)
def test_settings_that_onnx_cannot_hold_are_refused(files, layer, words):
    paths = files(layer, IMAGE)
    with pytest.raises(NetError, match=rf"'l' .* cannot be exported to ONNX: .*{words}"):
        to_onnx(*paths)


def test_a_net_without_inputs_is_refused(write, tmp_path):
    path = write(one("DummyData", "dummy_data_param { shape { dim: 2 } }", ""))
    with pytest.raises(NetError, match="has no inputs"):
        to_onnx(path, "w", tmp_path / "x.onnx")


def test_weights_that_are_missing_are_told(files, tmp_path, capsys):
    paths = files(one("Convolution", CONV) + one("Convolution", CONV, "y", "z", "other"), IMAGE)
    text = (tmp_path / "net.prototxt").read_text().replace('name: "other"', 'name: "renamed"')
    (tmp_path / "net.prototxt").write_text(text)
    to_onnx(*paths)
    assert "has no weights for 'renamed':" in capsys.readouterr().err


def test_a_net_above_two_gigabytes_is_refused(files, monkeypatch):
    paths = files(one("Convolution", CONV), IMAGE)
    monkeypatch.setattr(exporters, "MAX_MODEL", 4 * (4 * 4 * 9 + 4) - 1)
    with pytest.raises(CaffeError, match="GB of weights"):
        to_onnx(*paths)


def test_a_net_too_large_to_run_is_exported_unchecked_only(files, monkeypatch):
    paths = files(one("TanH") + one("Flatten", "", "y", "z", "f"), IMAGE)
    blobs = 2 * 4 * math.prod(IMAGE["x"])  # the bytes of x and y; z is y's memory
    monkeypatch.setattr(exporters, "MAX_CHECKED", blobs)
    to_onnx(*paths)  # checked at its own size; at the other one it would be too large
    monkeypatch.setattr(exporters, "MAX_CHECKED", blobs - 1)
    with pytest.raises(CaffeError, match=r"its blobs would take 0.0 GB.*check=False"):
        to_onnx(*paths)
    to_onnx(*paths, check=False)
    same_as_engine(paths, IMAGES)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "safetensors"])
def test_a_missing_package_names_the_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"package {package} .*pycaffe-on-torch\[export\]"):
        to_safetensors("w", "x") if package == "safetensors" else to_onnx("n", "w", "x")


# The check


@pytest.fixture
def wrong(monkeypatch):
    """Put a translation in another's place for a test."""
    monkeypatch.setattr(onnx_graph, "_translations", dict(onnx_graph._translations))

    def put(type_, write, **options):
        translates(type_, **options)(write)

    return put


def test_a_result_that_differs_stops_the_export_and_keeps_the_old_file(files, wrong):
    paths = files(one("TanH"), {"x": (2, 30)})
    with open(paths[2], "w") as file:
        file.write("old")
    wrong("TanH", lambda at: at.affine(at.bottom, 1, 0.25))
    with pytest.raises(CaffeError, match=r"'y' .*run on 2 x 30, differs .*: 60 of 60 values by more than 0.0001"):
        to_onnx(*paths)
    with open(paths[2]) as file:
        assert file.read() == "old"


def test_a_shape_that_differs_stops_the_export(files, wrong):
    paths = files(one("TanH"), IMAGE)
    wrong("TanH", lambda at: at.node("ReduceMean", at.bottom, axes=[2]))
    with pytest.raises(CaffeError, match=r"its shape is 2 x 4 x 1 x 9, not 2 x 4 x 11 x 9"):
        to_onnx(*paths)


def test_where_a_result_jumps_one_value_in_a_thousand_may_differ(files, wrong):
    paths = files(one("TanH"), {"x": (2, 1000)})

    def first_one_off(at):
        return at.node("Add", at.node("Tanh", at.bottom), at.array(np.eye(1, 1000)))

    wrong("TanH", first_one_off, steps=True)
    to_onnx(*paths)
    wrong("TanH", first_one_off)
    with pytest.raises(CaffeError, match="2 of 2000 values"):
        to_onnx(*paths)


def test_values_that_are_not_finite_must_be_so_in_both(files, wrong):
    paths = files(one("Log"), {"x": (2, 300)})
    to_onnx(*paths)  # of negative values, NaN
    wrong("Log", lambda at: at.node("Log", at.node("Abs", at.bottom)))
    with pytest.raises(CaffeError, match="at most by inf"):
        to_onnx(*paths)


def test_a_net_that_is_not_valid_or_does_not_run_is_told(files, wrong):
    paths = files(one("TanH"), {"x": (2, 3)})
    wrong("TanH", lambda at: at.node("NoSuchOperator", at.bottom))
    with pytest.raises(CaffeError, match="is not valid"):
        to_onnx(*paths)
    wrong("TanH", lambda at: at.node("Gather", at.bottom, at.integers([0, 9]), axis=0))
    with pytest.raises(CaffeError, match="cannot run the net that was made on 2 x 3"):
        to_onnx(*paths)


def test_a_type_of_a_programs_own_can_be_given_a_translation(files, wrong):
    paths = files(one("Im2col", "convolution_param { kernel_size: 1 }"), IMAGE)
    wrong("Im2col", lambda at: at.bottom)
    to_onnx(*paths)
    same_as_engine(paths, IMAGES)


# Safetensors


def test_safetensors_hold_every_parameter(files, tmp_path):
    paths = files(one("Convolution", CONV, name="a/b") + one("BatchNorm", "", "y", "y", "n"), IMAGE)
    safetensors = pytest.importorskip("safetensors", reason="needs the extra `export`")
    net = caffe.Net(paths[0], caffe.TEST, weights=paths[1])
    net.save_hdf5(str(tmp_path / "w.h5"))
    for source, name in ((paths[1], "Tested"), (str(tmp_path / "w.h5"), "")):
        to_safetensors(source, tmp_path / "out" / "w.safetensors")
        with safetensors.safe_open(tmp_path / "out" / "w.safetensors", "np") as file:
            assert file.metadata() == {"format": "caffe", "net": name}
            assert set(file.keys()) == {"a/b/0", "a/b/1", "n/0", "n/1", "n/2"}
            for layer, blobs in net.params.items():
                for index, blob in enumerate(blobs):
                    stored = file.get_tensor(f"{layer}/{index}")
                    assert stored.shape == blob.data.shape
                    assert stored.dtype == np.float32
                    assert stored.tobytes() == blob.data.tobytes()


def test_safetensors_of_what_is_no_weights_file(tmp_path):
    (tmp_path / "w.caffemodel").write_text("<html>")
    with pytest.raises(FileFormatError, match="web page"):
        to_safetensors(tmp_path / "w.caffemodel", tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()
