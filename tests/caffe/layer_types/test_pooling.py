"""Pooling: Caffe's windows against a count by hand, over shapes that hypothesis draws, and what it refuses."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import caffe
from caffe.errors import NetError
from caffe.formats.prototxt import parse_text
from caffe.kernels import pooling as kernels
from caffe.proto import caffe_pb2

LOWEST = np.finfo(np.float32).min
TEXT = """
force_backward: {force}
layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}
layer {{ name: "l" type: "Pooling" bottom: "x" {tops} pooling_param {{ {setting} }} }}
"""


def pooling(x, setting, tops=("y",), phase=caffe.TRAIN, gradient=True):
    """Build a net of one Pooling layer over x; without a gradient it may find maxima another way."""
    x = np.asarray(x, np.float32)
    dims = " ".join(f"dim: {extent}" for extent in x.shape)
    tops = " ".join(f'top: "{top}"' for top in tops)
    text = TEXT.format(force=str(gradient).lower(), dims=dims, tops=tops, setting=setting)
    param = parse_text(text, caffe_pb2.NetParameter())
    param.state.phase = phase
    net = caffe.Net.from_proto(param)
    assert net.layer_dict["l"].needs_backward == gradient
    net.blobs["x"].data[...] = x
    net.forward()
    return net


def pool_by_hand(x, kernel, stride, pad, is_max, ceil):
    """Pool N x C x H x W as pooling_layer.cpp does, cell by cell; return values and, for maxima, their places."""
    size, room = x.shape[2:], []
    for i in range(2):
        free = size[i] + 2 * pad[i] - kernel[i]
        count = (math.ceil(free / stride[i]) if ceil else free // stride[i]) + 1
        if any(pad) and (count - 1) * stride[i] >= size[i] + pad[i]:
            count -= 1
        room.append(count)
    if min(room) < 1:
        return None
    values = np.full((*x.shape[:2], *room), LOWEST if is_max else 0, np.float32)
    places = np.full(values.shape, -1)
    for n, c, i, j in np.ndindex(*values.shape):
        top, left = i * stride[0] - pad[0], j * stride[1] - pad[1]
        bottom, right = min(top + kernel[0], size[0] + pad[0]), min(left + kernel[1], size[1] + pad[1])
        cells = (bottom - top) * (right - left)
        for h in range(max(top, 0), min(bottom, size[0])):
            for w in range(max(left, 0), min(right, size[1])):
                if is_max and x[n, c, h, w] > values[n, c, i, j]:
                    values[n, c, i, j], places[n, c, i, j] = x[n, c, h, w], h * size[1] + w
                elif not is_max:
                    values[n, c, i, j] += x[n, c, h, w] / cells
    return values, places


SIDE = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 5), st.integers(0, 3))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(rows=SIDE, columns=SIDE, is_max=st.booleans(), ceil=st.booleans(), seed=st.integers(0, 99))
def test_pooling_windows_are_caffes(rows, columns, is_max, ceil, seed):
    (height, kernel_h, stride_h, pad_h), (width, kernel_w, stride_w, pad_w) = rows, columns
    pad_h, pad_w = min(pad_h, kernel_h - 1), min(pad_w, kernel_w - 1)
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (1, 2, height, width)).astype(np.float32)  # with ties
    wanted = pool_by_hand(x, (kernel_h, kernel_w), (stride_h, stride_w), (pad_h, pad_w), is_max, ceil)
    setting = f"""pool: {"MAX" if is_max else "AVE"} round_mode: {"CEIL" if ceil else "FLOOR"}
                  kernel_h: {kernel_h} kernel_w: {kernel_w} stride_h: {stride_h} stride_w: {stride_w}
                  pad_h: {pad_h} pad_w: {pad_w}"""
    if wanted is None:
        with pytest.raises(NetError, match=r"Layer 'l'.*too large for its bottom"):
            pooling(x, setting)
        return
    values, places = wanted
    net = pooling(x, setting, ("y", "mask") if is_max else ("y",))
    assert net.blobs["y"].data.shape == values.shape
    assert np.allclose(net.blobs["y"].data, values, atol=1e-6)
    if is_max:
        assert np.array_equal(net.blobs["mask"].data, places)
        assert np.array_equal(pooling(x, setting, gradient=False).blobs["y"].data, values)
        dy = rng.standard_normal(values.shape).astype(np.float32)
        net.backward(y=dy, mask=np.zeros_like(dy))
        dx = np.zeros((2, height * width), np.float32)
        for c, i, j in np.ndindex(*values.shape[1:]):
            if places[0, c, i, j] >= 0:
                dx[c, places[0, c, i, j]] += dy[0, c, i, j]
        assert np.allclose(net.blobs["x"].diff, dx.reshape(x.shape), atol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (3, 3)])
def test_maxima_without_a_gradient_are_the_same_over_many_blocks(size, stride):
    x = torch.randn(2, 40, 131, 97, generator=torch.Generator().manual_seed(0)).numpy()
    setting = f"kernel_size: {size} stride: {stride}"
    found = [pooling(x, setting, gradient=gradient).blobs["y"].data for gradient in (False, True)]
    assert np.array_equal(*found)


def test_stochastic_pooling_draws_in_train_and_expects_in_test():
    x = np.array([[[[1, 0], [3, 0]]]], np.float32)
    setting = "pool: STOCHASTIC kernel_size: 2 stride: 2"
    caffe.set_random_seed(1)
    net = pooling(x, setting)
    drawn = []
    for _ in range(400):
        drawn.append(net.forward()["y"].item())
        net.backward(y=np.ones((1, 1, 1, 1)))
        assert np.array_equal(net.blobs["x"].diff, x == drawn[-1])
    assert set(drawn) == {1.0, 3.0} and 0.65 < drawn.count(3.0) / 400 < 0.85
    assert pooling(x, setting, phase=caffe.TEST).blobs["y"].data.item() == pytest.approx(10 / 4)


def test_stochastic_pooling_of_clipped_windows_draws_from_the_image():
    caffe.set_random_seed(1)
    x = 1 + np.arange(50, dtype=np.float32).reshape(2, 1, 5, 5)
    net = pooling(x, "pool: STOCHASTIC kernel_size: 3 stride: 2")
    for _ in range(50):
        y = net.forward()["y"].copy()
        assert np.isin(y, x).all() and (y[:, :, 1, 1] >= x[:, :, 2, 2]).all()
        net.backward(y=np.ones_like(y))
        assert set(x[net.blobs["x"].diff > 0]) == set(y.ravel()) and net.blobs["x"].diff.sum() == y.size


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ("kernel_size: 2 pad: 2", "pad .* must be below kernel"),
        ("", "needs kernel_size"),
        ("kernel_size: 2 kernel_h: 2", "not both"),
        ("kernel_h: 2", "both kernel_h and kernel_w"),
        ("kernel_size: 2 stride: 0", "stride must be 1 or more"),
        ("global_pooling: true kernel_size: 2", "kernel_size cannot be given"),
        ("global_pooling: true stride: 2", "only pad 0 and stride 1"),
        ("kernel_size: 2 pad: 1 pool: STOCHASTIC", "MAX and AVE pooling only"),
        ("kernel_size: 9", "too large for its bottom, 2 x 4 x 5 x 6"),
    ],
)
def test_settings_that_cannot_be(setting, match):
    with pytest.raises(NetError, match=f"Layer 'l'.*{match}"):
        pooling(np.zeros((2, 4, 5, 6)), setting)


def test_only_four_axes_and_only_maxima_have_a_mask():
    with pytest.raises(NetError, match=r"must have 4 axes.*2 x 3 x 4"):
        pooling(np.zeros((2, 3, 4)), "kernel_size: 2")
    with pytest.raises(NetError, match="only MAX pooling has a second top"):
        pooling(np.zeros((1, 1, 2, 2)), "pool: AVE kernel_size: 2", tops=("y", "mask"))


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (1, 5), (5, 1), (2, 2), (300, 301)])
@pytest.mark.parametrize("values", ["distinct", "ties"])
def test_the_gradient_from_values_alone_is_the_one_from_places(size, values):
    generator = torch.Generator().manual_seed(sum(size))
    x = torch.randn(2, 3, *size, generator=generator)
    if values == "ties":
        x = x.round().relu()
    y, places = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
    dy = torch.randn(y.shape, generator=generator)
    found = torch.full_like(x, torch.nan)
    kernels.max_pool_2x2_backward_into(found, dy, x)
    assert torch.equal(found, kernels.put_back(dy, places, x))
