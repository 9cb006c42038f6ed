"""The layer types: gradients against differences, in place against not, settings, errors that say what is wrong."""

import numpy as np
import pytest

import caffe
from caffe.errors import NetError
from caffe.formats.prototxt import parse_text
from caffe.proto import caffe_pb2


def make(layers, inputs, phase=caffe.TRAIN, force=True, **arrays):
    """Build a net of `layers` over inputs of the given shapes, and write the arrays into them."""
    text = f"force_backward: {str(force).lower()}\n"
    for name, shape in inputs.items():
        dims = " ".join(f"dim: {d}" for d in shape)
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    param = parse_text(text + layers, caffe_pb2.NetParameter())
    param.state.phase = phase
    net = caffe.Net.from_proto(param)
    for name, values in arrays.items():
        net.blobs[name].data[...] = values
    return net


def one(type_, setting="", bottoms="x", tops="y"):
    """Return the text of one layer, l."""
    ends = " ".join([f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in tops.split()])
    return f'layer {{ name: "l" type: "{type_}" {ends} {setting} }}\n'


def fails(match, *args, **kwargs):
    """Building the net, or its first pass, raises an error that names the layer and matches."""
    with pytest.raises(NetError, match=match) as caught:
        make(*args, **kwargs).forward()
    assert "Layer 'l'" in str(caught.value)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


IMAGE = {"x": (2, 4, 5, 6)}


def test_parameter_gradients_accumulate_and_bottom_gradients_do_not():
    net = make(one("Scale", "scale_param { bias_term: true }"), IMAGE, x=normal(*IMAGE["x"]))
    net.forward()
    net.backward(y=normal(*IMAGE["x"], seed=1))
    once = [net.params["l"][0].diff.copy(), net.params["l"][1].diff.copy(), net.blobs["x"].diff.copy()]
    net.backward()
    assert np.allclose(net.params["l"][0].diff, 2 * once[0]) and np.allclose(net.params["l"][1].diff, 2 * once[1])
    assert np.array_equal(net.blobs["x"].diff, once[2])
    net.clear_param_diffs()
    assert not net.params["l"][0].diff.any()


IN_PLACE = {
    "ReLU": "",
    "ReLU leaky": "relu_param { negative_slope: 0.1 }",
    "PReLU": "",
    "ELU": "",
    "Sigmoid": "",
    "TanH": "",
    "Swish": "",
    "BNLL": "",
    "Clip": "clip_param { min: -0.3 max: 0.4 }",
    "Power": "power_param { power: 2 scale: 3 shift: 1 }",
    "Exp": "",
    "Scale": "scale_param { bias_term: true filler { value: 2 } }",
    "Bias": "",
    "BatchNorm": "",
    "LRN": "",
    "MVN": "",
    "Dropout": "",
    "Softmax": "",
}


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("held", [False, True], ids=["unseen", "while a view is held"])
def test_in_place_gives_what_a_top_of_its_own_gives(name, held):
    type_ = name.split()[0]
    found = []
    for top in ("y", "x0"):
        caffe.set_random_seed(4)
        source = one("Power", "power_param { shift: 0.1 }", tops="x0").replace('"l"', '"source"')
        net = make(source + one(type_, IN_PLACE[name], "x0", top), IMAGE, x=normal(*IMAGE["x"]))
        views = [net.blobs["x0"].data, net.blobs["x0"].diff] if held else []
        net.forward()
        data = net.blobs[top].data.copy()
        net.backward(**{top: normal(*IMAGE["x"], seed=2)})
        params = [blob.diff.copy() for blob in net.params.get("l", [])]
        found.append([data, net.blobs["x"].diff.copy(), *params])
        if views and top == "x0":
            assert np.array_equal(views[0], data)
    for apart_, in_place in zip(*found, strict=True):
        assert np.allclose(apart_, in_place, atol=1e-6)


def test_before_an_in_place_relu_the_diff_is_the_gradient_of_what_came_before_it():
    layers = one("Power", tops="y") + one("ReLU", bottoms="y").replace('"l"', '"r"')
    net = make(layers, {"x": (3,)}, x=[-1, 0, 2])
    net.forward()
    net.backward(y=np.array([5, 5, 5]))
    assert net.blobs["y"].diff.tolist() == [0, 0, 5] and net.blobs["y"].data.tolist() == [0, 0, 2]


@pytest.mark.parametrize("type_", ["Split", "AbsVal", "Reshape", "Flatten"])
def test_types_that_refuse_to_work_in_place_say_so(type_):
    fails("in place", one(type_, tops="x"), IMAGE)


