"""What is random is distributed as it says: fillers, dropout, stochastic pooling, DummyData; seeded, margins 6 sigma.

Seeds are fixed, so that these tests cannot fail by luck; the margins say that they would not under other seeds either.
"""

import math
import random

import numpy as np
import pytest
import torch

import caffe
from caffe.blob import Blob
from caffe.filler import fill
from caffe.formats.prototxt import parse_text
from caffe.proto import caffe_pb2

SIGMAS = 6


def filled(text, *shape, seed=1):
    caffe.set_random_seed(seed)
    blob = Blob(*shape)
    fill(blob, parse_text(text, caffe_pb2.FillerParameter()))
    return blob.data.astype(np.float64)


def make(text, phase=caffe.TRAIN, **arrays):
    """Build a net of `text` over inputs of the arrays' shapes and values."""
    inputs = "force_backward: true\n"
    for name, values in arrays.items():
        dims = " ".join(f"dim: {d}" for d in values.shape)
        inputs += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    param = parse_text(inputs + text, caffe_pb2.NetParameter())
    param.state.phase = phase
    net = caffe.Net.from_proto(param)
    for name, values in arrays.items():
        net.blobs[name].data[...] = values
    return net


def layer(type_, setting="", phase=caffe.TRAIN, **arrays):
    """Build a net of one layer, x -> y."""
    return make(f'layer {{ name: "l" type: "{type_}" bottom: "x" top: "y" {setting} }}', phase, **arrays)


def assert_share(hits, probability):
    """The share of hits, draws of a yes or no each, is the probability within the margin (binomial)."""
    n = np.size(hits)
    assert abs(np.mean(hits) - probability) <= SIGMAS * math.sqrt(probability * (1 - probability) / n)


def assert_mean(values, mean, variance):
    """The mean of independent draws of that mean and variance is where it should be."""
    assert abs(np.mean(values) - mean) <= SIGMAS * math.sqrt(variance / np.size(values))


def assert_uncorrelated(a, b):
    """Two samples of independent draws have no correlation."""
    a, b = (v.ravel() - v.mean() for v in (a, b))
    assert abs((a * b).mean()) <= SIGMAS * a.std() * b.std() / math.sqrt(a.size)


def assert_each_value_is_its_own_draw(values):
    """Neighbours along every axis are uncorrelated, and hardly a value comes twice."""
    for axis in range(values.ndim):
        if values.shape[axis] > 1:
            low, high = (
                np.take(values, range(*ends), axis) for ends in ((0, values.shape[axis] - 1), (1, values.shape[axis]))
            )
            assert_uncorrelated(low, high)
    assert np.unique(values).size > 0.97 * values.size  # float32 has room for so many


# Fillers

SHAPE = (60, 20, 7, 5)  # fan in 700, fan out 2100


def test_a_uniform_filler_is_flat_from_end_to_end():
    values = filled('type: "uniform" min: -1 max: 3', *SHAPE)
    for k in range(20):
        assert_share((values >= -1 + k / 5) & (values < -1 + (k + 1) / 5), 1 / 20)
    assert_mean(values, 1, 16 / 12)
    assert_mean((values - 1) ** 2, 16 / 12, 16**2 / 180)  # the square's variance: w^4 / 180
    assert_each_value_is_its_own_draw(values)


def test_a_gaussian_filler_has_the_normal_distributions_moments_and_tails():
    z = (filled('type: "gaussian" mean: -2 std: 0.3', *SHAPE) + 2) / 0.3
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):  # E z^2k - (E z^k)^2
        assert_mean(z**power, mean, variance)
    for bound in (0.5, 1, 2, 3):
        tail = math.erfc(bound / math.sqrt(2)) / 2
        assert_share(z > bound, tail)
        assert_share(z < -bound, tail)
    assert np.abs(z).max() > 4  # one in 16,000 is beyond, of 42,000
    assert_each_value_is_its_own_draw(z)


@pytest.mark.parametrize(("sparse", "outputs"), [(10, 40), (40, 40), (60, 40), (0, 40)])
def test_a_sparse_gaussian_keeps_each_weight_on_its_own(sparse, outputs):
    values = filled(f'type: "gaussian" std: 2 sparse: {sparse}', outputs, 1000)
    kept, share = values != 0, min(1, sparse / outputs)
    assert_share(kept, share)
    for row in kept:
        assert_share(row, share)
    if 0 < share < 1:
        assert_uncorrelated(kept[:, :-1].astype(float), kept[:, 1:].astype(float))
        assert_mean(values[kept], 0, 4)
        assert_mean(values[kept] ** 2, 4, 2 * 4**2)


