"""layers.py: the data layers' order of images, their files, their settings, and what they say when these are wrong."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

import caffe
import layers
import vis
from reading.image_order import ImageOrder

MEAN = (104.00699, 116.66877, 122.67892)


def picture(seed: int, height: int = 7, width: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def labels(seed: int, height: int = 7, width: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([0, 1, 20, 255], np.uint8), (height, width))


def write_jpeg(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, quality=95)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A VOC folder of five images, each of another size; the lists hold them in no sorted order."""
    root = tmp_path / "VOC2011"
    ids = ["2007_3", "2007_1", "2007_5", "2007_2", "2007_4"]
    for i, image_id in enumerate(ids):
        write_jpeg(root / "JPEGImages" / f"{image_id}.jpg", picture(i, 7 + i))
        vis.save_labels(root / "SegmentationClass" / f"{image_id}.png", labels(i, 7 + i))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split in ("train", "seg11valid"):
        (lists / f"{split}.txt").write_text("\n".join(ids) + "\n\n")
    return root


@pytest.fixture
def sbd(tmp_path: Path) -> Path:
    root = tmp_path / "sbd"
    write_jpeg(root / "img" / "2008_1.jpg", picture(1))
    (root / "cls").mkdir()
    segmentation = {"Boundaries": np.zeros((20, 1), object), "Segmentation": labels(1), "CategoriesPresent": [[1]]}
    scipy.io.savemat(root / "cls" / "2008_1.mat", {"GTcls": segmentation})
    (root / "train.txt").write_text("2008_1\n")
    return root


def net_of(tmp_path: Path, layer: str, tops: tuple[str, ...] = ("data", "label"), **settings: object) -> caffe.Net:
    param_str = str({"mean": MEAN, **settings})
    path = tmp_path / "net.prototxt"
    path.write_text(
        f'layer {{ name: "data" type: "Python" {" ".join(f"top: {json.dumps(top)}" for top in tops)} '
        f'python_param {{ module: "layers" layer: "{layer}" param_str: {json.dumps(param_str)} }} }}'
    )
    return caffe.Net(str(path), caffe.TRAIN)


def voc_net(tmp_path: Path, voc: Path, split: str = "train", **settings: object) -> caffe.Net:
    return net_of(tmp_path, "VOCSegDataLayer", voc_dir=str(voc), split=split, **settings)


def heights(net: caffe.Net, count: int) -> list[int]:
    """Return the heights of the next images: which of the five each is."""
    found = []
    for _ in range(count):
        net.forward()
        found.append(net.blobs["data"].data.shape[2] - 7)
    return found


def reference_order(seed: int, count: int, images: int) -> list[int]:
    """Return the indices that the reference's layer draws from Python's own generator."""
    generator = random.Random()
    generator.seed(seed)
    return [generator.randint(0, images - 1) for _ in range(count)]


# What the tops hold


def test_voc_layer_gives_bgr_minus_mean_and_palette_indices(tmp_path, voc):
    net = voc_net(tmp_path, voc, "seg11valid")
    net.forward()
    rgb = np.asarray(Image.open(voc / "JPEGImages" / "2007_3.jpg")).astype(np.float64)
    data = net.blobs["data"].data
    assert data.shape == (1, 3, 7, 9) and data.dtype == np.float32
    np.testing.assert_allclose(data[0].transpose(1, 2, 0)[:, :, ::-1] + MEAN[::-1], rgb, atol=1e-4)
    assert net.blobs["label"].data.shape == (1, 1, 7, 9)
    assert np.array_equal(net.blobs["label"].data[0, 0], labels(0))


def test_sbdd_layer_reads_the_segmentation_of_the_mat_file(tmp_path, sbd):
    net = net_of(tmp_path, "SBDDSegDataLayer", sbdd_dir=str(sbd), split="train", seed=1337)
    net.forward()
    assert np.array_equal(net.blobs["label"].data[0, 0], labels(1))
    rgb = np.asarray(Image.open(sbd / "img" / "2008_1.jpg"))
    assert np.array_equal(net.blobs["data"].data[0], layers.network_input(rgb, MEAN))


