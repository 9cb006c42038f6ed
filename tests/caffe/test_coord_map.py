"""coord_map: where a blob's pixels lie in another's, and the crops that follow (BVLC's coord_map.py)."""

from __future__ import annotations

import numpy as np
import pytest

from caffe import coord_map as cm
from caffe.coord_map import coord_map_from_to, crop
from caffe.net_spec import NetSpec
from caffe.net_spec import layers as L
from caffe.net_spec import params as P


def conv_pool_deconv(kernel=3, stride=1, pad=0, pool=2, up=2, up_pad=0):
    n = NetSpec()
    n.data = L.Input(shape={"dim": [2, 1, 100, 100]})
    n.conv = L.Convolution(n.data, num_output=10, kernel_size=kernel, stride=stride, pad=pad)
    n.pool = L.Pooling(n.conv, pool=P.Pooling.MAX, kernel_size=pool, stride=pool, pad=0)
    window = {"num_output": 10, "kernel_size": 2 * up, "stride": up, "pad": up_pad}
    n.deconv = L.Deconvolution(n.pool, convolution_param=window)
    return n


def test_one_layer_s_map_takes_centres_to_centres():
    n = conv_pool_deconv(kernel=5, stride=2, pad=1)
    axis, scale, shift = cm.coord_map(n.conv.fn)
    # the window of output 7 begins at 2*7-1 and has its centre 2 further on
    assert (axis, scale * (2 * 7 - 1 + 2) + shift) == (1, 7)
    axis, scale, shift = cm.coord_map(n.deconv.fn)
    assert (axis, scale * 7 + shift) == (1, 2 * 7 + 1.5)


def test_pooling_and_upsampling_by_the_same_factor():
    n = conv_pool_deconv()
    assert coord_map_from_to(n.deconv, n.data) == (1, 1, 0)
    n = conv_pool_deconv(pool=4, up=4)
    assert coord_map_from_to(n.deconv, n.data) == (1, 1, -1)
    assert coord_map_from_to(n.data, n.deconv) == (1, 1, 1)


@pytest.mark.parametrize(
    "kind", ["AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "Eltwise", "ELU", "Log", "LRN", "Exp", "MVN",
             "Power", "ReLU", "PReLU", "Scale", "Sigmoid", "Split", "TanH", "Threshold"],
)  # fmt: skip
def test_layers_that_move_nothing(kind):
    n = conv_pool_deconv(pool=4, up=4)
    top = L.Convolution(getattr(L, kind)(n.deconv), num_output=10, kernel_size=1)
    assert coord_map_from_to(top, n.data) == coord_map_from_to(n.deconv, n.data)
    assert kind in cm.PASS_THROUGH_LAYERS


def test_the_pass_through_list_is_bvlc_s_and_open():
    assert len(cm.PASS_THROUGH_LAYERS) == 19
    n = conv_pool_deconv()
    top = L.Mine(n.deconv)
    with pytest.raises(RuntimeError):
        coord_map_from_to(top, n.data)
    cm.PASS_THROUGH_LAYERS.append("Mine")
    try:
        assert coord_map_from_to(top, n.data) == (1, 1, 0)
    finally:
        cm.PASS_THROUGH_LAYERS.remove("Mine")


@pytest.mark.parametrize("pad", [1, 3, 10])
def test_convolution_pads_add_and_deconvolution_pads_take_away(pad):
    n = conv_pool_deconv(pad=pad)
    assert coord_map_from_to(n.deconv, n.data) == (1, 1, -pad)
    n = conv_pool_deconv(up_pad=pad)
    assert coord_map_from_to(n.deconv, n.data) == (1, 1, pad)
    n = conv_pool_deconv(pad=pad, up_pad=pad)
    assert coord_map_from_to(n.deconv, n.data) == (1, 1, 0)


def test_dilation_widens_the_window():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 50, 50]})
    n.dilated = L.Convolution(n.data, num_output=1, kernel_size=3, dilation=4)
    n.plain = L.Convolution(n.data, num_output=1, kernel_size=9)
    assert coord_map_from_to(n.dilated, n.data) == coord_map_from_to(n.plain, n.data) == (1, 1, 4)


def test_windows_are_read_from_plain_keywords_and_from_messages():
    bottom = L.Input(shape={"dim": [1, 1, 50, 50]})
    window = {"kernel_size": 7, "stride": 2, "pad": 1}
    for plain, message in (
        (L.Convolution(bottom, **window), L.Convolution(bottom, convolution_param=window)),
        (L.Deconvolution(bottom, **window), L.Deconvolution(bottom, convolution_param=window)),
        (L.Pooling(bottom, **window), L.Pooling(bottom, pooling_param=window)),
    ):
        assert cm.coord_map(plain.fn) == cm.coord_map(message.fn)
    crops = L.Crop(bottom, bottom, offset=[3]), L.Crop(bottom, bottom, crop_param={"offset": [3]})
    assert cm.crop_params(crops[0].fn) == cm.crop_params(crops[1].fn) == (2, 3)


def test_several_bottoms_and_tops_are_mapped_alike():
    n = conv_pool_deconv()
    n.aux = L.Input(shape={"dim": [2, 1, 20, 20]})
    n.a, n.b = L.Convolution(n.data, n.aux, ntop=2, num_output=10, kernel_size=5, stride=2)
    assert coord_map_from_to(n.a, n.data) == coord_map_from_to(n.b, n.aux)


