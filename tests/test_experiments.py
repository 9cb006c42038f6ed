"""Every experiment, end to end on small generated images: it starts, learns, and its score files are right."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import caffe
import score
from caffe.proto import caffe_pb2
from datasets import shapes
from datasets.generated import LAYOUTS
from nets import experiments
from nets.folders import evaluation_prototxt
from scoring.passes import data_layer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent

SIZE = 48
TRAIN, VAL = 6, 3
ITERATIONS = 12

# The least share of itself by which the loss has to fall in so few iterations. The least that any falls by is 0.18.
FALL = 0.1

# The blobs of scores and of their labels, where they are not score and label.
HEADS = {"siftflow": {"score_sem": "sem", "score_geo": "geo"}}

# The experiments that train their score layers only.
FIXED = ("voc-fcn-ablations/32s-fixed", "cvpr-recipe/voc-fcn32s-fixed")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data that holds a very small generated set in each of its layouts."""
    folder = tmp_path_factory.mktemp("data")
    for layout in LAYOUTS:
        shapes.make(folder / "shapes", shapes.Parameters(train=TRAIN, val=VAL, size=SIZE), layout, processes=1)
    return folder


def solve(name: str, monkeypatch: pytest.MonkeyPatch, *argv: str) -> None:
    """Call an experiment's solve.py, or, for a variant, that of its folder."""
    script = ROOT / name / "solve.py"
    own = []
    if name not in experiments.EXPERIMENTS:
        script, own = script.parent.parent / "solve.py", [script.parent.name]
    monkeypatch.setattr(sys, "argv", [str(script), *own, *argv])
    monkeypatch.setenv("FCN_DATA", "")
    monkeypatch.setenv("GLOG_minloglevel", "2")
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(script), run_name="__main__")


def parameters(weights: Path) -> dict[str, np.ndarray]:
    """Return the filters of each layer of a .caffemodel, flat, by the layer's name."""
    net = caffe_pb2.NetParameter.FromString(weights.read_bytes())
    return {layer.name: np.array(layer.blobs[0].data, np.float32) for layer in net.layer if layer.blobs}


def trained_trunk(out: Path, snapshot: Path) -> list[str]:
    """Return the layers of a snapshot's trunk that are not, whatever their name there, in the files it started from."""
    files = [parameters(path) for path in (out / "starts-from").glob("*.caffemodel")]
    trained = []
    for layer, filters in parameters(snapshot).items():
        names = {layer, layer.removesuffix("color").removesuffix("hha")}  # in a net of both modalities, and of one
        before = [named[own] for named in files for own in names & named.keys()]
        same = any(np.array_equal(filters, old) for old in before)
        if before and not same and not layer.startswith(("score", "up")):
            trained.append(layer)
    return trained


def losses(net: caffe.Net) -> dict[str, tuple[float, float]]:
    """Return each loss of a net on its next image, with scores of zero, as at the start, and with its own."""
    net.forward()
    found = {}
    for loss in (blob for blob, weight in net.blob_loss_weights.items() if weight):
        after = float(net.blobs[loss].data.sum())
        net.blobs[net.bottom_names[loss][0]].data[...] = 0
        net.forward(start=loss, end=loss)
        found[loss] = (float(net.blobs[loss].data.sum()), after)
    return found


def save_varied(prototxt: Path, snapshot: Path, path: Path, heads: Iterable[str]) -> None:
    """Save a snapshot with random scores that, on the whole, favour no class: so short a training's favour one."""
    net = caffe.Net(str(prototxt), caffe.TEST, weights=str(snapshot))
    rng = np.random.default_rng(0)
    for head in heads:
        own = [layer for layer in net.params if layer.startswith("score") and layer.endswith(head[len("score") :])]
        weights, bias = net.params[own[-1]]  # of the finest scores
        weights.data[...] = rng.standard_normal(weights.data.shape)
        for _ in range(4):  # At an image's edge, where cells are missing, scores follow a bias by part only.
            total = np.zeros(net.blobs[head].shape[1])
            for _ in range(VAL):
                net.forward()
                total += net.blobs[head].data.mean((0, 2, 3))
            bias.data[...] -= total[-bias.data.size :] / VAL  # A background that is always 0 has no bias.
    net.save(str(path))