# Dropout and dummy data


@pytest.mark.parametrize("top", ["x0", "y"])
def test_dropout_scales_what_stays_and_sends_the_gradient_the_same_way(top):
    source = one("Power", tops="x0").replace('"l"', '"source"')
    caffe.set_random_seed(2)
    net = make(source + one("Dropout", "dropout_param { dropout_ratio: 0.25 }", "x0", top), {"x": (1, 8, 50, 50)}, x=1)
    first = net.forward()[top].copy()
    assert np.unique(first).tolist() == [0, np.float32(1 / 0.75)]
    assert abs((first == 0).mean() - 0.25) < 0.02
    assert all(0.15 < (channel == 0).mean() < 0.35 for channel in first[0])  # no channel falls as a whole
    net.backward(**{top: np.ones_like(first)})
    assert np.array_equal(net.blobs["x"].diff, first)
    assert not np.array_equal(net.forward()[top], first)
    caffe.set_random_seed(2)
    assert np.array_equal(net.forward()[top], first)


def test_dropout_in_test_is_the_identity_in_memory_of_its_own():
    net = make(one("Dropout"), IMAGE, caffe.TEST, x=normal(*IMAGE["x"]))
    net.forward()
    assert np.array_equal(net.blobs["y"].data, net.blobs["x"].data)
    assert not np.shares_memory(net.blobs["y"].data, net.blobs["x"].data)
    net.backward(y=normal(*IMAGE["x"], seed=1))
    assert np.array_equal(net.blobs["x"].diff, net.blobs["y"].diff)


def test_dropout_ratio_of_one_is_refused():
    fails("dropout_ratio must be", one("Dropout", "dropout_param { dropout_ratio: 1 }"), IMAGE)


def test_dummy_data_fills_constants_once_and_draws_the_rest_each_time():
    shape = "shape { dim: 2 dim: 3 }"
    fillers = 'data_filler { value: 4 } data_filler { type: "gaussian" std: 1 }'
    net = make(one("DummyData", f"dummy_data_param {{ {shape} {fillers} }}", "", "a b"), {})
    first = {name: values.copy() for name, values in net.forward().items()}
    assert (first["a"] == 4).all() and first["b"].std() > 0
    net.blobs["a"].data[0, 0] = 9
    second = net.forward()
    assert second["a"][0, 0] == 9 and not np.array_equal(first["b"], second["b"])


def test_dummy_data_takes_the_old_shape_fields():
    net = make(one("DummyData", "dummy_data_param { num: 2 channels: 3 height: 4 width: 5 }", "", "a b"), {})
    assert net.blobs["a"].data.shape == net.blobs["b"].data.shape == (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ("", "needs shape"),
        ("num: 2 channels: 3", "equally often"),
        ("shape { dim: 2 } num: 2", "not both"),
        ("shape { dim: 2 } shape { dim: 2 } shape { dim: 2 }", "3 times for 2 tops"),
        ('shape { dim: 2 } data_filler { type: "nope" }', "Unknown filler name: nope"),
    ],
)
def test_dummy_data_settings_that_cannot_be(setting, match):
    fails(match, one("DummyData", f"dummy_data_param {{ {setting} }}", "", "a b"), {})


def test_input_gives_one_shape_to_every_top_and_keeps_a_programs_reshape():
    net = make(one("Input", "input_param { shape { dim: 1 dim: 2 } }", "", "a b") + one("TanH", bottoms="a").replace(
        '"l"', '"t"'), {})  # fmt: skip
    assert net.blobs["a"].data.shape == net.blobs["b"].data.shape == (1, 2)
    net.blobs["a"].reshape(3, 2)
    net.forward()
    assert net.blobs["y"].data.shape == (3, 2)
    fails("3 times for 2 tops", one("Input", "input_param { shape { } shape { } shape { } }", "", "a b"), {})


# Routing


