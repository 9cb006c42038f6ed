"""A wrong call of pycaffe's surface says what was expected, in pycaffe's own words and types where it has some."""

import numpy as np
import pytest

import caffe
import caffe.coord_map
import caffe.draw
from caffe import layers as L
from caffe import params as P
from caffe._caffe import Blob, BlobVec

NET = """
force_backward: true
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 4 } }
"""


@pytest.fixture
def path(write):
    return write(NET)


@pytest.fixture
def net(path):
    return caffe.Net(path, caffe.TRAIN)


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, r"caffe\.TRAIN or caffe\.TEST, not None"),
        ((None,), {}, r"caffe\.TRAIN or caffe\.TEST, not None"),
        ((2,), {}, r"caffe\.TRAIN or caffe\.TEST, not 2"),
        ((1.0,), {}, r"caffe\.TRAIN or caffe\.TEST, not 1\.0"),
        ((), {"phase": "TEST"}, r"caffe\.TRAIN or caffe\.TEST, not 'TEST'"),
        (("TEST",), {}, "phase.*not None; 'TEST' was taken for the weights file"),
        ((caffe.TEST, "1"), {}, "Net's level is an integer, not '1'"),
        ((caffe.TEST,), {"level": 1.5}, r"Net's level is an integer, not 1\.5"),
        ((caffe.TEST,), {"stages": "deploy"}, "Net's stages is a list of strings, not the string 'deploy'"),
        ((caffe.TEST,), {"stages": [1]}, r"Net's stages is a list of strings, not \[1\]"),
        ((caffe.TEST,), {"stages": 3}, "Net's stages is a list of strings, not 3"),
        ((caffe.TEST,), {"weights": 3}, "not int"),
        ((caffe.TEST,), {"phase": 1}, r"phase, level, stages, weights\) is the call; phase cannot be given too"),
        ((caffe.TEST,), {"wieghts": "w"}, "wieghts cannot be given too"),
        ((caffe.TEST, 0, None, "w", "more"), {}, "6 arguments are too many"),
        (("w", caffe.TEST, 0), {}, r"Net\(network_file, weights, phase\) is the call; 4 arguments are too many"),
    ],
)
def test_making_a_net(path, args, kwargs, said):
    with pytest.raises(TypeError, match=said):
        caffe.Net(path, *args, **kwargs)


def test_a_folder_or_a_number_is_no_file(path, net, tmp_path):
    for call in (caffe.SGDSolver, caffe.get_solver, lambda name: caffe.Net(name, caffe.TEST), net.copy_from):
        with pytest.raises(RuntimeError, match=f"Could not open file {tmp_path}: Is a directory"):
            call(str(tmp_path))
        with pytest.raises(TypeError, match="not int"):
            call(3)
    for save in (net.save, net.save_hdf5):
        with pytest.raises(caffe.CaffeError, match=f"Could not write {tmp_path}: Is a directory"):
            save(str(tmp_path))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("set_device", "a"), ("set_device", None), ("set_solver_count", 1.5), ("set_solver_rank", "0")],
)
def test_numbers_of_devices_and_solvers(setting, value):
    with pytest.raises(TypeError, match=f"{setting}'s .* is an integer, not {value!r}"):
        getattr(caffe, setting)(value)


def test_counts_and_ranks_that_cannot_be():
    with pytest.raises(caffe.CaffeError, match="A solver count of 0 was given; it is 1 or more"):
        caffe.set_solver_count(0)
    with pytest.raises(caffe.CaffeError, match="A solver rank of -1 was given; it is 0 or more"):
        caffe.set_solver_rank(-1)
    assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)


def test_a_precision_that_is_not_known():
    with pytest.raises(caffe.CaffeError, match=r"'half' is not known; choose 'float32'.*'tf32'"):
        caffe.set_precision("half")


@pytest.mark.parametrize("extent", ["x", [2, 3], 2.0, None])
def test_extents_of_blobs(extent):
    for call in (Blob(2, 3).reshape, Blob, BlobVec().add_blob):
        with pytest.raises(TypeError, match=r"extent of Blob\.reshape\(\*shape\) is an integer, not"):
            call(extent)


