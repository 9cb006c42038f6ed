"""What programs do: read and write any blob at any time, hold views, run parts of a net, hook layers, share nets."""

import gc
import importlib
import sys
from collections import OrderedDict

import h5py
import numpy as np
import pytest
import torch

import caffe
from caffe import _caffe

NET = """
name: "small" force_backward: true
layer { name: "data" type: "DummyData" top: "data" top: "label"
        dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 } data_filler { type: "gaussian" }
                           data_filler { type: "constant" } } }
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "hidden"
        inner_product_param { num_output: 5 weight_filler { type: "gaussian" } } }
layer { name: "relu" type: "ReLU" bottom: "hidden" top: "hidden" }
layer { name: "ip2" type: "InnerProduct" bottom: "hidden" top: "score" param { decay_mult: 1 } param { decay_mult: 0 }
        inner_product_param { num_output: 3 weight_filler { type: "gaussian" }
                              bias_filler { type: "constant" value: 2 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
LAYERS = ["data", "ip1", "relu", "ip2", "loss"]
SETTINGS = 'base_lr: 0.25 momentum: 0.5 lr_policy: "fixed" max_iter: 9 random_seed: 4 snapshot_prefix: "PREFIX"'


@pytest.fixture
def net(write):
    caffe.set_random_seed(2)
    net = caffe.Net(write(NET), caffe.TRAIN)
    net.blobs["label"].data[...] = [0, 1, 2, 1]
    return net


@pytest.fixture
def solver(write, tmp_path):
    path = write(NET)
    text = SETTINGS.replace("PREFIX", str(tmp_path / "snap"))
    solver = caffe.SGDSolver(
        write(f'net: "{path}" test_iter: 2 test_interval: 3 test_initialization: false {text}', "solver.prototxt")
    )
    for net in (solver.net, *solver.test_nets):
        net.blobs["label"].data[...] = [0, 1, 2, 1]
    return solver


def arrays(net):
    """Return a view of every blob's and parameter's data and diff, by name."""
    blobs = {**net.blobs, **{f"{layer}/{i}": b for layer, bs in net.params.items() for i, b in enumerate(bs)}}
    return {f"{name}.{kind}": getattr(blob, kind) for name, blob in blobs.items() for kind in ("data", "diff")}


# What a net shows of itself


def test_names_of_tops_bottoms_and_layers_are_ordered_and_lists(net):
    tops = [
        ("data", ["data", "label"]),
        ("ip1", ["hidden"]),
        ("relu", ["hidden"]),
        ("ip2", ["score"]),
        ("loss", ["loss"]),
    ]
    bottoms = [("data", []), ("ip1", ["data"]), ("relu", ["hidden"]), ("ip2", ["hidden"]), ("loss", ["score", "label"])]
    assert net.top_names == OrderedDict(tops) and net.bottom_names == OrderedDict(bottoms)
    for mapping in (net.blobs, net.params, net.layer_dict, net.top_names, net.bottom_names, net.blob_loss_weights):
        assert type(mapping) is OrderedDict
    assert net.inputs == [] and net.outputs == ["loss"]  # a DummyData layer's tops are no inputs
    assert list(net.layer_dict) == list(net._layer_names) == LAYERS
    assert [x.type for x in net.layer_dict.values()] == [x.type for x in net.layers]
    assert len(net.forward()) == 1


def test_vectors_are_lists_with_pycaffes_names(net):
    for vector, item in (
        (net._layer_names, "relu"), (net.blobs["data"].shape, 3), (net.layers, net.layers[1]),
        (net.params["ip1"], net.params["ip1"][1]), (net._blob_loss_weights, 1.0), (_caffe.BoolVec([True]), True),
    ):  # fmt: skip
        assert item in vector and item in list(vector) and vector[len(vector) - 1] == list(vector)[-1]
    grown = _caffe.BlobVec()
    grown.append(_caffe.Blob(2))
    grown.extend([_caffe.Blob(3)])
    grown.add_blob(4, 5)
    assert [list(b.shape) for b in grown] == [[2], [3], [4, 5]]


# Every blob, after every pass


@pytest.mark.parametrize("does", ["forward", "backward", "step"])
def test_everything_is_read_and_written_in_place_after_any_pass(solver, does):
    net = solver.net
    net.forward()
    if does != "step":
        getattr(net, does)()
    else:
        solver.step(1)
    for name, view in arrays(net).items():
        assert view.dtype == np.float32 and view.flags.c_contiguous and view.flags.writeable, name
        view[...] = 7
        assert (arrays(net)[name] == 7).all(), name
        view.flat = 3
        assert (arrays(net)[name] == 3).all(), name


def test_views_outlive_solver_net_and_blob(solver):
    solver.step(2)
    held = arrays(solver.net)
    wanted = {name: view.copy() for name, view in held.items()}
    del solver
    gc.collect()
    for name, view in held.items():
        assert np.array_equal(view, wanted[name]), name
        view[...] = 1
        assert (view == 1).all(), name


def test_a_constant_of_a_data_layer_stays_what_a_program_made_of_it(net):
    losses = [float(net.forward()["loss"]) for _ in range(2)]
    assert net.blobs["label"].data.tolist() == [0, 1, 2, 1] and losses[0] != losses[1]  # the data is drawn anew


# From a layer to a layer


def test_a_layer_is_run_alone_before_anything_else_was(net):
    hidden = np.random.default_rng(1).standard_normal((4, 5)).astype(np.float32)
    net.blobs["hidden"].data[...] = hidden
    weight, bias = (b.data for b in net.params["ip2"])
    out = net.forward(start="ip2", end="ip2")
    assert list(out) == ["score"]
    np.testing.assert_allclose(out["score"], hidden @ weight.T + bias, rtol=1e-5, atol=1e-6)
    diff = np.random.default_rng(2).standard_normal((4, 3)).astype(np.float32)
    net.blobs["score"].diff[...] = diff
    out = net.backward(start="ip2", end="ip2")
    assert list(out) == ["hidden"]
    np.testing.assert_allclose(out["hidden"], diff @ weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.params["ip2"][1].diff, diff.sum(0), rtol=1e-5, atol=1e-6)


def test_a_backward_pass_from_the_middle_starts_from_the_diff_that_a_program_wrote(net):
    net.forward()
    net.blobs["score"].diff[...] = 0
    net.blobs["score"].diff[0, 1] = 1  # the gradient of one score of one item, as visualisations ask for
    grad = net.backward(start="ip2", diffs=["data"])["data"]
    active = net.blobs["hidden"].data[0] > 0
    w1, w2 = net.params["ip1"][0].data, net.params["ip2"][0].data
    np.testing.assert_allclose(grad[0], (w2[1] * active) @ w1, rtol=1e-5, atol=1e-6)
    assert not grad[1:].any()


def test_what_a_program_changes_between_two_parts_counts(net):
    net.forward(end="relu")
    net.blobs["hidden"].data[...] = 0
    assert (net.forward(start="ip2")["loss"] == pytest.approx(np.log(3))) and (net.blobs["score"].data == 2).all()


def test_items_beyond_a_batch_run_both_ways_from_the_loss_or_from_given_diffs(write):
    text = 'force_backward: true\nlayer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
    text += 'layer { name: "p" type: "Power" bottom: "x" top: "y" loss_weight: 2 power_param { power: 2 } }'
    net = caffe.Net(write(text), caffe.TRAIN)
    x = np.arange(9, dtype=np.float32).reshape(3, 3)
    outs, diffs = net.forward_backward_all(x=x)
    assert np.allclose(outs["y"], x**2) and np.allclose(diffs["x"], 4 * x)
    outs, diffs = net.forward_backward_all(blobs=["x"], diffs=["y"], x=x, y=np.ones_like(x))
    assert set(outs) == {"x", "y"} and np.allclose(diffs["x"], 2 * x) and (diffs["y"] == 1).all()


def test_a_top_with_a_loss_weight_keeps_it_as_it_grows(write):
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }\n'
    net = caffe.Net(write(text + 'layer { name: "p" type: "Power" bottom: "x" top: "y" loss_weight: 2 }'), caffe.TRAIN)
    for number in (1, 4):
        net.blobs["x"].reshape(number, 3)
        net.blobs["x"].data[...] = 1
        assert net._forward(0, 1) == 2 * 3 * number


# Hooks


def test_hooks_see_and_change_what_the_next_layer_gets(net):
    seen = []

    def before(index):
        if net._layer_names[index] == "ip2":
            seen.append(bool((net.blobs["hidden"].data >= 0).all()))
            net.blobs["hidden"].data[...] = 0

    def after(index):
        if net._layer_names[index] == "loss":
            seen.append(float(net.blobs["loss"].data))

    net.before_forward(before)
    net.after_forward(after)
    net.forward()
    assert seen == [True, pytest.approx(np.log(3))]
    net.before_backward(lambda i: net.blobs["score"].diff.fill(0) if net._layer_names[i] == "ip2" else None)
    net.backward()
    assert not net.params["ip2"][1].diff.any()  # which without the hook sums the diffs of the scores


def test_hooks_of_a_kind_run_in_the_order_they_were_given_and_their_exceptions_arrive(net):
    calls = []
    net.after_backward(lambda i: calls.append(("first", i)))
    net.after_backward(lambda i: calls.append(("second", i)))
    net.forward()
    net.backward(start="ip2", end="relu")
    assert calls == [("first", 3), ("second", 3), ("first", 2), ("second", 2)]

    def fails(index):
        raise LookupError("a program's own")

    net.before_forward(fails)
    with pytest.raises(LookupError, match=r"^a program's own$"):
        net.forward()


def test_hooks_run_in_every_pass_of_a_solver(solver):
    calls = []
    solver.net.after_forward(calls.append)
    solver.net.after_backward(lambda i: calls.append(-i))
    solver.step(2)
    assert calls == [*range(5), *range(-4, 1)] * 2


# Nets that share


def test_nets_share_in_a_row_and_with_one_that_is_gone(write):
    nets = [caffe.Net(write(NET), caffe.TRAIN) for _ in range(3)]
    nets[1].share_with(nets[0])
    nets[2].share_with(nets[1])
    view = nets[0].params["ip1"][0].data
    view[...] = 6
    assert all((n.params["ip1"][0].data == 6).all() for n in nets)
    last = nets[2]
    del nets
    gc.collect()
    view[...] = 5
    assert (last.params["ip1"][0].data == 5).all()


def test_layers_that_one_net_lacks_share_nothing(write):
    small = caffe.Net(write(NET.partition('layer { name: "relu"')[0]), caffe.TRAIN)
    large = caffe.Net(write(NET), caffe.TRAIN)
    own = large.params["ip2"][0].data.copy()
    large.share_with(small)
    small.share_with(large)
    small.params["ip1"][0].data[...] = 3
    assert (large.params["ip1"][0].data == 3).all() and np.array_equal(large.params["ip2"][0].data, own)


def test_a_solvers_weights_are_another_nets_while_it_trains(solver, write):
    other = caffe.Net(write(NET), caffe.TEST)
    solver.share_weights(other)
    before = other.params["ip2"][0].data.copy()
    solver.step(1)
    assert np.array_equal(other.params["ip2"][0].data, solver.net.params["ip2"][0].data)
    assert not np.array_equal(other.params["ip2"][0].data, before)


# Weights and snapshots


def test_hdf5_weights_are_under_data_by_layer_and_number(net, tmp_path):
    path = str(tmp_path / "w.h5")
    net.save_hdf5(path)
    with h5py.File(path) as file:
        stored = {f"{layer}/{i}": file[f"data/{layer}/{i}"][()] for layer in ("ip1", "ip2") for i in range(2)}
    for layer, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            assert np.array_equal(stored[f"{layer}/{i}"], blob.data)
            blob.data[...] = 0
    net.load_hdf5(path)
    assert np.array_equal(net.params["ip2"][0].data, stored["ip2/0"])


def test_apply_update_makes_one_update_of_the_diffs_that_are_there(solver):
    blob = solver.net.layers[1].blobs[0]
    data = blob.data[...]
    data[...] = 0
    blob.diff[...] = 1
    solver.apply_update()
    assert solver.iter == 1 and (data == -0.25).all()
    blob.diff[...] = 0
    solver.apply_update()
    assert solver.iter == 2 and (data == -0.375).all()  # the momentum's part


def test_a_solver_snapshots_before_it_has_trained_and_restores(solver, tmp_path):
    solver.snapshot()
    assert {p.name for p in tmp_path.glob("snap_iter_0*")} >= {"snap_iter_0.caffemodel", "snap_iter_0.solverstate"}
    weights = solver.net.params["ip1"][0].data.copy()
    solver.step(3)
    solver.restore(str(tmp_path / "snap_iter_0.solverstate"))
    assert solver.iter == 0 and np.array_equal(solver.net.params["ip1"][0].data, weights)
    with pytest.raises(RuntimeError, match=r"Could not open file .*nowhere\.solverstate"):
        solver.restore(str(tmp_path / "nowhere.solverstate"))
    assert solver.iter == 0


# A program's own layers

OWN = """
import numpy as np
import caffe

