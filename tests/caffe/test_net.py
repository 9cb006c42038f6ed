"""Net: pycaffe's surface and the rules by which a net is built (facts of _caffe.cpp, pycaffe.py and net.cpp)."""

import gc

import numpy as np
import pytest
import torch

import caffe

CONV = 'convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "gaussian" std: 0.1 } }'
SIMPLE = f"""
name: "simple"
layer {{ name: "in" type: "Input" top: "data" top: "label"
         input_param {{ shape {{ dim: 2 dim: 3 dim: 6 dim: 5 }} shape {{ dim: 2 dim: 1 dim: 4 dim: 3 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" {CONV} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "prob" type: "Softmax" bottom: "conv" top: "prob" }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" }}
"""


@pytest.fixture
def net(write):
    caffe.set_random_seed(1)
    net = caffe.Net(write(SIMPLE), caffe.TRAIN)
    net.blobs["data"].data[...] = np.random.default_rng(0).standard_normal(net.blobs["data"].data.shape)
    return net


def test_names_are_those_of_caffe_splits_included(net):
    assert list(net._layer_names) == ["in", "conv", "relu", "conv_relu_0_split", "prob", "loss"]
    assert list(net.blobs) == [
        "data", "label", "conv", "conv_relu_0_split_0", "conv_relu_0_split_1", "prob", "loss",
    ]  # fmt: skip
    assert list(net.inputs) == ["data", "label"]
    assert list(net.outputs) == ["loss", "prob"]  # alphabetical
    assert list(net.params) == ["conv"]
    assert [b.data.shape for b in net.params["conv"]] == [(2, 3, 3, 3), (2,)]
    assert net.top_names["in"] == ["data", "label"]
    assert net.bottom_names["loss"] == ["conv_relu_0_split_1", "label"]
    assert net.blob_loss_weights["loss"] == 1 and net.blob_loss_weights["conv"] == 0
    assert net.layer_dict["conv"].type == "Convolution" and len(net.layer_dict["conv"].blobs) == 2
    assert len(net.layers) == 6


def test_forward_returns_live_views_of_the_outputs(net):
    out = net.forward()
    assert set(out) == {"loss", "prob"}
    before = out["prob"].copy()
    net.blobs["data"].data[...] *= -3
    net.forward()
    assert not np.allclose(out["prob"], before)
    assert np.shares_memory(out["prob"], net.blobs["prob"].data)


def test_forward_takes_arrays_for_all_inputs_or_none(net):
    data, label = np.ones((2, 3, 6, 5)), np.zeros((2, 1, 4, 3))
    net.forward(data=data, label=label)
    assert (net.blobs["data"].data == 1).all()
    with pytest.raises(Exception, match="Input blob arguments do not match net inputs"):
        net.forward(data=data)
    with pytest.raises(Exception, match="Input is not batch sized"):
        net.forward(data=data[:1], label=label)


def test_forward_runs_a_range_of_layers_by_name(net):
    net.forward()
    net.blobs["conv"].data[...] = 0
    out = net.forward(start="prob", end="prob", blobs=["conv"])
    assert set(out) == {"prob", "conv"} and not out["conv"].any()
    with pytest.raises(ValueError, match="'nope' is not in list"):
        net.forward(start="nope")
    with pytest.raises(ValueError, match="'nope' is not in list"):
        net.forward(end="nope")


def test_forward_by_index_returns_the_weighted_loss(net):
    net.forward()
    assert net._forward(0, len(net.layers) - 1) == pytest.approx(float(net.blobs["loss"].data))
    assert net._forward(0, 3) == 0


def test_backward_adds_to_parameter_diffs_and_overwrites_bottom_diffs(net):
    net.forward()
    net.backward()
    once = net.params["conv"][0].diff.copy()
    inner = net.blobs["conv"].diff.copy()
    net.backward()
    assert np.allclose(net.params["conv"][0].diff, 2 * once, rtol=1e-6) and once.any()
    assert np.array_equal(net.blobs["conv"].diff, inner)
    net.clear_param_diffs()
    assert not net.params["conv"][0].diff.any()


def test_backward_checks_its_arguments(net):
    net.forward()
    with pytest.raises(Exception, match="Top diff arguments do not match net outputs"):
        net.backward(prob=net.blobs["prob"].data)
    top = {"prob": np.zeros_like(net.blobs["prob"].data)[:1], "loss": np.ones(())}
    with pytest.raises(Exception, match="Diff is not batch sized"):
        net.backward(**top)
    with pytest.raises(ValueError, match="is not in list"):
        net.backward(start="nope")


