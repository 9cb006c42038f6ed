"""Fetching end to end from a server on loopback: every dataset and kind of weights, and verify and status after it."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from datasets import fetch, records, splits
from datasets.__main__ import main
from datasets.catalogue import CATALOGUE
from tests.datasets import hostile_server as server
from tests.datasets.fetching.command import SCENE, call, started, tree, wait_for
from tests.datasets.hostile_server import Server
from tests.datasets.small_archives import CAFFEMODEL, DATASETS, voc, zipped

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_every_dataset_comes_into_its_layout(web: Server, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(web, data, *DATASETS) == 0
    out = capsys.readouterr().out
    for split in splits.SPLITS:
        idents = splits.read_list(data / split.list)
        assert idents, split
        for pattern in split.files:
            for ident in idents:
                # seg11valid's ids are those of VOC.
                assert (data / pattern.format(id=ident)).is_file(), (split, ident)
        assert f"{split.source} {split.name}: {len(idents)} ids, {split.count:,} in the papers" in out
    assert splits.read_list(data / "pascal/VOC2011/ImageSets/Segmentation/seg11valid.txt") == ["c"]
    assert splits.read_list(data / "nyud/trainval.txt") == ["5001", "5002"]
    assert splits.read_list(data / "sift-flow/test.txt") == ["coast_2"]
    assert tree(data / "pascal-context").keys() == {
        *(f"trainval/{name}.mat" for name in "abc"),
        *("labels.txt", "59_labels.txt", "33_labels.txt"),
    }
    assert not (data / "pascal/VOC2011/Annotations").exists()
    assert not (data / "pascal/VOC2011/JPEGImages/Thumbs.db").exists()
    # Nothing is left over, and the sha256 of what has no published digest is said.
    assert {path.name for path in (data / "downloads").iterdir()} == {"records"}
    assert not [path for path in data.rglob(".*") if path.name.endswith("unpacking")]
    assert hashlib.sha256(web.files["/m/nyud.tar.gz"]).hexdigest() in out
    assert hashlib.sha256(web.files["/m/benchmark.tgz"]).hexdigest() not in out

    assert main(["verify", "--data", str(data)]) == 1  # too few images, and nothing else
    problems = capsys.readouterr().err.splitlines()
    assert len(problems) == len(splits.SPLITS) + 1
    assert all("in the papers" in line for line in problems[:-1])
    asked = len(web.requests)
    assert call(web, data, *DATASETS) == 0
    assert len(web.requests) == asked


def test_weights_come_to_their_place(web: Server, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [source.name for source in CATALOGUE.values() if source.unpacking is None]
    assert len(names) == 17
    assert call(web, data, *names) == 0
    out = capsys.readouterr().out
    assert "python -m nets convolutionalize vgg16" in out
    assert "python -m nets convolutionalize alexnet" in out
    for name in names:
        assert (data / CATALOGUE[name].path).read_bytes() == CAFFEMODEL
    assert (data / "fcn-models/nyud-fcn32s-color-hha-heavy.caffemodel").exists()
    assert (data / "ilsvrc-nets/VGG_ILSVRC_16_layers.caffemodel").exists()
    assert main(["verify", "--data", str(data)]) == 0
    out = capsys.readouterr().out
    assert "vgg16: right (the sha1 is the published one)" in out
    assert "voc-fcn16s: right as far as can be told" in out
    (data / "fcn-models/fcn16s-heavy-pascal.caffemodel").write_bytes(CAFFEMODEL * 2)
    (data / "fcn-models/fcn8s-heavy-pascal.caffemodel").write_bytes(CAFFEMODEL * 2)
    (data / "ilsvrc-nets/bvlc_googlenet.caffemodel").write_bytes(CAFFEMODEL[:-1])
    assert main(["verify", "--data", str(data)]) == 1
    err = capsys.readouterr().err
    assert "voc-fcn16s: " in err and "has changed since it was fetched" in err
    assert "fcn8s-heavy-pascal.caffemodel has the sha1" in err
    assert "bvlc_googlenet.caffemodel is a caffemodel that was cut off" in err
    assert "Of 17 checked, 3 are not right." in err


@pytest.mark.slow
def test_sift_flow_with_all_its_images_is_right(web: Server, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"coast_{i:04d}" for i in range(2686)] + ["highway_bost181", "street_urb506"]
    files = {f"Images/{SCENE}/{name}.jpg": "" for name in names}
    files |= {f"{kind}Labels/{SCENE}/{name}.mat": "" for kind in ("Semantic", "Geo") for name in names}
    files["TestSet1.txt"] = "".join(f"{SCENE}\\{name}.jpg\r\n" for name in names[:200])
    web.files["/m/SiftFlowDataset.zip"] = zipped(files)
    assert call(web, data, "siftflow") == 0
    assert "papers" not in capsys.readouterr().out
    assert main(["verify", "siftflow", "--data", str(data)]) == 0
    assert "8,067 files as they were unpacked; trainval 2,486, test 200" in capsys.readouterr().out


def test_verify_tells_what_is_missing_or_changed(web: Server, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(web, data, "sbd")
    (data / "sbdd/dataset/img/a.jpg").unlink()
    (data / "sbdd/dataset/cls/b.mat").write_text("!")
    assert main(["verify", "sbd", "--data", str(data)]) == 1
    err = capsys.readouterr().err
    assert "1 files of " in err and "are missing, such as img/a.jpg: python -m datasets fetch sbd --force" in err
    assert "are changed since they were unpacked, such as cls/b.mat" in err
    assert "train: 1 of 2 ids have no file like" in err
    assert call(web, data, "sbd", "--force") == 0
    main(["verify", "sbd", "--data", str(data)])
    err = capsys.readouterr().err
    assert "missing" not in err and "changed" not in err
    (data / "sbdd/dataset/train.txt").unlink()
    assert main(["verify", "sbd", "vgg16", "--data", str(data)]) == 1
    err = capsys.readouterr().err
    assert "train: there is no" in err
    assert "vgg16: " in err and "is not there: python -m datasets fetch vgg16" in err


def test_verify_of_nothing_and_of_what_others_put_there(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--data", str(data)]) == 0
    assert "nothing in" in capsys.readouterr().out
    for name in ("img/a.jpg", "cls/a.mat"):
        (data / "sbdd/dataset" / name).parent.mkdir(parents=True, exist_ok=True)
        (data / "sbdd/dataset" / name).write_text("")
    (data / "sbdd/dataset/train.txt").write_text("a\n")
    (data / "sbdd/dataset/val.txt").write_text("a\n")
    assert main(["verify", "--data", str(data)]) == 1
    err = capsys.readouterr().err
    assert "train: 1 ids, 8,498 in the papers" in err
    assert "no file" not in err


def test_status_says_what_is_there_and_how_to_get_the_rest(
    web: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--data", str(data)]) == 0
    before = capsys.readouterr().out
    for name in CATALOGUE:
        assert f"python -m datasets fetch {name}\n" in before + "\n"
    assert "python -m nets convolutionalize vgg16" in before
    assert "python -m datasets make shapes" in before
    assert max(map(len, before.splitlines()[1:])) <= 120
    call(web, data, "googlenet", "sbd")
    assert fetch.missing(["googlenet", "nyud", "sbd", "vgg16"], data) == ["nyud", "vgg16"]
    web.scripts["/m/bvlc_reference_caffenet.caffemodel"] = [server.break_off(3), *[server.status(404)] * 3]
    call(web, data, "caffenet")
    capsys.readouterr()
    main(["status", "--data", str(data)])
    after = capsys.readouterr().out
    assert "fetch googlenet" not in after
    row = {line.split()[0]: line for line in after.splitlines() if line and not line.startswith(" ")}
    assert " yes " in row["googlenet"] and f"{len(CAFFEMODEL)} bytes" in row["googlenet"]
    assert " yes " in row["sbd"] and "voc-fcn*" in row["sbd"]
    assert " partly " in row["caffenet"]
    assert " no " in row["voc2011"]
    assert "score.py --net voc-fcn8s --released" in row["voc-fcn8s"]

    # Through links, as where the data lies on another disk, and with a part of the generated set.
    linked = data.parent / "linked"
    (linked / "sbdd/dataset").mkdir(parents=True)
    for name in ("img", "cls", "train.txt"):
        (linked / "sbdd/dataset" / name).symlink_to(data / "sbdd/dataset" / name)
    (linked / "shapes").mkdir()
    (linked / "shapes/shapes-nyud.json").write_text("{}")
    main(["status", "--data", str(linked)])
    row = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line and not line.startswith(" ")}
    assert " yes " in row["sbd"] and "10 bytes" in row["sbd"]
    assert " partly " in row["shapes"] and " no " in row["vgg16-fcn"]


# Given files and mirrors


def test_a_given_file_needs_no_server(
    data: Path, tmp_path: Path, web: Server, archives: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("trainval.tar.gz", "59_labels.txt", "33_labels.txt"):
        (mine / name).write_bytes(archives[name])
    assert call(None, data, "pascal-context", "--from", str(mine / "trainval.tar.gz")) == 0
    assert (data / "pascal-context/59_labels.txt").exists()
    assert {path.name for path in mine.iterdir()} == {"trainval.tar.gz", "59_labels.txt", "33_labels.txt"}

    (mine / "net").write_bytes(CAFFEMODEL)
    assert call(None, data, "vgg16", "--from", str(mine / "net")) == 0
    assert (data / "ilsvrc-nets/VGG_ILSVRC_16_layers.caffemodel").read_bytes() == CAFFEMODEL
    assert not web.requests
    (mine / "net").write_bytes(CAFFEMODEL * 2)
    assert call(None, data, "googlenet", "--from", str(mine / "net")) == 1
    assert "it is not the file bvlc_googlenet.caffemodel" in capsys.readouterr().err


def test_a_given_folder_holds_the_file_or_the_dataset(
    data: Path, tmp_path: Path, web: Server, archives: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    for name, text in voc("some/VOC2011").items():
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text(text)
    assert call(None, data, "voc2011", "--from", str(mine)) == 0
    assert (data / "pascal/VOC2011/SegmentationClass/a.png").read_text() == "label a"
    (mine / "benchmark.tgz").write_bytes(archives["benchmark.tgz"])
    assert call(None, data, "sbd", "--from", str(mine)) == 0
    assert (data / "sbdd/dataset/cls/a.mat").exists()
    assert (mine / "benchmark.tgz").exists()
    assert call(None, data, "vgg16", "--from", str(mine)) == 1
    assert "the folder holds no VGG_ILSVRC_16_layers.caffemodel" in capsys.readouterr().err
    assert call(None, data, "nyud", "--from", str(mine)) == 1
    assert "no folder of it holds data/images" in capsys.readouterr().err


def test_options_that_make_no_sense_are_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "sbd", "nyud", "--from", str(data), "--data", str(data)]) == 1
    assert "--from goes with one name, found 2" in capsys.readouterr().err
    assert main(["fetch", "sbd", "--from", "/nowhere", "--data", str(data)]) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert main(["fetch", "sbd", "--mirror", "ftp://x", "--data", str(data)]) == 1
    assert "'ftp://x' is no address" in capsys.readouterr().err
    assert main(["fetch", "voc2O11", "--data", str(data)]) == 1
    assert "Did you mean voc2011" in capsys.readouterr().err
    assert main(["fetch", "zzz", "--data", str(data)]) == 1
    assert "The names are voc2010, voc2011" in capsys.readouterr().err


def test_mirrors_and_data_are_taken_from_the_environment(
    web: Server, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FCN_MIRRORS", f"{web.address}/none {web.address}/m")
    monkeypatch.setenv("FCN_DATA", str(data))
    assert main(["fetch", "googlenet"]) == 0
    assert [path for path, _ in web.requests] == [
        "/none/bvlc_googlenet.caffemodel",
        "/m/bvlc_googlenet.caffemodel",
    ]
    assert (data / "ilsvrc-nets/bvlc_googlenet.caffemodel").exists()


# Processes


@pytest.mark.slow
def test_ctrl_c_keeps_the_part_and_the_same_command_goes_on(web: Server, data: Path) -> None:
    large = CAFFEMODEL[:3] + b"\xa2\x06\x80\x80\x04" + b"w" * 65536
    web.files["/m/bvlc_googlenet.caffemodel"] = large
    web.scripts["/m/bvlc_googlenet.caffemodel"] = [server.stall(30_000)]
    part = data / "downloads/bvlc_googlenet.caffemodel.part"
    first = started(web, data)
    wait_for(lambda: part.exists() and part.with_name(part.name + ".json").exists())
    time.sleep(0.2)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=120)
    assert first.returncode == 130
    assert "What has been downloaded is kept: the same command goes on from there." in err
    assert 0 < part.stat().st_size <= 30_000
    came = part.stat().st_size
    second = started(web, data)
    second.communicate(timeout=120)
    assert second.returncode == 0
    assert web.ranges() == [None, f"bytes={came}-"]
    assert (data / "ilsvrc-nets/bvlc_googlenet.caffemodel").read_bytes() == large


@pytest.mark.slow
def test_two_processes_fetch_it_once(web: Server, data: Path) -> None:
    def slow(handler: server.Handler, content: bytes) -> None:
        wait_for(lambda: second is not None and second_waits())
        server.honest(handler, content)

    def second_waits() -> bool:
        assert second is not None and second.stdout is not None
        return "another process fetches it" in second.stdout.readline()

    second: subprocess.Popen[str] | None = None
    web.scripts["/m/bvlc_googlenet.caffemodel"] = [slow]
    first = started(web, data)
    wait_for(lambda: bool(web.requests))
    second = started(web, data)
    for process in (first, second):
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert len(web.requests) == 1
    assert (data / "ilsvrc-nets/bvlc_googlenet.caffemodel").read_bytes() == CAFFEMODEL


def test_a_record_is_json_that_a_person_can_read(web: Server, data: Path) -> None:
    call(web, data, "siftflow")
    record = json.loads(records.path_of(data, "siftflow").read_text())
    assert record["address"] == f"{web.address}/m/SiftFlowDataset.zip"
    assert record["files"]["test.txt"] == hashlib.sha256(b"coast_2\n").hexdigest()
    assert record["whole"] is True
