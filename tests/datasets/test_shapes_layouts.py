"""The files of the generated set `shapes`, read as the data sets' own are: with scipy and Pillow, by their lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

import vis
from datasets import landscapes, layouts, rooms, scenes, shapes

SMALL = shapes.Parameters(train=9, val=5, size=64, seed=3)
OUTDOOR = "spatial_envelope_256x256_static_8outdoorcategories"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All layouts of a small set; not to be changed."""
    out = tmp_path_factory.mktemp("made") / "shapes"
    for layout in ("voc", "nyud", "siftflow", "pascalcontext"):
        shapes.make(out, SMALL, layout, processes=1)
    return out


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def picture(path: Path, form: str, mode: str, width: int, height: int) -> np.ndarray:
    image = Image.open(path)
    assert (image.format, image.mode, image.size) == (form, mode, (width, height))
    return np.asarray(image)


# VOC and SBD


@pytest.mark.slow
def test_sbd_s_files_are_those_of_its_lists(made: Path) -> None:
    root = made / "sbdd/dataset"
    train, val = lines(root / "train.txt"), lines(root / "val.txt")
    assert (len(train), len(val)) == (9, 5)
    assert not set(train) & set(val)
    for ident in train + val:
        picture(root / "img" / f"{ident}.jpg", "JPEG", "RGB", 64, 64)
        label = loadmat(root / "cls" / f"{ident}.mat")["GTcls"][0]["Segmentation"][0]
        assert (label.dtype, label.shape) == (np.uint8, (64, 64))
        assert set(np.unique(label)) <= {0, 1, 2, 3, 4, 5, 255}


def test_voc_s_files_are_those_of_its_lists(made: Path) -> None:
    root = made / "pascal/VOC2011"
    splits = {
        split: lines(root / "ImageSets/Segmentation" / f"{split}.txt") for split in ("train", "val", "seg11valid")
    }
    assert splits["train"] == lines(made / "sbdd/dataset/train.txt")
    assert splits["seg11valid"] == splits["val"] == [f"val_{i:05d}" for i in range(5)]
    for ident in splits["train"] + splits["val"]:
        picture(root / "JPEGImages" / f"{ident}.jpg", "JPEG", "RGB", 64, 64)
        label = picture(root / "SegmentationClass" / f"{ident}.png", "PNG", "P", 64, 64)
        assert set(np.unique(label)) <= {0, 1, 2, 3, 4, 5, 255}
        sbd = loadmat(made / "sbdd/dataset/cls" / f"{ident}.mat")["GTcls"][0]["Segmentation"][0]
        np.testing.assert_array_equal(label, sbd)


def test_voc_s_labels_have_its_palette(made: Path) -> None:
    palette = Image.open(made / "pascal/VOC2011/SegmentationClass/val_00000.png").getpalette()
    assert palette is not None
    # VOC's first classes (black, maroon, green, olive, navy, purple) and its void, cream.
    assert palette[:18] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128]
    assert palette[3 * 255 :] == [224, 224, 192]


@pytest.mark.slow
def test_of_many_images_the_other_layout_holds_a_hundred(tmp_path: Path) -> None:
    shapes.make(tmp_path, shapes.Parameters(train=102, val=101, size=48), processes=1)
    sbd, voc = tmp_path / "sbdd/dataset", tmp_path / "pascal/VOC2011"
    counted = {path: len(lines(path)) for path in (sbd / "train.txt", sbd / "val.txt", *voc.glob("ImageSets/*/*.txt"))}
    assert sorted(counted.values()) == [100, 100, 101, 101, 102]
    assert len(list((sbd / "img").iterdir())) == len(list((sbd / "cls").iterdir())) == 202
    assert len(list((voc / "JPEGImages").iterdir())) == len(list((voc / "SegmentationClass").iterdir())) == 201
    assert lines(voc / "ImageSets/Segmentation/train.txt") == lines(sbd / "train.txt")[:100]


# NYUDv2


def test_nyud_s_files_are_those_of_its_lists(made: Path) -> None:
    root = made / "nyud"
    train, val, trainval, test = (lines(root / f"{split}.txt") for split in ("train", "val", "trainval", "test"))
    assert trainval == train + val == [str(number) for number in (5001, 5002, 5003, 5004, 5005, 5007, 5008, 5009, 5010)]
    assert test == ["5006", "5012", "5018", "5024", "5030"]
    assert (len(train), len(val)) == (5, 4)
    assert len({*trainval, *test}) == 14
    seen = set()
    for ident in trainval + test:
        picture(root / f"data/images/img_{ident}.png", "PNG", "RGB", 64, 48)
        picture(root / f"data/hha/img_{ident}.png", "PNG", "RGB", 64, 48)
        depth = picture(root / f"data/depth/img_{ident}.png", "PNG", "I;16", 64, 48)
        assert 500 < depth.min() < depth.max() < 10_000
        label = loadmat(root / f"segmentation/img_{ident}.mat")["segmentation"]
        assert label.shape == (48, 64)
        seen |= set(np.unique(label))
    assert 0 in seen
    assert 8 < len(seen) <= 41
    assert max(seen) <= 40