def test_scale_multiplies_after_the_mean_is_subtracted(tmp_path, voc):
    plain, scaled = (voc_net(tmp_path, voc, "seg11valid", scale=s) for s in (1, 0.25))
    plain.forward()
    scaled.forward()
    assert np.array_equal(scaled.blobs["data"].data, plain.blobs["data"].data / 4)


# The order


def test_training_order_is_what_pythons_random_draws_with_replacement(tmp_path, voc):
    order = reference_order(1337, 40, 5)
    assert any(a == b for a, b in itertools.pairwise(order))
    assert heights(voc_net(tmp_path, voc, seed=1337), 40) == order


def test_the_order_depends_on_nobody_elses_draws(tmp_path, voc):
    net = voc_net(tmp_path, voc, seed=1337)
    random.seed(1)
    before = random.getstate()
    order = heights(net, 10)
    assert random.getstate() == before
    assert order == reference_order(1337, 10, 5)


def test_without_a_train_split_or_with_randomize_off_the_order_is_the_lists(tmp_path, voc):
    assert heights(voc_net(tmp_path, voc, "seg11valid", seed=1337), 7) == [0, 1, 2, 3, 4, 0, 1]
    assert heights(voc_net(tmp_path, voc, "train", seed=1337, randomize=False), 7) == [0, 1, 2, 3, 4, 0, 1]


def test_without_a_seed_the_order_differs_from_run_to_run(tmp_path, voc):
    assert heights(voc_net(tmp_path, voc), 60) != heights(voc_net(tmp_path, voc), 60)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("seed", [1337, None])
def test_an_order_goes_on_from_its_saved_state(shuffle, seed):
    order = ImageOrder(50, shuffle, seed)
    for _ in range(70):
        order.advance()
    state = json.loads(json.dumps(order.state()))
    other = ImageOrder(50, shuffle, seed)
    other.restore(state)

    def next_images(o: ImageOrder) -> list[int]:
        indices = []
        for _ in range(30):
            indices.append(o.index)
            o.advance()
        return indices

    assert next_images(other) == next_images(order)
    assert other.draws == order.draws == 101


def test_draws_number_the_images_of_all_solvers_in_the_order_that_they_share():
    for shuffle in (True, False):
        numbers = []
        for rank in range(3):
            order = ImageOrder(5, shuffle, 1337, rank, 3)
            for _ in range(4):
                numbers.append(order.draws)
                order.advance()
        assert sorted(numbers) == list(range(1, 13))


def loaded_layer(voc: Path, phase: int = caffe.TEST, **settings: object) -> layers.VOCSegDataLayer:
    """Return a layer that is driven by hand: no net runs it ahead."""
    layer = layers.VOCSegDataLayer(caffe.proto.caffe_pb2.LayerParameter())
    layer.phase = phase
    layer.param_str = str({"voc_dir": str(voc), "split": "train", "mean": MEAN, "seed": 1337, **settings})
    layer.setup([], [None, None])
    return layer


@pytest.mark.parametrize(("shuffle", "seed"), [(False, None), (True, 1337)])
def test_solvers_that_train_together_share_out_one_order(shuffle, seed):
    def images(order: ImageOrder, number: int) -> list[int]:
        taken = []
        for _ in range(number):
            taken.append(order.index)
            order.advance()
        return taken

    alone = images(ImageOrder(7, shuffle, seed), 30)
    for ranks in (2, 3):
        orders = [ImageOrder(7, shuffle, seed, rank, ranks) for rank in range(ranks)]
        assert [images(order, 10) for order in orders] == [alone[rank::ranks][:10] for rank in range(ranks)]


