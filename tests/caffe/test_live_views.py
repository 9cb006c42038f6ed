"""What programs rely on while a net runs: held views that follow and count, host and device in step, items made ahead.

BVLC Caffe computes in the memory that its numpy views show; whatever this engine saves must not be seen from them.
"""

import functools
import gc
import importlib
import sys
import threading
from concurrent.futures import Future

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import caffe
from caffe import device
from caffe.blob import Blob
from caffe.formats.prototxt import parse_text
from caffe.kernels import convolution, matrix_product
from caffe.proto import caffe_pb2

# Every kind of memory that a net has: in place, split, shared, joined, kept from forward, derived from a weight.
NET = """
force_backward: true
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 8 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 dim: 1 dim: 8 dim: 8 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { name: "w1" }
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool" type: "Pooling" bottom: "conv1" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool" top: "conv2"
        convolution_param { num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "scale" type: "Scale" bottom: "conv2" top: "conv2" scale_param { bias_term: true } }
layer { name: "drop" type: "Dropout" bottom: "conv2" top: "conv2" dropout_param { dropout_ratio: 0.25 } }
layer { name: "mean" type: "Pooling" bottom: "pool" top: "mean" pooling_param { pool: AVE kernel_size: 3 pad: 1 } }
layer { name: "cat" type: "Concat" bottom: "conv2" bottom: "mean" top: "cat" }
layer { name: "score" type: "Convolution" bottom: "cat" top: "score"
        convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "up" type: "Deconvolution" bottom: "score" top: "up" param { lr_mult: 0 }
        convolution_param { num_output: 3 kernel_size: 4 stride: 2 bias_term: false } }
layer { name: "skip" type: "Convolution" bottom: "conv1" top: "skip"
        convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "crop" type: "Crop" bottom: "up" bottom: "label" top: "crop" crop_param { offset: 1 } }
layer { name: "cropskip" type: "Crop" bottom: "skip" bottom: "label" top: "cropskip" crop_param { offset: 0 } }
layer { name: "fuse" type: "Eltwise" bottom: "crop" bottom: "cropskip" top: "fuse" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fuse" bottom: "label" top: "loss"
        loss_param { ignore_label: 255 normalize: false } }
layer { name: "prob" type: "Softmax" bottom: "fuse" top: "prob" }
"""
SOLVER = 'base_lr: 1e-5 momentum: 0.9 weight_decay: 0.01 lr_policy: "fixed" max_iter: 100 random_seed: 3 iter_size: 2'
MATRIX_WEIGHTS = 200  # conv2 has 288 weights and runs as a matrix product, the other convolutions have fewer


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Twin:
    """A solver and its net; `held` keeps a view of everything, and writes through it."""

    def __init__(self, held):
        param = parse_text(SOLVER, caffe_pb2.SolverParameter())
        param.net_param.CopyFrom(parse_text(NET, caffe_pb2.NetParameter()))
        self.solver = caffe.SGDSolver(param)
        self.net = self.solver.net
        self.held = held
        self.views = {}
        for i, (name, blob) in enumerate(self.arrays().items()):
            if name in ("data/data", "up/0/data"):
                blob[...] = normal(i, *blob.shape)
        self.write("up/0/data", 1)
        self.look()

    def arrays(self):
        """Return what the net shows now: each blob's and parameter's data and diff."""
        found = {f"{n}/{k}": getattr(b, k) for n, b in self.net.blobs.items() for k in ("data", "diff")}
        for layer, blobs in self.net.params.items():
            found |= {f"{layer}/{i}/{k}": getattr(b, k) for i, b in enumerate(blobs) for k in ("data", "diff")}
        return found

    def look(self):
        self.views = self.arrays() if self.held else {}

    def array(self, name):
        return self.views[name] if name in self.views else self.arrays()[name]

    def write(self, name, seed):
        array = self.array(name)
        if name == "label/data":
            array[...] = np.random.default_rng(seed).choice([0, 1, 2, 255], array.shape)
        elif name == "up/0/data" and seed % 2:  # upsampling alone: what is off the diagonal is zero
            array[...] = 0
            array[range(3), range(3)] = normal(seed, *array.shape[2:])
        else:
            array[...] = normal(seed, *array.shape)

    def run(self, operation, seed):
        caffe.set_random_seed(seed)  # what Dropout draws
        if operation == "reshape":
            height, width = 7 + seed % 4, 6 + seed % 3
            self.net.blobs["data"].reshape(2, 3, height, width)
            self.net.blobs["label"].reshape(2, 1, height - 1, width)
            self.net.forward()  # a backward pass needs what forward kept for these shapes
            self.look()
        elif operation == "step":
            self.solver.step(1)
        else:
            getattr(self.net, operation)()


