"""The data tool: the generated set `shapes` is deterministic, well formed, and never mixed nor half there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from datasets import DatasetError, layouts, scenes, shapes
from datasets.__main__ import main

SMALL = shapes.Parameters(train=9, val=5, size=64, seed=3)
SMALL_OPTIONS = ["--train", "9", "--val", "5", "--size", "64", "--seed", "3"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set, made in this process; not to be changed."""
    out = tmp_path_factory.mktemp("made") / "shapes"
    assert shapes.make(out, SMALL, processes=1)
    return out


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of the small set that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "own"))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def sbd_label(root: Path, ident: str) -> np.ndarray:
    label: np.ndarray = loadmat(root / f"sbdd/dataset/cls/{ident}.mat")["GTcls"][0]["Segmentation"][0]
    return label


def scene(seed: int, size: int = 160) -> scenes.Scene:
    return scenes.draw(np.random.default_rng(seed), size)


# Determinism


def test_two_processes_write_the_bytes_that_one_writes(made: Path, tmp_path: Path) -> None:
    shapes.make(tmp_path / "again", SMALL, processes=2)
    assert files(tmp_path / "again") == files(made)


def test_a_second_run_writes_the_same_bytes(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # savemat takes the date from here: a set made tomorrow is the same set.
    monkeypatch.setattr("time.asctime", lambda *when: "Thu Jan  1 00:00:00 1970")
    shapes.make(tmp_path / "again", SMALL, processes=1)
    assert files(tmp_path / "again") == files(made)


def test_an_image_does_not_depend_on_how_many_there_are(made: Path, tmp_path: Path) -> None:
    shapes.make(tmp_path / "fewer", shapes.Parameters(train=2, val=1, size=64, seed=3), processes=1)
    ident = "sbdd/dataset/img/train_00001.jpg"
    assert (tmp_path / "fewer" / ident).read_bytes() == (made / ident).read_bytes()


def test_another_seed_draws_something_else(made: Path, tmp_path: Path) -> None:
    shapes.make(tmp_path / "other", shapes.Parameters(train=1, val=1, size=64, seed=4), processes=1)
    assert (sbd_label(tmp_path / "other", "train_00000") != sbd_label(made, "train_00000")).any()


def test_what_a_seed_draws_changes_only_with_the_version(made: Path) -> None:
    # A set on someone's disk is known by its parameters: if drawing changes, so must VERSION. The images'
    # own digest is not compared, as JPEG encoders differ.
    assert shapes.VERSION == 1
    manifest = json.loads((made / "shapes.json").read_text())
    assert manifest["labels_sha256"].startswith("212faa269c29e6d8")
    image = np.asarray(Image.open(made / "sbdd/dataset/img/train_00000.jpg"))
    np.testing.assert_allclose(image.mean((0, 1)), [97.9, 121.4, 127.7], atol=0.5)


def test_training_and_validation_images_differ(made: Path) -> None:
    training = Image.open(made / "sbdd/dataset/img/train_00000.jpg")
    validation = Image.open(made / "VOC2011/JPEGImages/val_00000.jpg")
    assert (np.asarray(training) != np.asarray(validation)).any()


# Layouts


def test_the_lists_name_every_file_and_no_other(made: Path) -> None:
    train = (made / "sbdd/dataset/train.txt").read_text().splitlines()
    valid = (made / "VOC2011/ImageSets/Segmentation/seg11valid.txt").read_text().splitlines()
    assert len(train) == 9
    assert len(valid) == 5
    expected = {"shapes.json", "sbdd/dataset/train.txt", "VOC2011/ImageSets/Segmentation/seg11valid.txt"}
    expected |= {f"sbdd/dataset/{name}" for i in train for name in (f"img/{i}.jpg", f"cls/{i}.mat")}
    expected |= {f"VOC2011/{name}" for i in valid for name in (f"JPEGImages/{i}.jpg", f"SegmentationClass/{i}.png")}
    assert set(files(made)) == expected


def test_sbd_files_read_as_the_data_layer_reads_them(made: Path) -> None:
    image = Image.open(made / "sbdd/dataset/img/train_00000.jpg")
    label = sbd_label(made, "train_00000")
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))
    assert (label.dtype, label.shape) == (np.uint8, (64, 64))


def test_voc_files_read_as_the_data_layer_reads_them(made: Path) -> None:
    image = Image.open(made / "VOC2011/JPEGImages/val_00000.jpg")
    label = Image.open(made / "VOC2011/SegmentationClass/val_00000.png")
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))
    assert (label.format, label.mode, label.size) == ("PNG", "P", (64, 64))
    palette = label.getpalette()
    assert palette is not None
    # VOC's first classes (black, maroon, green, olive, navy, purple) and its void, cream.
    assert palette[:18] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128]
    assert palette[3 * 255 :] == [224, 224, 192]


def test_labels_survive_their_files(tmp_path: Path) -> None:
    drawn = scene(0, 64)
    layouts.write_sbd(tmp_path / "sbd", "a", drawn.image, drawn.label)
    layouts.write_voc(tmp_path / "voc", "a", drawn.image, drawn.label)
    stored = loadmat(tmp_path / "sbd/cls/a.mat")["GTcls"][0]["Segmentation"][0]
    np.testing.assert_array_equal(stored, drawn.label)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "voc/SegmentationClass/a.png")), drawn.label)


