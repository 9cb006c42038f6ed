"""reading/'s image_files.py and mat_files.py: images as a person sees them, labels, and what damage is said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

import vis
from reading import image_files, mat_files

MEAN = (104.00699, 116.66877, 122.67892)


def picture(seed: int, height: int = 7, width: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def labels(seed: int, height: int = 7, width: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([0, 1, 20, 255], np.uint8), (height, width))


def test_network_input_rounds_once_as_a_subtraction_in_place_does():
    rgb = picture(3)
    expected = rgb[:, :, ::-1].astype(np.float32)
    expected -= np.array(MEAN)
    assert np.array_equal(image_files.network_input(rgb, MEAN), expected.transpose(2, 0, 1))


# Images as a person sees them


def read(tmp_path: Path, image: Image.Image, name: str = "image.png", **options: object) -> np.ndarray:
    image.save(tmp_path / name, **options)
    seen = image_files.read_image(tmp_path / name)
    assert seen.mode == "RGB"
    return np.asarray(seen)


def test_grey_is_repeated(tmp_path):
    grey = picture(0)[:, :, 0]
    assert np.array_equal(read(tmp_path, Image.fromarray(grey)), np.repeat(grey[:, :, None], 3, 2))


def test_one_bit_and_palette_images_have_their_colors(tmp_path):
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert read(tmp_path, bits).tolist() == [[[0, 0, 0], [255, 255, 255]]]
    assert read(tmp_path, vis.label_image(np.array([[1, 2]]))).tolist() == [[[128, 0, 0], [0, 128, 0]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_over_white(tmp_path, mode):
    values = [[(9, 9, 9, 255), (9, 9, 9, 0), (9, 9, 9, 128)]]
    image = Image.fromarray(np.array(values, np.uint8), "RGBA").convert(mode)
    assert read(tmp_path, image)[0, :, 0].tolist() == [9, 255, 132]


def test_a_transparent_palette_color_lies_over_white(tmp_path):
    image = vis.label_image(np.array([[1, 2]]))
    assert read(tmp_path, image, transparency=2).tolist() == [[[128, 0, 0], [255, 255, 255]]]


def test_cmyk_has_the_colors_of_its_inks(tmp_path):
    flat = Image.new("RGB", (16, 16), (200, 40, 90))
    seen = read(tmp_path, flat.convert("CMYK"), "image.jpg", quality=100)
    assert np.abs(seen.astype(int) - (200, 40, 90)).max() <= 4


@pytest.mark.parametrize("name", ["image.png", "image.tiff"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, name):
    levels = np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16)
    assert read(tmp_path, Image.fromarray(levels), name)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "image.tiff")
    with pytest.raises(ValueError, match=r"image.tiff has floating-point pixels"):
        image_files.read_image(tmp_path / "image.tiff")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_comes_out_upright(tmp_path, orientation):
    upright = picture(0, 16, 24)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(read(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), exif=exif), upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_matter(tmp_path):
    rgb = picture(0)
    Image.fromarray(rgb).save(tmp_path / "image.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(np.asarray(image_files.read_image(tmp_path / "image.png")), rgb)


# Labels


def test_grey_labels_of_eight_and_sixteen_bits_are_indices(tmp_path):
    for depth in (np.uint8, np.uint16):
        Image.fromarray(labels(0).astype(depth)).save(tmp_path / "label.png")
        assert np.array_equal(image_files.read_index_image(tmp_path / "label.png"), labels(0))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "1"])
def test_colored_labels_are_refused_with_what_to_do(tmp_path, mode):
    vis.label_image(labels(0)).convert("RGBA").convert(mode).save(tmp_path / "label.png")
    with pytest.raises(ValueError, match=rf"label.png is an image of mode {mode}.*labels_from_colors"):
        image_files.read_index_image(tmp_path / "label.png")


def test_labels_beyond_a_byte_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 256]], np.uint16)).save(tmp_path / "label.png")
    with pytest.raises(ValueError, match="labels from 0 to 256"):
        image_files.read_index_image(tmp_path / "label.png")


@pytest.mark.parametrize("damage", ["cut", "empty", "html"])
def test_a_damaged_mat_file_is_named(tmp_path, damage):
    path = tmp_path / "2008_1.mat"
    scipy.io.savemat(path, {"GTcls": {"Segmentation": labels(1)}, "S": labels(1)})
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "html": b"<html>404</html>" * 20}[damage])
    with pytest.raises(ValueError, match=r"2008_1.mat"):
        mat_files.read_sbd_label(path)
    with pytest.raises(ValueError, match=r"2008_1.mat"):
        mat_files.read_mat_labels(path, "S", 0, 255)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"LabelMap": np.zeros((2, 2))}, "has no variable S"),
        ({"S": np.zeros((2, 2, 3))}, r"S is \(2, 2, 3\) float64, expected H x W"),
        ({"S": np.zeros((0, 2))}, "expected H x W"),
        ({"S": "sky"}, "expected H x W"),
        ({"S": np.array([[0, 34]])}, "labels from 0 to 34: expected whole numbers from -1 to 33"),
        ({"S": np.array([[-2, 3]])}, "labels from -2 to 3"),
        ({"S": np.array([[0, np.nan]])}, "labels from nan to nan"),
        ({"S": np.array([[0, 0.5]])}, "expected whole numbers"),
    ],
)
def test_mat_labels_of_another_shape_or_range_are_refused(tmp_path, stored, message):
    scipy.io.savemat(tmp_path / "coast.mat", stored)
    with pytest.raises(ValueError, match=rf"coast.mat.*{message}"):
        mat_files.read_mat_labels(tmp_path / "coast.mat", "S", -1, 33)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.float64])
def test_mat_labels_of_any_numeric_type_are_read(tmp_path, dtype):
    stored = np.array([[0, 1], [33, 7]])
    scipy.io.savemat(tmp_path / "coast.mat", {"S": stored.astype(dtype)})
    assert np.array_equal(mat_files.read_mat_labels(tmp_path / "coast.mat", "S", 0, 33), stored)


def test_a_mat_file_of_something_else_is_named(tmp_path):
    scipy.io.savemat(tmp_path / "other.mat", {"LabelMap": labels(1)})
    with pytest.raises(ValueError, match=r"other.mat has no GTcls.Segmentation"):
        mat_files.read_sbd_label(tmp_path / "other.mat")


# Depth


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_depth_is_the_natural_logarithm_of_the_files_values(tmp_path, dtype):
    depth = np.array([[1, 20, 255]], dtype)
    Image.fromarray(depth).save(tmp_path / "depth.png")
    found = image_files.read_log_depth(tmp_path / "depth.png")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.log([[1, 20, 255]]), rtol=1e-6)


def test_depth_with_holes_or_in_colors_is_refused(tmp_path):
    Image.fromarray(np.array([[0, 0, 255]], np.uint16)).save(tmp_path / "holes.png")
    with pytest.raises(ValueError, match=r"holes.png has 2 pixels whose depth is 0.*Fill the holes"):
        image_files.read_log_depth(tmp_path / "holes.png")
    Image.fromarray(picture(0)).save(tmp_path / "colors.png")
    with pytest.raises(ValueError, match=r"colors.png is an image of mode RGB"):
        image_files.read_log_depth(tmp_path / "colors.png")


# Damage of any kind


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Pillow warns of some of the damage
@pytest.mark.parametrize("kind", ["jpg", "png", "tiff", "label.png", "mat"])
def test_a_damaged_file_is_read_or_refused_in_words(tmp_path, kind):
    path = tmp_path / f"file.{kind}"
    if kind == "mat":
        # Compressed, as SBD's own files are: scipy's reader can crash on damage to others.
        scipy.io.savemat(path, {"GTcls": {"Segmentation": labels(0)}}, do_compression=True)
        reader = mat_files.read_sbd_label
    elif kind == "label.png":
        vis.save_labels(path, labels(0))
        reader = image_files.read_index_image
    else:
        Image.fromarray(picture(0, 20, 20)).save(path)
        reader = image_files.read_image
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(80):
        damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else whole)
        for place in rng.integers(0, len(damaged), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            reader(path)
        except ValueError as error:
            assert path.name in str(error)
            refused += 1
    assert refused > 10