WRITABLE = [
    "data/data", "label/data", "conv1/data", "pool/data", "conv2/data", "cat/data", "score/data", "up/data",
    "prob/diff", "loss/diff", "conv1/diff", "conv1/0/data", "conv1/1/data", "conv2/0/data", "scale/0/data",
    "score/0/data", "up/0/data", "up/0/data", "conv2/0/diff", "skip/0/diff",
]  # fmt: skip
OPERATIONS = ["forward", "forward", "backward", "backward", "step", "clear_param_diffs", "reshape"]
STEPS = st.lists(
    st.tuples(st.sampled_from(OPERATIONS + WRITABLE), st.integers(0, 9)).map(
        lambda s: ("run" if s[0] in OPERATIONS else "write", *s)
    ),
    min_size=3,
    max_size=12,
)


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(convolution, "MATRIX", (MATRIX_WEIGHTS, 1 << 20))
    monkeypatch.setattr(convolution, "PIECE_BYTES", 250)  # what is large here
    monkeypatch.setattr(convolution, "MIN_BAND_ROWS", 2)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(STEPS)
def test_a_net_whose_every_view_is_held_runs_like_one_whose_are_not(small_limits, steps):
    held, free = Twin(True), Twin(False)
    for kind, *what in [
        ("run", "forward", 0),
        *steps,
        ("run", "forward", 1),
        ("run", "backward", 2),
        ("run", "step", 3),
    ]:
        for twin in (held, free):
            getattr(twin, kind)(*what)
        wanted = free.arrays()
        now = held.arrays()
        for name, view in held.views.items():
            assert np.shares_memory(view, now[name]) or not view.size, f"after {what} the view of {name} shows no more"
            np.testing.assert_array_equal(view, wanted[name], err_msg=f"{name} after {what}")


def test_the_twins_run_what_they_are_for(small_limits):
    twin = Twin(False)
    twin.run("forward", 0)
    layers = twin.net.layer_dict
    ways = {name: layers[name].way(device.CPU).name for name in ("conv1", "conv2")}
    assert ways["conv2"] == "matrix" or not matrix_product.AVAILABLE
    assert ways["conv1"] == "pieces"
    found = layers["up"].diagonal._found
    assert found is not None and found[1] is not None  # the diagonal, derived and kept


# Writes through held views


@pytest.mark.parametrize("name", ["conv1", "conv2", "score"])
def test_a_weight_written_through_a_held_view_counts_at_the_next_pass(small_limits, name):
    twin = Twin(False)
    view = twin.net.params[name][0].data
    twin.run("forward", 0)
    before = twin.net.blobs["fuse"].data.copy()
    view *= 2
    twin.run("forward", 0)
    assert not np.allclose(twin.net.blobs["fuse"].data, before)


UP = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 3 } } }
layer { name: "up" type: "Deconvolution" bottom: "x" top: "y" param { lr_mult: 0 }
        convolution_param { num_output: 2 kernel_size: 1 bias_term: false } }