def test_backward_uses_the_blobs_as_they_are_now(net):
    net.forward()
    net.blobs["prob"].data[...] = 0.0
    net.blobs["conv"].data[...] = -1.0  # what ReLU gave is now nowhere positive
    net.backward()
    assert not net.params["conv"][0].diff.any()


def test_no_gradient_is_computed_where_none_is_needed(net):
    net.forward()
    net.backward()
    assert not net.blobs["data"].diff.any()


def test_force_backward_reaches_the_input(write):
    net = caffe.Net(write("force_backward: true\n" + SIMPLE), caffe.TEST)
    net.blobs["data"].data[...] = np.random.default_rng(0).standard_normal(net.blobs["data"].data.shape)
    net.forward()
    assert net.backward()["data"].any()


def test_lr_mult_zero_stops_the_gradient(write):
    text = SIMPLE.replace('top: "conv" conv', 'top: "conv" param { lr_mult: 0 } param { lr_mult: 0 } conv')
    net = caffe.Net(write(text), caffe.TRAIN)
    net.forward()
    net.backward()
    assert not net.params["conv"][0].diff.any() and not net.params["conv"][1].diff.any()
    # Nothing below the loss learns, so that the loss itself is not asked for a gradient (net.cpp:158-221).
    assert not net.blobs["conv"].diff.any()


def test_propagate_down_false_cuts_a_branch(write):
    text = SIMPLE.replace('name: "loss" type', 'name: "loss" propagate_down: false propagate_down: false type')
    net = caffe.Net(write(text), caffe.TRAIN)
    net.forward()
    net.backward()
    assert not net.params["conv"][0].diff.any()


def test_a_programs_loss_weight_in_diff_scales_loss_and_gradient(net):
    net.forward()
    net.backward()
    once = net.params["conv"][0].diff.copy()
    loss = net._forward(0, len(net.layers) - 1)
    net.blobs["loss"].diff[...] = 3
    assert net._forward(0, len(net.layers) - 1) == pytest.approx(3 * loss)
    net.clear_param_diffs()
    net.backward()
    assert np.allclose(net.params["conv"][0].diff, 3 * once, rtol=1e-5)


def test_reshape_at_every_forward(net):
    net.blobs["data"].reshape(1, 3, 9, 8)
    net.blobs["label"].reshape(1, 1, 7, 6)
    assert net.blobs["prob"].data.shape == (2, 2, 4, 3)  # not until reshape or forward
    net.reshape()
    assert net.blobs["prob"].data.shape == (1, 2, 7, 6)
    net.blobs["data"].reshape(2, 3, 4, 4)
    net.blobs["label"].reshape(2, 1, 2, 2)
    net.forward()
    assert net.blobs["prob"].data.shape == (2, 2, 2, 2)


def test_weights_round_trip_through_both_formats(net, write, tmp_path):
    for save, name in ((net.save, "w.caffemodel"), (net.save_hdf5, "w.caffemodel.h5")):
        path = str(tmp_path / name)
        save(path)
        other = caffe.Net(write(SIMPLE), caffe.TEST, weights=path)
        for mine, theirs in zip(net.params["conv"], other.params["conv"], strict=True):
            assert np.array_equal(mine.data, theirs.data)
        old_form = caffe.Net(write(SIMPLE), path, caffe.TEST)
        assert np.array_equal(old_form.params["conv"][0].data, net.params["conv"][0].data)


def test_copy_from_passes_over_what_does_not_match_by_name(net, write, tmp_path):
    path = str(tmp_path / "w.caffemodel")
    net.save(path)
    other = caffe.Net(write(SIMPLE.replace('"conv" type', '"renamed" type')), caffe.TEST)
    before = other.params["renamed"][0].data.copy()
    other.copy_from(path)
    assert np.array_equal(other.params["renamed"][0].data, before)


