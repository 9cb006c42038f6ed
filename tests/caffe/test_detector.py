"""caffe.Detector: windows of images, warped to the net's input, with or without what is around them."""

import sys
import types

import numpy as np
import pytest
from PIL import Image

import caffe
from caffe.detector import Detector
from caffe.io import load_image, resize_image

MEANS = """name: "means"
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 3 dim: {channels} dim: 8 dim: 8 }} }} }}
layer {{ name: "mean" type: "Pooling" bottom: "data" top: "mean" pooling_param {{ pool: AVE global_pooling: true }} }}
"""
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)


@pytest.fixture
def build(write, tmp_path):
    """Build a Detector whose prediction is the mean of each channel of the window."""

    def make(channels=3, **options):
        path = write(MEANS.format(channels=channels))
        weights = str(tmp_path / "w.caffemodel")
        caffe.Net(path, caffe.TEST).save(weights)
        return Detector(path, weights, **options)

    return make


@pytest.fixture
def picture(tmp_path):
    path = str(tmp_path / "picture.png")
    Image.fromarray(PIXELS).save(path)
    return path


def test_each_window_is_warped_and_gets_its_prediction(build, picture, tmp_path):
    other = str(tmp_path / "other.png")
    Image.fromarray(255 - PIXELS[:10]).save(other)
    net = build(raw_scale=255, channel_swap=(2, 1, 0), mean=np.array([10.0, 20.0, 30.0]), input_scale=0.1)
    assert isinstance(net, caffe.Net) and net.phase == caffe.TEST
    windows = [(0, 0, 8, 8), np.array([2.0, 3.0, 14.0, 7.0]), [5, 5, 6, 6]]
    asked = ((name, part) for name, part in ((picture, windows), (picture, []), (other, windows[:1])))  # read once
    found = net.detect_windows(asked)
    assert [d["filename"] for d in found] == [picture] * 3 + [other]
    for detection, window in zip(found, [*windows, windows[0]], strict=True):
        assert detection["window"] is window
        top, left, bottom, right = (int(v) for v in window)
        crop = load_image(detection["filename"])[top:bottom, left:right]
        wanted = (255 * resize_image(crop, (8, 8)).mean((0, 1))[::-1] - [10, 20, 30]) * 0.1
        assert np.allclose(detection["prediction"].ravel(), wanted, atol=1e-4)


def test_no_windows_give_no_detections(build, picture):
    assert build().detect_windows([]) == [] and build().detect_windows([(picture, [])]) == []


def test_a_net_of_one_channel_sees_grey(build, picture):
    [found] = build(channels=1).detect_windows([(picture, [(0, 0, 8, 8)])])
    assert np.allclose(found["prediction"].ravel(), load_image(picture, color=False)[:8, :8].mean(), atol=1e-5)


# A window of 4 x 4 in an input of 8 x 8 with 2 pixels of context. Pycaffe's arithmetic, by hand: its half is
# (4 + 1) / 2 * 8 / 4 = 5, so that a window from 4 to 8 reaches from round(6.5 - 5) = 2 to round(6.5 + 5) = 12, which is
# 12 - 2 + 1 = 11 pixels of the image at a scale of 8 / 11.
CONTEXT = {
    "inside": ((4, 4, 8, 8), slice(2, 12), slice(0, 8)),
    "before the border": ((0, 0, 4, 4), slice(0, 8), slice(1, 8)),  # from -2: 2 * 8 / 11 rounded is 1 pixel of mean
    "at the end": ((12, 12, 16, 16), slice(10, 16), slice(0, 5)),  # to 20, where 16 - 10 + 1 pixels become 5
}


