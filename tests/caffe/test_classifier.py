"""caffe.Classifier: images of any size to class probabilities, by ten crops or the central one."""

import numpy as np
import pytest

import caffe
from caffe.classifier import Classifier

# Each channel's mean over the input, so that a prediction tells which pixels it was made from.
MEANS = """name: "means"
layer {{ name: "data" type: "Input" top: "data"
        input_param {{ shape {{ dim: {batch} dim: {channels} dim: 4 dim: 6 }} }} }}
layer {{ name: "mean" type: "Pooling" bottom: "data" top: "mean" pooling_param {{ pool: AVE global_pooling: true }} }}
"""
SCORES = (
    MEANS
    + """
layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param {{ num_output: 5 weight_filler {{ type: "gaussian" std: 0.01 }} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "ip" top: "prob" }}
layer {{ name: "s" type: "Silence" bottom: "mean" }}
"""
)


@pytest.fixture
def build(write, tmp_path):
    """Build a Classifier of a text, with weights that another net was saved with."""

    def make(text=MEANS, batch=10, channels=3, **options):
        path = write(text.format(batch=batch, channels=channels))
        caffe.set_random_seed(1)
        caffe.Net(path, caffe.TEST).save(str(tmp_path / "w.caffemodel"))
        caffe.set_random_seed(2)
        return Classifier(path, str(tmp_path / "w.caffemodel"), **options)

    return make


def images(*shapes):
    rng = np.random.default_rng(0)
    return [rng.random(shape).astype(np.float32) for shape in shapes]


def test_it_is_a_net_in_test_phase_with_the_weights_of_the_file(build, tmp_path):
    net = build(SCORES, mean=np.array([1.0, 2.0, 3.0]), input_scale=0.5, raw_scale=255, channel_swap=(2, 1, 0))
    assert isinstance(net, caffe.Net) and net.phase == caffe.TEST
    caffe.set_random_seed(1)
    other = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    assert (net.params["ip"][0].data == other.params["ip"][0].data).all()
    transformer = net.transformer
    assert transformer.inputs == {"data": (10, 3, 4, 6)} and transformer.transpose == {"data": (2, 0, 1)}
    assert transformer.mean["data"].ravel().tolist() == [1, 2, 3] and transformer.channel_swap == {"data": (2, 1, 0)}
    assert transformer.input_scale == {"data": 0.5} and transformer.raw_scale == {"data": 255}
    assert net.crop_dims.tolist() == [4, 6] and list(net.image_dims) == [4, 6]
    assert build().transformer.mean == {}


def test_without_oversampling_the_central_crop_is_classified(build):
    net = build(image_dims=(7, 9), raw_scale=2.0, channel_swap=(2, 1, 0), mean=np.array([1.0, 10.0, 100.0]))
    ours = images((7, 9, 3), (14, 20, 3))
    found = net.predict(ours, oversample=False)
    assert found.shape == (2, 3, 1, 1)
    second = caffe.io.resize_image(ours[1], (7, 9))
    for prediction, image in zip(found, (ours[0], second), strict=True):
        wanted = 2 * image[1:5, 1:7, ::-1].mean((0, 1)) - [1, 10, 100]
        assert np.allclose(prediction.ravel(), wanted, atol=1e-5)


def test_oversampling_averages_ten_crops_of_each_image(build):
    net = build(batch=4, image_dims=[8, 9])  # 30 crops in batches of 4, the last filled up
    ours = images((8, 9, 3), (8, 9, 3), (16, 18, 3))
    found = net.predict(ours)
    assert found.shape == (3, 3)
    for prediction, image in zip(found, [*ours[:2], caffe.io.resize_image(ours[2], (8, 9))], strict=True):
        crops = [image[t : t + 4, s : s + 6] for t in (0, 4) for s in (0, 3)] + [image[2:6, 1:7]]
        assert np.allclose(prediction, np.mean([crop.mean((0, 1)) for crop in crops], axis=0), atol=1e-5)


def test_probabilities_are_the_mean_of_those_of_image_and_mirror(build):
    net = build(SCORES, raw_scale=20)
    [image] = images((9, 5, 3))
    scaled = caffe.io.resize_image(image, (4, 6))
    both = np.stack([scaled, scaled[:, ::-1]]).transpose(0, 3, 1, 2) * 20
    wanted = net.forward_all(data=both)["prob"]
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3
    assert np.allclose(net.predict([image]), wanted.mean(0), atol=1e-6)
    assert np.allclose(net.predict(np.stack([image]), oversample=False), wanted[:1], atol=1e-6)


def test_a_net_of_another_number_of_channels_takes_such_images(build):
    [image] = images((4, 6, 2))
    found = build(channels=2).predict([image], oversample=False)
    assert np.allclose(found.ravel(), image.mean((0, 1)), atol=1e-6)


def test_what_cannot_be_classified_is_told(build, write, tmp_path):
    net = build()
    for wrong in ([], images((4, 6)), images((4, 6, 3))[0]):
        with pytest.raises(ValueError, match=r"predict takes a list of images, each H x W x K \(a single one as"):
            net.predict(wrong)
    small = build(image_dims=(3, 9))
    with pytest.raises(ValueError, match="do not fit"):
        small.predict(images((9, 9, 3)))
    with pytest.raises(ValueError, match="larger than image_dims"):
        small.predict(images((9, 9, 3)), oversample=False)
    with pytest.raises(RuntimeError, match=r"Could not open file .*gone\.caffemodel"):
        Classifier(write(MEANS.format(batch=1, channels=3)), str(tmp_path / "gone.caffemodel"))
    for text in ('name: "empty"', MEANS.format(batch=1, channels=3).replace("dim: 4 dim: 6", "").split("layer")[1]):
        path = write(text if text.startswith("name") else "layer" + text)
        caffe.Net(path, caffe.TEST).save_hdf5(str(tmp_path / "w.h5"))
        with pytest.raises(caffe.CaffeError, match="no image as its first input"):
            Classifier(path, None)