def test_copy_from_refuses_another_shape_and_says_how_to_go_on(net, write, tmp_path):
    path = str(tmp_path / "w.caffemodel")
    net.save(path)
    other = caffe.Net(write(SIMPLE.replace("num_output: 2", "num_output: 4")), caffe.TEST)
    with pytest.raises(
        RuntimeError, match=r"'conv'; shape mismatch.*2 x 3 x 3 x 3.*4 x 3 x 3 x 3.*from scratch.*rename the layer"
    ):
        other.copy_from(path)
    no_bias = caffe.Net(write(SIMPLE.replace("kernel_size: 3", "kernel_size: 3 bias_term: false")), caffe.TEST)
    with pytest.raises(RuntimeError, match="Incompatible number of blobs for layer 'conv'"):
        no_bias.copy_from(path)


def test_share_with_shares_data_and_not_diff(net, write):
    other = caffe.Net(write(SIMPLE), caffe.TEST)
    other.share_with(net)
    net.params["conv"][0].data[...] = 7
    assert (other.params["conv"][0].data == 7).all()
    net.params["conv"][0].diff[...] = 5
    assert not other.params["conv"][0].diff.any()


@pytest.mark.slow
def test_blobs_outlive_their_net(write):
    net = caffe.Net(write(SIMPLE), caffe.TRAIN)
    net.forward()
    blobs, views = list(net.blobs.values()), [b.data for p in net.params.values() for b in p]
    layers = list(net.layers)
    del net
    gc.collect()
    assert sum(float(v.sum()) for v in views) != 0
    for blob in blobs:
        blob.data[...] = 1
    assert layers[1].blobs[0].data.shape == (2, 3, 3, 3)


def test_hooks_are_called_around_every_layer(net):
    calls = []
    net.before_forward(lambda i: calls.append(("bf", i)))
    net.after_forward(lambda i: calls.append(("af", i)))
    net.before_backward(lambda i: calls.append(("bb", i)))
    net.after_backward(lambda i: calls.append(("ab", i)))
    net.forward()
    assert calls == [(k, i) for i in range(6) for k in ("bf", "af")]
    calls.clear()
    net.backward()
    assert calls == [(k, i) for i in reversed(range(6)) for k in ("bb", "ab")]


