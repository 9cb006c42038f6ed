"""What fetching does when something goes wrong: hostile files, full disks, interruptions, and what others put there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from datasets import records, splits
from datasets.__main__ import main
from datasets.catalogue import CATALOGUE
from tests.datasets import hostile_server as server
from tests.datasets.fetching.command import SCENE, call, started, tree
from tests.datasets.hostile_server import Server
from tests.datasets.small_archives import CAFFEMODEL, DATASETS, zipped

ROOT = Path(__file__).resolve().parents[3]


def test_one_failure_does_not_keep_the_others(web: Server, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del web.files["/m/benchmark.tgz"]
    assert call(web, data, "sbd", "googlenet") == 1
    said = capsys.readouterr()
    assert "sbd: benchmark.tgz cannot be downloaded" in said.err
    assert "404 Not Found" in said.err and "127.0.0.1:9/home/benchmark.tgz gives no answer" in said.err
    assert (data / "ilsvrc-nets/bvlc_googlenet.caffemodel").exists()


@pytest.mark.parametrize("name", ["voc-fcn16s", "nyud", "siftflow", "voc-fcn32s"])
def test_a_web_page_is_not_taken_for_the_file(
    name: str, web: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = CATALOGUE[name].download.name
    web.scripts[f"/m/{file}"] = [server.WEB_PAGE]
    assert call(web, data, name) == 1
    assert f"{file} sends a file that is a web page, no" in capsys.readouterr().err
    assert not (data / CATALOGUE[name].path).exists()


def test_a_hostile_archive_leaves_nothing(web: Server, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    web.files["/m/SiftFlowDataset.zip"] = zipped({f"Images/{SCENE}/a.jpg": "", "../../../evil": "x"})
    assert call(web, data, "siftflow") == 1
    assert "leads out of its folder" in capsys.readouterr().err
    assert not list(data.parent.rglob("*evil*"))
    assert not (data / "sift-flow").exists()
    assert not (data / ".sift-flow.unpacking").exists()


def test_the_wrong_archive_is_told(web: Server, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    web.files["/m/SiftFlowDataset.zip"] = zipped({"something/else.txt": "x"})
    assert call(web, data, "siftflow") == 1
    assert "no folder of it holds Images/*/*.jpg and SemanticLabels" in capsys.readouterr().err


def test_a_needed_companion_that_is_missing_is_an_error_and_another_is_not(
    web: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del web.files["/m/33_labels.txt"]
    assert call(web, data, "pascal-context") == 0
    assert "without 33_labels.txt, which few experiments need" in capsys.readouterr().out
    labels = web.files.pop("/m/nyud-test.txt")
    assert call(web, data, "nyud") == 1
    assert "nyud-test.txt cannot be downloaded" in capsys.readouterr().err
    assert not (data / "nyud").exists()
    web.files["/m/nyud-test.txt"] = labels
    web.requests.clear()
    assert call(web, data, "nyud") == 0
    assert "/m/nyud.tar.gz" not in [path for path, _ in web.requests]  # it was kept


def test_a_kept_archive_is_used_again_and_a_damaged_one_is_put_aside(
    web: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(web, data, "sbd", "--keep") == 0
    archive = data / "downloads/benchmark.tgz"
    assert archive.read_bytes() == web.files["/m/benchmark.tgz"]
    web.requests.clear()
    assert call(web, data, "sbd", "--force", "--keep") == 0
    assert not web.requests
    archive.write_bytes(b"\x1f\x8b\x08 something else")
    assert call(web, data, "sbd", "--force") == 0
    assert "It is now benchmark.tgz.wrong" in capsys.readouterr().out
    assert (data / "downloads/benchmark.tgz.wrong").exists()


def test_files_of_others_are_not_overwritten(web: Server, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = data / "pascal-context/59_labels.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("my own\n")
    (data / "pascal-context/labels.txt").write_text("my own too\n")
    assert call(web, data, "pascal-context") == 1
    assert "holds 1 files that this command did not write" in capsys.readouterr().err
    assert tree(mine.parent) == {"59_labels.txt": "my own\n", "labels.txt": "my own too\n"}
    (data / "pascal-context/labels.txt").unlink()
    assert call(web, data, "pascal-context") == 0
    assert mine.read_text() == "my own\n"
    assert (data / "pascal-context/trainval/a.mat").exists()

    weights = data / "ilsvrc-nets/bvlc_googlenet.caffemodel"
    weights.parent.mkdir()
    weights.write_bytes(CAFFEMODEL * 2)
    assert call(web, data, "googlenet", "--force") == 1
    assert "Move it away, and call again" in capsys.readouterr().err
    assert weights.read_bytes() == CAFFEMODEL * 2
    weights.write_bytes(CAFFEMODEL)
    web.requests.clear()
    assert call(web, data, "googlenet") == 0
    assert not web.requests
    assert main(["verify", "googlenet", "--data", str(data)]) == 0


def test_a_move_that_was_interrupted_is_completed(
    web: Server, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "sbdd/dataset/img").mkdir(parents=True)
    (data / "sbdd/dataset/mine").write_text("")
    real, moved = os.replace, []

    def interrupted(source: Path, target: Path) -> None:
        if ".dataset.unpacking" in str(source):
            moved.append(target)
            if len(moved) == 3:
                raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", interrupted)
        assert call(web, data, "sbd") == 130
    assert "What has been downloaded is kept" in capsys.readouterr().err
    main(["verify", "sbd", "--data", str(data)])
    assert "is only partly there: python -m datasets fetch sbd" in capsys.readouterr().err
    main(["status", "--data", str(data)])
    assert " partly " in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("sbd "))
    assert call(web, data, "sbd") == 0
    assert {"mine", "train.txt", "img/a.jpg", "cls/x.mat"} <= tree(data / "sbdd/dataset").keys()


def test_an_interrupted_unpacking_starts_anew(web: Server, data: Path) -> None:
    left = data / "sbdd/.dataset.unpacking/img/a.jpg"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    assert call(web, data, "sbd") == 0
    assert (data / "sbdd/dataset/img/a.jpg").read_text() == "a"


def test_a_place_that_is_a_link_to_another_disk(web: Server, data: Path, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (data / "pascal").mkdir(parents=True)
    (data / "pascal/VOC2011").symlink_to(tmp_path / "big")
    assert call(web, data, "voc2011") == 0
    assert (tmp_path / "big/JPEGImages/a.jpg").exists()
    assert (data / "pascal/VOC2011").is_symlink()


def test_a_disk_that_cannot_be_written_is_told(
    web: Server, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(os, "rename", full)
    assert call(web, data, "sbd") == 1
    err = capsys.readouterr().err
    assert "No space left on device. Put that right" in err and "The same command goes on from there." in err
    monkeypatch.undo()


@pytest.mark.slow
def test_a_file_size_limit_or_a_full_disk_leaves_what_goes_on(web: Server, data: Path) -> None:
    large = CAFFEMODEL[:3] + b"\xa2\x06\x80\x80\x40" + b"w" * 2**20
    web.files["/m/bvlc_googlenet.caffemodel"] = large
    first = started(web, data, "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500_000,) * 2)")
    _, err = first.communicate(timeout=120)
    assert first.returncode == 1 and "Traceback" not in err
    assert "File too large. Put that right" in err
    assert 0 < (data / "downloads/bvlc_googlenet.caffemodel.part").stat().st_size <= 500_000
    second = started(web, data)
    second.communicate(timeout=120)
    assert second.returncode == 0
    assert web.ranges()[-1] is not None
    assert (data / "ilsvrc-nets/bvlc_googlenet.caffemodel").read_bytes() == large


def test_places_on_other_disks_are_filled_whole_or_not_at_all(
    web: Server, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `os.replace` refuses between two file systems is copied beside the place first."""
    (data / "sbdd/dataset/img").mkdir(parents=True)
    (data / "sbdd/dataset/mine").write_text("")
    real = os.replace

    def between_disks(source: Path, target: Path) -> None:
        if Path(source).parent.resolve() != Path(target).parent.resolve():
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
        real(source, target)

    monkeypatch.setattr(os, "replace", between_disks)
    assert call(web, data, "sbd", "googlenet") == 0
    assert (data / "sbdd/dataset/cls/x.mat").read_text() == "x"
    assert (data / "ilsvrc-nets/bvlc_googlenet.caffemodel").read_bytes() == CAFFEMODEL
    assert {path.name for path in (data / "downloads").iterdir()} == {"records"}
    assert not list(data.rglob("*.copy"))