def test_a_crop_reference_that_is_read_elsewhere_gets_that_gradient_alone():
    layers = one("Power", "power_param { scale: 2 }", "r", "r2").replace('"l"', '"source"')
    layers += one("Crop", "crop_param { offset: 1 }", "x r2", "cut") + one("Eltwise", "", "cut r2").replace(
        '"l"', '"e"'
    )
    net = make(layers, {"x": (1, 2, 5, 5), "r": (1, 2, 3, 3)}, x=normal(1, 2, 5, 5), r=normal(1, 2, 3, 3, seed=1))
    for _ in range(2):
        net.forward()
        dy = normal(1, 2, 3, 3, seed=2)
        net.backward(y=dy)
        assert np.allclose(net.blobs["r"].diff, 2 * dy)
        assert np.array_equal(net.blobs["x"].diff[:, :, 1:4, 1:4], dy)
        assert net.blobs["x"].diff.sum() == pytest.approx(dy.sum(), abs=1e-4)


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ("offset: 3", r"out of bounds.*offset 3 and size 3 reach past 5.*2 x 5 x 5 and 1 x 2 x 3 x 3"),
        ("offset: 1 offset: 1 offset: 1", "given 3 times.*2 axes"),
        ("axis: 4", "axis 4 is not an axis"),
    ],
)
def test_crops_that_cannot_be(setting, match):
    fails(match, one("Crop", f"crop_param {{ {setting} }}", "x r"), {"x": (1, 2, 5, 5), "r": (1, 2, 3, 3)})


def test_split_sums_in_order_and_leaves_out_what_was_never_written():
    uses = [one("Power", f"power_param {{ scale: {k} }}", "x", f"y{k}").replace('"l"', f'"l{k}"') for k in (1, 2, 4)]
    net = make("".join(uses), {"x": (2, 2)}, x=1)
    net.forward()
    net.backward(y1=np.ones((2, 2)), y2=np.ones((2, 2)), y4=np.ones((2, 2)))
    assert (net.blobs["x"].diff == 7).all()
    net = make("".join(uses[:2]) + one("Silence", "", "y2", "").replace('"l"', '"s"'), {"x": (2, 2)}, x=1)
    net.forward()
    net.backward(y1=np.full((2, 2), 3.0))
    assert (net.blobs["x"].diff == 3).all()


def test_split_tops_are_the_bottoms_memory():
    net = make(one("TanH", tops="a") + one("TanH", tops="b").replace('"l"', '"l2"'), {"x": (2, 2)}, x=1)
    net.forward()
    net.blobs["x"].data[...] = 0
    assert not net.blobs["x_x_0_split_1"].data.any()


@pytest.mark.parametrize("layer", [one("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }"), one("Flatten")])
def test_reshape_and_flatten_share_memory_both_ways(layer):
    net = make(layer, IMAGE, x=normal(*IMAGE["x"]))
    net.forward()
    assert net.blobs["y"].data.shape == (2, 120) and np.shares_memory(net.blobs["x"].data, net.blobs["y"].data)
    assert np.shares_memory(net.blobs["x"].diff, net.blobs["y"].diff)
    net.blobs["x"].reshape(3, 4, 5, 6)
    net.blobs["x"].data[...] = 5
    assert net.forward()["y"].shape == (3, 120) and (net.blobs["y"].data == 5).all()


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ("shape { dim: 6 dim: -1 }", (6, 40)),
        ("shape { dim: 1 dim: 1 } axis: -1 num_axes: 0", (2, 4, 5, 6, 1, 1)),
        ("shape { dim: 1 } axis: 1 num_axes: 0", (2, 1, 4, 5, 6)),
        ("shape { dim: -1 } axis: -3 num_axes: 2", (2, 4, 30)),
        ("shape { } axis: 0 num_axes: 0", (2, 4, 5, 6)),
    ],
)
def test_reshape_shapes(shape, wanted):
    assert make(one("Reshape", f"reshape_param {{ {shape} }}"), IMAGE).blobs["y"].data.shape == wanted


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (one("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }"), "multiple -1"),
        (one("Reshape", "reshape_param { shape { dim: 7 } }"), "2 x 4 x 5 x 6 cannot become 7"),
        (one("Reshape", "reshape_param { shape { dim: 7 dim: -1 } }"), "cannot be divided"),
        (one("Reshape", "reshape_param { shape { dim: 2 } axis: 3 num_axes: 2 }"), "out of range"),
        (one("Flatten", "flatten_param { axis: 3 end_axis: 1 }"), "no range of axes"),
        (one("Slice", "slice_param { slice_point: 4 }", tops="a b"), "slice_point .* must rise"),
        (one("Slice", "slice_param { slice_point: 1 slice_point: 2 }", tops="a b"), "2 tops need 1 slice_point"),
        (one("Slice", tops="a b c"), "cannot be cut into 3 equal parts"),
        (one("Slice", "slice_param { slice_dim: 1 axis: 1 }", tops="a b"), "not both"),
        (one("Tile", "tile_param { axis: 1 }"), "needs tiles"),
        (one("ArgMax", "argmax_param { top_k: 7 axis: 2 }"), "top_k 7 is above the 5 values"),
        (one("LRN", "lrn_param { local_size: 4 }"), "must be odd"),
        (one("Log", "log_param { base: 1 }"), "base 1 has no logarithm"),
        (one("Exp", "exp_param { base: -2 }"), "base must be above 0"),
        (one("InnerProduct"), "needs num_output"),
        (one("Scale", "scale_param { axis: 3 num_axes: 2 }"), "reaches past the last axis"),
        (one("Softmax", "softmax_param { axis: 4 }"), "axis 4 is not an axis"),
        (one("SPP", "spp_param { pyramid_height: 5 }"), "too many for an image of 5 x 6"),
        (one("Im2col", "convolution_param { kernel_size: 7 }"), "too large for its bottom"),
        (one("Embed"), "needs num_output and input_dim"),
        (one("BatchNorm", "param { lr_mult: 1 }"), "lr_mult 1"),
        (one("InfogainLoss", 'infogain_loss_param { source: "no/file" }', "x x", "y"), "cannot read H from 'no/file'"),
        (one("ReLU", bottoms="x x"), "takes 1 bottom blob.s., but 2"),
    ],
)
def test_settings_that_cannot_be(layer, match):
    fails(match, layer, IMAGE)


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (one("Eltwise", bottoms="x z"), "one shape, not 2 x 3 x 4 and 2 x 3 x 5"),
        (one("Eltwise", "eltwise_param { coeff: 1 }", "x x"), "1 times for 2 bottoms"),
        (one("Eltwise", "eltwise_param { operation: PROD coeff: 1 coeff: 2 }", "x x"), "product has none"),
        (one("Concat", bottoms="x z"), "but for axis 1, not 2 x 3 x 4 and 2 x 3 x 5"),
        (one("Scale", bottoms="x z"), "second bottom, 2 x 3 x 5, does not match its bottom, 2 x 3 x 4"),
        (one("BatchReindex", bottoms="x z"), "must have one axis"),
        (one("Filter", bottoms="x z"), "one value an item"),
        (one("Filter", bottoms="x z", tops="a b"), "need 1 tops"),
    ],
)
def test_bottoms_that_do_not_fit(layer, match):
    fails(match, layer, {"x": (2, 3, 4), "z": (2, 3, 5)})