"""


def upsampling(diagonal):
    param = parse_text(UP, caffe_pb2.NetParameter())
    net = caffe.Net.from_proto(param)
    net.blobs["x"].data[...] = 1
    net.params["up"][0].data[range(2), range(2)] = diagonal
    return net


@pytest.mark.slow
def test_a_diagonal_that_was_found_does_not_outlive_the_weight():
    net = upsampling(1)
    assert (net.forward()["y"] == 1).all()
    view = net.params["up"][0].data
    view[range(2), range(2)] = 3
    assert (net.forward()["y"] == 3).all()
    view[0, 1] = 1  # off the diagonal
    assert net.forward()["y"][0, :, 0, 0].tolist() == [3, 4]
    del view
    gc.collect()
    assert net.forward()["y"][0, :, 0, 0].tolist() == [3, 4]
    net.params["up"][0].data[0, 1] = 0
    assert (net.forward()["y"] == 3).all()


def test_a_diagonal_that_was_found_is_not_taken_for_that_of_a_weight_shared_later():
    one, other = upsampling(1), upsampling(5)  # made alike, so that both weights were written as often
    assert (one.forward()["y"] == 1).all()
    one.share_with(other)
    assert (one.forward()["y"] == 5).all()


def test_a_bottom_written_between_the_passes_is_what_backward_sees():
    twin = Twin(False)
    twin.run("forward", 0)
    view = twin.net.blobs["cat"].data
    view[...] = 0
    twin.run("backward", 0)
    assert not twin.net.params["score"][0].diff.any() and twin.net.params["skip"][0].diff.any()


def test_before_an_in_place_relu_the_diff_is_the_gradient_of_what_came_before_it():
    twin = Twin(False)
    twin.run("forward", 0)
    held = twin.net.blobs["conv1"].diff
    twin.run("backward", 0)
    assert not held[twin.net.blobs["conv1"].data <= 0].any() and held.any()
    # A weight's gradient is that diff with the data, position by position.
    x = np.pad(twin.net.blobs["data"].data, ((0, 0), (0, 0), (1, 1), (1, 1)))
    wanted = np.einsum("nohw,nchw->oc", held.astype(np.float64), x[:, :, :-2, :-2])
    assert np.allclose(twin.net.params["conv1"][0].diff[:, :, 0, 0], wanted, rtol=1e-4, atol=1e-4)


def test_after_a_step_blobs_are_the_old_weights_and_the_diff_is_the_update():
    twin = Twin(True)
    params = [f"{layer}/{i}" for layer, blobs in twin.net.params.items() for i in range(len(blobs))]
    old = {name: twin.views[f"{name}/data"].copy() for name in params}
    twin.run("step", 5)
    assert twin.views["conv1/0/diff"].any() and not twin.views["up/0/diff"].any()  # up's lr_mult is 0
    for name, values in old.items():
        update = twin.views[f"{name}/diff"]
        np.testing.assert_array_equal(twin.views[f"{name}/data"], values - update, err_msg=name)
    after = {name: twin.net.blobs[name].data.copy() for name in ("conv1", "cat", "fuse", "loss")}
    for name, values in old.items():
        twin.views[f"{name}/data"][...] = values
    caffe.set_random_seed(5)
    for _ in range(2):  # as many passes as iter_size, since Dropout draws in each
        twin.net.forward()
    for name, values in after.items():
        np.testing.assert_array_equal(twin.net.blobs[name].data, values, err_msg=name)


# Host and device


@functools.cache
def other_device():
    """Return a device whose memory is not the host's: a GPU, or torch's lazy device, which computes on the CPU.

    None if there is neither.
    """
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    try:
        from torch._lazy import ts_backend  # noqa: PLC0415  where there is none, the tests are left out

        ts_backend.init()
        torch.ones(1, device="lazy").cpu()
    except (ImportError, RuntimeError):
        return None
    return torch.device("lazy", 0)


@pytest.fixture
def on_device(monkeypatch):
    """Enter GPU mode, on whatever device there is; nothing of a net's own is computed on a lazy one."""
    where = other_device()
    if where is None:
        pytest.skip("there is no GPU, and this torch has no lazy device")
    if where.type == "lazy":  # whose values reach the host by .cpu() alone
        copy = torch.Tensor.copy_
        monkeypatch.setattr(
            torch.Tensor, "copy_", lambda out, x: copy(out, x.cpu() if out.device.type == "cpu" else x), raising=True
        )
    monkeypatch.setattr(device._mode, "current", where)
    return where


def test_what_the_device_wrote_is_read_and_what_the_host_wrote_is_sent(on_device):
    blob = Blob(2, 3)
    assert blob.data_tensor().device == on_device
    blob.set_data(torch.full((2, 3), 2.0, device=on_device))
    assert (blob.data == 2).all()
    blob.data[0] = 7
    assert blob.data_tensor().cpu().tolist() == [[7] * 3, [2] * 3]