def test_nyud_s_ids_never_meet() -> None:
    nyud = shapes.LAYOUTS["nyud"]
    idents = [nyud.ident(split, index) for split in ("train", "val") for index in range(2000)]
    assert len(set(idents)) == 4000


# SIFT Flow


def test_sift_flow_s_files_are_those_of_its_lists(made: Path) -> None:
    root = made / "sift-flow"
    trainval, test = lines(root / "trainval.txt"), lines(root / "test.txt")
    assert (len(trainval), len(test)) == (9, 5)
    assert len({*trainval, *test}) == 14
    assert {ident.split("_")[0] for ident in trainval} == set(landscapes.CATEGORIES)
    semantic_seen, geometric_seen = set(), set()
    for ident in trainval + test:
        picture(root / "Images" / OUTDOOR / f"{ident}.jpg", "JPEG", "RGB", 64, 64)
        semantic = loadmat(root / "SemanticLabels" / OUTDOOR / f"{ident}.mat")["S"]
        geometric = loadmat(root / "GeoLabels" / OUTDOOR / f"{ident}.mat")["S"]
        assert semantic.shape == geometric.shape == (64, 64)
        semantic_seen |= set(np.unique(semantic))
        geometric_seen |= set(np.unique(geometric))
    assert geometric_seen == {-1, 0, 1, 2, 3}
    assert semantic_seen < set(range(34))
    assert len(semantic_seen) > 10
    # Nor are a desert and the moon in the real test set.
    assert not semantic_seen & {11, 16}


def test_sift_flow_s_own_list_names_the_test_images_files(made: Path) -> None:
    root = made / "sift-flow"
    assert lines(root / "TestSet1.txt") == [f"{OUTDOOR}\\{ident}.jpg" for ident in lines(root / "test.txt")]


# PASCAL-Context


def test_context_s_files_are_those_of_its_lists(made: Path) -> None:
    voc, context = made / "pascal/VOC2010", made / "pascal-context"
    train, val = (lines(voc / "ImageSets/Main" / f"{split}.txt") for split in ("train", "val"))
    assert (len(train), len(val)) == (9, 5)
    assert not set(train) & set(val)
    for place, ident in enumerate([*train, *val]):
        # Images of several sizes, as VOC's are.
        upright = (place if ident in train else place - 9) % 2
        width, height = (48, 64) if upright else (64, 48)
        picture(voc / "JPEGImages" / f"{ident}.jpg", "JPEG", "RGB", width, height)
        label = loadmat(context / "trainval" / f"{ident}.mat")["LabelMap"]
        assert label.shape == (height, width)
        assert 1 <= label.min() < label.max() <= 459


def named(path: Path) -> list[str]:
    numbers, names = zip(*(line.split(": ") for line in lines(path)), strict=True)
    assert numbers == tuple(str(number) for number in range(1, len(names) + 1))
    return list(names)


def test_context_s_names_are_459_and_hold_the_59_three_of_them_otherwise(made: Path) -> None:
    labels = named(made / "pascal-context/labels.txt")
    classes = named(made / "pascal-context/59_labels.txt")
    assert len(labels) == len(set(labels)) == 459
    assert labels == sorted(labels)
    assert classes == list(vis.CLASSES["pascalcontext"][1:])
    assert [name for name in classes if name not in labels] == ["diningtable", "clothes", "bedcloth"]
    assert {"table", "cloth", "bedclothes"} < set(labels)


def test_context_s_scenes_show_the_renamed_classes_and_names_outside_the_59(tmp_path: Path) -> None:
    shapes.make(tmp_path, shapes.Parameters(train=24, val=1, size=96), "pascalcontext", processes=1)
    labels = named(tmp_path / "pascal-context/labels.txt")
    maps = [loadmat(path)["LabelMap"] for path in (tmp_path / "pascal-context/trainval").iterdir()]
    shown = {labels[number - 1] for one in maps for number in np.unique(one)}
    assert {"table", "cloth", "bedclothes"} < shown
    outside = shown - set(vis.CLASSES["pascalcontext"]) - {"table", "cloth", "bedclothes"}
    assert outside == {"sun", "sand", "field"}
    stand_in = set(named(tmp_path / "pascal-context/33_labels.txt"))
    assert len(stand_in) == 33
    assert shown - outside - {"table", "cloth", "bedclothes"} < stand_in < set(vis.CLASSES["pascalcontext"])


