"""Convolution and Deconvolution: the ways in which they compute give one result."""

import numpy as np
import pytest
import torch

import caffe
from caffe import device
from caffe.blob import Blob
from caffe.formats.prototxt import parse_text
from caffe.kernels import convolution, matrix_product
from caffe.kernels.convolution import Pieces
from caffe.kernels.rewrites import Diagonal
from caffe.layer import layer_class
from caffe.proto import caffe_pb2

FILL = 'weight_filler { type: "gaussian" std: 0.1 } bias_filler { type: "gaussian" }'


def run(type_, settings, shape, freeze=False):
    """Run both passes of one layer on seeded values; return top, bottom diff and parameter diffs."""
    text = f'name: "x" type: "{type_}" convolution_param {{ {settings} {FILL} }}'
    layer = layer_class(type_)(parse_text(text, caffe_pb2.LayerParameter()))
    caffe.set_random_seed(3)
    generator = torch.Generator().manual_seed(4)
    bottom, top = [Blob(*shape)], [Blob(0)]
    bottom[0].set_data(torch.randn(shape, generator=generator))
    layer.setup(bottom, top)
    if freeze:
        weight = layer.blobs[0].data
        off = ~np.eye(weight.shape[0], dtype=bool)
        weight[off] = 0
        del weight
        layer.param_propagate_down = [False, True]
    layer.reshape(bottom, top)
    with torch.no_grad():
        layer.forward(bottom, top)
        top[0].set_diff(torch.randn(top[0].dims, generator=generator))
        layer.top_diff_for_test, layer.bottom_for_test = top[0].diff_tensor(), bottom[0]
        layer.backward(top, [True], bottom)
    return layer, [top[0].data, bottom[0].diff, *(b.diff for b in layer.blobs)]


def way(layer):
    return layer.way(device.CPU).name


def same(found, wanted):
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.shape == theirs.shape and theirs.any()
        assert np.abs(mine - theirs).max() <= 3e-6 * max(1, np.abs(theirs).max())


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ("num_output: 4 kernel_size: 3 pad: 1", (1, 3, 40, 33)),
        ("num_output: 4 kernel_size: 3 pad: 25", (2, 3, 11, 9)),  # whole bands of nothing but padding
        ("num_output: 4 kernel_size: 5 pad: 2 stride: 2 group: 2", (2, 6, 61, 30)),
        ("num_output: 4 kernel_size: 3 pad: 3 dilation: 3", (1, 3, 40, 20)),
        ("num_output: 4 kernel_h: 2 kernel_w: 3 stride_h: 3 stride_w: 1 pad_h: 0 pad_w: 2", (1, 3, 70, 12)),
        ("num_output: 2 kernel_size: 1 stride: 3", (1, 3, 70, 12)),  # some rows are seen by no window
    ],
)
def test_a_large_image_gives_band_by_band_what_it_gives_whole(monkeypatch, settings, shape):
    layer, whole = run("Convolution", settings, shape)
    assert "pieces" not in way(layer)
    monkeypatch.setattr(convolution, "PIECE_BYTES", 64)
    layer, bands = run("Convolution", settings, shape)
    assert "pieces" in way(layer) and Pieces.of(layer.planned).bands > 1
    same(bands, whole)


@pytest.mark.parametrize("settings", ["num_output: 4 kernel_size: 3 pad: 1", "num_output: 6 kernel_size: 5 group: 3"])
def test_a_large_batch_gives_some_images_at_a_time_what_it_gives_whole(monkeypatch, settings):
    layer, whole = run("Convolution", settings, (21, 3, 9, 8))
    assert "pieces" not in way(layer)
    monkeypatch.setattr(convolution, "PIECE_BYTES", 2400)
    layer, groups = run("Convolution", settings, (21, 3, 9, 8))
    assert way(layer) == "pieces" and Pieces.of(layer.planned) == Pieces(images=2, bands=1)
    same(groups, whole)


@pytest.mark.parametrize("bands", [1 << 20, 64])
@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ("num_output: 4 kernel_size: 3 pad: 25", (2, 3, 11, 9)),
        ("num_output: 4 kernel_size: 3 pad: 9 dilation: 2 bias_term: false", (1, 3, 11, 19)),
        ("num_output: 4 kernel_size: 2 pad_h: 0 pad_w: 6 group: 2", (1, 4, 21, 5)),
        ("num_output: 4 kernel_size: 1 pad: 3", (1, 4, 21, 5)),
    ],
)
def test_a_frame_of_padding_alone_is_worth_what_convolving_it_gives(monkeypatch, settings, shape, bands):
    monkeypatch.setattr(convolution, "PIECE_BYTES", bands)
    layer, framed = run("Convolution", settings, shape)
    assert way(layer).startswith("framed") and ("pieces" in way(layer)) == (bands == 64)
    x, weight, *bias = (b.data_tensor() for b in (layer.bottom_for_test, *layer.blobs))
    whole = layer.sliding.arguments
    y = torch.convolution(x, weight, *(bias or [None]), *whole)
    sizes = [layer.sliding.outputs] if bias else None
    wanted = [True, True, bool(bias)]
    grads = torch.ops.aten.convolution_backward(layer.top_diff_for_test, x, weight, sizes, *whole, wanted)
    same(framed, [t.numpy() for t in (y, *grads) if t is not None])


