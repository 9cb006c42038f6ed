"""The pycaffe surface, row by row: what the other modules' tests leave of modules, Net, Blob, layers and solvers.

Each test names what BVLC Caffe's Python interface does (python/caffe/_caffe.cpp, pycaffe.py, net.cpp, blob.cpp).
"""

import ctypes
import importlib
import sys
import threading

import numpy as np
import pytest
import torch

import caffe
import caffe._caffe
import caffe.pycaffe
from caffe import _caffe, device, rng
from caffe.formats import snapshot
from caffe.proto import caffe_pb2

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
SIMPLE_LAYERS = ["in", "conv", "relu", "conv_relu_0_split", "prob", "loss"]


def input_layer(*dims, name="data"):
    shape = " ".join(f"dim: {d}" for d in dims)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {shape} }} }} }}\n'


def layer(type_, bottoms="data", top="y", setting=""):
    ends = " ".join([f'bottom: "{b}"' for b in bottoms.split()] + ([f'top: "{top}"'] if top else []))
    return f'layer {{ name: "l" type: "{type_}" {ends} {setting} }}\n'


@pytest.fixture
def net(write):
    caffe.set_random_seed(1)
    net = caffe.Net(write(SIMPLE), caffe.TRAIN)
    net.blobs["data"].data[...] = np.random.default_rng(0).standard_normal(net.blobs["data"].data.shape)
    return net


# Module names

CAFFES_TYPES = """
AbsVal Accuracy ArgMax BNLL BatchNorm BatchReindex Bias Clip Concat ContrastiveLoss Convolution Crop Data Deconvolution
Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output HingeLoss Im2col ImageData
InfogainLoss InnerProduct Input LRN LSTM LSTMUnit Log MVN MemoryData MultinomialLogisticLoss PReLU Parameter Pooling
Power Python RNN ReLU Reduction Reshape SPP Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax SoftmaxWithLoss
Split Swish TanH Threshold Tile WindowData
"""


