"""The seven weight fillers: what they draw, what seeds them, and what they refuse (filler.hpp)."""

import math

import numpy as np
import pytest

import caffe
from caffe.blob import Blob
from caffe.errors import NetError
from caffe.filler import FILLERS, fill
from caffe.formats.prototxt import parse_text
from caffe.proto import caffe_pb2

SHAPE = (40, 30, 5, 4)  # fan in 600, fan out 800


def filled(text, shape=SHAPE, seed=1):
    caffe.set_random_seed(seed)
    blob = Blob(*shape)
    fill(blob, parse_text(text, caffe_pb2.FillerParameter()))
    return blob.data.astype(np.float64)


def assert_uniform(values, least, most):
    assert least <= values.min() and values.max() <= most
    width = most - least
    assert values.min() < least + 0.01 * width and values.max() > most - 0.01 * width
    assert abs(values.mean() - (least + most) / 2) < 0.01 * width
    assert abs(values.std() - width / math.sqrt(12)) < 0.01 * width


def test_there_are_seven():
    assert sorted(FILLERS) == ["bilinear", "constant", "gaussian", "msra", "positive_unitball", "uniform", "xavier"]


def test_constant_is_the_default_and_0():
    assert not filled("").any()
    assert (filled("value: -2.5") == -2.5).all()


def test_uniform_fills_from_min_to_max():
    assert_uniform(filled('type: "uniform" min: -3 max: 5'), -3, 5)
    assert_uniform(filled('type: "uniform"'), 0, 1)


def test_gaussian_has_mean_and_std():
    values = filled('type: "gaussian" mean: 2 std: 0.5')
    assert abs(values.mean() - 2) < 0.01 and abs(values.std() - 0.5) < 0.01
    assert abs((np.abs(values - 2) < 0.5).mean() - 0.6827) < 0.01


def test_a_sparse_gaussian_keeps_that_many_inputs_an_output():
    values = filled('type: "gaussian" std: 1 sparse: 10')
    assert abs((values != 0).mean() - 10 / 40) < 0.01  # the probability is sparse / shape[0]
    assert abs(values[values != 0].std() - 1) < 0.02


def test_positive_unitball_rows_sum_to_1():
    values = filled('type: "positive_unitball"')
    assert values.min() >= 0 and np.allclose(values.reshape(40, -1).sum(1), 1, atol=1e-5)
    assert values.std() > 0


@pytest.mark.parametrize(("norm", "n"), [("FAN_IN", 600), ("FAN_OUT", 800), ("AVERAGE", 700)])
def test_xavier_and_msra_scale_with_the_fan(norm, n):
    assert_uniform(filled(f'type: "xavier" variance_norm: {norm}'), -math.sqrt(3 / n), math.sqrt(3 / n))
    values = filled(f'type: "msra" variance_norm: {norm}')
    assert abs(values.mean()) < 0.02 * values.std() and values.std() == pytest.approx(math.sqrt(2 / n), rel=0.02)


def test_fan_in_is_the_default_and_counts_all_but_the_first_axis():
    assert filled('type: "xavier"', (7, 48)).max() <= math.sqrt(3 / 48)
    assert filled('type: "msra"', (200, 48)).std() == pytest.approx(math.sqrt(2 / 48), rel=0.03)


@pytest.mark.parametrize(
    ("size", "line"),
    [
        (1, [1]),
        (2, [0.5, 0.5]),
        (3, [0.5, 1, 0.5]),
        (4, [0.25, 0.75, 0.75, 0.25]),
        (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
    ],
)
def test_bilinear_fills_every_channel_pair_with_the_kernel(size, line):
    values = filled('type: "bilinear"', (3, 2, size, size))
    assert np.allclose(values, np.broadcast_to(np.outer(line, line), values.shape), atol=1e-6)


@pytest.mark.parametrize("name", ["uniform", "gaussian", "positive_unitball", "xavier", "msra"])
def test_a_seed_draws_the_same_again_and_another_seed_does_not(name):
    text = f'type: "{name}" ' + ("std: 1" if name == "gaussian" else "")
    assert np.array_equal(filled(text, seed=5), filled(text, seed=5))
    assert not np.array_equal(filled(text, seed=5), filled(text, seed=6))


def test_fillers_leave_numpys_and_pythons_generators_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    filled('type: "gaussian" std: 1')
    assert np.array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize(
    ("text", "shape", "match"),
    [
        ('type: "nope"', SHAPE, "Unknown filler name: nope. Known fillers"),
        ('type: "xavier" sparse: 3', SHAPE, "Sparsity not supported"),
        ('type: "constant" sparse: 3', SHAPE, "Sparsity not supported"),
        ('type: "uniform" min: 2 max: 1', SHAPE, "min 2.0 is above its max 1.0"),
        ('type: "gaussian" std: -1', SHAPE, "std is -1.0"),
        ('type: "bilinear"', (3, 3, 4, 5), "square 4-axis kernel, not 3 x 3 x 4 x 5"),
        ('type: "bilinear"', (4, 4), "square 4-axis kernel, not 4 x 4"),
    ],
)
def test_what_cannot_be_filled(text, shape, match):
    with pytest.raises(NetError, match=match):
        filled(text, shape)


def test_a_layers_filler_error_names_the_layer():
    text = """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
              layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"
                      inner_product_param { num_output: 2 weight_filler { type: "bilinear" } } }"""
    with pytest.raises(NetError, match=r"Layer 'fc' \(InnerProduct\).*square"):
        caffe.Net.from_proto(parse_text(text, caffe_pb2.NetParameter()))
