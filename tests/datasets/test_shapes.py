"""The generated set `shapes`: the same files for the same seed, and no layout is ever mixed nor half there."""

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

from datasets import DatasetError, generated, layouts, shapes
from datasets.__main__ import main

SMALL = shapes.Parameters(train=9, val=5, size=64, seed=3)
SMALL_OPTIONS = ["--train", "9", "--val", "5", "--size", "64", "--seed", "3"]
LAYOUTS = ["voc", "nyud", "siftflow", "pascalcontext"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All layouts of a small set, made in this process; not to be changed."""
    out = tmp_path_factory.mktemp("made") / "shapes"
    for layout in LAYOUTS:
        assert shapes.make(out, SMALL, layout, processes=1)
    return out


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of the small set that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "own"))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def files_of(layout: str, root: Path) -> dict[str, bytes]:
    """The files of one layout, its manifest among them."""
    its = generated.LAYOUTS[layout]
    return {name: read for name, read in files(root).items() if name.startswith((its.manifest, *its.trees))}


def sbd_label(root: Path, ident: str) -> np.ndarray:
    label: np.ndarray = loadmat(root / f"sbdd/dataset/cls/{ident}.mat")["GTcls"][0]["Segmentation"][0]
    return label


# Determinism


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["voc", "pascalcontext"])
def test_two_processes_write_the_bytes_that_one_writes(layout: str, made: Path, tmp_path: Path) -> None:
    shapes.make(tmp_path / "again", SMALL, layout, processes=2)
    assert files(tmp_path / "again") == files_of(layout, made)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_second_run_writes_the_same_bytes(
    layout: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # savemat takes the date from here: a set made tomorrow is the same set.
    monkeypatch.setattr("time.asctime", lambda *when: "Thu Jan  1 00:00:00 1970")
    shapes.make(tmp_path / "again", SMALL, layout, processes=1)
    assert files(tmp_path / "again") == files_of(layout, made)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_does_not_depend_on_how_many_there_are(layout: str, made: Path, tmp_path: Path) -> None:
    fewer = shapes.Parameters(train=2, val=1, size=64, seed=3)
    shapes.make(tmp_path / "fewer", fewer, layout, processes=1)
    images = {name: read for name, read in files(tmp_path / "fewer").items() if not name.endswith((".txt", ".json"))}
    assert len(images) >= 6
    assert images.items() <= files(made).items()


def test_another_seed_draws_something_else(made: Path, tmp_path: Path) -> None:
    shapes.make(tmp_path / "other", shapes.Parameters(train=1, val=1, size=64, seed=4), processes=1)
    assert (sbd_label(tmp_path / "other", "train_00000") != sbd_label(made, "train_00000")).any()


@pytest.mark.parametrize(
    ("layout", "digest"),
    [
        ("voc", "212faa269c29e6d8e4a8f3c8a1d3144706f283c4a9b6fadef3aec7baf6c28f35"),
        ("nyud", "f299c30c56a22278c0d872115caf4e4bd564833f5154ce24764497896516a05a"),
        ("siftflow", "ae993ba2a1dade516660d2632dfe9e3c8084993af6b724dbd5abb085d78c63a0"),
        ("pascalcontext", "f3a6bccdd323bb71b33ddbd6d1fbb3878df36f6a02423623a821527eda169cf1"),
    ],
)
def test_what_a_seed_draws_changes_only_with_the_version(layout: str, digest: str, made: Path) -> None:
    # A set on someone's disk is known by its parameters: if drawing changes, so must VERSION. The images'
    # own digest is not compared, as JPEG encoders differ.
    assert shapes.VERSION == 1
    manifest = json.loads((made / generated.LAYOUTS[layout].manifest).read_text())
    assert manifest["labels_sha256"] == digest


def test_the_demo_s_images_are_those_that_published_figures_were_measured_on(tmp_path: Path) -> None:
    # The first of the default set's, as they were when it had the layouts of VOC and SBD alone.
    shapes.make(tmp_path, shapes.Parameters(train=6, val=4), processes=1)
    manifest = json.loads((tmp_path / "shapes.json").read_text())
    assert manifest["labels_sha256"] == "f4be1c3e44416e6649fb080a1a074550e11ad7f396fc8833da52dd83ceb3ddc3"
    image = np.asarray(Image.open(tmp_path / "sbdd/dataset/img/train_00000.jpg"))
    np.testing.assert_allclose(image.mean((0, 1)), [141.4, 112.3, 141.3], atol=0.5)


def test_images_to_train_on_and_to_score_on_differ(made: Path) -> None:
    for layout in LAYOUTS:
        images = [read for name, read in files_of(layout, made).items() if "mages/" in name or "/img/" in name]
        # VOC's and SBD's share what is in both.
        assert len(set(images)) == 14
        assert len(images) == (28 if layout == "voc" else 14)


# The manifest


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_manifest_says_what_was_made(layout: str, made: Path) -> None:
    manifest = json.loads((made / generated.LAYOUTS[layout].manifest).read_text())
    assert manifest["parameters"] == {"train": 9, "val": 5, "size": 64, "seed": 3, "version": shapes.VERSION}
    first = {"voc": "background", "nyud": "wall", "siftflow": "awning", "pascalcontext": "background"}
    counts = {"voc": 6, "nyud": 40, "siftflow": 33, "pascalcontext": 60}
    assert manifest["classes"][0] == first[layout]
    assert len(manifest["classes"]) == counts[layout]
    assert len(manifest["labels_sha256"]) == 64


def test_every_file_is_a_layout_s_and_on_its_list_of_files(made: Path) -> None:
    for layout, its in generated.LAYOUTS.items():
        train, val = ([its.ident(split, index) for index in range(n)] for split, n in (("train", 9), ("val", 5)))
        listed = {its.manifest, *its.lists(train, val)}
        listed |= {file for split, index in SMALL.images for file in its.files(split, index)}
        assert listed == set(files_of(layout, made))
    assert len(files(made)) == sum(len(files_of(layout, made)) for layout in LAYOUTS)


def test_a_second_call_finds_the_set_and_touches_nothing(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*")}
    assert main(["make", "shapes", "--out", str(own), *SMALL_OPTIONS]) == 0
    assert capsys.readouterr().out.count("there already") == 4
    assert {path: path.stat().st_mtime_ns for path in own.rglob("*")} == before


def test_other_parameters_are_refused_by_name(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(own)
    assert main(["make", "shapes", "--out", str(own), *SMALL_OPTIONS, "--seed", "8"]) == 1
    assert "seed 3 instead of 8" in capsys.readouterr().err
    assert files(own) == before


def test_force_replaces_the_whole_set(own: Path, tmp_path: Path) -> None:
    smaller = shapes.Parameters(train=2, val=1, size=48, seed=8)
    for layout in LAYOUTS:
        assert shapes.make(own, smaller, layout, force=True, processes=1)
        shapes.make(tmp_path / "fresh", smaller, layout, processes=1)
    assert files(own) == files(tmp_path / "fresh")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_force_replaces_one_layout_and_leaves_the_others(layout: str, own: Path, made: Path) -> None:
    assert shapes.make(own, shapes.Parameters(train=1, val=1, size=48), layout, force=True, processes=1)
    for other in LAYOUTS:
        assert (files_of(other, own) == files_of(other, made)) == (other != layout)


def test_force_makes_the_same_set_again(own: Path, made: Path) -> None:
    (own / "pascal/VOC2011/JPEGImages/val_00000.jpg").write_bytes(b"spoiled")
    assert shapes.make(own, SMALL, force=True, processes=1)
    assert files(own) == files(made)


def test_force_leaves_the_users_other_files(own: Path) -> None:
    (own / "notes.txt").write_text("mine")
    (own / "pascal" / "VOC2012").mkdir()
    shapes.make(own, shapes.Parameters(train=1, val=1, size=48), force=True, processes=1)
    assert (own / "pascal" / "VOC2012").is_dir()
    assert (own / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("layout", "lost"),
    [
        ("voc", "sbdd/dataset/cls/train_00004.mat"),
        ("voc", "pascal/VOC2011/JPEGImages/train_00000.jpg"),
        ("nyud", "nyud/data/hha/img_5002.png"),
        ("nyud", "nyud/trainval.txt"),
        ("siftflow", f"sift-flow/GeoLabels/{layouts.OUTDOOR}/coast_val00000.mat"),
        ("pascalcontext", "pascal-context/59_labels.txt"),
    ],
)
def test_a_lost_file_is_made_again(layout: str, lost: str, own: Path, made: Path) -> None:
    (own / lost).unlink()
    for one in LAYOUTS:
        assert shapes.make(own, SMALL, one, processes=1) == (one == layout)
    assert files(own) == files(made)


def test_a_set_of_the_time_before_pascal_had_a_folder_is_made_anew(own: Path, made: Path) -> None:
    (own / "pascal/VOC2011").rename(own / "VOC2011")
    assert shapes.make(own, SMALL, processes=1)
    assert files_of("voc", own) == files_of("voc", made)


def test_a_manifest_that_cannot_be_read_needs_force(own: Path, made: Path) -> None:
    (own / "shapes.json").write_text("{")
    with pytest.raises(DatasetError, match="--force"):
        shapes.make(own, SMALL, processes=1)
    shapes.make(own, SMALL, force=True, processes=1)
    assert files(own) == files(made)


def interrupted_while_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(generated, "write_voc", stop)


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
    # Another layout has nothing to do with it.
    assert shapes.make(out, SMALL, "pascalcontext", processes=1)
    assert shapes.make(out, SMALL, force=replaced, processes=1)
    assert files(out) == files_of("voc", made) | files_of("pascalcontext", made)


# Errors


def test_a_real_voc_folder_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pascal/VOC2011").mkdir(parents=True)
    (tmp_path / "pascal/VOC2011" / "real.txt").write_text("736 images")
    for options in ([], ["--force"]):
        assert main(["make", "shapes", "--out", str(tmp_path), *SMALL_OPTIONS, *options]) == 1
        assert "holds pascal/VOC2011, and no shapes.json beside" in capsys.readouterr().err
    assert files(tmp_path) == {"pascal/VOC2011/real.txt": b"736 images"}


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

    monkeypatch.setattr(generated, "write_sbd", full)
    assert main(["make", "shapes", "--out", str(tmp_path), *SMALL_OPTIONS, "--processes", "1"]) == 1
    assert "cls/train_00000.mat: No space left on device" in capsys.readouterr().err


def test_an_interrupted_command_says_so_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted_while_drawing(monkeypatch)
    assert main(["make", "shapes", "--out", str(tmp_path), *SMALL_OPTIONS, "--processes", "1"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_layout_names_the_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DatasetError, match="no layout 'coco' of shapes: there are voc, nyud, siftflow, pascalcontext"):
        shapes.make(tmp_path, SMALL, "coco")
    with pytest.raises(SystemExit):
        main(["make", "shapes", "--layouts", "coco", "--out", str(tmp_path)])
    assert "pascalcontext" in capsys.readouterr().err
    assert not files(tmp_path)


@pytest.mark.slow
def test_layouts_are_made_alone_or_several_and_by_default_all(
    tmp_path: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--out", str(tmp_path), *SMALL_OPTIONS, "--processes", "1"]
    assert main(["make", "shapes", "--layouts", "nyud", "siftflow", *options]) == 0
    assert files(tmp_path) == files_of("nyud", made) | files_of("siftflow", made)
    assert capsys.readouterr().out.count("made in") == 2
    assert main(["make", "shapes", *options]) == 0
    assert files(tmp_path) == files(made)
    said = capsys.readouterr().out
    assert said.count("made in") == said.count("there already") == 2
    assert "shapes, nyud: 9 images to train on and 5 to score on" in said


def test_the_demo_s_set_is_large_and_the_others_are_small() -> None:
    assert shapes.Parameters() == shapes.defaults("voc") == shapes.Parameters(train=1200, val=200, size=160, seed=1)
    assert shapes.defaults("nyud") == shapes.defaults("pascalcontext") == shapes.Parameters(train=120, val=24, size=160)
    assert shapes.defaults("siftflow") == shapes.Parameters(train=120, val=24, size=256)


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
    root = Path(__file__).resolve().parents[2]
    assert root / "data" / "shapes" == shapes.DEFAULT_OUT