def test_a_net_reshaped_to_another_number_of_channels_says_whose_weights_do_not_fit():
    for type_, setting in (("InnerProduct", "inner_product_param { num_output: 2 }"), ("Scale", ""), ("PReLU", ""), (
        "BatchNorm", "")):  # fmt: skip
        net = make(one(type_, setting), {"x": (2, 3, 4)})
        net.blobs["x"].reshape(2, 5, 4)
        with pytest.raises(NetError, match=r"Layer 'l'.*2 x 5 x 4"):
            net.reshape()


def test_concat_and_slice_of_one_blob_are_that_blob():
    for type_ in ("Concat", "Slice"):
        net = make(one(type_), IMAGE, x=3)
        assert (net.forward()["y"] == 3).all() and np.shares_memory(net.blobs["x"].data, net.blobs["y"].data)


def test_eltwise_in_place_on_its_first_bottom():
    source = one("Power", "power_param { scale: 3 }", tops="x0").replace('"l"', '"source"')
    for setting, wanted in (("coeff: 2 coeff: -1", (6, -1)), ("", (3, 1)), ("operation: PROD", (3 * 5, 3 * 2))):
        net = make(source + one("Eltwise", f"eltwise_param {{ {setting} }}", "x0 z", "x0"), {"x": (2,), "z": (2,)})
        net.blobs["x"].data[...], net.blobs["z"].data[...] = 2, 5
        net.forward()
        net.backward(x0=np.ones(2))
        assert (net.blobs["x"].diff[0], net.blobs["z"].diff[0]) == wanted or "PROD" in setting
        if "PROD" in setting:
            assert (net.blobs["x"].diff[0], net.blobs["z"].diff[0]) == (15, 6)


def test_filter_follows_the_selector_and_spreads_the_gradient():
    layers = one("Power", tops="x0").replace('"l"', '"source"') + one("Filter", bottoms="x0 s") + one(
        "Power", bottoms="y", tops="z").replace('"l"', '"after"')  # fmt: skip
    net = make(layers, {"x": (4, 2), "s": (4, 1)}, x=np.arange(8).reshape(4, 2), s=[[0], [1], [0], [2]])
    assert net.blobs["y"].data.shape == (4, 2)
    assert net.forward()["z"].tolist() == [[2, 3], [6, 7]]
    net.backward(z=np.ones((2, 2)))
    assert net.blobs["x"].diff.tolist() == [[0, 0], [1, 1], [0, 0], [1, 1]]
    net.blobs["s"].data[...] = 0
    assert net.forward()["z"].shape == (0, 2)