def test_a_layer_takes_its_solvers_share_in_training_only(voc, monkeypatch):
    monkeypatch.setattr(caffe, "solver_count", lambda: 3)
    monkeypatch.setattr(caffe, "solver_rank", lambda: 2)
    for phase, share in ((caffe.TRAIN, (2, 3)), (caffe.TEST, (0, 1))):
        layer = loaded_layer(voc, phase)
        assert (layer.order.rank, layer.order.ranks) == share


class Top:
    """A blob as far as a data layer goes."""

    def reshape(self, *shape: int) -> None:
        self.data = np.zeros(shape, np.float32)


def ids_given(layer: layers.SegDataLayer, count: int) -> list[str | None]:
    given = []
    for _ in range(count):
        tops = [Top(), Top()]
        layer.reshape([], tops)
        layer.forward([], tops)
        given.append(layer.current_id)
    return given


def test_a_layer_goes_on_after_the_last_image_it_gave(voc):
    layer = loaded_layer(voc)
    assert layer.state()["image"] is None
    given = ids_given(layer, 12)
    state = json.loads(json.dumps(layer.state()))
    assert state["image"] == given[-1]
    after = ids_given(layer, 8)

    resumed = loaded_layer(voc)
    resumed.set_state(state)
    assert resumed.current_id == given[-1]
    assert ids_given(resumed, 8) == after


def test_reshape_alone_takes_no_image(voc):
    layer, other = loaded_layer(voc), loaded_layer(voc)
    for _ in range(3):
        layer.reshape([], [Top(), Top()])
    assert ids_given(layer, 6) == ids_given(other, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "val"}, "'val'.*'train'"),
        ({"images": 6}, "6 images.*this list has 5"),
        ({"seed": None}, "in order.*shuffled"),
        ({"next": -1}, "does not agree"),
    ],
)
def test_a_state_of_something_else_is_refused(voc, change, message):
    layer = loaded_layer(voc)
    ids_given(layer, 3)
    with pytest.raises(ValueError, match=message):
        loaded_layer(voc).set_state({**layer.state(), **change})


def test_a_state_without_its_parts_is_refused(voc):
    with pytest.raises(ValueError, match="lacks split, image, images, seed, draws, next"):
        loaded_layer(voc).set_state({})


def test_a_wrong_number_of_tops_is_refused(tmp_path, voc):
    with pytest.raises(ValueError, match=r"2 tops \(data, label\) and no bottom; the prototxt gives it 1 and 0"):
        net_of(tmp_path, "VOCSegDataLayer", tops=("data",), voc_dir=str(voc), split="train")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("../data/VOC2011", "/disk/VOC2011"),
        ("../../data/shapes/VOC2011", "/disk/shapes/VOC2011"),
        ("../data", "/disk"),
        ("../database/VOC2011", "../database/VOC2011"),
        ("data/VOC2011", "data/VOC2011"),
        ("/data/VOC2011", "/data/VOC2011"),
    ],
)
def test_the_data_folder_may_be_elsewhere(monkeypatch, path, expected):
    monkeypatch.setenv("FCN_DATA", "/disk")
    assert layers.data_path(path) == Path(expected)
    monkeypatch.delenv("FCN_DATA")
    assert layers.data_path(path) == Path(path)


# Files that are missing or damaged


def test_a_missing_list_is_named_with_how_to_get_the_data(tmp_path, voc):
    with pytest.raises(
        FileNotFoundError, match=r"split 'seg12train'.*Segmentation/seg12train.txt.*datasets fetch voc2011 sbd`"
    ):
        voc_net(tmp_path, voc, "seg12train")
    with pytest.raises(FileNotFoundError, match=r"The folder has the splits .*\btrain\b"):
        voc_net(tmp_path, voc, "seg12train")


@pytest.mark.parametrize(("year", "names"), [("VOC2010", "voc2010"), ("VOC2012", "voc2012"), ("mine", "voc2011 sbd")])
def test_a_missing_year_of_voc_is_to_be_fetched(tmp_path, year, names):
    with pytest.raises(FileNotFoundError, match=rf"--data.*`python -m datasets fetch {names}`"):
        voc_net(tmp_path, tmp_path / year)