def test_arrays_of_another_shape_are_told_with_the_blob(net):
    with pytest.raises(ValueError, match=r"Input 'data': could not broadcast .*\(2,5\) into shape \(2,3\).*Reshape"):
        net.forward(data=np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"output 'ip': could not broadcast .*\(2,3\) into shape \(2,4\)"):
        net.backward(ip=np.zeros((2, 3)))


def test_keywords_that_are_no_input_or_output(net):
    data = np.zeros((2, 3))
    for call in (net.forward, net.forward_all, net.forward_backward_all):
        with pytest.raises(Exception, match=r"^Input blob arguments do not match net inputs\.$"):
            call(dat=data)
    for call in (net.forward_all, net.forward_backward_all):
        with pytest.raises(Exception, match=r"^Input blob arguments do not match net inputs\.$"):
            call()
    with pytest.raises(Exception, match=r"^Top diff arguments do not match net outputs\.$"):
        net.backward(data=data)


def test_blobs_to_return_are_a_list_of_names(net):
    with pytest.raises(TypeError, match="forward's blobs is a list of strings, not the string 'ip'"):
        net.forward(blobs="ip")
    with pytest.raises(TypeError, match="backward's diffs is a list of strings, not 3"):
        net.backward(diffs=3)
    for call in (net.forward, net.backward):
        with pytest.raises(KeyError, match="nope"):
            call(["nope"])


def test_layers_that_there_are_not(net):
    for call in (net.forward, net.backward):
        for end in ("start", "end"):
            with pytest.raises(ValueError, match=r"^'nope' is not in list$"):
                call(**{end: "nope"})


@pytest.mark.parametrize("hook", ["before_forward", "after_forward", "before_backward", "after_backward"])
def test_a_hook_is_a_function(net, hook):
    with pytest.raises(TypeError, match="A function of a layer's index is wanted, not 3"):
        getattr(net, hook)(3)


def test_weights_are_shared_with_a_net(net):
    with pytest.raises(TypeError, match=r"share_with takes the Net .* not 'net\.prototxt'"):
        net.share_with("net.prototxt")


def test_what_a_net_and_a_solver_own_is_not_replaced(net):
    for name in ("params", "layers", "layer_dict", "top_names", "bottom_names", "blob_loss_weights"):
        with pytest.raises(AttributeError):
            setattr(net, name, None)


def test_net_spec_takes_tops():
    for call in (L.Convolution, L.Silence):
        with pytest.raises(TypeError, match=r"^\w+ input 0 is not a Top \(type is <class 'int'>\)$"):
            call(3)
    with pytest.raises(TypeError, match="to_proto takes Tops"):
        caffe.to_proto("conv1")
    with pytest.raises(TypeError, match="'a' must be a Top"):
        caffe.NetSpec().a = 3
    for ntop in ("2", -1, 1.0):
        with pytest.raises(TypeError, match="DummyData: ntop is how many tops the layer makes"):
            L.DummyData(ntop=ntop)
    for call in (caffe.coord_map.coord_map_from_to, caffe.coord_map.crop):
        with pytest.raises(TypeError, match=r"from a Top to a Top.*'score' is none"):
            call("score", L.Input())


def test_constants_that_there_are_not():
    with pytest.raises(AttributeError, match="PoolingParameter has no constant 'MAXIMUM'"):
        _ = P.Pooling.MAXIMUM
    with pytest.raises(AttributeError, match="no message PolingParameter; did you mean 'Pooling'"):
        _ = P.Poling


# A backward pass that nothing prepared

IMAGE = 'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 2 dim: 8 dim: 8 } } }\n'
ONE = {
    "Dropout": "",
    "Pooling": "pooling_param { kernel_size: 3 stride: 2 }",
    "Convolution": "convolution_param { num_output: 2 kernel_size: 3 }",
    "Concat": "",
    "ReLU": "",
    "InnerProduct": "inner_product_param { num_output: 2 axis: 2 }",
}


@pytest.mark.parametrize("kind", ONE)
def test_backward_after_a_bottom_was_reshaped_asks_for_forward(write, kind):
    text = f'force_backward: true\n{IMAGE}layer {{ name: "l" type: "{kind}" bottom: "data" top: "y" {ONE[kind]} }}'
    net = caffe.Net(write(text), caffe.TRAIN)
    net.forward()
    net.blobs["data"].reshape(1, 2, 8, 8)
    with pytest.raises(caffe.CaffeError, match=rf"'l' \({kind}\): its bottoms were 2 x 2 x 8 x 8 .* Run forward"):
        net.backward()
    net.forward()
    net.backward()