class Affine(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(bottom[0].channels)
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = 1
        self.kept = self.blobs[0].data  # a view held for good
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        top[0].data[...] = self.kept * bottom[0].data + self.blobs[1].data
    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += (top[0].diff * bottom[0].data).sum(0)
        self.blobs[1].diff[...] += top[0].diff.sum()
        if propagate_down[0]:
            bottom[0].diff[...] = self.kept * top[0].diff

class Phase(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape()
    def forward(self, bottom, top): top[0].data[()] = self.phase
"""
AFFINE = """
force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "affine" type: "Python" bottom: "x" top: "y" PARAM
        python_param { module: "programs_layers" layer: "Affine" } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "programs_layers.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "programs_layers", raising=False)
    return importlib.import_module("programs_layers")


def fed(net):
    net.blobs["x"].data[...] = np.random.default_rng(0).standard_normal((4, 3))
    net.blobs["t"].data[...] = 2 * net.blobs["x"].data + 1
    return net


def test_parameters_of_a_python_layer_train_to_what_they_should_be(write, own):
    net = write(AFFINE.replace("PARAM", ""))
    solver = caffe.SGDSolver(write(f'net: "{net}" base_lr: 0.5 lr_policy: "fixed" max_iter: 1', "solver.prototxt"))
    fed(solver.net)
    solver.step(60)
    scale, shift = (b.data for b in solver.net.params["affine"])
    np.testing.assert_allclose(scale, [2, 2, 2], atol=1e-3)
    np.testing.assert_allclose(shift, [1], atol=1e-3)
    assert isinstance(solver.net.layers[2], own.Affine) and solver.net.layers[2].type == "Python"


def test_a_python_layers_parameters_have_multipliers_and_are_saved_loaded_and_shared(write, own, tmp_path):
    net = write(AFFINE.replace("PARAM", "param { lr_mult: 0 } param { lr_mult: 2 }"))
    solver = caffe.SGDSolver(write(f'net: "{net}" base_lr: 0.1 lr_policy: "fixed" max_iter: 1', "solver.prototxt"))
    fed(solver.net)
    solver.step(1)
    scale, shift = solver.net.params["affine"]
    assert (scale.data == 1).all() and shift.data[0] != 0
    for name in ("w.caffemodel", "w.caffemodel.h5"):
        path = str(tmp_path / name)
        (solver.net.save_hdf5 if name.endswith("h5") else solver.net.save)(path)
        other = caffe.Net(net, caffe.TEST, weights=path)
        assert other.params["affine"][1].data[0] == shift.data[0]
    other.params["affine"][1].data[...] = -1
    other.share_with(solver.net)
    assert other.params["affine"][1].data[0] == shift.data[0]


def test_a_scalar_top_tells_the_phase(write, own):
    text = 'layer { name: "p" type: "Python" top: "phase" python_param { module: "programs_layers" layer: "Phase" } }'
    for phase in (caffe.TRAIN, caffe.TEST):
        assert caffe.Net(write(text), phase).forward()["phase"] == phase


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_in_gpu_mode_all_of_it_is_the_same(write, own):
    """A Python layer among others, views held over passes, writes through them, hooks and a solver, on the GPU."""
    net = write(AFFINE.replace("PARAM", "").replace('"y" bottom: "t"', '"z" bottom: "t"').replace(
        'layer { name: "loss"', 'layer { name: "p" type: "Power" bottom: "y" top: "z" power_param { shift: 1 } }\n'
        'layer { name: "loss"'))  # fmt: skip
    path = write(f'net: "{net}" base_lr: 0.5 momentum: 0.5 lr_policy: "fixed" max_iter: 1', "solver.prototxt")
    results = []
    try:
        for mode in (caffe.set_mode_cpu, caffe.set_mode_gpu):
            mode()
            solver = caffe.SGDSolver(path)
            held = arrays(fed(solver.net))
            seen = []
            solver.net.after_forward(lambda i, net=solver.net, seen=seen: seen.append(float(net.blobs["y"].data.sum())))
            solver.step(3)
            held["affine/1.data"][...] = 4
            solver.net.forward()
            assert {name: view.tolist() for name, view in held.items()} == {
                name: view.tolist() for name, view in arrays(solver.net).items()
            }
            results.append([seen, {name: view.copy() for name, view in held.items()}])
    finally:
        caffe.set_mode_cpu()
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4, atol=1e-4)
    for name, wanted in results[0][1].items():
        np.testing.assert_allclose(results[1][1][name], wanted, rtol=1e-4, atol=1e-4, err_msg=name)
