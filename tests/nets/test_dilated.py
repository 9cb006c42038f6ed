"""Filter rarefaction and shift-and-stitch: the same scores, by one pass of a dilated net or many of the net as is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caffe
import surgery
from caffe import coord_map
from caffe import layers as L
from caffe import params as P
from nets import ablations, heads, voc
from nets.dilated import rarefy
from nets.experiments import EXPERIMENTS
from scoring.stitch import Stitch, shift_and_stitch

Load = Callable[..., caffe.Net]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Make a net of a NetParameter, random or with another's weights."""

    def make(param: Any, weights: caffe.Net | None = None, phase: int = caffe.TEST) -> caffe.Net:
        path = tmp_path / "net.prototxt"
        path.write_text(str(param))
        net = caffe.Net(str(path), phase)
        rng = np.random.default_rng(0)
        for name, blobs in net.params.items():
            for i, blob in enumerate(blobs):
                if weights is not None and name in weights.params:
                    blob.data[...] = weights.params[name][i].data
                elif not name.startswith("up"):
                    spread = np.sqrt(2 / blob.data[0].size) if i == 0 else 0.1
                    blob.data[...] = spread * rng.standard_normal(blob.data.shape)
        surgery.interp(net, [layer for layer in net.params if "up" in layer])
        return net

    return make


def small(up: bool = False) -> Any:
    """Convolutions, two poolings that halve, and one more window of 3 x 3: output stride 4, two channels.

    `up`: with padding, and scores interpolated to the image's size.
    """
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 2, 40, 40]})
    top = n.data
    for i in (1, 2):
        n[f"conv{i}"] = L.Convolution(top, num_output=4, kernel_size=3, pad=12 if up and i == 1 else 0)
        n[f"relu{i}"] = L.ReLU(n[f"conv{i}"], in_place=True)
        n[f"pool{i}"] = top = L.Pooling(n[f"relu{i}"], pool=P.Pooling.MAX, kernel_size=i + 1, stride=2)
    n.scores = L.Convolution(top, num_output=2, kernel_size=3)
    if up:
        n.upscore = L.Deconvolution(
            n.scores, convolution_param={"num_output": 2, "kernel_size": 8, "stride": 4, "bias_term": False}
        )
        n.score = coord_map.crop(n.upscore, n.data)
    return n.to_proto()