def test_the_package_has_pycaffes_names():
    names = {
        *("AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "Layer", "NesterovSolver", "Net", "NetSpec"),
        *("Classifier", "Detector", "NCCL", "Timer", "classifier", "detector", "io"),
        *("RMSPropSolver", "SGDSolver", "TEST", "TRAIN", "get_solver", "has_nccl", "init_log", "layer_type_list"),
        *("layers", "log", "params", "set_device", "set_mode_cpu", "set_mode_gpu", "set_multiprocess"),
        *("set_random_seed", "set_solver_count", "set_solver_rank", "solver_count", "solver_rank", "to_proto"),
        *("_caffe", "net_spec", "proto", "pycaffe"),
    }
    assert names <= set(dir(caffe))
    assert caffe.__version__ == "1.0.0"
    assert (caffe.TRAIN, caffe.TEST) == (0, 1) == (caffe_pb2.TRAIN, caffe_pb2.TEST)
    assert caffe.proto.caffe_pb2.NetParameter is caffe_pb2.NetParameter


def test_the_compiled_modules_names_are_importable():
    names = {
        *("Blob", "BlobVec", "BoolVec", "DtypeVec", "IntVec", "LayerParameter", "LayerVec", "NetVec", "RawBlobVec"),
        *("Layer", "NCCL", "Net", "Solver", "SolverParameter", "StringVec", "Timer"),
        *("get_solver", "has_nccl", "init_log", "layer_type_list", "log", "set_device", "set_mode_cpu"),
        *("set_mode_gpu", "set_multiprocess", "set_random_seed", "set_solver_count", "set_solver_rank"),
        *("solver_count", "solver_rank"),
    }
    assert names <= set(dir(caffe._caffe)) and names <= set(caffe._caffe.__all__)
    solvers = ("SGDSolver", "NesterovSolver", "AdaGradSolver", "RMSPropSolver", "AdaDeltaSolver", "AdamSolver")
    for name in ("Net", "NCCL", "Timer", *solvers):
        assert getattr(caffe, name) is getattr(_caffe, name) is getattr(caffe.pycaffe, name), name
    assert _caffe.__version__ == caffe.__version__


def test_there_is_one_solver_of_rank_0_unless_told_otherwise():
    assert caffe.solver_count() == 1 and caffe.solver_rank() == 0
    try:
        caffe.set_solver_count(3)
        caffe.set_solver_rank(2)
        assert caffe.solver_count() == 3 and caffe.solver_rank() == 2
    finally:
        caffe.set_solver_rank(0)
        caffe.set_solver_count(1)


@pytest.mark.skipif(not caffe.has_nccl(), reason="PyTorch without torch.distributed")
def test_an_id_for_the_solvers_of_a_training_is_bytes():
    assert isinstance(caffe.NCCL.new_uid(), bytes)


def test_layer_types_are_listed_sorted_python_among_them():
    types = caffe.layer_type_list()
    assert isinstance(types, _caffe.StringVec) and list(types) == sorted(set(types))
    assert set(types) >= set(CAFFES_TYPES.split()) and len(CAFFES_TYPES.split()) == 61


@pytest.fixture
def four_gpus(monkeypatch):
    """Let PyTorch say that there are four GPUs; nothing is computed on them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    yield
    caffe.set_device(0)
    caffe.set_mode_cpu()


def test_mode_and_device_are_a_threads_own_and_begin_with_the_cpu(four_gpus):
    seen = []

    def look():
        seen.append(device.current())
        caffe.set_mode_gpu()
        seen.append(device.current())

    assert device.current() == torch.device("cpu")
    caffe.set_device(3)
    assert device.current() == torch.device("cpu")  # a device chosen is no mode
    caffe.set_mode_gpu()
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [torch.device("cpu"), torch.device("cuda", 0)]
    assert device.current() == torch.device("cuda", 3)
    caffe.set_device(1)
    assert device.current() == torch.device("cuda", 1)
    caffe.set_mode_cpu()
    assert device.current() == torch.device("cpu")


def test_choosing_a_device_leaves_the_seed(four_gpus):
    drawn = []
    for choose in (lambda: None, lambda: caffe.set_device(2)):
        caffe.set_random_seed(5)
        choose()
        drawn.append(torch.rand(3, generator=rng.generator(device.CPU)).tolist())
    assert drawn[0] == drawn[1]


def test_a_device_that_is_not_there_raises_where_caffe_aborts():
    with pytest.raises(caffe.CaffeError, match="GPU 999 was asked for"):
        caffe.set_device(999)
    with pytest.raises(caffe.CaffeError, match="GPU -1 was asked for"):
        caffe.set_device(-1)


def test_a_seed_draws_fillers_and_dropout_again_and_leaves_numpys_generator_alone(write):
    text = input_layer(4, 50) + layer("Dropout")
    np.random.seed(7)
    state = np.random.get_state()[1].copy()

    def drawn():
        caffe.set_random_seed(3)
        net = caffe.Net(write(text), caffe.TRAIN)
        net.blobs["data"].data[...] = 1
        return net.forward()["y"].copy()

    first = drawn()
    assert np.array_equal(first, drawn()) and 0 < first.mean() < 2 and set(np.unique(first)) == {0, 2}
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator alone can be told what to keep")
def test_the_allocator_is_left_alone_if_the_environment_says_so(monkeypatch):
    monkeypatch.setenv("CAFFE_MALLOC", "system")
    assert caffe.allocator.keep_freed_memory() is False
    monkeypatch.delenv("CAFFE_MALLOC")
    assert caffe.allocator.keep_freed_memory() is hasattr(ctypes.CDLL(None), "mallopt")


# Net


def test_net_takes_its_arguments_by_pycaffes_names(write, tmp_path, net):
    net.save(str(tmp_path / "w.caffemodel"))
    other = caffe.Net(
        network_file=write(SIMPLE), phase=caffe.TEST, level=1, stages=["a"], weights=str(tmp_path / "w.caffemodel")
    )
    assert np.array_equal(other.params["conv"][0].data, net.params["conv"][0].data)


def test_the_old_constructor_works_and_says_what_to_write(write, tmp_path, net, capsys, monkeypatch):
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    net.save(str(tmp_path / "w.caffemodel"))
    caffe.Net(write(SIMPLE), str(tmp_path / "w.caffemodel"), caffe.TEST)
    said = capsys.readouterr().err
    assert said.startswith("W") and "DEPRECATION WARNING - deprecated use of Python interface" in said
    assert f"Net('...', 1, weights='{tmp_path / 'w.caffemodel'}')" in said


def test_a_nets_lists_are_of_pycaffes_types(net):
    assert isinstance(net.layers, _caffe.LayerVec) and [x.type for x in net.layers][1] == "Convolution"
    assert isinstance(net._layer_names, _caffe.StringVec) and list(net._layer_names) == SIMPLE_LAYERS
    assert isinstance(net._blob_names, _caffe.StringVec) and list(net._blob_names) == list(net.blobs)
    assert isinstance(net._blobs, _caffe.BlobVec) and net._blobs[2] is net.blobs["conv"]
    assert isinstance(net._blob_loss_weights, _caffe.DtypeVec)
    assert list(net._blob_loss_weights) == [0, 0, 0, 0, 0, 0, 1]
    assert isinstance(net.params["conv"], _caffe.BlobVec) and isinstance(net.blobs["conv"].shape, _caffe.IntVec)
    assert list(net._inputs) == [0, 1] and list(net._outputs) == [6, 5]  # loss comes before prob
    assert list(net._top_ids(0)) == [0, 1] and list(net._bottom_ids(5)) == [4, 1]
    assert list(net.layer_dict) == SIMPLE_LAYERS and net.layer_dict["relu"] is net.layers[2]
    assert net.blobs is net.blobs and net.layers[1] is net.layers[1]


def test_forward_gives_the_tops_of_end_and_the_blobs_named(net):
    assert set(net.forward(end="conv")) == {"conv"}
    assert set(net.forward(blobs=["data"], end="prob")) == {"prob", "data"}
    assert set(net.forward(["conv"])) == {"loss", "prob", "conv"}
    with pytest.raises(KeyError, match="nope"):
        net.forward(blobs=["nope"])


def test_backward_gives_the_inputs_diffs_or_the_bottoms_of_end(write):
    net = caffe.Net(write("force_backward: true\n" + SIMPLE), caffe.TRAIN)
    net.blobs["data"].data[...] = np.random.default_rng(0).standard_normal((2, 3, 6, 5))
    net.forward()
    assert set(net.backward()) == {"data", "label"}
    assert set(net.backward(diffs=["conv"])) == {"data", "label", "conv"}
    assert set(net.backward(start="relu", end="relu")) == {"conv"}
    net.clear_param_diffs()
    net.backward(start="loss", end="relu")
    assert not net.params["conv"][0].diff.any()  # conv lies below
    net.backward(start="conv")
    assert net.params["conv"][0].diff.any()
    with pytest.raises(ValueError, match="'nope' is not in list"):
        net.backward(end="nope")


def test_backward_takes_diffs_of_all_outputs(write):
    net = caffe.Net(
        write("force_backward: true\n" + input_layer(2, 3) + layer("Power", setting="power_param { scale: 3 }")), 0
    )
    net.forward()
    assert (net.backward(y=np.full((2, 3), 2.0))["data"] == 6).all()


def test_layers_are_run_by_index_within_the_net_alone(net):
    for first, last in ((0, 6), (-1, 2)):
        with pytest.raises(caffe.CaffeError, match=rf"Layers {first} to {last} .* 0 to 5"):
            net._forward(first, last)
        with pytest.raises(caffe.CaffeError, match=rf"Layers {first} to {last} .* 0 to 5"):
            net._backward(last, first)


def test_batches_are_cut_and_filled_with_zeros(net):
    data = np.arange(5 * 3 * 6 * 5, dtype=np.float32).reshape(5, 3, 6, 5)
    batches = [batch["data"] for batch in net._batch({"data": data})]
    assert [b.shape[0] for b in batches] == [2, 2, 2]
    assert np.array_equal(np.concatenate(batches)[:5], data) and not batches[-1][1].any()


def test_forward_all_gives_copies_of_the_blobs_named(write):
    net = caffe.Net(write(input_layer(2, 3) + layer("Power", setting="power_param { shift: 1 }")), caffe.TEST)
    out = net.forward_all(blobs=["data"], data=np.arange(9.0).reshape(3, 3))
    assert set(out) == {"y", "data"} and np.array_equal(out["y"], out["data"] + 1) and out["y"].shape == (3, 3)
    before = out["y"].copy()
    net.forward(data=np.zeros((2, 3)))
    assert np.array_equal(out["y"], before)


def test_input_arrays_are_for_nets_that_begin_with_memory_data(net):
    data, labels = np.zeros((2, 3, 6, 5), np.float32), np.zeros(2, np.float32)
    sentence = "^set_input_arrays may only be called if the first layer is a MemoryDataLayer$"
    for call in (net.set_input_arrays, net._set_input_arrays):
        with pytest.raises(RuntimeError, match=sentence):
            call(data, labels)


def test_save_writes_every_layer_with_its_data_alone(net, tmp_path):
    net.forward()
    net.backward()
    net.save(str(tmp_path / "w.caffemodel"))
    stored = snapshot.read_weights(str(tmp_path / "w.caffemodel"))
    assert [x.name for x in stored] == SIMPLE_LAYERS
    assert [b.diff for x in stored for b in x.blobs] == [None, None]
    assert np.array_equal(stored[1].blobs[0].data, net.params["conv"][0].data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("num_output: 2", "num_output: 4"), r"'conv'; shape mismatch.*2 x 3 x 3 x 3.*4 x 3 x 3 x 3"),
        (("kernel_size: 3", "kernel_size: 3 bias_term: false"), "Incompatible number of blobs for layer 'conv'"),
    ],
)
def test_share_with_refuses_other_shapes(net, write, change, said):
    other = caffe.Net(write(SIMPLE.replace(*change)), caffe.TEST)
    with pytest.raises(caffe.CaffeError, match=said):
        other.share_with(net)


def test_a_loss_weight_counts_as_a_use_and_goes_to_the_first_copy(write):
    text = input_layer(2, 3) + layer("Reduction", "data", "loss", "loss_weight: 2")
    text += layer("Power", "loss", "twice").replace('"l"', '"p"')
    net = caffe.Net(write(text), caffe.TRAIN)
    assert list(net.blobs)[1:] == ["loss", "loss_l_0_split_0", "loss_l_0_split_1", "twice"]
    weights = net.blob_loss_weights
    assert {name: weights[name] for name in weights if weights[name]} == {"loss_l_0_split_0": 2}


def test_permissive_sharing_takes_another_shape_of_the_same_count(write):
    shared = 'param { name: "w" share_mode: PERMISSIVE }'
    text = input_layer(2, 6) + layer(
        "InnerProduct",
        top="a",
        setting=f"{shared} inner_product_param {{ num_output: 1 "
        'bias_term: false weight_filler { type: "gaussian" } }',
    )
    text += layer("Scale", setting=shared).replace('"l"', '"s"')
    net = caffe.Net(write("force_backward: true\n" + text), caffe.TRAIN)
    assert [net.params[n][0].data.shape for n in ("l", "s")] == [(1, 6), (6,)]
    net.params["s"][0].data[...] = np.arange(6)
    assert net.params["l"][0].data.tolist() == [[0, 1, 2, 3, 4, 5]]
    net.blobs["data"].data[...] = 1
    assert (net.forward()["a"] == 15).all()
    net.backward(a=np.ones((2, 1)), y=np.ones((2, 6)))
    assert (net.params["l"][0].diff == 4).all() and len(net.learnable) == 1


def test_parameters_in_the_prototxt_are_taken_if_they_are_the_layers(write):
    setting = "inner_product_param { num_output: 2 bias_term: false } blobs { "
    values = "".join(f" data: {v}" for v in range(6))
    old = "num: 1 channels: 1 height: 2 width: 3"  # as files of old wrote 2 x 3
    net = caffe.Net(write(input_layer(1, 3) + layer("InnerProduct", setting=f"{setting}{old}{values} }}")), caffe.TEST)
    assert net.params["l"][0].data.tolist() == [[0, 1, 2], [3, 4, 5]]
    bad = f"{setting}shape {{ dim: 3 dim: 2 }}{values} }}"
    with pytest.raises(caffe.CaffeError, match=r"'l'.*gives it blobs of 3 x 2; by its settings they are 2 x 3"):
        caffe.Net(write(input_layer(1, 3) + layer("InnerProduct", setting=bad)), caffe.TEST)
    with pytest.raises(caffe.CaffeError, match=r"'l' \(InnerProduct\): .* 6 values; the file holds 1 values"):
        short = f"{setting}shape {{ dim: 2 dim: 3 }} data: 1 }}"
        caffe.Net(write(input_layer(1, 3) + layer("InnerProduct", setting=short)), caffe.TEST)


# Blob


def test_a_blob_is_reshaped_by_integers_alone():
    blob = _caffe.Blob(4)
    blob.reshape(np.int64(2), 3)
    assert list(blob.shape) == [2, 3]
    with pytest.raises(TypeError):  # 5 / 2, in a program of Python 2's time
        blob.reshape(1, 2.5)
    with pytest.raises(TypeError):
        blob.reshape((2, 3))
    assert list(blob.shape) == [2, 3]


def test_an_extent_beyond_int_max_is_refused_even_beside_a_zero():
    with pytest.raises(caffe.CaffeError, match="0 x 2147483648 is beyond Caffe's limit"):
        _caffe.Blob(1).reshape(0, 2**31)


def test_blob_values_are_written_flat_or_whole():
    blob = _caffe.Blob(2, 2)
    blob.data.flat = range(4)
    blob.diff[...] = blob.data[::-1]
    assert blob.data.tolist() == [[0, 1], [2, 3]] and blob.diff.tolist() == [[2, 3], [0, 1]]
    assert blob.count == 4 and isinstance(blob._gpu_data_ptr, int) and isinstance(blob._gpu_diff_ptr, int)


# Python layers

LAYERS = """
import caffe

SEEN = []

class Watch(caffe.Layer):
    def setup(self, bottom, top):
        SEEN.append(("setup", type(bottom), type(top), type(self.blobs), self.phase, self.param_str))
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data
    def backward(self, top, propagate_down, bottom):
        SEEN.append(("backward", type(propagate_down), list(propagate_down)))
        bottom[0].diff[...] = top[0].diff

class Weight(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs[0].data[0] = 5
    def reshape(self, bottom, top):
        top[0].reshape(1)
    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data
    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += top[0].diff

class Fails(caffe.Layer):
    def fail(self, where):
        if self.param_str == where:
            raise KeyError(where)
    def setup(self, bottom, top): self.fail("setup")
    def reshape(self, bottom, top):
        self.fail("reshape")
        top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top): self.fail("forward")
    def backward(self, top, propagate_down, bottom): self.fail("backward")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "contract_layers.py").write_text(LAYERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "contract_layers", raising=False)
    return importlib.import_module("contract_layers")


