"""scoring/submission.py: the archive for the VOC server, whole or not at all."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import caffe
import infer
import score
import vis
from scoring import submission

IDS = ["2008_000006", "2008_000011", "2008_000012"]
SIZES = [(12, 20), (7, 7), (30, 16)]
INSIDE = "results/VOC2011/Segmentation/comp6_test_cls"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment of 21 classes with its weights, and three test images of VOC 2011 beside a VOC 2012 without any."""
    rng = np.random.default_rng(0)
    voc = tmp_path / "data/pascal/VOC2011"
    (voc / "JPEGImages").mkdir(parents=True)
    for year in ("VOC2011", "VOC2012"):
        (voc.parent / year / "ImageSets/Segmentation").mkdir(parents=True)
    for image_id, size in zip(IDS, SIZES, strict=True):
        rgb = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(voc / "JPEGImages" / f"{image_id}.jpg")
    (voc / "ImageSets/Segmentation/test.txt").write_text("\n".join(IDS))
    (voc.parent / "VOC2012/ImageSets/Segmentation/test.txt").write_text("2012_000001")
    folder = tmp_path / "tiny-fcn"
    folder.mkdir()
    write_nets(folder, 21)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FCN_DATA", "")
    return folder


def write_nets(folder: Path, classes: int) -> None:
    convolution = (
        'layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param '
        f'{{ num_output: {classes} kernel_size: 1 weight_filler {{ type: "gaussian" std: 1 }} }} }}\n'
    )
    (folder / "deploy.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 8, 8] } } }\n' + convolution
    )
    (folder / "val.prototxt").write_text(
        'layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "layers" '
        "layer: \"VOCSegDataLayer\" param_str: \"{'voc_dir': '../data/pascal/VOC2011', 'split': 'seg11valid', "
        "'mean': (100, 110, 120)}\" } }\n" + convolution
    )
    caffe.set_random_seed(5)
    (folder / "snapshot").mkdir(exist_ok=True)
    caffe.Net(str(folder / "deploy.prototxt"), caffe.TEST).save(str(folder / "snapshot/train_iter_9.caffemodel"))


@pytest.fixture
def submit(folder: Path, tmp_path: Path) -> Callable[..., int]:
    """Call score.py as a person would, to write into out/."""

    def call(*options: str, split: str = "seg11test") -> int:
        return score.main(
            ["--net", str(folder), "--split", split, "--submit", "--out", str(tmp_path / "out"), *options]
        )

    return call