def test_indices_out_of_range_are_refused():
    net = make(one("BatchReindex", bottoms="x i"), {"x": (3, 2), "i": (2,)}, i=[0, 3])
    with pytest.raises(NetError, match=r"index 3 is out of range.*0 to 2"):
        net.forward()
    net = make(one("Embed", "embed_param { num_output: 2 input_dim: 4 }"), {"x": (2,)}, x=[1, -1])
    with pytest.raises(NetError, match=r"index -1 is out of range.*0 to 3"):
        net.forward()


def test_silence_takes_its_bottoms_from_the_outputs_and_gives_no_gradient():
    net = make(one("Slice", tops="a b") + one("Silence", bottoms="b", tops="").replace('"l"', '"s"'), {"x": (1, 2)})
    assert list(net.outputs) == ["a"]
    net.forward()
    net.blobs["b"].diff[...] = 8
    net.backward(a=np.ones((1, 1)))
    assert net.blobs["x"].diff.tolist() == [[1, 0]]


def test_parameter_is_a_top_that_learns():
    layers = one("Parameter", "parameter_param { shape { dim: 2 dim: 3 } }", "", "p")
    net = make(layers + one("Eltwise", "", "x p").replace('"l"', '"e"'), {"x": (2, 3)}, x=1)
    net.params["l"][0].data[...] = 4
    assert (net.forward()["y"] == 5).all()
    for _ in range(2):
        net.backward(y=np.ones((2, 3)))
    assert (net.params["l"][0].diff == 2).all()


# Batch normalisation


def test_mvn_of_values_that_are_channels_by_themselves_is_nothing():
    net = make(one("MVN"), {"x": (2, 6)})
    net.blobs["x"].data[...] = normal(2, 6)
    assert not net.forward()["y"].any()
    net.blobs["y"].diff[...] = 1
    net.backward()
    assert not net.blobs["x"].diff.any()


def test_batch_norm_keeps_running_sums_that_test_uses_and_no_solver_learns():
    layer = one("BatchNorm", "batch_norm_param { moving_average_fraction: 0.5 eps: 0 }")
    net = make(layer, {"x": (4, 2, 3)})
    mean, variance, weight = np.zeros(2), np.zeros(2), 0.0
    for seed in range(3):
        x = 2 + normal(4, 2, 3, seed=seed)
        net.blobs["x"].data[...] = x
        y = net.forward()["y"]
        assert np.allclose(y.mean((0, 2)), 0, atol=1e-5) and np.allclose(y.std((0, 2)), 1, atol=1e-4)
        mean, variance, weight = mean / 2 + x.mean((0, 2)), variance / 2 + x.var((0, 2), ddof=1), weight / 2 + 1
    for blob, wanted in zip(net.params["l"], (mean, variance, [weight]), strict=True):
        assert np.allclose(blob.data, wanted, rtol=1e-5)
    assert [param.lr_mult for param in net.learnable] == [0, 0, 0]
    test = make(layer, {"x": (4, 2, 3)}, caffe.TEST, x=x)
    test.share_with(net)
    wanted = (x - (mean / weight)[:, None]) / np.sqrt(variance / weight)[:, None]
    for _ in range(2):
        assert np.allclose(test.forward()["y"], wanted, atol=1e-5)
    test.backward(y=np.ones((4, 2, 3)))
    assert np.allclose(test.blobs["x"].diff, 1 / np.sqrt(variance / weight)[:, None], rtol=1e-5)
    assert np.allclose(net.params["l"][2].data, weight)


def test_batch_norm_of_one_value_a_channel_is_finite():
    net = make(one("BatchNorm"), {"x": (1, 2)}, x=[[3, 4]])
    assert net.forward()["y"].tolist() == [[0, 0]]
    assert net.params["l"][1].data.tolist() == [0, 0]


def test_batch_norm_before_any_training_divides_by_eps_alone():
    net = make(one("BatchNorm", "batch_norm_param { eps: 0.25 }"), {"x": (1, 2)}, caffe.TEST, x=[[3, 4]])
    assert net.forward()["y"].tolist() == [[6, 8]]
