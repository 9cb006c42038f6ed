"""MemoryData and Net.set_input_arrays: batches in order and round again, read live, and Caffe's checks."""

import logging

import numpy as np
import pytest

import caffe

LAYER = """layer {{ name: "in" type: "MemoryData" top: "data" top: "label" {transform}
    memory_data_param {{ batch_size: {batch} channels: {channels} height: 2 width: 3 }} }}
"""


def prototxt(batch=2, channels=1, transform="", above=""):
    return LAYER.format(batch=batch, channels=channels, transform=transform) + above


def arrays(rows, channels=1):
    data = np.arange(rows * channels * 6, dtype=np.float32).reshape(rows, channels, 2, 3)
    return data, np.arange(100, 100 + rows, dtype=np.float32)


@pytest.fixture
def net(write):
    return caffe.Net(write(prototxt()), caffe.TEST)


def test_batches_come_in_order_and_round_again(net):
    assert list(net.blobs["data"].shape) == [2, 1, 2, 3] and list(net.blobs["label"].shape) == [2]
    data, labels = arrays(6)
    net.set_input_arrays(data, labels)
    for first in (0, 2, 4, 0, 2):
        out = net.forward()
        assert (out["data"] == data[first : first + 2]).all()
        assert out["label"].ravel().tolist() == [100 + first, 101 + first]
    assert net.outputs == ["data", "label"] and net.inputs == []


def test_labels_have_caffes_four_axes_from_the_first_forward_on(net):
    net.set_input_arrays(*arrays(2))
    assert list(net.blobs["label"].shape) == [2]
    net.forward()
    assert list(net.blobs["label"].shape) == [2, 1, 1, 1]
    net.reshape()
    assert list(net.blobs["label"].shape) == [2, 1, 1, 1]


def test_the_arrays_are_kept_alive_and_read_at_each_forward(net):
    data, labels = arrays(2)
    net.set_input_arrays(data, labels)
    data[0, 0, 0, 0] = 77
    labels[1] = -1  # set_input_arrays adds axes to a view of it, not to a copy
    net.forward()
    assert net.blobs["data"].data[0, 0, 0, 0] == 77 and net.blobs["label"].data.ravel().tolist() == [100, -1]
    data[...] = 5
    del data, labels
    assert (net.forward()["data"] == 5).all()


def test_a_layer_that_works_in_place_leaves_the_arrays_as_they_are(write):
    above = 'layer { name: "p" type: "Power" bottom: "data" top: "data" power_param { scale: 10 } }'
    net = caffe.Net(write(prototxt(above=above)), caffe.TEST)
    data, labels = arrays(2)
    net.set_input_arrays(data, labels)
    for _ in range(2):
        assert (net.forward()["data"] == 10 * arrays(2)[0]).all()
    assert (data == arrays(2)[0]).all()


def test_arrays_given_again_begin_at_their_first_row(net):
    net.set_input_arrays(*arrays(4))
    net.forward()
    net.set_input_arrays(*arrays(4))
    assert net.forward()["label"].ravel().tolist() == [100, 101]


def test_arrays_of_other_length_after_a_position_was_restored_are_read_within_their_bounds(net):
    layer = net.layer_dict["in"]
    net.set_input_arrays(*arrays(8))
    for _ in range(3):
        net.forward()
    assert layer.state() == 6
    net.set_input_arrays(*arrays(4))
    layer.set_state(6)
    assert net.forward()["label"].ravel().tolist() == [102, 103]


def test_a_loss_trains_on_it(write, tmp_path):
    above = """
    layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }"""
    write(prototxt(above=above), "train.prototxt")
    solver = caffe.SGDSolver(
        write(f'net: "{tmp_path}/train.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 9', "solver.prototxt")
    )
    data = np.zeros((4, 1, 2, 3), np.float32)
    data[1::2] = 1
    solver.net.set_input_arrays(data, np.array([0, 1, 0, 1], np.float32))
    solver.step(1)
    first = float(solver.net.blobs["loss"].data)
    solver.step(20)
    assert first == pytest.approx(np.log(2), rel=1e-5) and float(solver.net.blobs["loss"].data) < 0.6 * first


def test_without_arrays_forward_says_how_to_give_them(net):
    with pytest.raises(caffe.CaffeError, match=r"'in'.*needs to be initialized by calling Reset.*set_input_arrays"):
        net.forward()


@pytest.mark.parametrize("missing", ["batch_size: 2", "channels: 1", "height: 2", "width: 3"])
def test_every_extent_must_be_given_and_positive(write, missing):
    field = missing.split(":")[0]
    for text in ("", f"{field}: 0"):
        with pytest.raises(caffe.CaffeError, match="must be specified and positive in memory_data_param"):
            caffe.Net(write(prototxt().replace(missing, text)), caffe.TEST)


def test_it_takes_no_bottom_and_two_tops(write):
    with pytest.raises(caffe.CaffeError, match="takes 2 top"):
        caffe.Net(write(prototxt().replace('top: "label"', "")), caffe.TEST)
    with pytest.raises(caffe.CaffeError, match="limit"):
        caffe.Net(write(prototxt(batch=4000000000)), caffe.TEST)


DATA, LABELS = arrays(4)
L4 = LABELS.reshape(4, 1, 1, 1)
WRONG = {
    "data array must be C contiguous": (DATA[:, :, :, ::-1], LABELS),
    "data array must be 4-d": (DATA[:, 0], LABELS),
    "data array must be float32": (DATA.astype(np.float64), LABELS),
    "data array must be float32, not >f4": (DATA.astype(">f4"), LABELS),
    "data array has wrong number of channels": (arrays(4, 2)[0], LABELS),
    "data array has wrong height": (np.zeros((4, 1, 3, 3), np.float32), LABELS),
    "data array has wrong width": (np.zeros((4, 1, 2, 2), np.float32), LABELS),
    "data array must be a numpy array": (DATA.tolist(), L4),
    "labels array must be C contiguous": (DATA, np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1)[::2]),
    "labels array must be 4-d": (DATA, L4[:, 0]),
    "labels array must be float32": (DATA, np.arange(4)),
    "labels array has wrong number of channels": (DATA, np.zeros((4, 2, 1, 1), np.float32)),
    "labels array has wrong height": (DATA, np.zeros((4, 1, 2, 1), np.float32)),
    "labels array has wrong width": (DATA, np.zeros((4, 1, 1, 2), np.float32)),
    "data and labels must have the same first dimension": (DATA, LABELS[:2]),
    "first dimensions of input arrays must be a multiple of batch size": (DATA[:3], LABELS[:3]),
    "a multiple of batch size; they are 0": (DATA[:0], LABELS[:0]),
}


@pytest.mark.parametrize("said", WRONG)
def test_arrays_that_do_not_fit_raise_what_caffe_says(net, said):
    with pytest.raises(RuntimeError, match=said):
        net.set_input_arrays(*WRONG[said])


def test_transform_param_does_not_touch_arrays_and_a_warning_says_so(write):
    net = caffe.Net(write(prototxt(transform="transform_param { scale: 0.5 mirror: true }")), caffe.TRAIN)
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logging.getLogger("caffe").addHandler(handler)
    try:
        net.set_input_arrays(*arrays(2))
    finally:
        logging.getLogger("caffe").removeHandler(handler)
    assert heard == ["MemoryData does not transform array data on Reset()"]
    assert (net.forward()["data"] == arrays(2)[0]).all()