def test_the_archive_holds_a_palette_png_of_each_image_s_size(
    folder: Path, submit: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit() == 0
    archive = tmp_path / "out/seg11test_iter_9_comp6.tgz"
    assert str(archive) in capsys.readouterr().out
    net = infer.deploy_net(folder, folder / "snapshot/train_iter_9.caffemodel")
    with tarfile.open(archive) as tar:
        assert tar.getnames() == [f"{INSIDE}/{image_id}.png" for image_id in IDS]
        for image_id, size in zip(IDS, SIZES, strict=True):
            member = tar.extractfile(f"{INSIDE}/{image_id}.png")
            assert member is not None
            image = Image.open(io.BytesIO(member.read()))
            assert (image.mode, image.size) == ("P", size[::-1])
            palette = image.getpalette()
            assert palette is not None
            assert palette[:63] == vis.make_palette(21).ravel().tolist()
            photo = Image.open(tmp_path / f"data/pascal/VOC2011/JPEGImages/{image_id}.jpg")
            assert np.array_equal(np.asarray(image), infer.segment(net, photo, (100, 110, 120)))


def test_another_competition_and_a_list_of_one_s_own(folder: Path, submit: Callable[..., int], tmp_path: Path) -> None:
    own = tmp_path / "data/pascal/VOC2011/ImageSets/Segmentation/mine.txt"
    own.write_text(IDS[1])
    assert submit("--competition", "comp5", split="mine") == 0
    with tarfile.open(tmp_path / "out/mine_iter_9_comp5.tgz") as tar:
        assert tar.getnames() == [f"results/VOC2011/Segmentation/comp5_test_cls/{IDS[1]}.png"]


def test_an_interrupted_call_goes_on_where_it_was(
    folder: Path,
    submit: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    segmented: list[tuple[int, int]] = []
    segment = infer.segment

    def interrupted(net: caffe.Net, image: Image.Image, *settings: object) -> np.ndarray:
        if len(segmented) == 2:
            raise KeyboardInterrupt
        segmented.append(image.size)
        return segment(net, image, *settings)

    with monkeypatch.context() as patch:
        patch.setattr(submission, "segment", interrupted)
        assert submit() == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.tgz"))
    (maps,) = (tmp_path / "out").iterdir()
    (maps / f"{IDS[0]}.png").write_bytes(b"cut off")
    segmented.clear()
    monkeypatch.setattr(submission, "segment", interrupted)
    assert submit() == 0
    # The third, and the first, which was damaged since.
    assert segmented == [SIZES[0][::-1], SIZES[2][::-1]]
    with tarfile.open(tmp_path / "out/seg11test_iter_9_comp6.tgz") as tar:
        assert len(tar.getnames()) == 3


def test_label_maps_of_other_weights_are_not_taken(folder: Path, submit: Callable[..., int], tmp_path: Path) -> None:
    assert submit() == 0
    archive = tmp_path / "out/seg11test_iter_9_comp6.tgz"
    before = archive.read_bytes()
    net = infer.deploy_net(folder, folder / "snapshot/train_iter_9.caffemodel")
    net.params["score"][0].data[...] *= -1
    net.save(str(folder / "snapshot/train_iter_9.caffemodel"))
    assert submit() == 0
    assert archive.read_bytes() != before
    assert len([path for path in (tmp_path / "out").iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b"no image"), "cannot be read"),
        (lambda path: Image.new("L", (20, 12)).save(path), "has the mode L"),
        (lambda path: vis.save_labels(path, np.zeros((12, 21), int)), "is 21 x 12 pixels, but its image 20 x 12"),
        (lambda path: vis.save_labels(path, np.full((12, 20), 21)), "has the label 21"),
    ],
)
def test_nothing_is_packed_if_one_label_map_is_wrong(folder: Path, tmp_path: Path, wrong: object, told: str) -> None:
    voc = tmp_path / "data/pascal/VOC2011"
    images = {image_id: voc / "JPEGImages" / f"{image_id}.jpg" for image_id in IDS}
    for image_id, size in zip(IDS, SIZES, strict=True):
        vis.save_labels(tmp_path / "maps" / f"{image_id}.png", np.full(size, 20))
    submission.pack(tmp_path / "good.tgz", tmp_path / "maps", images, INSIDE)
    assert (tmp_path / "good.tgz").is_file()
    assert callable(wrong)
    wrong(tmp_path / "maps" / f"{IDS[0]}.png")
    with pytest.raises(ValueError, match=f"Nothing is packed: of 3 label maps 1 are wrong.*{IDS[0]}.png {told}"):
        submission.pack(tmp_path / "bad.tgz", tmp_path / "maps", images, INSIDE)
    assert not (tmp_path / "bad.tgz").exists()


def test_what_cannot_be_submitted_is_told(
    folder: Path, submit: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(split: str = "seg11test") -> str:
        assert submit(split=split) == 1
        assert not list((tmp_path / "out").glob("*.tgz"))
        return capsys.readouterr().err

    assert "Of the 1 images of seg12test, 1 are missing" in told("seg12test")
    assert "There is no list" in told("nothing")
    own = tmp_path / "data/pascal/VOC2011/ImageSets/Segmentation/own.txt"
    own.write_text(f"{IDS[0]}\n{IDS[0]}")
    assert "it has an image twice" in told("own")
    own.write_text("../outside")
    assert "it has ../outside" in told("own")
    write_nets(folder, 20)
    assert "tiny-fcn has 20 classes, and the VOC server takes labels of 21" in told()
    write_nets(folder, 21)
    net = infer.deploy_net(folder, folder / "snapshot/train_iter_9.caffemodel")
    for blob in net.params["score"]:
        blob.data[...] = 0
    net.save(str(folder / "snapshot/train_iter_9.caffemodel"))
    assert "not a net to be judged" in told()
    text = (folder / "val.prototxt").read_text()
    (folder / "val.prototxt").write_text(text.replace("voc_dir", "sbdd_dir"))
    assert "does not read VOC's layout" in told()
