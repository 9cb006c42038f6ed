"""infer.py: the labels of an image of any size, and the program's files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import caffe
import infer
import layers
import vis

CLASSES = 3
MEAN = (100.0, 110.0, 120.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An experiment whose score is a 1x1 convolution, with its weights."""
    folder = tmp_path / "tiny-fcn"
    folder.mkdir()
    score = (
        'layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param '
        f"{{ num_output: {CLASSES} kernel_size: 1 }} }}\n"
    )
    settings = {"voc_dir": "../data/VOC2011", "split": "seg11valid", "mean": MEAN, "scale": 0.5}
    (folder / "deploy.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 500, 500] } } }\n' + score
    )
    (folder / "val.prototxt").write_text(
        'layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "layers" '
        f'layer: "VOCSegDataLayer" param_str: {json.dumps(str(settings))} }} }}\n' + score
    )
    net = caffe.Net(str(folder / "deploy.prototxt"), caffe.TEST)
    # The class is the strongest of blue, green and red, over the mean.
    net.params["score"][0].data[...] = np.eye(3).reshape(3, 3, 1, 1)
    net.save(str(folder / "tiny-fcn.caffemodel"))
    return folder


@pytest.fixture
def net(folder: Path) -> caffe.Net:
    return infer.deploy_net(folder, folder / "tiny-fcn.caffemodel")


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def expected(rgb: np.ndarray) -> np.ndarray:
    return (rgb[:, :, ::-1] - np.array(MEAN)).argmax(2)


@pytest.mark.parametrize("size", [(5, 9), (30, 20), (1, 1)])
def test_an_image_of_any_size_is_labelled_pixel_by_pixel(net, size):
    rgb = picture(*size)
    labels = infer.segment(net, rgb, MEAN)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, expected(rgb))
    assert np.array_equal(infer.segment(net, Image.fromarray(rgb), MEAN), labels)


def test_an_earlier_result_stays_as_it_is(net):
    first = infer.segment(net, picture(6, 6), MEAN)
    kept = first.copy()
    infer.segment(net, 255 - picture(6, 6), MEAN)
    assert np.array_equal(first, kept)


def test_what_is_no_image_is_refused(net):
    with pytest.raises(ValueError, match=r"not \(4, 4\) uint8"):
        infer.segment(net, np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"float64"):
        infer.segment(net, np.zeros((4, 4, 3)))


def test_the_program_segments_a_folder_and_goes_on_past_a_damaged_file(folder, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(picture(40, 50)).save(photos / "a.png")
    Image.fromarray(picture(20, 30)).save(photos / "b.PNG")
    (photos / "broken.jpg").write_bytes(b"no image")
    (photos / "notes.txt").write_text("not looked at")
    out = tmp_path / "out"
    assert infer.main([str(photos), "--net", str(folder), "--out", str(out), "--cpu"]) == 1
    assert "broken.jpg cannot be read" in capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "a_overlay.png", "b.png", "b_overlay.png"]
    labels = Image.open(out / "a.png")
    assert labels.mode == "P"
    assert np.array_equal(np.asarray(labels), expected(picture(40, 50)))
    overlay = Image.open(out / "a_overlay.png")
    assert overlay.width > 50  # the picture and its legend
    names = vis.class_names(None, CLASSES)
    assert names[1] in "class 1"


def test_the_program_takes_one_image_and_explicit_weights(folder, tmp_path, monkeypatch, capsys):
    Image.fromarray(picture(8, 8)).save(tmp_path / "one.png")
    weights = (folder / "tiny-fcn.caffemodel").rename(tmp_path / "elsewhere.caffemodel")
    monkeypatch.chdir(folder)  # the experiment it runs in
    assert infer.main([str(tmp_path / "one.png"), "--weights", str(weights), "--out", "result"]) == 0
    assert (folder / "result" / "one.png").is_file()
    assert "class 0, class 1, class 2" in capsys.readouterr().out