@pytest.mark.skipif(not matrix_product.AVAILABLE, reason="this torch has no oneDNN matrix product")
@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ("num_output: 40 kernel_size: 7", (1, 16, 9, 12)),
        ("num_output: 40 kernel_size: 3 stride: 2 pad: 1", (3, 16, 9, 12)),
        ("num_output: 40 kernel_size: 1", (1, 64, 5, 6)),
        ("num_output: 40 kernel_size: 3 dilation: 2", (2, 16, 9, 12)),
    ],
)
def test_a_large_kernel_gives_as_a_matrix_product_what_it_gives_as_a_convolution(monkeypatch, settings, shape):
    layer, convolved = run("Convolution", settings, shape)
    assert way(layer) == "direct"
    monkeypatch.setattr(convolution, "MATRIX", (1, 1 << 20))
    monkeypatch.setattr(convolution, "MATRIX_OF_ONE", (1, 1 << 20))
    layer, multiplied = run("Convolution", settings, shape)
    assert way(layer) == "matrix"
    same(multiplied, convolved)


@pytest.mark.parametrize(
    "settings", ["num_output: 4 kernel_size: 3 pad: 1", "num_output: 4 kernel_h: 1 kernel_w: 4 pad_h: 0 pad_w: 3"]
)
def test_few_channels_get_the_gradient_that_many_would(monkeypatch, settings):
    layer, turned = run("Convolution", settings, (2, 3, 9, 8))
    assert way(layer) == "turned"
    monkeypatch.setattr(convolution, "FEW_CHANNELS", 0)
    layer, direct = run("Convolution", settings, (2, 3, 9, 8))
    assert way(layer) == "direct"
    same(turned, direct)


@pytest.mark.parametrize("settings", ["num_output: 5 kernel_size: 4 stride: 2", "num_output: 5 kernel_size: 3 pad: 1"])
def test_a_diagonal_deconvolution_gives_channel_by_channel_what_it_gives_dense(monkeypatch, settings):
    layer, each = run("Deconvolution", settings, (2, 5, 6, 7), freeze=True)
    assert layer.diagonal._found is not None and layer.diagonal._found[1] is not None
    monkeypatch.setattr(Diagonal, "of", lambda self, weight: None)
    _, dense = run("Deconvolution", settings, (2, 5, 6, 7), freeze=True)
    same([each[0], each[1], each[3]], [dense[0], dense[1], dense[3]])
    assert not each[2].any()


def test_a_deconvolution_notices_that_its_weight_is_diagonal_no_more():
    layer, _ = run("Deconvolution", "num_output: 3 kernel_size: 2 stride: 2 bias_term: false", (1, 3, 4, 4))
    bottom, top = [Blob(1, 3, 4, 4)], [Blob(0)]
    bottom[0].data[...] = 1
    layer.reshape(bottom, top)
    weight = layer.blobs[0].data  # held, as programs hold it

    def forward():
        with torch.no_grad():
            layer.forward(bottom, top)
        return top[0].data[0, :, 0, 0].tolist()

    weight[...] = 0
    weight[range(3), range(3)] = 1
    assert forward() == [1, 1, 1]
    weight[0, 1] = 5
    assert forward() == [1, 6, 1]
    del weight
    assert forward() == [1, 6, 1]
    layer.blobs[0].data[0, 1] = 0
    assert forward() == [1, 1, 1]


@pytest.mark.parametrize("type_", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("settings", ["kernel_size: 3", "kernel_size: 1 pad: 2", "kernel_size: 2 group: 2"])
def test_a_frozen_weight_beside_a_learned_bias_gets_no_gradient(monkeypatch, type_, settings):
    if type_ == "Deconvolution" and "pad" in settings:
        settings = "kernel_size: 1"
    layer, (*_, bias) = run(type_, f"num_output: 4 {settings}", (2, 4, 6, 7))
    learned = bias.copy()
    given = torch.ops.aten.convolution_backward

    def fills_all(dy, x, weight, *rest):
        """Return what was not asked for too, as oneDNN does, with whatever its memory held."""
        found = given(dy, x, weight, *rest)
        return [
            torch.full_like(like, torch.nan) if g is None else g for g, like in zip(found, (x, weight, dy), strict=True)
        ]

    monkeypatch.setattr(torch.ops.aten, "convolution_backward", fills_all)
    for blob in layer.blobs:
        blob.clear_diff()
    layer.param_propagate_down = [False, True]
    top = [Blob(*layer.planned.tops[0])]
    top[0].set_diff(layer.top_diff_for_test)
    with torch.no_grad():
        layer.backward(top, [False], [layer.bottom_for_test])
    assert not layer.blobs[0].diff.any()
    same([layer.blobs[1].diff], [learned])
