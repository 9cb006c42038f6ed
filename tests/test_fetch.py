"""Fetching end to end from a server on loopback: every dataset and kind of weights, and verify and status after it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from datasets import catalogue, fetch, records, splits
from datasets.__main__ import main
from datasets.catalogue import CATALOGUE, Source
from datasets.download import Patience
from tests import hostile_server as server
from tests.hostile_server import Server
from tests.small_archives import ARCHIVES, CAFFEMODEL, DATASETS, voc, zipped

ROOT = Path(__file__).resolve().parent.parent
SCENE = splits.SIFTFLOW_FOLDER


def known_as(source: Source, content: bytes, companions: dict[str, bytes]) -> Source:
    """The source as if the published digests were those of other files."""

    def renewed(download: catalogue.Download, content: bytes) -> catalogue.Download:
        algorithm = download.digest.partition(":")[0]
        return replace(download, digest=algorithm and f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")

    return replace(
        source,
        download=renewed(source.download, content),
        companions=tuple(
            replace(each, download=renewed(each.download, companions.get(each.download.name, b"")))
            for each in source.companions
        ),
    )


@pytest.fixture(scope="module")
def archives() -> dict[str, bytes]:
    return {name: make() for name, make in ARCHIVES.items()}


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, archives: dict[str, bytes]) -> Iterator[Server]:
    """A mirror with everything; the homes of all files are on loopback too, where nothing listens."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("FCN_MIRRORS", raising=False)
    monkeypatch.delenv("FCN_DATA", raising=False)
    monkeypatch.setattr(fetch, "PATIENCE", Patience(1.0, 0.5, (0.0,)))
    with server.serving() as serving:
        for source in list(CATALOGUE.values()):
            name = source.download.name
            content = archives.get(name, CAFFEMODEL)
            at_home = known_as(source, content, archives)
            monkeypatch.setitem(CATALOGUE, source.name, _moved_home(at_home))
            serving.files[f"/m/{name}"] = content
        serving.files |= {f"/m/{name}": content for name, content in archives.items()}
        yield serving


def _moved_home(source: Source) -> Source:
    def moved(download: catalogue.Download) -> catalogue.Download:
        return replace(download, addresses=("http://127.0.0.1:9/home/" + download.name,), file=download.name)

    companions = tuple(replace(each, download=moved(each.download)) for each in source.companions)
    return replace(source, download=moved(source.download), companions=companions)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def call(web: Server | None, data: Path, *words: str) -> int:
    mirror = ["--mirror", f"{web.address}/m/"] if web is not None else []
    return main(["fetch", *words, "--data", str(data), *mirror])


def tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


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
    names = [source.name for source in CATALOGUE.values() if source.layout is None]
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


# When it goes wrong


def test_one_failure_does_not_keep_the_others(web: Server, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del web.files["/m/benchmark.tgz"]
    assert call(web, data, "sbd", "googlenet") == 1
    said = capsys.readouterr()
    assert "sbd: benchmark.tgz cannot be downloaded" in said.err
    assert "404 Not Found" in said.err and "127.0.0.1:9/home/benchmark.tgz gives no connection" in said.err
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
    assert "No space left on device. The same command goes on from there." in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", '{"address": 1}'])
def test_a_record_that_is_damaged_is_told(
    content: str, web: Server, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records.path_of(data, "sbd").parent.mkdir(parents=True)
    records.path_of(data, "sbd").write_text(content)
    assert call(web, data, "sbd") == 1
    assert "sbd.json cannot be read" in capsys.readouterr().err


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

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from dataclasses import replace
from datasets.__main__ import main
from datasets.catalogue import CATALOGUE
source = CATALOGUE["googlenet"]
home = replace(source.download, addresses=({address!r},), digest="")
CATALOGUE["googlenet"] = replace(source, download=home)
sys.exit(main(["fetch", "googlenet", "--data", {data!r}]))
"""


def started(web: Server, data: Path) -> subprocess.Popen[str]:
    program = PROGRAM.format(root=str(ROOT), address=f"{web.address}/m/bvlc_googlenet.caffemodel", data=str(data))
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=data.parent
    )


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_ctrl_c_keeps_the_part_and_the_same_command_goes_on(web: Server, data: Path) -> None:
    large = CAFFEMODEL[:3] + b"\xa2\x06\x80\x80\x04" + b"w" * 65536
    web.files["/m/bvlc_googlenet.caffemodel"] = large
    web.scripts["/m/bvlc_googlenet.caffemodel"] = [server.stall(30_000)]
    part = data / "downloads/bvlc_googlenet.caffemodel.part"
    first = started(web, data)
    wait_for(lambda: part.exists() and part.with_name(part.name + ".json").exists())
    time.sleep(0.2)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=20)
    assert first.returncode == 130
    assert "What has been downloaded is kept: the same command goes on from there." in err
    assert 0 < part.stat().st_size <= 30_000
    came = part.stat().st_size
    second = started(web, data)
    second.communicate(timeout=20)
    assert second.returncode == 0
    assert web.ranges() == [None, f"bytes={came}-"]
    assert (data / "ilsvrc-nets/bvlc_googlenet.caffemodel").read_bytes() == large


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
        process.communicate(timeout=20)
        assert process.returncode == 0
    assert len(web.requests) == 1
    assert (data / "ilsvrc-nets/bvlc_googlenet.caffemodel").read_bytes() == CAFFEMODEL


def test_a_record_is_json_that_a_person_can_read(web: Server, data: Path) -> None:
    call(web, data, "siftflow")
    record = json.loads(records.path_of(data, "siftflow").read_text())
    assert record["address"] == f"{web.address}/m/SiftFlowDataset.zip"
    assert record["files"]["test.txt"] == hashlib.sha256(b"coast_2\n").hexdigest()
    assert record["whole"] is True