@pytest.mark.parametrize(
    ("kind", "top"), [("Dropout", "y"), ("Pooling", "y"), ("Dropout", "data"), ("Sigmoid", "data"), ("LRN", "data")]
)
def test_backward_after_reshape_alone_asks_for_forward_where_forward_kept_something(write, kind, top):
    text = f'force_backward: true\n{IMAGE}layer {{ name: "l" type: "{kind}" bottom: "data" top: "{top}" '
    net = caffe.Net(write(f"{text}{ONE.get(kind, '')} }}"), caffe.TRAIN)
    net.blobs["data"].data[...] = 1
    net.forward()
    net.blobs["data"].reshape(1, 2, 8, 8)
    net.reshape()
    with pytest.raises(
        caffe.CaffeError, match=rf"'l' \({kind}\): .*kept for the gradient is 2 x .* Run forward before"
    ):
        net.backward()
    net.forward()
    net.backward()


@pytest.mark.parametrize("kind", ["Convolution", "Concat", "InnerProduct"])
def test_backward_after_reshape_alone_runs_where_nothing_was_kept(write, kind):
    text = f'force_backward: true\n{IMAGE}layer {{ name: "l" type: "{kind}" bottom: "data" top: "y" {ONE[kind]} }}'
    net = caffe.Net(write(text), caffe.TRAIN)
    net.forward()
    net.blobs["data"].reshape(1, 2, 8, 8)
    net.reshape()
    net.blobs["y"].diff[...] = 1
    assert net.backward()["data"].shape == (1, 2, 8, 8)


# Solvers, seeds, images and drawings


@pytest.fixture
def solver(path, write):
    return caffe.SGDSolver(write(f'net: "{path}" base_lr: 1 lr_policy: "fixed" max_iter: 1', "solver.prototxt"))


@pytest.mark.parametrize("number", ["1", 1.5, None])
def test_iterations_seeds_and_levels_are_integers(solver, number):
    for call, what in ((solver.step, "step's"), (caffe.set_random_seed, "set_random_seed's")):
        with pytest.raises(TypeError, match=f"{what} .*is an integer, not {number!r}"):
            call(number)
    assert solver.iter == 0
    if number is not None:
        with pytest.raises(TypeError, match=f"init_log's level is an integer, not {number!r}"):
            caffe.init_log(number)


@pytest.mark.parametrize("callback", [(), (3,), (lambda: 0,), (3, 4), (print, None), (print, print, print)])
def test_a_callback_is_two_functions_or_an_object_with_both(solver, callback):
    with pytest.raises(TypeError, match=r"takes two functions, on_start\(\) and on_gradients_ready\(\), or one object"):
        solver.add_callback(*callback)
    solver.step(1)  # nothing of it was kept


def test_weights_are_shared_to_a_net(solver):
    with pytest.raises(TypeError, match=r"share_weights takes the Net .* not 3"):
        solver.share_weights(3)


def test_a_transformers_orders_and_scales():
    transformer = caffe.io.Transformer({"data": (1, 3, 4, 4)})
    with pytest.raises(ValueError, match=r"\(0, 1, 5\) is no order of 3 axes"):
        transformer.set_transpose("data", (0, 1, 5))
    with pytest.raises(ValueError, match=r"\(0, 1, 3\) names channels that are not there; they are 0 to 2"):
        transformer.set_channel_swap("data", (0, 1, 3))
    for set_scale in (transformer.set_raw_scale, transformer.set_input_scale):
        for scale in ("255", None):
            with pytest.raises(TypeError, match=f"scale is a number, not {scale!r}"):
                set_scale("data", scale)


def test_images_are_read_from_files_and_nets_are_drawn():
    with pytest.raises(TypeError, match="a path or a file that is open for reading, not 3"):
        caffe.io.load_image(3)
    pytest.importorskip("pydot")
    for net in (3, "net.prototxt", caffe.proto.caffe_pb2.LayerParameter()):
        with pytest.raises(TypeError, match="draw takes a NetParameter"):
            caffe.draw.draw_net(net, "LR")