def test_a_held_view_follows_the_device_and_counts_at_every_use(on_device):
    blob = Blob(3)
    view = blob.data
    blob.set_data(torch.ones(3, device=on_device))
    blob.refresh_views()
    assert view.tolist() == [1, 1, 1]
    for value in (4, 5):
        view[...] = value
        assert blob.data_tensor().cpu().tolist() == [value] * 3
    with blob.writing_data() as values:
        values.mul_(2)
    blob.refresh_views()
    assert view.tolist() == [10, 10, 10] and blob.data_version is None


def test_writing_data_in_place_loses_nothing_of_a_held_diff(on_device):
    blob = Blob(2)
    view = blob.diff
    blob.set_diff(torch.ones(2, device=on_device))
    blob.refresh_views()
    view[...] = 9  # a program's top diff, before forward
    with blob.writing_data() as values:
        values.add_(1)
    assert blob.diff_tensor().cpu().tolist() == [9, 9]
    blob.refresh_views()
    view[...] = 8  # read by the last pass, and written again
    with blob.writing_data() as values:
        values.add_(1)
    blob.refresh_views()
    assert view.tolist() == [8, 8] and blob.diff_tensor().cpu().tolist() == [8, 8]


def test_a_held_view_outlives_a_smaller_result_of_the_device_but_not_a_larger(on_device):
    blob = Blob(4)
    view = blob.data
    blob.reshape(2)
    blob.set_data(torch.ones(2, device=on_device))
    blob.reshape(4)
    with blob.writing_data() as values:
        values.add_(1)
    blob.refresh_views()
    assert view.tolist() == [2, 2, 1, 1]
    blob.set_data(torch.ones(6, device=on_device))
    blob.refresh_views()
    assert blob.data.tolist() == [1] * 6 and view.tolist() == [2, 2, 1, 1]


def test_gradients_add_up_and_are_cleared_under_a_held_view(on_device):
    blob = Blob(2)
    view = blob.diff
    for wanted in (1, 2, 3):
        blob.add_diff(torch.ones(2, device=on_device))
        blob.refresh_views()
        assert view.tolist() == [wanted] * 2
    blob.clear_diff()
    assert view.tolist() == [0, 0] and not blob.diff_tensor().cpu().any()


def test_the_mode_may_change_between_passes(on_device, monkeypatch):
    blob, sharing = Blob(2), Blob(2)
    sharing.share_data(blob)
    blob.set_data(torch.ones(2, device=on_device))
    monkeypatch.setattr(device._mode, "current", device.CPU)
    assert sharing.data_tensor().device.type == "cpu"
    with sharing.writing_data() as values:
        values.add_(1)
    monkeypatch.setattr(device._mode, "current", on_device)
    assert blob.data_tensor().cpu().tolist() == [2, 2]


# Items made ahead

FEEDS = """
import threading
import caffe

class Feed(caffe.Layer):
    prefetch = True
    fails_at = None

    def setup(self, bottom, top):
        self.at = 0
        self.threads = []
    def reshape(self, bottom, top):
        self.threads.append(threading.get_ident())
        if self.at == self.fails_at:
            self.at += 1
            raise OSError(f"item {self.at - 1} cannot be read")
        top[0].reshape(1, 1 + self.at % 4)
    def forward(self, bottom, top):
        top[0].data[...] = self.at
        self.at += 1
    def state(self):
        return {"at": self.at}
    def set_state(self, state):
        self.at = state["at"]

class FailsAt3(Feed):
    fails_at = 3

class InPlace(Feed):
    prefetch = False

class InPlaceFailsAt3(FailsAt3):
    prefetch = False

class Stranger(caffe.Layer):
    setup, reshape, forward = Feed.setup, Feed.reshape, Feed.forward
    fails_at = None

class Slow(Feed):
    gate = threading.Event()

    def forward(self, bottom, top):
        if self.at == 1:
            self.gate.wait()
        Feed.forward(self, bottom, top)

class WithBottom(Feed):
    def reshape(self, bottom, top):
        self.threads.append(threading.get_ident())
        top[0].reshape(*bottom[0].shape)
"""