def truths(prototxt: Path, labels: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """Return what the data layer of a net gives as an image's labels, H x W, by label blob and image id."""
    net = caffe.Net(str(prototxt), caffe.TEST)
    found = data_layer(net)
    assert found is not None
    layer, reader = found
    read: dict[str, dict[str, np.ndarray]] = {label: {} for label in labels}
    for image_id in reader.ids:
        net.forward(end=layer)
        for label in labels:
            read[label][image_id] = net.blobs[label].data[0, 0].astype(int)
    return read


def counted(truth: dict[str, np.ndarray], folder: Path, classes: int) -> np.ndarray:
    """Return the confusion matrix of the predictions that a folder holds, counted pixel by pixel."""
    confusion = np.zeros((classes, classes), np.int64)
    for image_id, label in truth.items():
        with Image.open(folder / f"{image_id}.png") as predicted:
            prediction = np.asarray(predicted)
        assert prediction.shape == label.shape
        labelled = label != 255
        np.add.at(confusion, (label[labelled], prediction[labelled]), 1)
    return confusion


def check(result: dict[str, Any], confusion: np.ndarray) -> None:
    """Assert that a result is that of the confusion matrix, its metrics worked out here once more."""
    assert result["confusion"] == confusion.tolist()
    present = confusion.sum(1) > 0
    hits = np.diag(confusion)[present]
    unions = (confusion.sum(1) + confusion.sum(0))[present] - hits
    assert result["mean_iu"] == pytest.approx(np.mean(hits / unions))
    assert result["pixel_accuracy"] == pytest.approx(hits.sum() / confusion.sum())
    assert len(result["classes"]) == len(set(result["classes"])) == len(confusion)
    assert not any(named.startswith("class ") for named in result["classes"])
    if result["classes"][0] == "background":
        others = present[1:]
        mean = np.mean((hits / unions)[len(hits) - others.sum() :])
        assert result["mean_iu_without_background"] == pytest.approx(mean)
    else:
        assert result["mean_iu_without_background"] is None


@pytest.mark.parametrize("name", experiments.all_names())
def test_an_experiment_starts_learns_and_is_scored(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    solve(name, monkeypatch, "--rehearse", str(ITERATIONS), "--data", str(data), "--out", str(out), "--no-report")
    # What the rehearsal took for data/, for the nets that are made of its experiment's prototxts below.
    monkeypatch.setenv("FCN_DATA", str(data if name.startswith("shapes-fcn/") else data / "shapes"))
    facts = json.loads((out / "rehearsal.json").read_text())
    assert facts["loss_after"] < (1 - FALL) * facts["loss"]
    snapshot = out / f"train_iter_{ITERATIONS}.caffemodel"
    if experiments.lookup(name).starts_from:
        assert (trained_trunk(out, snapshot) == []) == (name in FIXED)
    heads = next((heads for start, heads in HEADS.items() if start in name), {"score": "label"})
    if len(heads) > 1:
        caffe.set_random_seed(0)
        net = caffe.Net(str(out / name / "trainval.prototxt"), caffe.TRAIN, weights=str(snapshot))
        fell = losses(net)
        assert len(fell) == len(heads)
        for loss, (before, after) in fell.items():
            assert after < (1 - FALL) * before, loss

    prototxt, split = evaluation_prototxt(out / name), experiments.lookup(name).split
    save_varied(prototxt, snapshot, again := out / f"varied_iter_{ITERATIONS}.caffemodel", heads)
    monkeypatch.chdir(ROOT)
    options = ["--net", str(out / name), "--weights", str(again), "--save", "--out", str(out / "again")]
    assert score.main(["--split", split, *options]) == 0

    truth = truths(prototxt, list(heads.values()))
    for results, predictions in ((out / "results", out / "predictions"), (out / "again", out / "again" / split)):
        found = [json.loads(path.read_text()) for path in results.glob("*.json")]
        assert sorted(result["head"] for result in found) == sorted(heads)
        for result in found:
            assert (result["experiment"], result["split"]) == (name, split)
            assert (result["iteration"], result["images"], result["split_images"]) == (ITERATIONS, VAL, VAL)
            assert result["rehearsal"] is True
            label = heads[result["head"]]
            folder = predictions / (label if len(heads) > 1 else "")
            confusion = counted(truth[label], folder, len(result["confusion"]))
            check(result, confusion)
            if results.name == "again":
                assert ((confusion > 0).any(0)).sum() > 1, "All pixels are of one class: the counts show little."