ONE_OUTPUT = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 2 weight_filler { type: "gaussian" } } }
"""


def test_forward_all_cuts_batches_and_drops_the_padding(write):
    net = caffe.Net(write(ONE_OUTPUT), caffe.TEST)
    data = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    weight, bias = (b.data for b in net.params["ip"])
    out = net.forward_all(data=data)
    assert np.allclose(out["ip"], data @ weight.T + bias, atol=1e-6) and out["ip"].shape == (5, 2)


def test_forward_all_of_a_scalar_output_gives_one_value_a_batch(write):
    reduce = 'layer { name: "r" type: "Reduction" bottom: "ip" top: "sum" }\n'
    net = caffe.Net(write(ONE_OUTPUT + reduce), caffe.TEST)
    assert net.forward_all(data=np.ones((4, 3)))["sum"].shape == (2,)


def test_forward_backward_all(write):
    net = caffe.Net(write("force_backward: true\n" + ONE_OUTPUT), caffe.TEST)
    data = np.ones((3, 3), np.float32)
    outs, diffs = net.forward_backward_all(data=data, ip=np.ones((3, 2), np.float32))
    assert outs["ip"].shape == (3, 2)
    assert np.allclose(diffs["data"], np.tile(net.params["ip"][0].data.sum(0), (3, 1)), atol=1e-6)


# What is wrong raises, and says what to do


def test_a_missing_file_is_told_as_pycaffe_tells_it(write, tmp_path):
    missing = str(tmp_path / "none.prototxt")
    with pytest.raises(RuntimeError, match=f"Could not open file {missing}"):
        caffe.Net(missing, caffe.TEST)
    with pytest.raises(RuntimeError, match="Could not open file"):
        caffe.Net(write(SIMPLE), str(tmp_path / "none.caffemodel"), caffe.TEST)


LAYER = 'layer {{ name: "x" type: "{type}" bottom: "{bottom}" top: "x" }}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SIMPLE + LAYER.format(type="Convolutoin", bottom="data"), r"Unknown layer type: Convolutoin.*'Convolution'"),
        (SIMPLE + LAYER.format(type="Interp", bottom="data"), "Unknown layer type: Interp.*caffe.layer_type"),
        (SIMPLE + LAYER.format(type="ReLU", bottom="dat"), r"Unknown bottom blob 'dat' \(layer 'x', bottom index 0\)"),
        (LAYER.format(type="ReLU", bottom="y") + 'layer { name: "y" type: "ReLU" bottom: "x" top: "y" }', "later"),
        (SIMPLE + LAYER.format(type="ReLU", bottom="data").replace('top: "x"', 'top: "prob"'), "'prob'.*made by an"),
        (SIMPLE.replace("kernel_size: 3", "kernel_size: 30"), r"'conv'.*leave nothing.*2 x 3 x 6 x 5"),
        (SIMPLE.replace("dim: 5", "dim: -5"), "negative"),
        (SIMPLE.replace("dim: 6", "dim: 60000").replace("dim: 5", "dim: 60000"), "limit"),
        (SIMPLE.replace('bottom: "label"', ""), r"'loss' \(SoftmaxWithLoss\): takes 2 bottom"),
        (SIMPLE.replace('"gaussian"', '"gausian"'), "Unknown filler name: gausian. Did you mean 'gaussian'"),
        (
            SIMPLE.replace('name: "relu"', 'include { phase: TRAIN } exclude { phase: TEST } name: "relu"'),
            "either include rules or exclude",
        ),
        (
            SIMPLE.replace('name: "relu"', 'param { lr_mult: 1 } name: "relu"'),
            "'relu'.*0 parameter blobs, but 1",
        ),
    ],
)
def test_a_net_that_cannot_be_is_refused(write, text, said):
    with pytest.raises(caffe.CaffeError, match=said):
        caffe.Net(write(text), caffe.TRAIN)


def test_a_shape_that_does_not_fit_at_forward_names_the_layer(net):
    net.blobs["data"].reshape(2, 4, 6, 5)
    with pytest.raises(caffe.CaffeError, match=r"'conv' \(Convolution\).*3 input channels.*2 x 4 x 6 x 5"):
        net.forward()


@pytest.mark.parametrize("value", [2, -1, 1e9, np.nan])
def test_a_label_out_of_range_is_an_error(net, value):
    net.blobs["label"].data[0, 0, 1, 1] = value
    with pytest.raises(caffe.CaffeError, match=r"'loss'.*label"):
        net.forward()


def test_a_wrong_call_says_what_was_expected(write):
    path = write(SIMPLE)
    with pytest.raises(TypeError, match=r"caffe\.TRAIN or caffe\.TEST"):
        caffe.Net(path)
    with pytest.raises(TypeError, match="stages is a list"):
        caffe.Net(path, caffe.TEST, stages="deploy")
    with pytest.raises(TypeError, match="wieghts"):
        caffe.Net(path, caffe.TEST, wieghts="x")


def test_layers_of_one_name_are_warned_about_and_the_first_gets_the_weights(write, tmp_path, capfd):
    net = caffe.Net(write(INPUT + ip("a", "data", "a")), caffe.TEST)
    net.save(str(tmp_path / "w.caffemodel"))
    twice = caffe.Net(write(INPUT + ip("a", "data", "a") + ip("a", "a", "b")), caffe.TEST)
    assert "2 layers are named 'a'" in capfd.readouterr().err
    second = twice.layers[2].blobs[0].data.copy()
    twice.copy_from(str(tmp_path / "w.caffemodel"))
    assert np.array_equal(twice.layers[1].blobs[0].data, net.params["a"][0].data)
    assert np.array_equal(twice.layers[2].blobs[0].data, second)


# Rules and sharing


def ip(name, bottom, top, rest=""):
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{top}" {rest}'
        'inner_product_param { num_output: 3 weight_filler { type: "gaussian" } } }\n'
    )


INPUT = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }\n'


def test_phase_level_and_stage_rules(write):
    text = INPUT + "".join(
        ip(name, "data", name, rule)
        for name, rule in {
            "always": "",
            "train": "include { phase: TRAIN } ",
            "not_train": "exclude { phase: TRAIN } ",
            "deep": "include { min_level: 2 } ",
            "shallow": "include { max_level: 1 } ",
            "staged": 'include { stage: "a" stage: "b" } ',
            "unstaged": 'include { not_stage: "a" } ',
            "either": 'include { phase: TEST } include { stage: "a" } ',
        }.items()
    )
    path = write(text)

    def names(*args, **kwargs):
        return set(caffe.Net(path, *args, **kwargs).params)

    assert names(caffe.TRAIN) == {"always", "train", "shallow", "unstaged"}
    assert names(caffe.TEST) == {"always", "not_train", "shallow", "unstaged", "either"}
    assert names(caffe.TRAIN, level=2) == {"always", "train", "deep", "unstaged"}
    assert names(caffe.TRAIN, stages=["a"]) == {"always", "train", "shallow", "either"}
    assert names(caffe.TRAIN, 0, ["a", "b"]) == {"always", "train", "shallow", "staged", "either"}


SHARED = 'param { name: "w" } param { name: "b" } '


def test_parameters_of_one_name_are_one_memory(write):
    net = caffe.Net(
        write("force_backward: true\n" + INPUT + ip("a", "data", "a", SHARED) + ip("b", "a", "b", SHARED)), 0
    )
    assert np.array_equal(net.params["a"][0].data, net.params["b"][0].data)
    net.params["b"][0].data[...] = 2
    assert (net.params["a"][0].data == 2).all()
    assert len(net.learnable) == 2
    net.blobs["data"].data[...] = 1
    net.forward()
    net.backward(b=np.ones((2, 3)))
    # Both uses add to the one gradient: b's own 2 * (2 * 3 * 1) a value, and what comes through a.
    expected = 2 * 6.0 + 2 * 6.0
    assert np.allclose(net.params["a"][0].diff, expected) and np.allclose(net.params["b"][0].diff, expected)


def test_an_hdf5_file_holds_a_shared_parameter_once(write, tmp_path):
    h5py = pytest.importorskip("h5py")
    net = caffe.Net(write(INPUT + ip("a", "data", "a", SHARED) + ip("b", "a", "b", SHARED)), 0)
    net.save_hdf5(str(tmp_path / "w.h5"))
    with h5py.File(tmp_path / "w.h5") as file:
        assert sorted(file["data"]["a"]) == ["0", "1"] and "0" not in file["data"].get("b", {})
    other = caffe.Net(write(INPUT + ip("a", "data", "a", SHARED) + ip("b", "a", "b", SHARED)), 0)
    other.load_hdf5(str(tmp_path / "w.h5"))
    assert np.array_equal(other.params["b"][0].data, net.params["a"][0].data)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ('param { name: "w" } ', 'param { name: "w" } inner_product_param { num_output: 4 } ', "shapes differ"),
        ('param { name: "w" lr_mult: 1 } ', 'param { name: "w" lr_mult: 2 } ', "lr_mult differ, 1 and 2"),
        ('param { name: "w" decay_mult: 1 } ', 'param { name: "w" decay_mult: 0 } ', "decay_mult differ, 1 and 0"),
    ],
)
def test_parameters_that_cannot_be_shared(write, first, second, said):
    with pytest.raises(caffe.CaffeError, match=f"Cannot share param 'w' owned by layer 'a' with layer 'b'.*{said}"):
        net = ip("b", "a", "b", second)
        if "num_output: 4" in second:
            net = net.replace('inner_product_param { num_output: 3 weight_filler { type: "gaussian" } } ', "")
        caffe.Net(write(INPUT + ip("a", "data", "a", first) + net), caffe.TRAIN)


def test_permissive_sharing_asks_for_the_count_alone(write):
    text = (
        INPUT
        + ip("a", "data", "a", 'param { name: "w" } ')
        + 'layer { name: "s" type: "Scale" bottom: "data" top: "s" param { name: "w" share_mode: PERMISSIVE } '
        "scale_param { num_axes: 1 } }\n"
    )
    with pytest.raises(caffe.CaffeError, match="counts differ"):
        caffe.Net(write(text), caffe.TRAIN)


def test_a_loss_without_a_top_gets_one(write):
    net = caffe.Net(write(SIMPLE.replace('top: "loss"', "")), caffe.TRAIN)
    assert list(net.outputs) == ["prob"]
    assert net._forward(0, len(net.layers) - 1) > 0


# Python layers

LAYERS = """
import caffe
import numpy as np