def image(channels: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((channels, height, width)).astype(np.float32)


def run(net: caffe.Net, values: np.ndarray, blob: str) -> np.ndarray:
    net.blobs["data"].reshape(1, *values.shape)
    net.blobs["data"].data[...] = values
    net.forward()
    return np.array(net.blobs[blob].data)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, as a share of the largest value."""
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


# Without padding: everywhere


@pytest.mark.parametrize(("strided", "factor"), [(["pool2"], 2), (["pool1", "pool2"], 4), ([], 1)])
# Sizes that poolings divide evenly and that they round up; the last is of one coarse cell.
@pytest.mark.parametrize(("height", "width"), [(40, 40), (37, 42), (39, 33), (20, 21)])
def test_without_padding_the_rarefied_net_gives_what_shift_and_stitch_gives(
    load: Load, strided: list[str], factor: int, height: int, width: int
) -> None:
    coarse = load(small())
    fine = load(rarefy(small(), strided), coarse)
    values = image(2, height, width)
    wanted = run(fine, values, "scores")[0]
    stitched = shift_and_stitch(coarse, values, stride=4, factor=factor, scores="scores")
    rows, columns = wanted.shape[1:]
    assert rows >= factor * ((height - 20) // 4) + 1  # a window is 20 pixels wide
    assert difference(stitched[:, factor - 1 :, factor - 1 :][:, :rows, :columns], wanted) < 1e-5


def test_every_coarse_cell_is_one_of_the_stitched(load: Load) -> None:
    net = load(small())
    values = image(2, 41, 40)
    coarse = run(net, values, "scores")[0]
    stitched = shift_and_stitch(net, values, stride=4, factor=4, scores="scores")
    assert np.array_equal(stitched[:, 3::4, 3::4][:, : coarse.shape[1], : coarse.shape[2]], coarse)
    with pytest.raises(ValueError, match="stride of 4 pixels cannot be made 3 times finer"):
        shift_and_stitch(net, values, stride=4, factor=3, scores="scores")
    with pytest.raises(ValueError, match="no blob 'score'; it has data"):
        shift_and_stitch(net, values, stride=4, factor=2, scores="score")


def test_a_rarefied_net_has_the_right_gradient(load: Load) -> None:
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 2, 24, 24]})
    n.conv = L.Convolution(n.data, num_output=3, kernel_size=3)
    n.pool1 = L.Pooling(n.conv, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.pool2 = L.Pooling(n.pool1, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.scores = L.Convolution(n.pool2, num_output=2, kernel_size=3)
    n.loss = L.Reduction(n.scores, operation=P.Reduction.SUMSQ, loss_weight=1)
    net = load(rarefy(n.to_proto(), ["pool1", "pool2"]), phase=caffe.TRAIN)
    values = image(2, 24, 24)
    run(net, values, "loss")
    net.backward()
    weights, epsilon = net.params["conv"][0], 1e-3
    direction = np.random.default_rng(2).standard_normal(weights.data.shape).astype(np.float32)
    slope = float((weights.diff * direction).sum())
    losses = []
    for sign in (1, -1):
        weights.data[...] += sign * epsilon * direction
        losses.append(float(run(net, values, "loss")))
        weights.data[...] -= sign * epsilon * direction
    assert slope == pytest.approx((losses[0] - losses[1]) / (2 * epsilon), rel=0.02)


# VGG16, with padding: where no window reaches it


def fcn32s(split: str = voc.DEPLOY) -> Any:
    return ablations.fcn(split, thin=16)


@pytest.mark.slow
def test_dilated_fcn32s_has_the_parameters_of_fcn32s_and_gives_its_stitched_scores(load: Load) -> None:
    coarse = load(fcn32s())
    fine = load(ablations.dilated(voc.DEPLOY, thin=16), coarse)
    assert {name: blobs[0].data.shape for name, blobs in coarse.params.items() if name != "upscore"} == {
        name: blobs[0].data.shape for name, blobs in fine.params.items() if name != "upscore8"
    }
    # Windows are 404 pixels wide and the image is padded by 100: from 102 pixels on none reaches the padding.
    size, inside = 260, slice(104, 260 - 104)
    values = 20 * image(3, size, size)
    wanted = run(fine, values, "score")[0]
    net_scores = run(coarse, values, "score")
    stitched = Stitch(fcn32s(), 4).scores(coarse)[0]
    assert difference(stitched[:, inside, inside], wanted[:, inside, inside]) < 1e-5
    assert difference(net_scores[0][:, inside, inside], wanted[:, inside, inside]) > 0.01

    fr = run(fine, values, "score_fr")[0]
    cells = shift_and_stitch(coarse, values, stride=32, factor=4, scores="score_fr")
    # The margin of 16 pixels is two cells of the rarefied net before FCN-32s's first, the stitched have three. Cell i
    # of the former is around pixel 8 i - 3.5.
    within = slice(14, 19)
    assert difference(cells[:, 1:, 1:][:, within, within], fr[:, within, within]) < 1e-5


def test_the_dilated_net_has_scores_for_images_of_every_size(load: Load) -> None:
    net = load(ablations.dilated(voc.DEPLOY, thin=64))
    for height in (1, 2, 3, 8, 9, 15, 16, 17, 31, 32, 33, 40):
        assert run(net, image(3, height, 30), "score").shape == (1, 21, height, 30)


# Stitch


@pytest.mark.parametrize(
    ("net", "size"),
    [
        (small(up=True), (44, 37)),
        (fcn32s(), (70, 45)),
        (ablations.fcn(voc.DEPLOY, thin=16, head=heads.fcn16s), (33, 50)),
        (voc.fcn_alexnet(voc.DEPLOY, thin=16), (64, 50)),
    ],
    ids=["small", "32s", "16s", "alexnet"],
)
def test_with_a_factor_of_1_the_scores_are_the_net_s_own(load: Load, net: Any, size: tuple[int, int]) -> None:
    loaded = load(net)
    channels = loaded.blobs["data"].shape[1]
    values = image(channels, *size)
    wanted = run(loaded, values, "score")
    ours = Stitch(net, 1).scores(loaded)
    assert difference(ours, wanted) < 1e-5
    assert ours.dtype == np.float32
    # The image is left as it was.
    assert np.array_equal(loaded.blobs["data"].data[0], values)


def test_stitching_refuses_what_it_cannot_interpolate(load: Load) -> None:
    with pytest.raises(ValueError, match="'score' is not a deconvolution's top, cropped"):
        Stitch(small(), 2)
    with pytest.raises(ValueError, match="upscore's stride of 32 pixels cannot be made 5 times finer"):
        Stitch(fcn32s(), 5)
    late = EXPERIMENTS["nyud-fcn/color-hha-32s"].net(voc.DEPLOY, thin=16)
    with pytest.raises(ValueError, match="several images, color, hha"):
        Stitch(late, 2)
    net = load(small(up=True))
    net.params["upscore"][0].data[...] *= 2
    with pytest.raises(ValueError, match="upscore does not interpolate bilinearly"):
        Stitch(small(up=True), 2).scores(net)


# What cannot be rarefied


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: net.layer[6].pooling_param.ClearField("pad"), None),
        (lambda net: setattr(net.layer[6].pooling_param, "pad", 1), "pool2 cannot be rarefied"),
        (lambda net: setattr(net.layer[6].pooling_param, "pool", 1), "pool2 cannot be rarefied"),
        (lambda net: net.layer[4].convolution_param.stride.append(2), "conv2 has a stride of 2 after a layer"),
        (lambda net: net.layer[8].convolution_param.kernel_size.__setitem__(0, 7), "kernel 7 cannot be divided by 4"),
        (lambda net: net.layer[9].crop_param.offset.__setitem__(0, 2), "score would have to crop from -1"),
    ],
)
def test_rarefying_refuses_what_would_compute_something_else(
    change: Callable[[Any], object], message: str | None
) -> None:
    net = small(up=True)
    assert [net.layer[i].name for i in (4, 6, 8, 9)] == ["conv2", "pool2", "upscore", "score"]
    change(net)
    if message is None:
        assert "upscore1" in {layer.name for layer in rarefy(net, ["pool1", "pool2"]).layer}
        return
    with pytest.raises(ValueError, match=message):
        rarefy(net, ["pool1", "pool2"])


def test_rarefying_refuses_a_sum_of_unequal_strides_and_takes_a_strided_convolution(load: Load) -> None:
    net = ablations.fcn(voc.DEPLOY, thin=16, head=heads.fcn16s)
    with pytest.raises(ValueError, match="upscore2's stride 2 and kernel 4 cannot be divided by 4"):
        rarefy(net, ["pool4", "pool5"])
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 2, 20, 20]})
    n.conv = L.Convolution(n.data, num_output=3, kernel_size=2, stride=2)
    n.scores = L.Convolution(n.conv, num_output=2, kernel_size=3, pad=1)
    coarse = load(n.to_proto())
    fine = load(rarefy(n.to_proto(), ["conv"]), coarse)
    values = image(2, 20, 20)
    ours, theirs = run(fine, values, "scores"), run(coarse, values, "scores")
    assert difference(ours[:, :, 2:-2:2, 2:-2:2], theirs[:, :, 1:-1, 1:-1]) < 1e-5
    n.other = L.Convolution(n.data, num_output=3, kernel_size=2, stride=2)
    n.sum = L.Eltwise(n.conv, n.other)
    with pytest.raises(ValueError, match="sum joins blobs that would differ in stride: conv, other"):
        rarefy(n.to_proto(), ["conv"])
