"""layers.py: NYUDv2, SIFT Flow, PASCAL-Context and one's own folder, each on small files in the real layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

import caffe
import layers
import vis

SPATIAL = "spatial_envelope_256x256_static_8outdoorcategories"


def picture(seed: int, height: int = 7, width: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), dtype=np.uint8)


def raw_labels(seed: int, most: int, height: int = 7, width: int = 9) -> np.ndarray:
    """Return labels from 0 to `most`, among them both, as a dataset's files hold them."""
    drawn = np.random.default_rng(seed).integers(0, most + 1, (height, width))
    drawn[0, :3] = 0, 1, most
    return drawn


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def save_mat(path: Path, **variables: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, variables)


def seen(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(np.float64)


def net_of(tmp_path: Path, layer: str, blobs: list[str], **settings: object) -> caffe.Net:
    path = tmp_path / "net.prototxt"
    path.write_text(
        f'layer {{ name: "data" type: "Python" {" ".join(f"top: {json.dumps(top)}" for top in blobs)} '
        f'python_param {{ module: "layers" layer: "{layer}" param_str: {json.dumps(str(settings))} }} }}'
    )
    return caffe.Net(str(path), caffe.TEST)


# NYUDv2


@pytest.fixture
def nyud(tmp_path: Path) -> Path:
    root = tmp_path / "nyud"
    for i, image_id in enumerate(("5001", "5002", "5003")):
        save(root / "data" / "images" / f"img_{image_id}.png", picture(i))
        save(root / "data" / "hha" / f"img_{image_id}.png", picture(10 + i))
        save(root / "data" / "depth" / f"img_{image_id}.png", picture(i)[:, :, 0].astype(np.uint16) * 40)
        save_mat(root / "segmentation" / f"img_{image_id}.mat", segmentation=raw_labels(i, 40).astype(np.uint8))
    (root / "train.txt").write_text("5002\n")
    (root / "val.txt").write_text("5001\n")
    (root / "test.txt").write_text("5003\n5001\n")
    return root


def nyud_net(tmp_path: Path, nyud: Path, tops: list[str], split: str = "test", **settings: object) -> caffe.Net:
    return net_of(tmp_path, "NYUDSegDataLayer", tops, nyud_dir=str(nyud), split=split, tops=tops, **settings)


def test_nyud_gives_color_depth_hha_and_label(tmp_path, nyud):
    net = nyud_net(tmp_path, nyud, ["color", "depth", "hha", "label"])
    net.forward()
    color, depth, hha, label = (net.blobs[top].data[0] for top in ("color", "depth", "hha", "label"))
    rgb = seen(nyud / "data/images/img_5003.png")
    np.testing.assert_allclose(color, (rgb[:, :, ::-1] - (116.190, 97.203, 92.318)).transpose(2, 0, 1), atol=1e-4)
    np.testing.assert_allclose(depth[0], np.log(seen(nyud / "data/depth/img_5003.png")) - 7.844, atol=1e-5)
    stored = seen(nyud / "data/hha/img_5003.png")  # no channel is swapped
    np.testing.assert_allclose(hha, (stored - (132.431, 94.076, 118.477)).transpose(2, 0, 1), atol=1e-4)
    raw = raw_labels(2, 40)
    assert np.array_equal(label[0], np.where(raw == 0, 255, raw - 1))
    assert label[0, 0, :3].tolist() == [255, 0, 39]


@pytest.mark.parametrize("tops", [["hha", "label"], ["label", "depth"], ["depth"], ["color", "hha", "label"]])
def test_nyuds_tops_are_those_asked_for_in_their_order(tmp_path, nyud, tops):
    everything = nyud_net(tmp_path, nyud, ["color", "depth", "hha", "label"])
    everything.forward()
    net = nyud_net(tmp_path, nyud, tops)
    net.forward()
    assert list(net.blobs) == tops
    for top in tops:
        assert np.array_equal(net.blobs[top].data, everything.blobs[top].data)


def test_nyuds_mean_is_colors_and_scale_leaves_the_logarithm(tmp_path, nyud):
    tops = ["color", "depth", "hha"]
    plain, scaled = (nyud_net(tmp_path, nyud, tops, mean=(0, 0, 0), scale=s) for s in (1, 0.5))
    plain.forward()
    scaled.forward()
    blobs = plain.blobs
    assert np.array_equal(blobs["color"].data[0], picture(2)[:, :, ::-1].transpose(2, 0, 1))
    for top, factor in (("color", 0.5), ("depth", 1), ("hha", 0.5)):
        assert np.array_equal(scaled.blobs[top].data, blobs[top].data * np.float32(factor))


def test_nyuds_trainval_is_its_list_or_else_train_and_val(tmp_path, nyud):
    def ids() -> list[str]:
        return nyud_net(tmp_path, nyud, ["color"], "trainval").layers[0].ids

    assert ids() == ["5002", "5001"]
    (nyud / "trainval.txt").write_text("5003\n")
    assert ids() == ["5003"]
    (nyud / "trainval.txt").unlink()
    (nyud / "val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"trainval.txt.*splits test, train.*datasets fetch nyud`"):
        ids()


def test_nyuds_wrong_files_are_named(tmp_path, nyud):
    save_mat(nyud / "segmentation/img_5003.mat", segmentation=np.full((7, 9), 41))
    with pytest.raises(ValueError, match=r"img_5003.mat has labels from 41 to 41: expected whole numbers from 0 to 40"):
        nyud_net(tmp_path, nyud, ["color", "label"]).forward()
    save_mat(nyud / "segmentation/img_5003.mat", labels=np.ones((7, 9)))
    with pytest.raises(ValueError, match=r"img_5003.mat has no variable segmentation"):
        nyud_net(tmp_path, nyud, ["color", "label"]).forward()
    (nyud / "data/hha/img_5003.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"The HHA image of image 5003 is missing: .*hha/img_5003.png"):
        nyud_net(tmp_path, nyud, ["color", "hha"]).forward()
    save(nyud / "data/depth/img_5003.png", np.zeros((7, 9), np.uint16))
    with pytest.raises(ValueError, match=r"depth/img_5003.png has 63 pixels whose depth is 0"):
        nyud_net(tmp_path, nyud, ["depth"]).forward()
    save(nyud / "data/depth/img_5003.png", np.ones((9, 7), np.uint16))
    with pytest.raises(ValueError, match=r"images/img_5003.png is 9 x 7 .* its depth image .*img_5003.png is 7 x 9"):
        nyud_net(tmp_path, nyud, ["depth", "color"][::-1]).forward()
    save_mat(nyud / "segmentation/img_5003.mat", segmentation=np.ones((3, 9)))
    with pytest.raises(ValueError, match=r"images/img_5003.png is 9 x 7 .* its label .*img_5003.mat is 9 x 3\."):
        nyud_net(tmp_path, nyud, ["label", "color"]).forward()


@pytest.mark.parametrize(("layer", "tops"), [("NYUDSegDataLayer", ["color", "label"]), ("SIFTFlowSegDataLayer", [])])
def test_without_a_background_nothing_can_be_masked(tmp_path, nyud, layer, tops):
    settings: dict[str, object] = {"nyud_dir": str(nyud), "tops": tops} if tops else {"siftflow_dir": "x"}
    with pytest.raises(ValueError, match=rf"{layer} cannot mask.*no background class"):
        net_of(tmp_path, layer, tops or ["data", "sem", "geo"], split="test", mask="foreground", **settings)


# SIFT Flow


@pytest.fixture
def siftflow(tmp_path: Path) -> Path:
    root = tmp_path / "sift-flow"
    for i, image_id in enumerate(("coast_natu975", "street_par8")):
        save(root / "Images" / SPATIAL / f"{image_id}.jpg", picture(i))
        save_mat(root / "SemanticLabels" / SPATIAL / f"{image_id}.mat", S=raw_labels(i, 33).astype(np.uint8))
        geometric = raw_labels(i, 3).astype(np.int16)
        geometric[1, 1] = -1
        save_mat(root / "GeoLabels" / SPATIAL / f"{image_id}.mat", S=geometric)
    (root / "test.txt").write_text("street_par8\ncoast_natu975\n")
    return root


def siftflow_net(tmp_path: Path, siftflow: Path, tops: int = 3, **settings: object) -> caffe.Net:
    names = ["data", "sem", "geo"][:tops]
    return net_of(tmp_path, "SIFTFlowSegDataLayer", names, siftflow_dir=str(siftflow), split="test", **settings)


def test_siftflow_gives_the_image_and_both_kinds_of_labels(tmp_path, siftflow):
    net = siftflow_net(tmp_path, siftflow)
    net.forward()
    rgb = seen(siftflow / "Images" / SPATIAL / "street_par8.jpg")
    expected = (rgb[:, :, ::-1] - (114.578, 115.294, 108.353)).transpose(2, 0, 1)
    np.testing.assert_allclose(net.blobs["data"].data[0], expected, atol=1e-4)
    sem, geo = net.blobs["sem"].data[0, 0], net.blobs["geo"].data[0, 0]
    raw = raw_labels(1, 33)
    assert np.array_equal(sem, np.where(raw == 0, 255, raw - 1))
    raw = raw_labels(1, 3)
    raw[1, 1] = 0  # where the file has -1
    assert np.array_equal(geo, np.where(raw == 0, 255, raw - 1))
    assert sem.max() == 255 and set(np.unique(geo)) == {0, 1, 2, 255}
    layer = net.layers[0]
    for top, blob in (("sem", sem), ("geo", geo)):
        assert np.array_equal(layer.truth("street_par8", top), blob)
    assert layer.image_file("street_par8").is_file()


def test_siftflow_has_three_tops(tmp_path, siftflow):
    with pytest.raises(ValueError, match=r"has 3 tops \(data, sem, geo\) and no bottom; the prototxt gives it 2 and 0"):
        siftflow_net(tmp_path, siftflow, 2)


def test_siftflows_wrong_files_are_named(tmp_path, siftflow):
    geo = siftflow / "GeoLabels" / SPATIAL / "street_par8.mat"
    save_mat(geo, S=np.full((7, 9), 4))
    with pytest.raises(ValueError, match=r"GeoLabels.*street_par8.mat has labels from 4 to 4: .* from -1 to 3"):
        siftflow_net(tmp_path, siftflow).forward()
    geo.unlink()
    with pytest.raises(FileNotFoundError, match=r"The geometric label of image street_par8.*datasets fetch siftflow`"):
        siftflow_net(tmp_path, siftflow).forward()
    sem = siftflow / "SemanticLabels" / SPATIAL / "street_par8.mat"
    save_mat(sem, S=np.full((7, 9), -1))
    with pytest.raises(ValueError, match=r"SemanticLabels.*street_par8.mat has labels from -1 to -1"):
        siftflow_net(tmp_path, siftflow).forward()


# PASCAL-Context

# A part of the real list: three of these the list of the 59 calls otherwise, one has a blank.
CONTEXT = ("aeroplane", "air conditioner", "bedclothes", "cloth", "dog", "sign", "table", "wood")


def write_names(path: Path, names: tuple[str, ...], first: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{number}: {name}\n" for number, name in enumerate(names, first)))


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """Return the folder of the annotations; the images are in pascal/VOC2010, beside it."""
    root = tmp_path / "pascal-context"
    voc = tmp_path / "pascal" / "VOC2010"
    for i, image_id in enumerate(("2008_000002", "2008_000007")):
        save(voc / "JPEGImages" / f"{image_id}.jpg", picture(i, 6, 4))
        save_mat(root / "trainval" / f"{image_id}.mat", LabelMap=raw_labels(i, 8, 6, 4).astype(np.uint16))
    main = voc / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / "val.txt").write_text("2008_000007\n2008_000002\n")
    write_names(root / "labels.txt", CONTEXT)
    write_names(root / "59_labels.txt", ("aeroplane", "diningtable", "dog", "clothes", "bedcloth"))
    return root


def context_net(tmp_path: Path, context: Path, **settings: object) -> caffe.Net:
    settings = {"voc_dir": str(context.parent / "pascal"), "context_dir": str(context), "split": "val", **settings}
    return net_of(tmp_path, "PASCALContextSegDataLayer", ["data", "label"], **settings)


def test_context_gives_the_tasks_classes_and_background_for_all_else(tmp_path, context):
    net = context_net(tmp_path, context)
    net.forward()
    rgb = seen(context.parent / "pascal/VOC2010/JPEGImages/2008_000007.jpg")
    expected = (rgb[:, :, ::-1] - (104.007, 116.669, 122.679)).transpose(2, 0, 1)
    np.testing.assert_allclose(net.blobs["data"].data[0], expected, atol=1e-4)
    # aeroplane 1, table 2, dog 3, cloth 4, bedclothes 5; air conditioner, sign, wood and the file's 0 are background.
    classes = np.array([0, 1, 0, 5, 4, 3, 0, 2, 0])
    raw = raw_labels(1, 8, 6, 4)
    assert set(np.unique(raw)) == set(range(9))
    assert np.array_equal(net.blobs["label"].data[0, 0], classes[raw])
    assert net.layers[0].class_names == ("background", "aeroplane", "diningtable", "dog", "clothes", "bedcloth")


def test_contexts_classes_may_be_those_of_the_users_own_list(tmp_path, context):
    (context / "33_labels.txt").write_text("0: background\n2 :  dog\n\n4: air conditioner\n")
    net = context_net(tmp_path, context, classes="33_labels.txt")
    net.forward()
    assert np.array_equal(net.blobs["label"].data[0, 0], np.array([0, 0, 2, 0, 0, 1, 0, 0, 0])[raw_labels(1, 8, 6, 4)])
    assert net.layers[0].class_names == ("background", "dog", "airconditioner")


def test_a_task_without_a_list_is_told_what_it_looks_like(tmp_path, context):
    with pytest.raises(FileNotFoundError, match=r"no .*33_labels.txt, .*does not come with a list.*'1: aeroplane'"):
        context_net(tmp_path, context, classes="33_labels.txt")
    (context / "59_labels.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"59_labels.txt.*datasets fetch voc2010 pascal-context`"):
        context_net(tmp_path, context)
    (context / "labels.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"The list of all labels is missing: there is no .*/labels.txt"):
        context_net(tmp_path, context)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aeroplane\n", "the line 'aeroplane': expected a number, .* such as '1: aeroplane'"),
        ("1: \n", "the line '1:'"),
        ("one: dog\n", "the line 'one: dog'"),
        ("2: dog\n1: wood\n", "the line '1: wood': expected a number, higher than the line before"),
        ("1: dog\n2: d og\n", "has the name 'dog' twice"),
        ("1: dog\n2: cat\n", r"names the class 'cat', which .*/labels.txt does not"),
        ("1: table\n2: diningtable\n", "names one class twice: 'table' and 'diningtable'"),
        ("0: background\n", "names 0 classes"),
        ("\n", "is empty"),
    ],
)
def test_a_wrong_list_of_classes_says_what_is(tmp_path, context, text, message):
    (context / "59_labels.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"59_labels.txt.*{message}"):
        context_net(tmp_path, context)


def test_contexts_wrong_files_are_named(tmp_path, context):
    save_mat(context / "trainval/2008_000007.mat", LabelMap=np.full((6, 4), 9))
    with pytest.raises(ValueError, match=r"2008_000007.mat has labels from 9 to 9: expected whole numbers from 0 to 8"):
        context_net(tmp_path, context).forward()
    (context.parent / "pascal/VOC2010/ImageSets/Main/val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"split 'val'.*Main/val.txt.*fetch voc2010 pascal-context"):
        context_net(tmp_path, context)


# One's own folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    save(root / "images" / "a.JPG", picture(0))
    save(root / "images" / "deep" / "b.c.png", picture(1))
    for name, value in (("a", 2), ("deep/b.c", 0)):
        path = root / "labels" / f"{name}.png"
        label = np.full((7, 9), value, np.uint8)
        label[0] = 255
        vis.save_labels(path, label)
    (root / "train.txt").write_text("a\ndeep/b.c\n")
    return root


def own_net(tmp_path: Path, own: Path, **settings: object) -> caffe.Net:
    settings = {"folder": str(own), "split": "train", "mean": (1, 2, 3), "classes": 3, "randomize": False, **settings}
    return net_of(tmp_path, "FolderSegDataLayer", ["data", "label"], **settings)


def test_a_folder_of_ones_own_is_read(tmp_path, own):
    net = own_net(tmp_path, own)
    net.forward()
    assert set(np.unique(net.blobs["label"].data)) == {2, 255}
    net.forward()
    expected = picture(1)[:, :, ::-1].astype(np.float32) - (1, 2, 3)
    assert np.array_equal(net.blobs["data"].data[0], expected.transpose(2, 0, 1))
    assert set(np.unique(net.blobs["label"].data)) == {0, 255}


def test_a_label_of_ones_own_may_end_in_capitals(tmp_path, own):
    (own / "labels" / "a.png").rename(own / "labels" / "a.PNG")
    net = own_net(tmp_path, own)
    net.forward()
    assert set(np.unique(net.blobs["label"].data)) == {2, 255}


def test_labels_of_more_classes_than_there_are_are_refused(tmp_path, own):
    with pytest.raises(ValueError, match=r"labels/a.png has the label 2 \(54 of 63 .*2 classes: expected 0 to 1"):
        own_net(tmp_path, own, classes=2).forward()


def test_labels_in_colors_are_refused_with_what_to_do(tmp_path, own):
    save(own / "labels" / "a.png", picture(3))
    with pytest.raises(ValueError, match=r"labels/a.png is an image of mode RGB.*vis.labels_from_colors"):
        own_net(tmp_path, own).forward()


def test_images_and_labels_that_are_missing_or_there_twice_are_named_at_once(tmp_path, own):
    save(own / "images" / "a.png", picture(0))
    with pytest.raises(ValueError, match=r"several images of the id a: a.JPG, a.png"):
        own_net(tmp_path, own)
    (own / "train.txt").write_text("a.jpg\n" + "".join(f"x{i}\n" for i in range(9)))
    with pytest.raises(
        FileNotFoundError, match=r"lacks a.jpg, x0, x1, x2, x3 and 5 more of the 10 .* without a suffix"
    ):
        own_net(tmp_path, own)
    (own / "train.txt").write_text("deep/b.c\n")
    (own / "labels/deep/b.c.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks the labels of deep/b.c of the 1 images"):
        own_net(tmp_path, own)
    with pytest.raises(FileNotFoundError, match=r"split 'val'.*no .*val.txt. The folder has the splits train"):
        own_net(tmp_path, own, split="val")


def test_all_layers_that_prototxts_name_are_in_the_module():
    for name in layers.__all__:
        assert hasattr(layers, name)