def test_what_is_there_needs_no_right_to_write(
    web: Server, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(web, data, "voc2011", "sbd", "googlenet") == 0
    monkeypatch.setattr(records, "locked", None)
    monkeypatch.setattr(records, "write", None)
    assert call(web, data, "voc2011", "sbd", "googlenet") == 0
    capsys.readouterr()

    def read_only(path: Path, text: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    (data / "pascal/VOC2011/ImageSets/Segmentation/seg11valid.txt").unlink()
    monkeypatch.setattr(splits, "write_text", read_only)
    assert call(web, data, "voc2011") == 1
    said = capsys.readouterr()
    assert "seg11valid.txt: Read-only file system. Put that right, or choose another" in said.err
    assert "voc2011: " in said.out and "is there" in said.out
    assert main(["splits", "--data", str(data)]) == 1
    assert "seg11valid.txt: Read-only file system." in capsys.readouterr().err


@pytest.mark.parametrize("place", ["a file", "a folder with blanks and \u00fcml\u00e4ute", "a link"])
def test_any_folder_of_data_does(place: str, web: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if place == "a file":
        (tmp_path / place).write_text("")
        for words in (["fetch", "sbd"], ["verify"], ["status"], ["splits"]):
            code = main([*words, "--data", str(tmp_path / place)])
            assert code == (1 if words[0] == "fetch" else 0)
        assert "a file" in capsys.readouterr().err
        return
    if place == "a link":
        (tmp_path / "disk").mkdir()
        (tmp_path / place).symlink_to(tmp_path / "disk")
    assert call(web, tmp_path / place, *DATASETS, "googlenet") == 0
    assert (tmp_path / place / "pascal/VOC2011/ImageSets/Segmentation/seg11valid.txt").is_file()
    assert main(["verify", "googlenet", "--data", str(tmp_path / place)]) == 0


def test_an_archive_that_cannot_be_unpacked_is_not_used_again(
    web: Server, data: Path, archives: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    web.files["/m/nyud.tar.gz"] = archives["nyud.tar.gz"][:-40]
    assert call(web, data, "nyud") == 1
    assert "is damaged" in (err := capsys.readouterr().err) and "It is now nyud.tar.gz.wrong." in err
    web.files["/m/nyud.tar.gz"] = archives["nyud.tar.gz"]
    assert call(web, data, "nyud") == 0


def test_small_files_come_to_what_somebody_unpacked(
    web: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("trainval/a.mat", "labels.txt"):
        (data / "pascal-context" / name).parent.mkdir(parents=True, exist_ok=True)
        (data / "pascal-context" / name).write_text("mine")
    assert main(["verify", "pascal-context", "--data", str(data)]) == 1
    assert "59_labels.txt: python -m datasets fetch pascal-context" in capsys.readouterr().err
    labels = web.files.pop("/m/59_labels.txt")
    assert call(web, data, "pascal-context") == 0
    assert "without 59_labels.txt: " in capsys.readouterr().out
    web.files["/m/59_labels.txt"] = labels
    assert call(web, data, "pascal-context") == 0
    assert (data / "pascal-context/59_labels.txt").read_bytes() == labels
    assert (data / "pascal-context/labels.txt").read_text() == "mine"
    assert "/m/trainval.tar.gz" not in [path for path, _ in web.requests]


def test_a_folder_that_was_emptied_is_fetched_again(web: Server, data: Path) -> None:
    call(web, data, "sbd")
    for path in (data / "sbdd/dataset/img").iterdir():
        path.unlink()
    assert call(web, data, "sbd") == 0
    assert (data / "sbdd/dataset/img/a.jpg").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"address": 1}'])
def test_a_record_that_is_damaged_is_told(
    content: str, web: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records.path_of(data, "sbd").parent.mkdir(parents=True)
    records.path_of(data, "sbd").write_text(content)
    assert call(web, data, "sbd") == 1
    assert "sbd.json cannot be read" in capsys.readouterr().err
    # It is told of, and the others with it.
    (data / "sbdd/dataset").mkdir(parents=True)
    assert main(["verify", "sbd", "vgg16", "--data", str(data)]) == 1
    assert "sbd.json cannot be read" in (err := capsys.readouterr().err) and "fetch vgg16" in err
    assert main(["status", "--data", str(data)]) == 0
    assert " unclear " in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("sbd "))


def test_a_list_that_cannot_be_read_does_not_hide_what_else_failed(
    web: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for list_ in ("sbdd/dataset/train.txt", "pascal/VOC2011/ImageSets/Segmentation/val.txt"):
        (data / list_).parent.mkdir(parents=True)
        (data / list_).write_bytes(b"\xff")
    assert call(None, data, "googlenet") == 1
    assert "googlenet: " in (err := capsys.readouterr().err) and "cannot be read as a list" in err