def test_missing_generated_data_is_to_be_made(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m datasets make shapes"):
        voc_net(tmp_path, tmp_path / "shapes" / "VOC2011")


def test_an_empty_list_is_refused(tmp_path, voc):
    (voc / "ImageSets/Segmentation/train.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"train.txt is empty"):
        voc_net(tmp_path, voc)


def test_a_missing_image_is_named(voc):
    (voc / "JPEGImages" / "2007_1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"Image 2007_1 .*JPEGImages/2007_1.jpg"):
        loaded_layer(voc).load("2007_1")


def test_a_missing_label_is_named(voc):
    (voc / "SegmentationClass" / "2007_1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"The label of image 2007_1 .*SegmentationClass/2007_1.png"):
        loaded_layer(voc).load("2007_1")


def test_a_missing_mat_file_is_named(tmp_path, sbd):
    (sbd / "cls" / "2008_1.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"The label of image 2008_1 is missing.*datasets fetch sbd`"):
        net_of(tmp_path, "SBDDSegDataLayer", sbdd_dir=str(sbd), split="train")


@pytest.mark.parametrize("damage", ["cut", "empty", "html", "folder"])
def test_a_damaged_image_is_named(voc, damage):
    path = voc / "JPEGImages" / "2007_1.jpg"
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "html": b"<html>404</html>"}[damage])
    with pytest.raises(ValueError, match=r"2007_1.jpg cannot be read as an image"):
        loaded_layer(voc).load("2007_1")


def test_a_net_raises_what_its_data_layer_says(tmp_path, voc):
    net = voc_net(tmp_path, voc, "seg11valid")
    (voc / "JPEGImages" / "2007_2.jpg").write_bytes(b"no image")
    assert heights(net, 3) == [0, 1, 2]
    with pytest.raises(ValueError, match=r"2007_2.jpg cannot be read"):
        net.forward()


def test_a_label_of_another_size_names_both(voc):
    vis.save_labels(voc / "SegmentationClass" / "2007_1.png", labels(1, 5, 4))
    with pytest.raises(ValueError, match=r"2007_1.jpg is 9 x 8 pixels .*2007_1.png is 4 x 5\.$"):
        loaded_layer(voc).load("2007_1")


def test_a_label_that_fits_a_turned_photograph_unturned_is_explained(voc):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(1, 8, 9)).save(voc / "JPEGImages" / "2007_1.jpg", exif=exif)
    with pytest.raises(ValueError, match=r"is 8 x 9 pixels .*is 9 x 8.*EXIF.*turn the label too"):
        loaded_layer(voc).load("2007_1")
    vis.save_labels(voc / "SegmentationClass" / "2007_1.png", np.rot90(labels(1, 8, 9), -1))
    data, label = loaded_layer(voc).load("2007_1")
    assert data.shape == (3, 9, 8) and label.shape == (1, 9, 8)


# A new dataset


class SidewaysLayer(layers.SegDataLayer):
    """A dataset of its own: everything in one folder, labels as .npy."""

    folder_key = "dir"

    def split_file(self) -> Path:
        return self.folder / f"{self.split}.txt"

    def image_file(self, image_id: str) -> Path:
        return self.folder / f"{image_id}.png"

    def label_file(self, image_id: str) -> Path:
        return self.folder / f"{image_id}.npy"

    def read_label(self, path: Path) -> np.ndarray:
        return np.load(path)


def test_a_new_dataset_is_a_short_class(tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", labels(0))
    (tmp_path / "all.txt").write_text("a\n")
    layer = SidewaysLayer(caffe.proto.caffe_pb2.LayerParameter())
    layer.param_str = str({"dir": str(tmp_path), "split": "all", "mean": (0, 0, 0)})
    layer.setup([], [None, None])
    assert ids_given(layer, 2) == ["a", "a"]
    data, label = layer.load("a")
    assert np.array_equal(data, picture(0)[:, :, ::-1].transpose(2, 0, 1))
    assert np.array_equal(label[0], labels(0))