def test_each_axis_by_itself():
    square, wide = conv_pool_deconv(3, 1, 0), conv_pool_deconv(5, 2, 10)
    both = conv_pool_deconv([3, 5], [1, 2], [0, 10])
    axis, scale, shift = coord_map_from_to(both.deconv, both.data)
    for i, n in enumerate((square, wide)):
        assert (axis, scale[i], shift[i]) == coord_map_from_to(n.deconv, n.data)


def test_three_spatial_axes():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [2, 3, 100, 100, 100]})
    n.conv = L.Convolution(n.data, num_output=10, kernel_size=[3, 3, 3], stride=[1, 1, 1], pad=[0, 1, 2])
    n.pool = L.Pooling(n.conv, pool=P.Pooling.MAX, kernel_size=2, stride=2, pad=0)
    n.deconv = L.Deconvolution(n.pool, num_output=10, kernel_size=4, stride=2, pad=0)
    axis, scale, shift = coord_map_from_to(n.deconv, n.data)
    assert (axis, list(scale), list(shift)) == (1, [1, 1, 1], [0, -1, -2])


def test_a_crop_shifts_by_its_offset_and_its_second_bottom_leads_nowhere():
    n = conv_pool_deconv()
    n.crop = L.Crop(n.deconv, n.data, axis=2, offset=7)
    assert coord_map_from_to(n.crop, n.data) == (1, 1, 7)
    elsewhere = L.Input(shape={"dim": [2, 1, 9, 9]})
    n.cut = L.Crop(n.deconv, elsewhere, axis=2, offset=7)
    with pytest.raises(RuntimeError):
        coord_map_from_to(n.cut, elsewhere)


def test_compose_and_inverse():
    a, b = (1, np.array([2.0]), np.array([3.0])), (1, np.array([0.5]), np.array([-1.0]))
    assert cm.compose(a, b) == (1, 1.0, 1.0)
    assert cm.compose(a, cm.inverse(a)) == (1, 1.0, 0.0)
    assert cm.compose((None, 1, 0), a) == cm.compose(a, (None, 1, 0)) == a
    with pytest.raises(cm.AxisMismatchException):
        cm.compose(a, (2, 1, 0))


# --- crop ------------------------------------------------------------------------------------------------------


def test_crop_makes_a_crop_layer():
    n = conv_pool_deconv(pad=10)
    layer = crop(n.deconv, n.data).to_proto().layer[-1]
    assert (layer.type, layer.crop_param.axis, list(layer.crop_param.offset)) == ("Crop", 2, [10])
    assert list(layer.bottom) == ["Deconvolution1", "Input1"]


def test_crop_of_blobs_that_lie_alike_has_offset_0():
    n = conv_pool_deconv()
    assert crop(L.ReLU(n.data), n.data).fn.params == {"crop_param": {"axis": 2, "offset": [0]}}


def test_crop_refuses_what_no_crop_brings_into_line():
    n = conv_pool_deconv(pool=3, up=2)
    with pytest.raises(AssertionError, match="scale mismatch on crop"):
        crop(n.deconv, n.data)
    n = conv_pool_deconv(up_pad=10)
    with pytest.raises(AssertionError, match="cannot crop negative offset"):
        crop(n.deconv, n.data)
    n = conv_pool_deconv(kernel=4, pad=10)
    with pytest.raises(AssertionError, match="cannot crop noninteger offset"):
        crop(n.deconv, n.data)


def test_legacy_window_fields_are_refused():
    n = NetSpec()
    n.data = L.Input(shape={"dim": [1, 1, 50, 50]})
    for params in ({"kernel_h": 3, "kernel_w": 5}, {"kernel_size": 3, "stride_h": 2}):
        with pytest.raises(AssertionError, match="cropping does not support legacy _h/_w params"):
            coord_map_from_to(L.Convolution(n.data, num_output=1, **params), n.data)


def test_tops_that_no_spatial_layers_connect():
    n = conv_pool_deconv()
    message = "Could not compute map between tops; are they connected by spatial layers\\?"
    for top in (
        L.InnerProduct(n.deconv, num_output=10),
        L.Pooling(n.deconv, pool=P.Pooling.AVE, global_pooling=True),
        L.Input(shape={"dim": [2, 1, 9, 9]}),
    ):
        with pytest.raises(RuntimeError, match=message):
            coord_map_from_to(top, n.data)
    with pytest.raises(cm.UndefinedMapException):
        cm.coord_map(L.Flatten(n.data).fn)


def test_concat_is_seen_through_where_bvlc_gives_up():
    n = conv_pool_deconv(pad=10)
    top = L.Concat(n.deconv, L.ReLU(n.deconv))
    assert "Concat" not in cm.PASS_THROUGH_LAYERS
    assert coord_map_from_to(top, n.data) == coord_map_from_to(n.deconv, n.data)
    with pytest.raises(cm.UndefinedMapException):
        cm.coord_map(top.fn)


def test_a_deep_net_of_many_paths_is_walked_once():
    top = start = L.Input(shape={"dim": [1, 1, 50, 50]})
    for _ in range(200):
        top = L.Eltwise(L.ReLU(top), L.TanH(top))
    assert coord_map_from_to(top, start) == (None, 1, 0)
