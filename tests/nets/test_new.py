"""``python -m nets new``: a user's own folder of images and labels becomes experiments that train, or is refused."""

from __future__ import annotations

import json
import os
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

import caffe
import vis
from caffe import layers as L
from caffe.proto import caffe_pb2
from nets import new, own
from nets.bases import BASES
from tests import forked

ROOT = Path(__file__).resolve().parents[2]
SIZE = (40, 30)  # width, height


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten images of two classes and background: a red or a blue box on grey, and its label."""
    folder = tmp_path / "root" / "data" / "boxes"
    for sub in ("images", "labels"):
        (folder / sub).mkdir(parents=True)
    rng = np.random.default_rng(3)
    for i in range(10):
        image = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
        label = np.zeros((SIZE[1], SIZE[0]), np.uint8)
        y, x = rng.integers(0, 15), rng.integers(0, 20)
        image[y : y + 12, x : x + 16] = [(255, 0, 0), (0, 0, 255)][i % 2]
        label[y : y + 12, x : x + 16] = 1 + i % 2
        label[y, x : x + 16] = 255
        Image.fromarray(image).save(folder / "images" / f"box{i}.jpg")
        vis.save_labels(folder / "labels" / f"box{i}.png", label)
    (tmp_path / "names.txt").write_text("background\nred box\nblue box\n")
    return folder


def set_up(data: Path, **options: object) -> str:
    root = data.parents[1]
    if options.get("trunk") == "googlenet":
        enlarge(data)
    return new.new("boxes", data, root.parent / "names.txt", root=root, **options)


def test_experiments_are_written_for_a_folder(data):
    text = set_up(data)
    assert "8 images to train on, 2 to score on" in text
    root = data.parents[1]
    train = (data / "train.txt").read_text().split()
    val = (data / "val.txt").read_text().split()
    assert len(train) == 8
    assert sorted(train + val) == sorted(f"box{i}" for i in range(10))
    for stage in ("32s", "16s", "8s"):
        folder = root / "boxes-fcn" / stage
        net = text_format.Parse((folder / "train.prototxt").read_text(), caffe_pb2.NetParameter())
        layers = {layer.name: layer for layer in net.layer}
        assert layers["score_fr"].convolution_param.num_output == 3
        assert layers["data"].python_param.layer == "FolderSegDataLayer"
        assert "'folder': '../../data/boxes'" in layers["data"].python_param.param_str
        assert vis.class_names(folder, 3) == ("background", "red box", "blue box")
        assert own.find(f"boxes-fcn/{stage}", root) is not None
    solver = text_format.Parse(
        (root / "boxes-fcn" / "16s" / "solver.prototxt").read_text(), caffe_pb2.SolverParameter()
    )
    # 1,200 pixels where VOC has 180,000, and a hundredth of FCN-32s's rate.
    assert solver.base_lr == pytest.approx(1.5e-10)
    assert solver.test_iter == [2]
    # solve.py says to lower the rate in this file where the loss is not finite.
    assert "yours to change" in (root / "boxes-fcn" / "16s" / "solver.prototxt").read_text().splitlines()[0]


def enlarge(data: Path) -> None:
    """Make every image and label twice as high and wide: GoogLeNet takes none of 30 pixels."""
    for path in [*(data / "images").iterdir(), *(data / "labels").iterdir()]:
        with Image.open(path) as image:
            larger = image.resize((2 * SIZE[0], 2 * SIZE[1]), Image.Resampling.NEAREST)
        larger.save(path)


def test_googlenet_is_refused_an_image_that_it_cannot_see(data):
    with pytest.raises(ValueError, match=r"box\d\.jpg is 40 x 30 pixels: GoogLeNet takes none of less than 31"):
        new.new("boxes", data, data.parents[2] / "names.txt", root=data.parents[1], trunk="googlenet")
    assert not (data.parents[1] / "boxes-fcn").exists()


@pytest.mark.parametrize(("trunk", "least"), [(base.name, base.least) for base in BASES.values()])
def test_a_trunk_takes_images_from_its_least_size_on(trunk, least, tmp_path):
    def made(side: int) -> caffe.Net:
        n = caffe.NetSpec()
        n.data = L.Input(shape={"dim": [1, 3, side, side]})
        BASES[trunk].heads["32s"](n, BASES[trunk].trunk(n, n.data, dropout=False, thin=16), 3)
        (tmp_path / "net.prototxt").write_text(str(n.to_proto()))
        return caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)

    assert made(least).blobs["score"].data.shape == (1, 3, least, least)
    if least > 1:
        with pytest.raises(RuntimeError, match="too large for its bottom"):
            made(least - 1)


@pytest.mark.parametrize("thin", [1, 16])
@pytest.mark.parametrize(
    ("trunk", "stages", "first", "rate"),
    [
        ("vgg16", {"32s", "16s", "8s"}, "conv1_1", 1e-10),
        ("alexnet", {"32s"}, "conv1", 1e-9),
        ("googlenet", {"32s"}, "conv1/7x7_s2", 5e-11),
    ],
)
def test_a_trunk_is_chosen_and_may_be_thin(data, trunk, stages, first, rate, thin):
    text = set_up(data, trunk=trunk, thin=thin)
    root = data.parents[1]
    assert {path.name for path in (root / "boxes-fcn").iterdir() if path.is_dir()} == stages
    assert ("has 32s alone: there are no skips for it here" in text) == (len(stages) == 1)
    experiment = own.find("boxes-fcn/32s", root)
    # A thin net has weights of its own: there are none that it could start from.
    assert experiment.starts_from == ((trunk,) if thin == 1 else ())
    net = text_format.Parse((root / "boxes-fcn/32s/train.prototxt").read_text(), caffe_pb2.NetParameter())
    layers = {layer.name: layer for layer in net.layer}
    assert layers[first].convolution_param.num_output == {"alexnet": 96}.get(trunk, 64) // thin
    assert layers["score_fr"].convolution_param.num_output == 3
    fillers = {layer.convolution_param.weight_filler.type for layer in net.layer if layer.type == "Convolution"}
    assert fillers == ({"constant"} if thin == 1 else {"constant", "msra"})  # The score layer starts at 0.
    solver = text_format.Parse((root / "boxes-fcn/32s/solver.prototxt").read_text(), caffe_pb2.SolverParameter())
    pixels = SIZE[0] * SIZE[1] * (4 if trunk == "googlenet" else 1)
    assert solver.base_lr == pytest.approx(180_000 / pixels * rate if thin == 1 else 0.01, rel=0.02)  # two digits
    said = " ".join((root / "boxes-fcn/32s/solve.py").read_text().split())
    assert f"for {solver.max_iter:,} iterations, and scores on the 2 of val.txt every {solver.snapshot:,}" in said
    assert f"from {BASES[trunk].title if thin == 1 else 'nothing'}" in said
    if len(stages) == 1:
        assert own.find("boxes-fcn/16s", root) is None


@pytest.mark.parametrize("trunk", BASES)
def test_a_thin_trunk_needs_no_weights_and_scores_every_pixel(data, trunk, monkeypatch, tmp_path):
    set_up(data, trunk=trunk, thin=16)
    root = data.parents[1]
    monkeypatch.chdir(root / "boxes-fcn/32s")
    net = caffe.Net("train.prototxt", caffe.TRAIN)
    start = runpy.run_path("solve.py")["start"]
    start(net)
    loss = net.forward()["loss"]
    assert net.blobs["score"].data.shape[:2] == (1, 3)
    assert net.blobs["score"].data.shape[2:] == net.blobs["data"].data.shape[2:]
    assert loss == pytest.approx(np.log(3), rel=1e-5)  # scores of zero
    net.backward()
    assert net.params["score_fr"][0].diff.any()


def test_what_was_set_up_before_there_were_trunks_is_on_vgg16(data):
    set_up(data)
    path = data.parents[1] / "boxes-fcn" / own.DATASET
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({key: stored[key] for key in ("data", "classes", "pixels", "images")}))
    assert own.find("boxes-fcn/32s", data.parents[1]).starts_from == ("vgg16",)


def test_lists_that_are_there_are_kept(data):
    (data / "train.txt").write_text("box1\nbox2\n")
    (data / "val.txt").write_text("box3\n")
    assert "2 images to train on, 1 to score on" in set_up(data)
    assert (data / "train.txt").read_text() == "box1\nbox2\n"


def test_the_draw_is_the_seeds(data):
    set_up(data, seed=5, val_share=0.3)
    first = (data / "val.txt").read_text().split()
    assert len(first) == 3
    for name in ("train.txt", "val.txt"):
        (data / name).unlink()
    lists = new._lists(data, 0.3, 5)
    assert lists["val"] == first
    assert new._lists(data, 0.3, 6) != lists


# The text files of a dataset that a fault is written into, from its data folder.
SPOILED = {
    "one list": {"val.txt": "box1\n"},
    "both lists": {"val.txt": "box1\n", "train.txt": "box1\nbox2\n"},
    "names": {"../../../names.txt": "background\nbox\nbox\n"},
    "comment": {"../../../names.txt": "# of the boxes\nbackground\nred box\n"},
    "one name": {"../../../names.txt": "background\n"},
}


def spoil(data: Path, how: str) -> None:
    for name, text in SPOILED.get(how, {}).items():
        (data / name).write_text(text)
    label = data / "labels" / "box4.png"
    seg = np.array(Image.open(label))
    if how == "colours":
        Image.fromarray(vis.color_seg(seg, vis.make_palette(256))).save(label)
    elif how == "shades":
        Image.fromarray(np.where(seg == 1, 128, 0).astype(np.uint8) + np.uint8(50) * (seg == 2)).save(label)
    elif how == "size":
        Image.fromarray(seg[:-1]).save(label)
    elif how == "image":
        (data / "images" / "box4.jpg").unlink()
    elif how == "twice":
        (data / "images" / "box4.png").write_bytes((data / "labels" / "box4.png").read_bytes())
    elif how == "damaged":
        (data / "images" / "box4.jpg").write_bytes(b"\xff\xd8\xff no")
    elif how == "void":
        for path in (data / "labels").glob("*.png"):
            Image.fromarray(np.full(SIZE[::-1], 255, np.uint8)).save(path)
    elif how == "no labels":
        for path in (data / "labels").glob("*.png"):
            path.rename(path.with_suffix(".tif"))
    elif how == "two labels":
        (data / "labels" / "box4.PNG").write_bytes(label.read_bytes())


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("colours", r"box4\.png is an image of mode RGB.*labels_from_colors"),
        ("shades", r"box4\.png has the labels .*names for 3 classes.*renumber"),
        ("size", r"box4\.jpg is 40 x 30 .*box4\.png 40 x 29"),
        ("image", "lacks box4 of the 10 images"),
        ("twice", r"several images of the id box4: box4\.jpg, box4\.png"),
        ("damaged", r"box4\.jpg cannot be read as an image"),
        ("one list", r"has val\.txt alone"),
        ("both lists", r"1 images are in train\.txt and in val\.txt, such as box1"),
        ("void", "nothing to learn"),
        ("names", "names box more than once"),
        ("one name", "names 1 classes"),
        ("comment", r"names\.txt has the line '# of the boxes': expected names alone"),
        ("no labels", r"has 0 labels: expected two at least, ID\.png for images/ID\.jpg"),
        ("two labels", r"several labels of the id box4: box4\.PNG, box4\.png"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_before_anything_is_written(data, how, said):
    spoil(data, how)
    lists = list(data.glob("*.txt"))
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        set_up(data)
    assert not (data.parents[1] / "boxes-fcn").exists()
    # What is put right then is drawn from anew: no list holds what was wrong.
    assert list(data.glob("*.txt")) == lists


def test_what_a_folder_has_beside_its_images_and_labels_does_no_harm(data):
    for sub, junk in (("images", "._box1.jpg"), ("labels", "._box1.png"), ("images", "Thumbs.db")):
        (data / sub / junk).write_bytes(b"no image")
    (data / "labels" / ".checkpoints").mkdir()
    (data / "labels" / ".checkpoints" / "box1.png").write_bytes(b"no image")
    (data / "labels" / "box2.png").rename(data / "labels" / "box2.PNG")
    (data / "labels" / "box3.png").unlink()
    text = set_up(data)
    assert "7 images to train on, 2 to score on" in text
    assert "Without a label, and so in neither list: box3\n" in text
    ids = (data / "train.txt").read_text().split() + (data / "val.txt").read_text().split()
    assert sorted(ids) == [f"box{i}" for i in range(10) if i != 3]


def test_bad_names_and_folders(data, tmp_path, capsys):
    names = str(tmp_path / "names.txt")
    assert new.main(["my-boxes", "--data", str(data), "--classes", names]) == 1
    assert "cannot be called 'my-boxes'" in capsys.readouterr().err
    assert new.main(["boxes", "--data", str(tmp_path), "--classes", names]) == 1
    assert f"There is no folder {tmp_path / 'images'}" in capsys.readouterr().err
    assert new.main(["boxes", "--data", str(data), "--classes", names, "--val-share", "1"]) == 1
    assert "--val-share is 1.0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        new.main(["boxes", "--data", str(data), "--classes", names, "--trunk", "vgg19"])
    assert "choose from" in capsys.readouterr().err
    set_up(data)
    with pytest.raises(ValueError, match="is there already"):
        set_up(data)


@pytest.fixture
def in_the_repository(data: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The experiments of the boxes in the repository itself, where a user has them; removed in the end."""
    folder = ROOT / "boxes_of_the_tests-fcn"
    shutil.rmtree(folder, ignore_errors=True)
    if request.param.get("trunk") == "googlenet":
        enlarge(data)
    new.new("boxes_of_the_tests", data, data.parents[1].parent / "names.txt", **request.param)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "in_the_repository"),
    [
        ("32s", {}),
        ("8s", {}),
        ("32s", {"trunk": "alexnet"}),
        ("32s", {"trunk": "googlenet"}),
        ("32s", {"trunk": "googlenet", "thin": 16}),
    ],
    indirect=["in_the_repository"],
    ids=str,
)
def test_they_train_and_are_scored(stage, in_the_repository, data, tmp_path):
    out = tmp_path / "out"
    command = ("solve.py", "--rehearse", "30", "--no-report", "--out", out)
    ran = forked.run(*command, cwd=in_the_repository / stage, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr
    facts = json.loads((out / "rehearsal.json").read_text())
    assert facts["loss_after"] < 0.8 * facts["loss"]
    stored = json.loads((out / "results" / "val_iter_30.json").read_text())
    assert stored["classes"] == ["background", "red box", "blue box"]
    assert (stored["images"], stored["split"], stored["rehearsal"]) == (2, "val", True)
    # As many pixels of each class as the labels have, void apart.
    labels = [np.array(Image.open(data / "labels" / f"{i}.png")) for i in (data / "val.txt").read_text().split()]
    counted = sum(np.bincount(label.ravel(), minlength=256)[:3] for label in labels)
    assert np.array(stored["confusion"]).sum(1).tolist() == counted.tolist()


def test_a_damaged_record_is_told(data):
    set_up(data)
    root = data.parents[1]
    (root / "boxes-fcn" / own.DATASET).write_text(json.dumps({"classes": 3}))
    with pytest.raises(ValueError, match=r"dataset\.json cannot be read"):
        own.find("boxes-fcn/8s", root)
    assert own.find("boxes-fcn/4s", root) is None
    assert own.find("boxes", root) is None
