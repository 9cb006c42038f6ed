"""The examples: each runs as it stands and finds what its manual says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import caffe
from caffe import layers as L
from tests import forked

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def run(tmp_path):
    """Run an example in an empty folder, on one core, and return what it prints."""

    def started(script: str, *arguments: str | Path, code: int = 0) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ran = forked.run(EXAMPLES / script, *arguments, cwd=tmp_path, env=environment, timeout=300)
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout if code == 0 else ran.stderr

    return started


def number(text: str, after: str) -> float:
    """Return the number that follows a piece of text."""
    found = re.search(re.escape(after) + r" ?([-+.\de]+)", text)
    assert found, f"no {after!r} in\n{text}"
    return float(found[1].rstrip("."))


def test_net_surgery(run, tmp_path):
    said = run("net_surgery.py", tmp_path / "kept")
    assert number(said, "they differ by") < 1e-5
    cells = [line.split() for line in said.splitlines()[-17:]]
    # The shapes lie in the middle of the crops that begin at (8, 8), (12, 56) and (56, 32), four pixels a cell.
    assert (cells[2][2], cells[3][14], cells[14][8]) == ("d", "s", "x")
    assert cells[8][1] == cells[1][8] == "."
    assert (tmp_path / "kept" / "fully_convolutional.caffemodel").exists()


def test_fine_tuning(run, tmp_path):
    said = run("fine_tuning.py")
    assert number(said, "1000 pictures: accuracy") > 0.9
    tuned, scratch = number(said, "fine-tuned on 104 pictures: accuracy"), number(said, "the same 104: accuracy")
    assert tuned > scratch + 0.05
    assert not list(tmp_path.iterdir()), "without a folder it leaves nothing behind"


def test_siamese(run):
    said = run("siamese.py")
    assert "equal weights: True; one memory: True" in said
    assert number(said, "step 250: loss") < number(said, "step 1: loss") / 4
    assert number(said, "nearest of ten means: accuracy") > 0.75


def test_python_loss(run):
    said = run("python_loss/train.py")
    assert number(said, "losses differ by") < 1e-5
    assert number(said, "weights after them by") < 1e-5
    assert number(said, "step 50: loss") < number(said, "step 1: loss") / 3


def test_hdf5_regression(run):
    said = run("hdf5_regression.py")
    assert number(said, ", net") < number(said, "straight fit") / 5


def test_lenet(run, tmp_path):
    said = run("lenet/train.py", "kept")
    assert number(said, "400 other pictures: accuracy") > 0.9
    assert (tmp_path / "kept" / "lenet_iter_160.caffemodel").exists()


@pytest.fixture
def trained(tmp_path) -> caffe.Net:
    """Make tiny.caffemodel: a training net that tells red, green and blue pictures apart, with a loss and a split."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, 8, 8]})
    n.label = L.Input(shape={"dim": [1]})
    n.pool = L.Pooling(n.data, pool=1, global_pooling=True)
    n.drop = L.Dropout(n.pool, in_place=True, phase=caffe.TRAIN)
    n.score = L.InnerProduct(n.drop, num_output=3, param=[{"lr_mult": 2}])
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    n.accuracy = L.Accuracy(n.score, n.label)
    (tmp_path / "train.prototxt").write_text(str(n.to_proto()))
    net = caffe.Net(str(tmp_path / "train.prototxt"), caffe.TRAIN)
    net.params["score"][0].data[...] = 0.05 * np.eye(3)[::-1]  # channels come in as blue, green, red
    net.save(str(tmp_path / "tiny.caffemodel"))
    return net


def test_deploy_from_weights(run, tmp_path, trained):
    assert "_split_" in str(list(trained.blobs)), "the net must have a split, or nothing is shown of them"
    said = run("deploy_from_weights.py", "tiny.caffemodel", "deploy.prototxt", "--shape", "4,3,16,16")
    assert "output prob" in said
    net = caffe.Net(str(tmp_path / "deploy.prototxt"), str(tmp_path / "tiny.caffemodel"), caffe.TEST)
    assert net.inputs == ["data"] and net.outputs == ["prob"]
    assert list(net.layer_dict) == ["data", "pool", "drop", "score", "prob"]
    image = np.random.default_rng(1).uniform(-50, 50, (4, 3, 16, 16))
    score = image.mean((2, 3)) @ trained.params["score"][0].data.T
    expected = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    assert np.allclose(net.forward(data=image)["prob"], expected, atol=1e-5), "Dropout is of the TEST phase"


def test_deploy_from_weights_says_what_it_cannot_use(run, tmp_path):
    old = caffe.proto.caffe_pb2.NetParameter()
    old.layers.add(name="conv")
    (tmp_path / "old.caffemodel").write_bytes(old.SerializeToString())
    said = run("deploy_from_weights.py", "old.caffemodel", "out.prototxt", "--shape", "1,3,8,8", code=1)
    assert "caffe upgrade" in said


def test_classify(run, tmp_path, trained):
    run("deploy_from_weights.py", "tiny.caffemodel", "deploy.prototxt", "--shape", "10,3,8,8")
    (tmp_path / "words.txt").write_text("red thing\ngreen thing\nblue thing\n")
    for name, color in (("r", (255, 0, 0)), ("g", (0, 255, 0)), ("b", (0, 0, 255))):
        Image.new("RGB", (20, 14), color).save(tmp_path / f"{name}.png")
    model = ("deploy.prototxt", "tiny.caffemodel", "r.png", "g.png", "b.png", "--image-dims", "12,12")
    said = run("classify.py", *model, "--labels", "words.txt")
    best = [lines.splitlines()[1] for lines in re.split(r"(?=^\w\.png)", said, flags=re.MULTILINE)[1:]]
    assert [line.split(maxsplit=1)[1] for line in best] == ["red thing", "green thing", "blue thing"]
    assert all(float(line.split()[0]) > 0.99 for line in best)
    np.save(tmp_path / "mean.npy", np.array([104.0, 117.0, 123.0]))
    assert run("classify.py", *model, "--labels", "words.txt", "--mean", "mean.npy", "--center-only") == said
    (tmp_path / "words.txt").write_text("one\n")
    assert "3 classes" in run("classify.py", *model, "--labels", "words.txt", code=1)
    assert "--mean is 'x'" in run("classify.py", *model, "--mean", "x", code=1)