@pytest.fixture
def feed(tmp_path, monkeypatch):
    (tmp_path / "ahead_feeds.py").write_text(FEEDS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ahead_feeds", raising=False)
    importlib.import_module("ahead_feeds")

    def make(cls, bottom=""):
        setting = f'python_param {{ module: "ahead_feeds" layer: "{cls}" }}'
        text = f'layer {{ name: "feed" type: "Python" {bottom} top: "x" {setting} }}'
        if bottom:
            text = 'layer { name: "b" type: "Input" top: "b" input_param { shape { dim: 2 } } }' + text
        text += ' layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }'
        return caffe.Net.from_proto(parse_text("force_backward: true " + text, caffe_pb2.NetParameter()))

    return make


def outcomes(net, passes):
    """Return what each forward gives, values or error."""
    found = []
    for _ in range(passes):
        try:
            found.append(net.forward()["y"].copy().tolist())
        except OSError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize(("ahead", "in_place"), [("Feed", "InPlace"), ("FailsAt3", "InPlaceFailsAt3")])
def test_items_made_ahead_come_in_the_same_order_and_errors_at_the_same_forward(feed, ahead, in_place):
    one, other = feed(ahead), feed(in_place)
    assert outcomes(one, 7) == outcomes(other, 7)
    assert one._nodes[0].ahead is not None and other._nodes[0].ahead is None
    assert len(set(one.layers[0].threads)) == 2
    if ahead == "FailsAt3":
        assert outcomes(feed(ahead), 4)[3] == "item 3 cannot be read"


@pytest.mark.parametrize(("cls", "bottom"), [("InPlace", ""), ("Stranger", ""), ("WithBottom", 'bottom: "b"')])
def test_a_layer_that_did_not_ask_or_has_bottoms_runs_where_the_program_runs(feed, cls, bottom):
    net = feed(cls, bottom)
    for _ in range(3):
        net.forward()
    assert set(net.layers[-2].threads) == {threading.get_ident()}


def test_the_state_is_that_of_the_item_the_net_has(feed):
    net = feed("Feed")
    ahead = net._nodes[0].ahead
    assert ahead.state() == {"at": 0}
    net.forward()
    net.forward()
    assert ahead.state() == {"at": 2}
    assert net.blobs["x"].data[0, 0] == 1


def test_a_state_that_is_set_drops_the_item_made_ahead(feed):
    net = feed("Feed")
    net.forward()
    net._nodes[0].ahead.set_state({"at": 40})
    assert outcomes(net, 2) == [[[80.0]], [[82.0, 82.0]]]
    assert net._nodes[0].ahead.state() == {"at": 42}


def test_a_state_that_is_set_drops_an_error_made_ahead(feed):
    net = feed("FailsAt3")
    outcomes(net, 3)  # item 3 is being made, and fails
    net._nodes[0].ahead.set_state({"at": 1})
    assert outcomes(net, 1) == [[[2.0, 2.0]]]


def test_an_interrupt_while_waiting_loses_no_item(feed, monkeypatch):
    def interrupted(future, timeout=None):
        raise KeyboardInterrupt

    net = feed("Slow")
    net.forward()
    with monkeypatch.context() as patched:
        patched.setattr(Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            net.forward()
    assert net._nodes[0].ahead.state() == {"at": 1}
    net.layers[0].gate.set()
    assert outcomes(net, 2) == [[[2.0, 2.0]], [[4.0, 4.0, 4.0]]]


def test_tops_grow_with_the_items_and_so_do_their_diffs(feed):
    net = feed("Feed")
    for size in (1, 2, 3, 4, 1, 2):
        net.forward()
        net.blobs["y"].diff[...] = 1
        net.backward()
        assert net.blobs["x"].diff.shape == (1, size) and (net.blobs["x"].diff == 2).all()


def test_a_view_of_a_top_made_ahead_follows(feed):
    net = feed("Feed")
    for _ in range(4):
        net.forward()
    view = net.blobs["x"].data
    assert view.tolist() == [[3] * 4]
    for _ in range(4):
        net.forward()
    assert view.tolist() == [[7] * 4]


@pytest.mark.slow
def test_a_net_that_is_gone_leaves_no_thread(feed):
    before = set(threading.enumerate())
    nets = [feed("Feed") for _ in range(3)]
    for net in nets:
        net.forward()
    started = set(threading.enumerate()) - before
    assert len(started) == 3
    del net, nets
    gc.collect()
    for thread in started:
        thread.join(5)
    assert not any(thread.is_alive() for thread in started)