# The writers


def test_labels_survive_their_files(tmp_path: Path) -> None:
    drawn = scenes.draw(np.random.default_rng(0), 64)
    layouts.write_sbd(tmp_path / "sbd", "a", drawn.image, drawn.label)
    layouts.write_voc(tmp_path / "voc", "a", drawn.image, drawn.label)
    stored = loadmat(tmp_path / "sbd/cls/a.mat")["GTcls"][0]["Segmentation"][0]
    np.testing.assert_array_equal(stored, drawn.label)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "voc/SegmentationClass/a.png")), drawn.label)


def test_depth_hha_and_labels_survive_their_files(tmp_path: Path) -> None:
    room = rooms.draw(np.random.default_rng(0), 48, 64)
    layouts.write_nyud(tmp_path, "5001", room.image, room.depth, room.hha, room.label)
    for folder, pixels in (("images", room.image), ("depth", room.depth), ("hha", room.hha)):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"data/{folder}/img_5001.png")), pixels)
    np.testing.assert_array_equal(loadmat(tmp_path / "segmentation/img_5001.mat")["segmentation"], room.label)


def test_signed_and_wide_labels_survive_their_files(tmp_path: Path) -> None:
    scene = landscapes.draw(np.random.default_rng(0), 48, 48, "street")
    label_map = np.arange(48 * 48, dtype=np.uint16).reshape(48, 48) % 460
    layouts.write_sift_flow(tmp_path, "street_a", scene.image, scene.semantic(), scene.geometric())
    layouts.write_context(tmp_path, tmp_path, "b", scene.image, label_map)
    np.testing.assert_array_equal(
        loadmat(tmp_path / "SemanticLabels" / OUTDOOR / "street_a.mat")["S"], scene.semantic()
    )
    np.testing.assert_array_equal(loadmat(tmp_path / "GeoLabels" / OUTDOOR / "street_a.mat")["S"], scene.geometric())
    np.testing.assert_array_equal(loadmat(tmp_path / "trainval/b.mat")["LabelMap"], label_map)


def test_compression_changes_little(tmp_path: Path) -> None:
    drawn = scenes.draw(np.random.default_rng(0), 160)
    layouts.write_voc(tmp_path, "a", drawn.image, drawn.label)
    stored = np.asarray(Image.open(tmp_path / "JPEGImages/a.jpg")).astype(int)
    # The camera's noise that is drawn into every image has a standard deviation of about 5 of 255.
    assert np.abs(stored - drawn.image).mean() < 4


@pytest.mark.parametrize(
    ("image", "label", "said"),
    [
        (np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8), "image x: expected H x W x 3 uint8"),
        (np.zeros((4, 5, 3)), np.zeros((4, 5), np.uint8), "found (4, 5, 3) float64"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8), "expected (4, 5) uint8 to fit its image"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), int), "found (4, 5) int64"),
    ],
)
def test_a_writer_refuses_what_does_not_fit(image: np.ndarray, label: np.ndarray, said: str, tmp_path: Path) -> None:
    for write in (layouts.write_sbd, layouts.write_voc):
        with pytest.raises(ValueError, match="x") as error:
            write(tmp_path, "x", image, label)
        assert said in str(error.value)
    assert not list(tmp_path.iterdir())


def test_the_other_writers_refuse_what_does_not_fit(tmp_path: Path) -> None:
    image, label = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)
    depth = np.ones((4, 5), np.uint16)
    with pytest.raises(ValueError, match=r"depth of x: expected \(4, 5\) uint16"):
        layouts.write_nyud(tmp_path, "x", image, label, image, label)
    with pytest.raises(ValueError, match=r"HHA of x: expected \(4, 5, 3\) uint8 .* found \(4, 5\)"):
        layouts.write_nyud(tmp_path, "x", image, depth, label, label)
    with pytest.raises(ValueError, match=r"depth of x: it is 0 somewhere"):
        layouts.write_nyud(tmp_path, "x", image, 0 * depth, image, label)
    with pytest.raises(ValueError, match=r"geometric labels of x: expected \(4, 5\) int16"):
        layouts.write_sift_flow(tmp_path, "x", image, label, label)
    with pytest.raises(ValueError, match=r"label map of x: expected \(4, 5\) uint16"):
        layouts.write_context(tmp_path, tmp_path, "x", image, label)
    assert not list(tmp_path.iterdir())