def test_images_of_one_name_do_not_overwrite_each_other(folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "a.bmp"):
        Image.fromarray(picture(8, 8)).save(photos / name)
    assert infer.main([str(photos), "--net", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {
        "a.png.png",
        "a.bmp.png",
        "a.png_overlay.png",
        "a.bmp_overlay.png",
    }


def test_what_is_missing_is_said(folder, tmp_path, capsys):
    def said(*options: str) -> str:
        assert infer.main([*options, "--net", str(folder)]) == 1
        return capsys.readouterr().err

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "There is no image in" in said(str(empty))
    assert "There is no image nowhere.jpg" in said("nowhere.jpg")
    photo = tmp_path / "photo.png"
    Image.fromarray(picture(8, 8)).save(photo)
    assert "--alpha is 7.0, expected 0" in said(str(photo), "--alpha", "7")
    assert "is where the images are" in said(str(photo), "--out", str(tmp_path))
    (folder / "deploy.prototxt").unlink()
    assert "python -m nets" in said(str(photo))
    (folder / "tiny-fcn.caffemodel").unlink()
    assert "There are no weights for tiny-fcn" in said(str(photo))


# Several inputs, several heads


def write_experiment(folder: Path, layer: str, settings: dict[str, object], inputs: dict[str, int], net: str) -> None:
    """Write the nets of an experiment, and weights."""
    folder.mkdir(parents=True)
    (folder / "test.prototxt").write_text(
        f'layer {{ name: "data" type: "Python" top: "data" python_param {{ module: "layers" layer: "{layer}" '
        f"param_str: {json.dumps(str(settings))} }} }}\n"
    )
    (folder / "deploy.prototxt").write_text(
        "".join(
            f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: [1, {channels}, 8, 8] '
            "} } }\n"
            for name, channels in inputs.items()
        )
        + net
    )
    made = caffe.Net(str(folder / "deploy.prototxt"), caffe.TEST)
    for blobs in made.params.values():
        channels = np.arange(blobs[0].data.shape[1])
        blobs[0].data[channels % len(blobs[0].data), channels] = 1
    made.save(str(folder / f"{folder.name}.caffemodel"))


CONVOLUTION = (
    'layer {{ name: "{0}" type: "Convolution" bottom: "data" top: "{0}" convolution_param '
    "{{ num_output: {1} kernel_size: 1 }} }}\n"
)


@pytest.fixture
def nyud(tmp_path: Path) -> Path:
    """An experiment that takes a picture and its depth, and gives the first of B, G, R and depth that is largest."""
    folder = tmp_path / "nyud-fcn"
    settings = {"nyud_dir": "../data/nyud", "split": "test", "tops": ["color", "depth", "label"]}
    concat = 'layer { name: "data" type: "Concat" bottom: "color" bottom: "depth" top: "data" }\n'
    net = concat + CONVOLUTION.format("score", 4)
    write_experiment(folder, "NYUDSegDataLayer", settings, {"color": 3, "depth": 1}, net)
    return folder


def test_depth_is_read_as_the_data_layer_reads_it(nyud, tmp_path):
    photos, depths, out = tmp_path / "photos", tmp_path / "depths", tmp_path / "out"
    photos.mkdir()
    depths.mkdir()
    near = np.full((5, 6), 1000, np.uint16)
    near[2:] = 9000
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((5, 6, 3), 90, np.uint8)).save(photos / name)
        Image.fromarray(near).save(depths / name)
    assert infer.main([str(photos), "--depth", str(depths), "--net", str(nyud), "--out", str(out)]) == 0
    values = [*(90 - np.array(layers.NYUDSegDataLayer.default_mean)), 0]
    for depth, row in ((1000, 0), (9000, 4)):
        values[3] = np.log(depth) - layers.NYUDSegDataLayer.LOG_DEPTH_MEAN
        with Image.open(out / "b.png") as labels:
            assert np.asarray(labels)[row, 0] == np.argmax(values)


def test_files_beside_the_image_that_are_missing_or_do_not_fit_are_told(nyud, folder, tmp_path, capsys):
    def said(*options: str) -> str:
        assert infer.main([str(tmp_path / "photo.png"), "--out", str(tmp_path / "out"), *options]) == 1
        return capsys.readouterr().err

    Image.fromarray(picture(5, 6)).save(tmp_path / "photo.png")
    Image.fromarray(np.full((5, 7), 9, np.uint8)).save(tmp_path / "depth.png")
    assert "nyud-fcn needs the image's depth: name it with --depth" in said("--net", str(nyud))
    assert "takes no hha" in said("--net", str(nyud), "--hha", "a.png", "--depth", "b.png")
    assert "tiny-fcn takes no depth" in said("--net", str(folder), "--depth", "b.png")
    assert "depth.png is 7 x 5 pixels, unlike" in said("--net", str(nyud), "--depth", str(tmp_path / "depth.png"))
    photo = tmp_path / "photo.png"
    assert f"There is no nowhere.png, the depth of {photo}." in said("--net", str(nyud), "--depth", "nowhere.png")
    # The depth of one image is none for the others.
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(picture(5, 6)).save(photos / name)
    assert infer.main([str(photos), "--net", str(nyud), "--depth", str(tmp_path / "depth.png")]) == 1
    assert "but there are 2 images: name the folder of theirs" in capsys.readouterr().err


def test_hha_keeps_its_channels_order(tmp_path):
    settings = {"nyud_dir": "../data/nyud", "split": "test", "tops": ["hha", "label"]}
    folder = tmp_path / "hha-fcn"
    write_experiment(folder, "NYUDSegDataLayer", settings, {"data": 3}, CONVOLUTION.format("score", 3))
    hha = picture(7, 8)
    Image.fromarray(hha).save(tmp_path / "hha.png")
    assert infer.main([str(tmp_path / "hha.png"), "--net", str(folder), "--out", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out/hha.png") as labels:
        assert np.array_equal(np.asarray(labels), (hha - np.array(layers.NYUDSegDataLayer.HHA_MEAN)).argmax(2))


def test_every_head_has_a_file_and_the_mean_is_the_data_layer_s(tmp_path):
    settings = {"siftflow_dir": "../data/sift-flow", "split": "test"}
    folder = tmp_path / "siftflow-fcn"
    net = CONVOLUTION.format("score_sem", 33) + CONVOLUTION.format("score_geo", 3)
    write_experiment(folder, "SIFTFlowSegDataLayer", settings, {"data": 3}, net)
    rgb = picture(6, 9)
    Image.fromarray(rgb).save(tmp_path / "photo.png")
    assert infer.main([str(tmp_path / "photo.png"), "--net", str(folder), "--out", str(tmp_path / "out")]) == 0
    names = ["photo.png", "photo_geo.png", "photo_geo_overlay.png", "photo_overlay.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    with Image.open(tmp_path / "out/photo_geo.png") as labels:
        mean = layers.SIFTFlowSegDataLayer.default_mean
        assert np.array_equal(np.asarray(labels), (rgb[:, :, ::-1] - np.array(mean)).argmax(2))


def test_a_deploy_net_of_other_inputs_or_without_scores_is_refused(nyud, tmp_path, capsys):
    Image.fromarray(picture(5, 6)).save(tmp_path / "photo.png")
    text = (nyud / "deploy.prototxt").read_text().replace('"score"', '"other"')
    (nyud / "deploy.prototxt").write_text(text)
    assert infer.main([str(tmp_path / "photo.png"), "--depth", "a.png", "--net", str(nyud)]) == 1
    assert "gives other: expected an input for color and depth, and scores called" in capsys.readouterr().err
