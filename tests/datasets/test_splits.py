"""The splits that follow from the data: the rules, on whole and partial data, and what is told of the counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from datasets import splits
from datasets.__main__ import main

SCENE = splits.SIFTFLOW_FOLDER


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_seg11valid_is_vocs_val_without_sbds_train(tmp_path: Path) -> None:
    lists = tmp_path / "pascal/VOC2011/ImageSets/Segmentation"
    write(lists / "val.txt", "2007_3\n2007_1\n2007_2\n")
    derived = splits.derive(tmp_path)
    assert not derived.written
    assert "python -m datasets fetch sbd" in derived.warnings[0]
    write(tmp_path / "sbdd/dataset/train.txt", "2007_1\n2009_9\n")
    assert splits.derive(tmp_path).written == [lists / "seg11valid.txt"]
    assert lines(lists / "seg11valid.txt") == ["2007_3", "2007_2"]
    assert splits.derive(tmp_path) == splits.Derived()


def test_a_list_that_is_there_stays(tmp_path: Path) -> None:
    lists = tmp_path / "pascal/VOC2011/ImageSets/Segmentation"
    write(lists / "val.txt", "a\nb\nc\n")
    write(tmp_path / "sbdd/dataset/train.txt", "c\n")
    write(lists / "seg11valid.txt", "b\na\n")
    assert splits.derive(tmp_path) == splits.Derived()  # the same ids in another order
    write(lists / "seg11valid.txt", "a\n")
    assert "seg11valid.txt has 1 ids, the rule gives 2 others" in splits.derive(tmp_path).warnings[0]
    assert lines(lists / "seg11valid.txt") == ["a"]


def test_seg11test_is_the_test_sets_list(tmp_path: Path) -> None:
    lists = tmp_path / "pascal/VOC2011/ImageSets/Segmentation"
    write(lists / "test.txt", "t1\nt2\n")
    splits.derive(tmp_path)
    assert lines(lists / "seg11test.txt") == ["t1", "t2"]


@pytest.mark.parametrize(
    "test_set",
    [
        f"{SCENE}\\coast_1.jpg\r\n{SCENE}\\forest_2.jpg\r\n",
        f"Images/{SCENE}/coast_1.jpg\nImages/{SCENE}/forest_2.jpg\n\n",
        "\ufeffcoast_1\nforest_2",
    ],
)
def test_sift_flows_lists_follow_from_its_test_set(test_set: str, tmp_path: Path) -> None:
    root = tmp_path / "sift-flow"
    for name in ("coast_1", "coast_2", "forest_2", "forest_1", "highway_bost181", "street_urb506"):
        write(root / "Images" / SCENE / f"{name}.jpg")
    write(root / "TestSet1.txt", test_set)
    derived = splits.derive(tmp_path)
    assert lines(root / "test.txt") == ["coast_1", "forest_2"]
    assert lines(root / "trainval.txt") == ["coast_2", "forest_1"]
    assert not derived.warnings


def test_sift_flow_with_images_missing_or_no_test_set(tmp_path: Path) -> None:
    root = tmp_path / "sift-flow"
    write(root / "Images" / SCENE / "a.jpg")
    assert "has no TestSet1.txt" in splits.derive(tmp_path).warnings[0]
    write(root / "lists" / "testset1.TXT".replace("TXT", "txt"), "a.jpg\nb.jpg\n")
    assert "names 1 images that are not in" in splits.derive(tmp_path).warnings[0]
    assert lines(root / "test.txt") == ["a"]


NYUD = {"train": ["5003", "5001"], "val": ["5010"], "test": ["5002", "6449"]}


def nyud_texts(root: Path) -> None:
    for split, idents in NYUD.items():
        write(root / f"{split}.txt", "".join(f"{ident}\n" for ident in idents))


def nyud_names(root: Path) -> None:
    for split, idents in NYUD.items():
        write(root / "lists" / f"{split}.txt", "".join(f"img_{ident}.png\n" for ident in idents))


def nyud_names_in_place(root: Path) -> None:
    for split, idents in NYUD.items():
        write(root / f"{split}.txt", "".join(f"img_{ident}\n" for ident in idents))


def nyud_cells(root: Path) -> None:
    for split, idents in NYUD.items():
        savemat(root / f"{split}.mat", {"split_ids": np.array([[f"img_{ident}"] for ident in idents], object)})


def nyud_indices(root: Path) -> None:
    stored = {"trn": NYUD["train"], "val": NYUD["val"], "tst": NYUD["test"]}
    savemat(root / "nyusplits.mat", {name: np.array([[int(i)] for i in idents]) for name, idents in stored.items()})


@pytest.mark.parametrize("given", [nyud_texts, nyud_names, nyud_names_in_place, nyud_cells, nyud_indices])
def test_nyuds_lists_are_found_in_any_form(given, tmp_path: Path) -> None:
    root = tmp_path / "nyud"
    root.mkdir()
    write(root / "readme.txt", "hello")
    write(root / "broken.mat", "no MATLAB file")
    given(root)
    derived = splits.derive(tmp_path)
    assert not derived.warnings
    for split, idents in {**NYUD, "trainval": ["5003", "5001", "5010"]}.items():
        assert lines(root / f"{split}.txt") == idents


def test_a_list_in_nyuds_folder_goes_before_one_below_it(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / f"nyud/{split}.txt", "5001\n" if split == "train" else "5002\n")
        write(tmp_path / f"nyud/lists/{split}.txt", "5007\n")
    assert not splits.derive(tmp_path).warnings
    assert lines(tmp_path / "nyud/trainval.txt") == ["5001", "5002"]


def test_nyuds_own_split_counts_from_one(tmp_path: Path) -> None:
    root = tmp_path / "nyud"
    root.mkdir()
    savemat(root / "splits.mat", {"trainNdxs": np.array([[3], [1449]]), "testNdxs": np.array([[1], [2]])})
    splits.derive(tmp_path)
    assert lines(root / "trainval.txt") == ["5003", "6449"]
    assert lines(root / "test.txt") == ["5001", "5002"]


def test_the_counts_are_those_of_the_papers() -> None:
    counts = {(split.source, split.name): split.count for split in splits.SPLITS}
    assert counts["voc2011", "seg11valid"] == 736
    assert counts["sbd", "train"] == 8498
    assert counts["nyud", "train"] + counts["nyud", "val"] == counts["nyud", "trainval"] == 795
    assert (counts["nyud", "test"], counts["siftflow", "trainval"], counts["siftflow", "test"]) == (654, 2486, 200)
    assert counts["siftflow", "trainval"] + counts["siftflow", "test"] + 2 == 2688
    assert (counts["pascal-context", "train"], counts["pascal-context", "val"]) == (4998, 5105)


def test_the_command_counts_and_warns_of_a_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["splits", "--data", str(tmp_path)]) == 0
    assert "There is no list" in capsys.readouterr().out
    lists = tmp_path / "pascal/VOC2011/ImageSets/Segmentation"
    write(lists / "val.txt", "".join(f"v{i}\n" for i in range(1111)))
    write(tmp_path / "sbdd/dataset/train.txt", "".join(f"v{i}\n" for i in range(375)))
    assert main(["splits", "--data", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"written: {lists / 'seg11valid.txt'}" in out
    assert "voc2011 seg11valid            736     736" in out
    assert "sbd train: 375 ids, 8,498 in the papers" in out
    assert "seg11valid: 736" not in out


def test_a_list_that_is_no_text_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sbdd/dataset").mkdir(parents=True)
    (tmp_path / "sbdd/dataset/train.txt").write_bytes(b"\xff\xfe\x00")
    assert main(["splits", "--data", str(tmp_path)]) == 1
    assert "train.txt cannot be read as a list of ids" in capsys.readouterr().err
