"""vis.py: VOC's colours, palette PNGs and back, overlays, legends, error maps and panels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import vis

LABELS = np.array([[0, 1, 15], [20, 255, 2]], np.uint8)


def test_palette_is_the_voc_development_kits():
    palette = vis.make_palette(256)
    assert palette[[0, 1, 2, 3, 7, 8, 15, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [128, 128, 128],
        [64, 0, 0],
        [192, 128, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]
    assert len(np.unique(palette, axis=0)) == 256
    assert np.array_equal(vis.make_palette(21), palette[:21])


@pytest.mark.parametrize("count", [0, 257])
def test_palette_of_no_or_too_many_classes_is_refused(count):
    with pytest.raises(ValueError, match=str(count)):
        vis.make_palette(count)


def test_class_names_go_by_the_experiments_folder_and_the_number_of_classes():
    assert vis.class_names("voc-fcn8s", 21)[15] == "person"
    assert vis.class_names("/any/where/voc-fcn-googlenet", 21)[20] == "tvmonitor"
    assert vis.class_names("shapes-fcn/8s", 6) == ("background", "disc", "square", "triangle", "ring", "cross")
    assert vis.class_names("voc-fcn8s", 3) == ("class 0", "class 1", "class 2")
    assert vis.class_names(None, 1) == ("class 0",)


@pytest.mark.parametrize(
    ("experiment", "count", "some"),
    [
        ("nyud-fcn/color-32s", 40, {0: "wall", 19: "floor mat", 39: "otherprop"}),
        ("siftflow-fcn/8s", 33, {0: "awning", 8: "cow", 32: "window"}),
        ("siftflow-fcn/8s", 3, {0: "sky", 1: "horizontal", 2: "vertical"}),
        ("pascalcontext-fcn/16s", 60, {0: "background", 11: "diningtable", 28: "clothes", 52: "bedcloth", 59: "wood"}),
        ("cvpr-recipe/nyud-fcn-color-32s", 40, {1: "floor"}),
        ("voc-fcn-ablations/null-background", 21, {0: "background", 20: "tvmonitor"}),
        ("pascalcontext-fcn-33/8s", 34, {0: "class 0", 33: "class 33"}),
    ],
)
def test_every_datasets_classes_have_names(experiment, count, some):
    names = vis.class_names(experiment, count)
    assert len(set(names)) == count
    assert {index: names[index] for index in some} == some


def test_names_may_be_listed_in_the_experiments_folder(tmp_path, monkeypatch):
    folder = tmp_path / "voc-mine"
    folder.mkdir()
    listed = folder / "classes.txt"
    listed.write_text("sky\n\nroad\n")
    assert vis.class_names(folder, 2) == ("sky", "road")
    monkeypatch.chdir(tmp_path)
    assert vis.class_names("voc-mine", 2) == ("sky", "road")
    assert vis.class_names("voc-mine", 3) == ("class 0", "class 1", "class 2")
    assert vis.class_names("voc-mine", 21) == vis.CLASSES["voc"]
    listed.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"classes.txt cannot be read as a list of class names"):
        vis.class_names("voc-mine", 2)


def test_palette_png_holds_the_labels_as_its_pixels(tmp_path):
    path = tmp_path / "made" / "labels.png"
    vis.save_labels(path, LABELS)
    image = Image.open(path)
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), LABELS)
    assert np.array_equal(np.asarray(image.convert("RGB")), vis.color_seg(LABELS, vis.make_palette(21)))


def test_labels_of_any_integer_type_are_saved_but_none_that_a_byte_cannot_hold(tmp_path):
    vis.save_labels(tmp_path / "a.png", LABELS.astype(np.int64))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), LABELS)
    with pytest.raises(ValueError, match="300"):
        vis.save_labels(tmp_path / "b.png", np.full((2, 2), 300))
    with pytest.raises(ValueError, match=r"\(1, 2, 2\)"):
        vis.save_labels(tmp_path / "b.png", np.zeros((1, 2, 2), np.uint8))


def test_colors_are_turned_back_into_labels():
    colors = vis.color_seg(LABELS, vis.make_palette(256))
    assert np.array_equal(vis.labels_from_colors(colors), LABELS)


def test_a_smoothed_picture_of_colors_is_refused_with_the_place():
    colors = vis.color_seg(LABELS, vis.make_palette(256))
    colors[1, 2] = (1, 2, 3)
    with pytest.raises(ValueError, match=r"\(1, 2, 3\) at row 1, column 2"):
        vis.labels_from_colors(colors)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_what_is_no_picture_of_colors_is_refused(mode):
    with pytest.raises(ValueError, match=r"has the shape H x W x 3, not \(2, 3"):
        vis.labels_from_colors(np.asarray(Image.fromarray(LABELS.astype(np.uint8)).convert(mode)))


def test_transparency_is_no_part_of_a_colour():
    colors = vis.color_seg(LABELS, vis.make_palette(256))
    assert np.array_equal(vis.labels_from_colors(np.dstack([colors, LABELS.astype(np.uint8)])), LABELS)


def test_a_label_beyond_the_palette_is_refused_but_void_is_cream():
    assert vis.color_seg(np.array([[255]]), vis.make_palette(2)).tolist() == [[[224, 224, 192]]]
    with pytest.raises(ValueError, match="Label 5"):
        vis.color_seg(np.array([[5]]), vis.make_palette(2))


def test_overlay_paints_classes_and_leaves_background_and_void():
    image = np.full((2, 3, 3), 100, np.uint8)
    painted = vis.vis_seg(image, LABELS, vis.make_palette(21), alpha=0.25)
    assert painted[0, 0].tolist() == painted[1, 1].tolist() == [100, 100, 100]
    assert painted[0, 1].tolist() == [107, 75, 75]  # 3/4 of 100 and 1/4 of (128, 0, 0)
    with pytest.raises(ValueError, match=r"\(2, 3, 3\)"):
        vis.vis_seg(image[:1], LABELS, vis.make_palette(21))


def test_overlay_with_a_legend_is_wider_and_shows_each_class_present():
    image = np.full((40, 50, 3), 255, np.uint8)
    seg = np.zeros((40, 50), np.uint8)
    names = vis.CLASSES["voc"]
    palette = vis.make_palette(21)
    assert vis.overlay(image, seg, names, palette).size == (50, 40)
    seg[:20] = 12
    shown = np.asarray(vis.overlay(image, seg, names, palette, alpha=1))
    assert shown.shape[1] > 50
    legend = shown[:, 50:].reshape(-1, 3)
    assert (legend == palette[12]).all(1).sum() > 100
    assert not (legend == palette[11]).all(1).any()


def test_error_map_tells_right_from_wrong_and_skips_void():
    truth = np.array([[1, 1, 255]], np.uint8)
    assert vis.error_map(truth, np.array([[1, 2, 2]])).tolist() == [[[*vis.RIGHT], [*vis.WRONG], [*vis.UNJUDGED]]]
    with pytest.raises(ValueError, match=r"\(1, 2\)"):
        vis.error_map(truth, np.array([[1, 2]]))


def test_panel_shows_image_predictions_and_truth_from_left_to_right():
    image = np.full((30, 80, 3), 77, np.uint8)
    truth = np.full((30, 80), 3, np.uint8)
    panel = np.asarray(vis.panel(image, truth, {"FCN-8s": np.full((30, 80), 4)}, vis.make_palette(21)))
    palette = vis.make_palette(21)
    middle = panel[-15]
    columns = [np.flatnonzero((middle == color).all(1)) for color in ((77, 77, 77), palette[4], palette[3])]
    assert [len(c) for c in columns] == [80, 80, 80]
    assert columns[0].max() < columns[1].min() <= columns[1].max() < columns[2].min()
    with_errors = vis.panel(image, truth, {"FCN-8s": truth}, palette, errors=True)
    assert with_errors.width > panel.shape[1]