class Double(caffe.Layer):
    def setup(self, bottom, top):
        self.calls = [("setup", self.phase, self.param_str)]
    def reshape(self, bottom, top):
        self.calls.append("reshape")
        top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data
    def backward(self, top, propagate_down, bottom):
        assert isinstance(propagate_down[0], bool)
        bottom[0].diff[...] = 2 * top[0].diff

class Learned(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs[0].data[0] = 3
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data[0] * bottom[0].data
    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[0] += (top[0].diff * bottom[0].data).sum()
        bottom[0].diff[...] = self.blobs[0].data[0] * top[0].diff

class Fails(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(1)
    def forward(self, bottom, top): raise RuntimeError("as itself")
    def backward(self, top, propagate_down, bottom): pass

class OwnInit(caffe.Layer):
    def __init__(self, layer_param):
        self.seen = layer_param.name
    def setup(self, bottom, top): self.blobs.add_blob(2)
    def reshape(self, bottom, top): top[0].reshape(1)
    def forward(self, bottom, top): pass

class Stranger: pass
"""


def python_layer(name, cls, bottom, top, param_str="", module="some_layers"):
    return (
        f'layer {{ name: "{name}" type: "Python" bottom: "{bottom}" top: "{top}" '
        f'python_param {{ module: "{module}" layer: "{cls}" param_str: "{param_str}" }} }}\n'
    )


@pytest.fixture
def layer_module(tmp_path, monkeypatch):
    (tmp_path / "some_layers.py").write_text(LAYERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "some_layers", raising=False)


def test_a_python_layer_is_the_programs_own_object(write, layer_module):
    text = "force_backward: true\n" + INPUT + python_layer("d", "Double", "data", "x", "6*7")
    net = caffe.Net(write(text), caffe.TRAIN)
    layer = net.layers[1]
    assert type(layer).__name__ == "Double" and layer.type == "Python"
    assert layer.calls == [("setup", caffe.TRAIN, "6*7"), "reshape"]
    net.blobs["data"].data[...] = 4
    assert (net.forward()["x"] == 8).all()
    assert layer.calls[-1] == "reshape" and len(layer.calls) == 3  # reshape before every forward
    assert (net.backward(x=np.ones((2, 3)))["data"] == 2).all()


def test_a_python_layers_parameters_learn_save_and_share_like_any_other(write, layer_module, tmp_path):
    text = "force_backward: true\n" + INPUT + python_layer("l", "Learned", "data", "x")
    net = caffe.Net(write(text), caffe.TRAIN)
    net.blobs["data"].data[...] = 1
    assert (net.forward()["x"] == 3).all()
    net.backward(x=np.ones((2, 3)))
    assert net.params["l"][0].diff.tolist() == [6]
    net.params["l"][0].data[...] = 5
    net.save(str(tmp_path / "w.caffemodel"))
    other = caffe.Net(write(text), caffe.TEST, weights=str(tmp_path / "w.caffemodel"))
    assert other.params["l"][0].data.tolist() == [5]


def test_a_python_layers_exception_arrives_as_itself(write, layer_module):
    net = caffe.Net(write(INPUT + python_layer("f", "Fails", "data", "x")), caffe.TEST)
    with pytest.raises(RuntimeError, match=r"^as itself$"):
        net.forward()


def test_a_python_layer_may_have_an_init_of_its_own(write, layer_module):
    net = caffe.Net(write(INPUT + python_layer("o", "OwnInit", "data", "x")), caffe.TEST)
    assert net.layers[1].seen == "o" and len(net.params["o"]) == 1


def test_a_python_layer_that_is_not_found_is_an_import_error(write, layer_module):
    with pytest.raises(ImportError, match=r"'nowhere'.*sys\.path"):
        caffe.Net(write(INPUT + python_layer("p", "Double", "data", "x", module="nowhere")), caffe.TEST)
    with pytest.raises(ImportError, match="no class 'Dubble'"):
        caffe.Net(write(INPUT + python_layer("p", "Dubble", "data", "x")), caffe.TEST)
    with pytest.raises(caffe.CaffeError, match=r"no subclass of caffe\.Layer"):
        caffe.Net(write(INPUT + python_layer("p", "Stranger", "data", "x")), caffe.TEST)


def test_a_python_layer_with_a_loss_weight_is_a_loss(write, layer_module):
    double = python_layer("d", "Double", "a", "x").replace("top", "loss_weight: 0.5 top", 1)
    text = INPUT + ip("a", "data", "a") + double
    net = caffe.Net(write(text), caffe.TRAIN)
    net.blobs["data"].data[...] = 1
    loss = net._forward(0, 2)
    assert loss == pytest.approx(0.5 * float(net.blobs["x"].data.sum()), rel=1e-6)
    assert (net.blobs["x"].diff == 0.5).all()
    net.backward()
    assert np.allclose(net.params["a"][1].diff, 2 * 2 * 0.5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_gpu_mode_without_a_gpu_is_an_error():
    with pytest.raises(caffe.CaffeError, match="no CUDA device"):
        caffe.set_mode_gpu()