@pytest.mark.parametrize("norm", ["FAN_IN", "FAN_OUT", "AVERAGE"])
@pytest.mark.parametrize(
    ("shape", "fan_in", "fan_out"),
    [(SHAPE, 700, 2100), ((300, 64), 64, 300), ((200, 3, 9), 27, 1800), ((12000,), 1, 12000)],
    ids=["convolution", "inner product", "one spatial axis", "a vector"],
)
def test_xavier_and_msra_have_the_variance_of_their_norm(norm, shape, fan_in, fan_out):
    n = {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[norm]
    bound = math.sqrt(3 / n)
    values = filled(f'type: "xavier" variance_norm: {norm}', *shape)
    assert np.abs(values).max() <= bound * (1 + 1e-6)
    assert_mean(values, 0, 1 / n)
    assert_mean(values**2, 1 / n, (2 * bound) ** 4 / 180)
    values = filled(f'type: "msra" variance_norm: {norm}', *shape)
    assert_mean(values, 0, 2 / n)
    assert_mean(values**2, 2 / n, 2 * (2 / n) ** 2)


def test_a_signal_keeps_its_strength_through_layers_that_msra_fills():
    """What the filler is for (He et al. 2015): with ReLUs, the mean square of the signal stays."""
    width, setting = 400, 'inner_product_param { num_output: 400 weight_filler { type: "msra" } }'
    text, below = "", "x"
    for i in range(5):
        text += f'layer {{ name: "p{i}" type: "InnerProduct" bottom: "{below}" top: "h{i}" {setting} }}\n'
        text += f'layer {{ name: "r{i}" type: "ReLU" bottom: "h{i}" top: "h{i}" }}\n'
        below = f"h{i}"
    caffe.set_random_seed(2)
    net = make(text, x=np.random.default_rng(0).standard_normal((50, width)))
    net.forward()
    for i in range(5):
        # The mean square of a ReLU of a normal of variance 2 is 1. Each layer's weights add their own chance to the
        # rows' common strength: a variance of about 5 / width a layer.
        assert abs((net.blobs[f"h{i}"].data ** 2).mean() - 1) <= SIGMAS * math.sqrt(5 * (i + 1) / width)


def test_positive_unitball_divides_one_among_a_rows_values():
    rows, width = 200, 500
    values = filled('type: "positive_unitball"', rows, 5, 100).reshape(rows, width)
    assert values.min() >= 0 and np.allclose(values.sum(1), 1, atol=1e-5)
    below = np.sort(values, 1)  # what is below a row's largest of equal chances is uniform from 0 to it
    shares = below[:, :-1] / below[:, -1:]
    for k in range(10):
        assert_share((shares >= k / 10) & (shares < (k + 1) / 10), 0.1)
    assert_each_value_is_its_own_draw(values)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_a_bilinear_deconvolution_interpolates_a_ramp_exactly(factor):
    kernel, pad = 2 * factor - factor % 2, math.ceil((factor - 1) / 2)
    setting = f"num_output: 2 group: 2 kernel_size: {kernel} stride: {factor} pad: {pad} bias_term: false"
    down, across = np.mgrid[0:6, 0:7]
    ramp = np.stack([3 + 2 * down - across, down * across / 2.0])[None]
    net = layer("Deconvolution", f'convolution_param {{ {setting} weight_filler {{ type: "bilinear" }} }}', x=ramp)
    y = net.forward()["y"][0]
    assert y.shape == (2, 6 * factor, 7 * factor)
    rows, columns = np.mgrid[0 : 6 * factor, 0 : 7 * factor]
    row, column = ((place + 0.5) / factor - 0.5 for place in (rows, columns))  # of the output's cells in the input
    inside = (row >= 0) & (row <= 5) & (column >= 0) & (column <= 6)
    wanted = np.stack([3 + 2 * row - column, row * column / 2])
    assert inside.sum() > 0.5 * inside.size and np.abs(y - wanted)[:, inside].max() < 1e-4


def test_each_parameter_of_a_net_is_drawn_anew_and_the_whole_again_under_the_same_seed():
    setting = 'inner_product_param { num_output: 30 weight_filler { type: "xavier" } bias_filler { type: "uniform" } }'
    text = "".join(f'layer {{ name: "{n}" type: "InnerProduct" bottom: "x" top: "{n}" {setting} }}\n' for n in "abc")
    found = []
    for seed in (8, 8, 9):
        caffe.set_random_seed(seed)
        net = make(text, x=np.zeros((1, 40)))
        found.append([blob.data.copy() for blobs in net.params.values() for blob in blobs])
    first, again, other = found
    assert len(first) == 6 and all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    for a, b in ((0, 2), (2, 4), (0, 4)):
        assert_uncorrelated(first[a], first[b])


# Dropout


def test_dropout_drops_each_value_on_its_own_at_the_rate_that_it_says():
    x = np.full((20, 16, 25, 25), 3.0)
    for ratio in (0.1, 0.5, 0.8):
        caffe.set_random_seed(4)
        net = layer("Dropout", f"dropout_param {{ dropout_ratio: {ratio} }}", x=x)
        y = net.forward()["y"].copy()
        fell = (y == 0).astype(float)
        assert_share(fell, ratio)
        assert np.allclose(y[y != 0], 3 / (1 - ratio), rtol=1e-6)
        assert_mean(y, 3, 9 * ratio / (1 - ratio))  # the expectation stays
        assert_share(fell[:, :, :-1] * fell[:, :, 1:], ratio**2)  # below each other
        for a, b in (
            (fell[..., :-1], fell[..., 1:]),  # beside each other
            (fell[:, :-1], fell[:, 1:]),  # in the next channel
            (fell[:-1], fell[1:]),  # in the next item
            (fell, (net.forward()["y"] == 0).astype(float)),  # in the next pass
        ):
            assert_uncorrelated(a, b)
        for item in fell:
            for channel in item:
                assert_share(channel, ratio)


def test_dropout_in_test_and_at_ratio_0_is_the_identity_and_draws_nothing():
    x = np.random.default_rng(1).standard_normal((4, 50))
    for phase, ratio in ((caffe.TEST, 0.5), (caffe.TRAIN, 0)):
        caffe.set_random_seed(3)
        net = layer("Dropout", f"dropout_param {{ dropout_ratio: {ratio} }}", phase, x=x)
        assert np.array_equal(net.forward()["y"], x.astype(np.float32))
        drawn = filled_from_here()
        caffe.set_random_seed(3)
        assert np.array_equal(drawn, filled_from_here())


def filled_from_here():
    """Draw from the generator as it stands."""
    blob = Blob(10)
    fill(blob, parse_text('type: "uniform"', caffe_pb2.FillerParameter()))
    return blob.data.copy()


def test_dropout_in_the_gradient_is_that_of_the_forward_pass():
    x = np.ones((40, 300))
    caffe.set_random_seed(6)
    net = layer("Dropout", "dropout_param { dropout_ratio: 0.3 }", x=x)
    for _ in range(2):
        y = net.forward()["y"].copy()
        dy = np.random.default_rng(2).standard_normal(x.shape).astype(np.float32)
        assert np.array_equal(net.backward(y=dy)["x"], dy * y)
        assert np.array_equal(net.backward(y=dy)["x"], dy * y)  # also a second time


# Stochastic pooling

WINDOW = np.array([[1.0, 2.0, 0.0], [4.0, 0.5, 2.5]])  # the sum is 10


def pooled(phase, x, kernel, stride):
    words = f"pool: STOCHASTIC kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride_h: {stride[0]} stride_w: {stride[1]}"
    return layer("Pooling", f"pooling_param {{ {words} }}", phase, x=x)


def test_stochastic_pooling_draws_a_value_in_proportion_to_itself():
    x = np.tile(WINDOW, (10, 4, 30, 30))
    caffe.set_random_seed(5)
    net = pooled(caffe.TRAIN, x, (2, 3), (2, 3))
    y = net.forward()["y"].copy()
    assert y.shape == (10, 4, 30, 30) and set(np.unique(y)) == {1, 2, 4, 0.5, 2.5}  # a 0 is never drawn
    for value in (1, 2, 4, 0.5, 2.5):
        assert_share(y == value, value / 10)
    second_moment = (WINDOW**3).sum() / 10
    expected = (WINDOW**2).sum() / 10
    assert_mean(y, expected, second_moment - expected**2)
    for a, b in ((y[..., :-1], y[..., 1:]), (y[:, :, :-1], y[:, :, 1:]), (y[:, :-1], y[:, 1:]), (y[:-1], y[1:])):
        assert_uncorrelated(a, b)
    assert_uncorrelated(y, net.forward()["y"])


def test_stochastic_poolings_gradient_goes_to_the_value_that_was_drawn():
    x = np.random.default_rng(3).random((3, 2, 9, 9)) + 0.1
    caffe.set_random_seed(5)
    net = pooled(caffe.TRAIN, x, (3, 3), (2, 2))  # the windows overlap
    y = net.forward()["y"].copy()
    dy = np.random.default_rng(4).standard_normal(y.shape).astype(np.float32)
    dx = net.backward(y=dy)["x"]
    wanted = np.zeros_like(dx)
    values = x.astype(np.float32)
    for n, c, i, j in np.ndindex(y.shape):
        window = values[n, c, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        (row, column), *others = np.argwhere(window == y[n, c, i, j])
        assert not others  # all values differ
        wanted[n, c, 2 * i + row, 2 * j + column] += dy[n, c, i, j]
    assert np.allclose(dx, wanted, atol=1e-6) and (dx != 0).sum() < dy.size + 1


def test_stochastic_pooling_in_test_is_the_expectation():
    x = np.tile(WINDOW, (1, 2, 2, 2))
    net = pooled(caffe.TEST, x, (2, 3), (2, 3))
    assert np.allclose(net.forward()["y"], (WINDOW**2).sum() / WINDOW.sum())
    caffe.set_random_seed(7)
    train = pooled(caffe.TRAIN, np.tile(WINDOW, (100, 100, 1, 1)), (2, 3), (2, 3))
    assert_mean(train.forward()["y"], net.blobs["y"].data[0, 0, 0, 0], (WINDOW**3).sum() / 10 - 2.65**2)


def test_stochastic_pooling_of_windows_of_zeros_and_at_the_border():
    x = np.zeros((2, 1, 5, 5))
    x[1] = 1
    for phase in (caffe.TRAIN, caffe.TEST):
        y = pooled(phase, x, (2, 2), (2, 2)).forward()["y"]  # the last windows reach past the border
        assert y.shape == (2, 1, 3, 3) and not y[0].any() and (y[1] == 1).all()


# DummyData

FILLERS = {"gaussian": ('type: "gaussian" mean: 1 std: 2', 1, 4), "uniform": ('type: "uniform" min: -2 max: 4', 1, 3)}


@pytest.mark.parametrize("name", FILLERS)
def test_dummy_data_is_drawn_anew_for_each_top_and_pass(name):
    text, mean, variance = FILLERS[name]
    setting = f"dummy_data_param {{ shape {{ dim: 30 dim: 50 }} data_filler {{ {text} }} }}"
    text = f'layer {{ name: "l" type: "DummyData" top: "a" top: "b" {setting} }}'
    caffe.set_random_seed(5)
    net = make(text)
    passes = [{top: values.copy() for top, values in net.forward().items()} for _ in range(5)]
    drawn = [values for one in passes for values in one.values()]
    for values in drawn:
        assert_mean(values, mean, variance)
    for i, values in enumerate(drawn):
        for other in drawn[:i]:
            assert_uncorrelated(values, other)
    caffe.set_random_seed(5)
    again = make(text)
    for one in passes:
        assert all(np.array_equal(values, one[top]) for top, values in again.forward().items())


# Generators


def test_a_seed_gives_a_whole_run_again_and_no_other_generator_is_touched():
    text = """
    layer { name: "d" type: "DummyData" top: "x"
            dummy_data_param { shape { dim: 4 dim: 2 dim: 6 dim: 6 } data_filler { type: "uniform" } } }
    layer { name: "c" type: "Convolution" bottom: "x" top: "c"
            convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "msra" } } }
    layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
    layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 } }
    layer { name: "o" type: "Dropout" bottom: "p" top: "p" }"""
    found = []
    others = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
    for seed in (11, 11, 12):
        caffe.set_random_seed(seed)
        net = make(text)
        runs = []
        for _ in range(3):
            runs.append(net.forward()["p"].copy())
            net.backward(p=np.ones_like(runs[-1]))
            runs.append(net.params["c"][0].diff.copy())
        found.append(runs)
    assert others == [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
    assert all(np.array_equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(found[0], found[2], strict=True))
    assert not np.array_equal(found[0][0], found[0][2])