def test_compression_changes_little(tmp_path: Path) -> None:
    drawn = scene(0)
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
    assert not files(tmp_path)


# What is drawn


def test_void_is_one_pixel_on_either_side_of_every_outline() -> None:
    for seed in range(5):
        drawn = scene(seed)
        label, objects = drawn.label, drawn.objects
        for row, column in np.ndindex(objects.shape):
            around = objects[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            on_outline = (around != objects[row, column]).any()
            expected = 255 if on_outline else drawn.classes[objects[row, column]]
            assert label[row, column] == expected, (seed, row, column)


def test_a_straight_outline_has_two_void_pixels_across_it() -> None:
    objects = np.zeros((8, 8), np.uint8)
    objects[:, 4:] = 1
    drawn = scenes.Scene(np.zeros((8, 8, 3), np.uint8), objects, np.array([0, 2], np.uint8))
    np.testing.assert_array_equal(drawn.label, np.tile([0, 0, 0, 255, 255, 2, 2, 2], (8, 1)))


def test_two_objects_of_one_class_are_parted_by_void() -> None:
    objects = np.ones((4, 8), np.uint8)
    objects[:, 4:] = 2
    drawn = scenes.Scene(np.zeros((4, 8, 3), np.uint8), objects, np.array([0, 3, 3], np.uint8))
    np.testing.assert_array_equal(drawn.label, np.tile([3, 3, 3, 255, 255, 3, 3, 3], (4, 1)))


def test_every_class_occurs_and_nothing_else() -> None:
    labels = np.concatenate([scene(seed).label.ravel() for seed in range(30)])
    share = np.bincount(labels, minlength=256) / labels.size
    assert set(np.flatnonzero(share)) == {0, 1, 2, 3, 4, 5, 255}
    assert 0.4 < share[0] < 0.8
    assert (share[1:6] > 0.02).all()


def test_scenes_hold_four_to_six_objects_of_many_sizes() -> None:
    drawn = [scene(seed) for seed in range(40)]
    assert {len(one.classes) - 1 for one in drawn} == {4, 5, 6}
    whole = [np.bincount(one.objects.ravel(), minlength=len(one.classes))[1:] for one in drawn]
    seen = np.concatenate(whole)
    assert (seen > 0).mean() > 0.98
    assert np.quantile(seen, 0.9) > 3 * np.quantile(seen, 0.1)


def test_objects_cover_one_another() -> None:
    touching = 0
    for seed in range(20):
        objects = scene(seed).objects
        left, right = objects[:, :-1], objects[:, 1:]
        touching += bool(((left != right) & (left > 0) & (right > 0)).any())
    assert touching >= 10


def test_colour_does_not_tell_the_class() -> None:
    colours: dict[int, list[np.ndarray]] = {kind: [] for kind in range(1, 6)}
    for seed in range(120):
        drawn = scene(seed, 64)
        for number, kind in enumerate(drawn.classes[1:], 1):
            pixels = drawn.image[drawn.objects == number]
            if len(pixels):
                colours[int(kind)].append(pixels.mean(0))
    means = np.stack([np.mean(colours[kind], 0) for kind in colours])
    spread = np.std(np.concatenate(list(colours.values())), 0).mean()
    # About 120 objects a class: the mean of a class strays from the mean of all by some spread / 11.
    assert np.abs(means - means.mean(0)).max() < 0.4 * spread


@pytest.mark.parametrize("kind", range(1, 6))
def test_an_outline_fits_its_diameter(kind: int) -> None:
    y, x = np.mgrid[-1:1:201j, -1:1:201j]
    inside = scenes.OUTLINES[kind - 1](x, y) < 0
    reach = np.hypot(x, y)[inside].max()
    assert 0.49 < reach < 0.65
    assert 0.3 < inside.mean() * 4 < 0.9


@pytest.mark.parametrize(("kind", "hole"), [(1, False), (2, False), (3, False), (4, True), (5, False)])
def test_only_the_ring_has_a_hole(kind: int, hole: bool) -> None:
    centre = scenes.OUTLINES[kind - 1](np.zeros(1), np.zeros(1))
    assert (centre[0] > 0) == hole


# The manifest


def test_the_manifest_says_what_was_made(made: Path) -> None:
    manifest = json.loads((made / "shapes.json").read_text())
    assert manifest["parameters"] == {"train": 9, "val": 5, "size": 64, "seed": 3, "version": shapes.VERSION}
    assert manifest["classes"] == ["background", "disc", "square", "triangle", "ring", "cross"]
    assert len(manifest["labels_sha256"]) == 64


def test_a_second_call_finds_the_set_and_touches_nothing(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*")}
    assert main(["make", "shapes", "--out", str(own), *SMALL_OPTIONS]) == 0
    assert "there already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in own.rglob("*")} == before


def test_other_parameters_are_refused_by_name(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(own)
    assert main(["make", "shapes", "--out", str(own), *SMALL_OPTIONS, "--seed", "8"]) == 1
    assert "seed 3 instead of 8" in capsys.readouterr().err
    assert files(own) == before


def test_force_replaces_the_whole_set(own: Path, tmp_path: Path) -> None:
    smaller = shapes.Parameters(train=2, val=1, size=48, seed=8)
    assert shapes.make(own, smaller, force=True, processes=1)
    shapes.make(tmp_path / "fresh", smaller, processes=1)
    assert files(own) == files(tmp_path / "fresh")


def test_force_makes_the_same_set_again(own: Path, made: Path) -> None:
    (own / "VOC2011/JPEGImages/val_00000.jpg").write_bytes(b"spoiled")
    assert shapes.make(own, SMALL, force=True, processes=1)
    assert files(own) == files(made)


def test_force_leaves_the_users_other_files(own: Path) -> None:
    (own / "notes.txt").write_text("mine")
    shapes.make(own, shapes.Parameters(train=1, val=1, size=48), force=True, processes=1)
    assert (own / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("lost", ["sbdd/dataset/cls/train_00004.mat", "VOC2011/JPEGImages/val_00000.jpg"])
def test_a_lost_file_is_made_again(lost: str, own: Path, made: Path) -> None:
    (own / lost).unlink()
    assert shapes.make(own, SMALL, processes=1)
    assert files(own) == files(made)


def test_a_manifest_that_cannot_be_read_needs_force(own: Path, made: Path) -> None:
    (own / "shapes.json").write_text("{")
    with pytest.raises(DatasetError, match="--force"):
        shapes.make(own, SMALL, processes=1)
    shapes.make(own, SMALL, force=True, processes=1)
    assert files(own) == files(made)


def interrupted_while_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shapes, "write_voc", stop)


def interrupted_while_moving(monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def stop(source: Path, target: Path) -> None:
        if Path(target).name == "VOC2011":
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr("os.rename", stop)


@pytest.mark.parametrize("interrupt", [interrupted_while_drawing, interrupted_while_moving])
@pytest.mark.parametrize("replaced", [False, True])
def test_an_interrupted_call_is_made_good_by_the_next(
    interrupt: Callable[[pytest.MonkeyPatch], None],
    replaced: bool,
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    if replaced:
        shapes.make(out, shapes.Parameters(train=2, val=2, size=48), processes=1)
    with monkeypatch.context() as patch:
        interrupt(patch)
        with pytest.raises(KeyboardInterrupt):
            shapes.make(out, SMALL, force=True, processes=1)
    # What an interruption leaves is the old set, whole, or no manifest.
    if (out / "shapes.json").exists():
        assert not shapes.make(out, shapes.Parameters(train=2, val=2, size=48), processes=1)
    assert shapes.make(out, SMALL, force=replaced, processes=1)
    assert files(out) == files(made)


# Errors


def test_a_real_voc_folder_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "VOC2011").mkdir()
    (tmp_path / "VOC2011" / "real.txt").write_text("736 images")
    for options in ([], ["--force"]):
        assert main(["make", "shapes", "--out", str(tmp_path), *SMALL_OPTIONS, *options]) == 1
        assert "holds VOC2011, and no shapes.json beside" in capsys.readouterr().err
    assert files(tmp_path) == {"VOC2011/real.txt": b"736 images"}


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--size", "10", "--size 10: has to be from 48 to 1024."),
        ("--size", "4000", "--size 4000: has to be from 48 to 1024."),
        ("--train", "0", "--train 0: has to be from 1 to 99999."),
        ("--val", "-1", "--val -1: has to be from 1 to 99999."),
        ("--seed", "-2", "--seed -2: has to be 0 or more."),
        ("--processes", "0", "--processes 0: has to be 1 or more."),
    ],
)
def test_a_value_out_of_range_is_a_sentence(
    option: str, value: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["make", "shapes", "--out", str(tmp_path / "new"), option, value]) == 1
    assert capsys.readouterr().err == f"python -m datasets: {said}\n"
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "shapes"
    assert main(["make", "shapes", "--out", str(out), *SMALL_OPTIONS]) == 1
    error = capsys.readouterr().err
    assert str(out) in error
    assert "Not a directory" in error
    assert "--out" in error


def test_a_full_disk_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "cls/train_00000.mat")

    monkeypatch.setattr(shapes, "write_sbd", full)
    assert main(["make", "shapes", "--out", str(tmp_path), *SMALL_OPTIONS, "--processes", "1"]) == 1
    assert "cls/train_00000.mat: No space left on device" in capsys.readouterr().err


def test_an_interrupted_command_says_so_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted_while_drawing(monkeypatch)
    assert main(["make", "shapes", "--out", str(tmp_path), *SMALL_OPTIONS, "--processes", "1"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_set_or_command_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, known in ((["make", "forms"], "shapes"), (["cook"], "make")):
        with pytest.raises(SystemExit) as stopped:
            main(argv)
        assert stopped.value.code == 2
        assert known in capsys.readouterr().err


def test_the_default_folder_is_the_repositorys_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path(__file__).resolve().parent.parent
    assert root / "data" / "shapes" == shapes.DEFAULT_OUT