def python(cls, param_str="", bottoms="data"):
    setting = f'python_param {{ module: "contract_layers" layer: "{cls}" param_str: "{param_str}" }}'
    return layer("Python", bottoms, setting=setting)


def test_a_python_layer_is_given_pycaffes_types(write, module):
    net = caffe.Net(write("force_backward: true\n" + input_layer(2, 3) + python("Watch", "{'a': 1}")), caffe.TEST)
    net.forward()
    net.backward(y=np.ones((2, 3)))
    raw = _caffe.RawBlobVec
    setup, backward = module.SEEN
    assert setup == ("setup", raw, raw, _caffe.BlobVec, caffe.TEST, "{'a': 1}")
    assert backward == ("backward", _caffe.BoolVec, [True])


def test_a_solver_updates_a_python_layers_parameters_like_any_other(write, module, tmp_path):
    text = (
        input_layer(1) + python("Weight", bottoms="") + layer("EuclideanLoss", "y data", "loss").replace('"l"', '"e"')
    )
    net = write(text)
    path = write(f'net: "{net}" base_lr: 0.5 lr_policy: "fixed" max_iter: 1 random_seed: 1', "solver.prototxt")
    solver = caffe.SGDSolver(path)
    solver.step(1)
    assert solver.net.params["l"][0].data.tolist() == [2.5] and solver.net.params["l"][0].diff.tolist() == [2.5]


