"""training/rehearsal.py: what a rehearsal is made of, the rate that it finds, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

import caffe
import score
import surgery
import train
from caffe.proto import caffe_pb2
from datasets import shapes
from nets import experiments, folders
from nets.convolutionalize import load
from training import rehearsal

ROOT = Path(__file__).resolve().parents[2]
TINY = shapes.Parameters(train=4, val=2, size=48)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    shapes.make(folder / "shapes", TINY, processes=1)
    return folder


@pytest.fixture
def here(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FCN_DATA", str(data))
    monkeypatch.setenv("GLOG_minloglevel", "2")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(net: caffe.Net, *files: str) -> None:
    for file in files:
        net.copy_from(file)
    surgery.interp(net, [layer for layer in net.params if "up" in layer])


def read_solver(path: Path) -> Any:
    return text_format.Parse(path.read_text(), caffe_pb2.SolverParameter())


def rehearse(out: Path, *argv: str, name: str = "voc-fcn16s", begin: Any = start) -> None:
    train.run(
        str(ROOT / name / "solve.py"),
        None,
        start=begin,
        argv=["--rehearse", "4", "--out", str(out), "--no-report", *argv],
    )


@pytest.mark.slow
def test_a_rehearsal_is_the_experiment_thin_and_elsewhere(
    here: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = here / "out"
    began: list[tuple[str, ...]] = []

    def begin(net: caffe.Net, *files: str) -> None:
        began.append(files)
        start(net, *files)

    rehearse(out, "--data", str(data), begin=begin)
    # The nets are the experiment's, a sixteenth as wide; so is that of the experiment before it.
    for name in ("voc-fcn16s", "voc-fcn32s"):
        for file, split in experiments.lookup(name).splits.items():
            written = text_format.Parse((out / name / file).read_text(), caffe_pb2.NetParameter())
            assert written == experiments.lookup(name).net(split, thin=16)
    # The solver is its own, but for the rate and the seed.
    solver, own = read_solver(out / "voc-fcn16s/solver.prototxt"), read_solver(ROOT / "voc-fcn16s/solver.prototxt")
    assert solver.base_lr != own.base_lr
    own.base_lr, own.random_seed = solver.base_lr, solver.random_seed
    assert solver == own
    # Its start is called for the rate and for the run, with random weights.
    assert began == 2 * [(str(out / "starts-from/voc-fcn32s.caffemodel"),)]
    facts = json.loads((out / "rehearsal.json").read_text())
    assert (facts["experiment"], facts["iterations"]) == ("voc-fcn16s", 4)
    printed = capsys.readouterr().out
    assert "Rehearsed: the loss fell, from " in printed
    # One scoring, at the end, that is known for what it is.
    (result,) = (out / "results").iterdir()
    assert json.loads(result.read_text())["rehearsal"] is True
    assert folders.rehearsal_of(out / "voc-fcn16s") == out
    assert folders.rehearsal_of(ROOT / "voc-fcn16s") is None
    # What is scored of it later on is no result of the experiment's either.
    assert score.main(["--split", "train", "--net", str(out / "voc-fcn16s"), "--data", str(data / "shapes")]) == 0
    stored = json.loads((out / "results/train_iter_4.json").read_text())
    assert (stored["experiment"], stored["rehearsal"]) == ("voc-fcn16s", True)
    assert stored["weights"]["path"] == str(out / "train_iter_4.caffemodel")
    assert stored["classes"][:2] == ["background", "aeroplane"]
    # The net that it starts from lies beside it, but has not been trained.
    with pytest.raises(FileNotFoundError, match="no weights for voc-fcn32s"):
        folders.find_weights(out / "voc-fcn32s", None)
    assert not (ROOT / "voc-fcn16s/rehearsal").exists()


@pytest.mark.slow
def test_a_rehearsal_is_the_same_each_time_and_replaces_the_one_before(here: Path, data: Path) -> None:
    out = here / "out"
    rehearse(out, "--data", str(data))
    first = json.loads((out / "rehearsal.json").read_text())
    (out / "left.txt").write_text("of the first")
    rehearse(out, "--data", str(data))
    assert json.loads((out / "rehearsal.json").read_text()) == first
    assert not (out / "left.txt").exists()
    rehearse(out, "--data", str(data), "--seed", "3")
    assert json.loads((out / "rehearsal.json").read_text())["base_lr"] != first["base_lr"]


@pytest.mark.slow
def test_what_is_no_rehearsal_stays(here: Path) -> None:
    (here / "out").mkdir()
    (here / "out/kept.txt").write_text("mine")
    (here / "out/train_iter_7.caffemodel").write_text("")
    (here / "out/train_iter_7.solverstate").write_text("")
    with pytest.raises(SystemExit, match=r"holds a run, at iteration 7"):
        rehearse(here / "out")
    assert (here / "out/kept.txt").read_text() == "mine"


def test_the_data_is_made_if_it_is_not_there(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Path, str]] = []
    make = shapes.make

    def small(out: Path, layout: str) -> bool:
        made.append((out, layout))
        return make(out, TINY, layout, processes=1)

    monkeypatch.setenv("FCN_DATA", str(here / "new"))
    monkeypatch.setattr(shapes, "make", small)
    rehearsal.prepare("pascalcontext-fcn/32s", here / "out", 0)
    rehearsal.prepare("pascalcontext-fcn/32s", here / "out", 0)
    assert made == [(here / "new/shapes", "pascalcontext")]


def test_an_experiment_that_nobody_knows_is_refused(here: Path) -> None:
    with pytest.raises(SystemExit, match="my-fcn cannot be rehearsed: No experiment is called"):
        train.run(
            str(here / "my-fcn" / "solve.py"),
            None,
            start=start,
            experiment=experiments.lookup("voc-fcn32s"),
            argv=["--rehearse", "--out", str(here / "out")],
        )


@pytest.mark.parametrize(("normalize", "iter_size", "momentum"), [(False, 1, 0.99), (True, 20, 0.9), (True, 1, 0.0)])
def test_the_rate_is_that_with_which_the_first_gradient_foretells_the_fall(
    here: Path, normalize: bool, iter_size: int, momentum: float
) -> None:
    (here / "train.prototxt").write_text(
        """
        layer { name: "x" type: "DummyData" top: "x" dummy_data_param {
          shape { dim: 1 dim: 2 dim: 4 dim: 4 } data_filler { type: "constant" value: 3 } } }
        layer { name: "label" type: "DummyData" top: "label" dummy_data_param {
          shape { dim: 1 dim: 1 dim: 4 dim: 4 } data_filler { type: "constant" value: 1 } } }
        layer { name: "score" type: "Convolution" bottom: "x" top: "score"
          param { lr_mult: 1 } param { lr_mult: 2 } convolution_param { num_output: 5 kernel_size: 1 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
          loss_param { normalization: NORMALIZATION } }
        """.replace("NORMALIZATION", "VALID" if normalize else "BATCH_SIZE")
    )
    (here / "solver.prototxt").write_text(
        f'train_net: "train.prototxt" base_lr: 1 lr_policy: "fixed" momentum: {momentum} iter_size: {iter_size}\n'
        'snapshot_prefix: "x"'
    )
    rate, before = rehearsal.choose_rate(lambda net: None, rehearsal.Rehearsal(here, [], here), 5, 0)
    assert before == pytest.approx(np.log(5) * (1 if normalize else 16), rel=1e-5)
    settings = read_solver(here / "solver.prototxt")
    assert settings.base_lr == pytest.approx(rate)
    assert settings.iter_size == min(iter_size, rehearsal.PASSES)
    solver = caffe.get_solver("solver.prototxt")
    gradient_now = {}
    solver.net.forward()
    solver.net.backward()
    for i, multiplier in enumerate((1, 2)):
        gradient_now[i] = multiplier, solver.net.params["score"][i].diff.copy()
    # The same first gradient in every step, as the rate is defined with.
    velocity = [np.zeros_like(gradient) for _, gradient in gradient_now.values()]
    moved = [np.zeros_like(gradient) for _, gradient in gradient_now.values()]
    for _ in range(5):
        for i, (multiplier, gradient) in gradient_now.items():
            velocity[i] = momentum * velocity[i] + rate * multiplier * gradient
            moved[i] += velocity[i]
    foretold = sum(float((moved[i] * gradient).sum()) for i, (_, gradient) in gradient_now.items())
    assert foretold == pytest.approx(rehearsal.FALL * before, rel=1e-4)


def test_a_net_that_cannot_learn_is_refused(here: Path) -> None:
    (here / "solver.prototxt").write_text('train_net: "train.prototxt" momentum: 0.9')
    (here / "train.prototxt").write_text(
        """
        layer { name: "x" type: "DummyData" top: "x" top: "y" dummy_data_param { shape { dim: 1 } shape { dim: 1 } } }
        layer { name: "score" type: "InnerProduct" bottom: "x" top: "score" param { lr_mult: 0 } param { lr_mult: 0 }
          inner_product_param { num_output: 1 axis: 0 } }
        layer { name: "loss" type: "EuclideanLoss" bottom: "score" bottom: "y" top: "loss" }
        """
    )
    with pytest.raises(ValueError, match=r"Nothing in .*train\.prototxt has a gradient"):
        rehearsal.choose_rate(lambda net: None, rehearsal.Rehearsal(here, [], here), 5, 0)


@pytest.mark.parametrize("origin", ["vgg16", "alexnet", "googlenet", "nyud-fcn/color-32s"])
def test_random_weights_keep_every_layer_s_features_alive(origin: str) -> None:
    net = load(rehearsal._base_net(origin))
    rehearsal._fill(net, np.random.default_rng(0))
    net.forward()
    for name, types in ((name, net.layers[i].type) for i, name in enumerate(net.top_names)):
        if types != "Convolution" or name.startswith("score"):
            continue
        values = net.blobs[net.top_names[name][0]].data
        assert 1 < np.abs(values[values != 0]).mean() < 10 * rehearsal.FEATURES, name
        assert (values > 0).any((0, 2, 3)).all(), name
    assert not any(blob.data.any() for name in net.params if name.startswith("score") for blob in net.params[name])