@pytest.mark.parametrize("case", CONTEXT)
def test_context_surrounds_a_window_and_the_mean_fills_what_is_beyond_the_image(build, case):
    window, source, target = CONTEXT[case]
    image = PIXELS.astype(np.float32) / 255
    mean = np.array([51.0, 102.0, 204.0])
    net = build(mean=mean, raw_scale=255, channel_swap=(2, 1, 0), context_pad=2)
    assert net.context_pad == 2 and net.crop_dims.tolist() == [8, 8, 3]
    found = net.crop(image, window)
    size = target.stop - target.start
    wanted = np.tile((mean[::-1] / 255).astype(np.float32), (8, 8, 1))  # as pixels are before preprocess
    wanted[target, target] = resize_image(image[source, source], (size, size))
    assert found.dtype == np.float32 and np.allclose(found, wanted, atol=1e-6)
    filled = np.allclose(net.transformer.preprocess("data", found), 0, atol=1e-4)
    assert not filled  # the mean becomes 0, the image does not
    assert np.allclose(net.transformer.preprocess("data", net.crop_mean), 0, atol=1e-4)


def test_context_pads_rows_and_columns_apart(build):
    image = PIXELS.astype(np.float32) / 255
    found = build(context_pad=2).crop(image, np.array([0, 12, 4, 16]))  # above at the border, right at the border
    wanted = np.zeros((8, 8, 3), np.float32)
    wanted[1:, :5] = resize_image(image[0:8, 10:16], (7, 5))
    assert np.allclose(found, wanted, atol=1e-6)


def test_a_mean_image_fills_where_it_is(build):
    mean = np.random.default_rng(1).random((3, 8, 8)).astype(np.float32)
    net = build(mean=mean, context_pad=1)
    assert np.allclose(net.crop_mean, mean.transpose(1, 2, 0))
    found = net.crop(np.ones((4, 4, 3), np.float32), (0, 0, 4, 4))
    assert np.allclose(found[0], net.crop_mean[0]) and (found[3, 3] == 1).all()
    net.crop_mean[...] = 9
    assert (found != 9).all()


def test_context_can_be_set_anew(build):
    net = build()
    image = PIXELS.astype(np.float32) / 255
    assert net.context_pad is None and net.crop(image, (0, 0, 4, 4)).shape == (4, 4, 3)
    net.configure_crop(3)
    assert net.crop(image, (0, 0, 4, 4)).shape == (8, 8, 3)
    for wrong in (4, 5, -1):
        with pytest.raises(ValueError, match=f"A context of {wrong} leaves nothing of an input 8 wide"):
            net.configure_crop(wrong)


@pytest.mark.parametrize("context_pad", [None, 2])
@pytest.mark.parametrize("window", [(3, 3, 3, 9), (20, 20, 30, 30), (5, 5, 2, 2), (-9, -9, -2, -2)])
def test_a_window_without_a_pixel_is_told_with_its_image(build, picture, window, context_pad):
    net = build(context_pad=context_pad)
    with pytest.raises(ValueError, match=r"picture\.png: The window .* holds no pixel of an image of 16 x 16"):
        net.detect_windows([(picture, [window])])


def test_a_sliver_of_image_under_much_context_is_the_mean(build):
    net = build(context_pad=3)
    found = net.crop(np.ones((1, 60, 3), np.float32), (0, 0, 1, 60))
    assert found.shape == (8, 8, 3)


def test_selective_search_says_what_it_needs(build, picture, monkeypatch, tmp_path):
    net = build()
    monkeypatch.setitem(sys.modules, "selective_search_ijcv_with_python", None)
    with pytest.raises(ImportError, match=r"needs selective_search_ijcv_with_python.*clone github\.com/sergeyk"):
        net.detect_selective_search([picture])
    asked = []
    module = types.ModuleType("selective_search_ijcv_with_python")
    module.get_windows = lambda names, cmd: asked.append((names, cmd)) or [np.array([[0, 0, 8, 8]]) for _ in names]
    monkeypatch.setitem(sys.modules, "selective_search_ijcv_with_python", module)
    monkeypatch.chdir(tmp_path)
    found = net.detect_selective_search(["picture.png"])
    assert asked == [([picture], "selective_search_rcnn")]
    assert len(found) == 1 and found[0]["filename"] == picture and found[0]["prediction"].shape == (3, 1, 1)