@pytest.mark.parametrize("where", ["setup", "reshape", "forward", "backward"])
def test_an_exception_of_a_python_layer_arrives_as_itself_from_everywhere(write, module, where):
    with pytest.raises(KeyError, match=where):
        net = caffe.Net(write("force_backward: true\n" + input_layer(2, 3) + python("Fails", where)), caffe.TRAIN)
        net.forward()
        net.backward(y=np.ones((2, 3)))


def test_python_layers_train_under_several_solvers_only_in_processes_of_their_own(write, module):
    path = write(input_layer(2, 3) + python("Watch"))
    try:
        caffe.set_solver_count(2)
        with pytest.raises(caffe.CaffeError, match=r"'l'.*2 solvers.*set_multiprocess\(True\)"):
            caffe.Net(path, caffe.TRAIN)
        caffe.Net(path, caffe.TEST)
        caffe.set_multiprocess(True)
        caffe.Net(path, caffe.TRAIN)
    finally:
        caffe.set_multiprocess(False)
        caffe.set_solver_count(1)


# Solvers


def test_a_solvers_settings_are_read_and_base_lr_alone_is_written(write):
    net = write(SIMPLE)
    path = write(f'net: "{net}" base_lr: 0.1 lr_policy: "fixed" max_iter: 9 display: 3', "solver.prototxt")
    solver = caffe.get_solver(path)
    assert type(solver) is caffe.SGDSolver and isinstance(solver.param, _caffe.SolverParameter)
    assert (solver.param.max_iter, solver.param.display, solver.param.layer_wise_reduce) == (9, 3, True)
    solver.param.base_lr = 0.5
    assert solver.lr == pytest.approx(0.5) and isinstance(solver.test_nets, _caffe.NetVec)
    for name in ("max_iter", "display"):
        with pytest.raises(AttributeError):
            setattr(solver.param, name, 1)
    with pytest.raises(AttributeError):
        solver.net = None
