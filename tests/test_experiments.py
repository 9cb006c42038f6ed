"""Every experiment, end to end on small generated images: it starts, learns, and its score files are right."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import caffe
import score
from datasets import shapes
from datasets.generated import LAYOUTS
from experiment import evaluation_prototxt
from nets import experiments

ROOT = Path(__file__).resolve().parent.parent

SIZE = 48
TRAIN, VAL = 6, 3
ITERATIONS = 12

# The least share of itself by which the loss has to fall in so few iterations. The least that any falls by is 0.18.
FALL = 0.1

# The blobs of scores, where there is not one called score.
HEADS = {"siftflow": ["score_sem", "score_geo"]}


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
    monkeypatch.setenv("FCN_DATA", "")  # The run sets it; this brings back what was there. The same for the folder.
    monkeypatch.setenv("GLOG_minloglevel", "2")
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(script), run_name="__main__")


def counted(out: Path, name: str, head: str) -> np.ndarray:
    """Return the confusion matrix of the predictions that a run saved, counted pixel by pixel."""
    net = caffe.Net(str(evaluation_prototxt(out / name)), caffe.TEST)
    found = score.data_layer(net)
    assert found is not None
    layer, reader = found
    label = {"score_sem": "sem", "score_geo": "geo"}.get(head, "label")
    classes = net.blobs[head].shape[1]
    confusion = np.zeros((classes, classes), np.int64)
    folder = out / "predictions" / ("" if head == "score" else label)
    for image_id in reader.ids:
        net.forward(end=layer)
        with Image.open(folder / f"{image_id}.png") as predicted:
            prediction = np.asarray(predicted)
        truth = net.blobs[label].data[0, 0]
        assert prediction.shape == truth.shape
        labelled = truth != 255
        np.add.at(confusion, (truth[labelled].astype(int), prediction[labelled]), 1)
    return confusion


@pytest.mark.parametrize("name", experiments.all_names())
def test_an_experiment_starts_learns_and_is_scored(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    solve(name, monkeypatch, "--rehearse", str(ITERATIONS), "--data", str(data), "--out", str(out), "--no-report")
    facts = json.loads((out / "rehearsal.json").read_text())
    assert facts["loss_after"] < (1 - FALL) * facts["loss"]

    heads = next((heads for start, heads in HEADS.items() if start in name), ["score"])
    stored = {(result := json.loads(path.read_text()))["head"]: result for path in (out / "results").glob("*.json")}
    assert list(stored) == heads or sorted(stored) == sorted(heads)
    for head, result in stored.items():
        assert (result["experiment"], result["split"]) == (name, experiments.evaluation_split(name))
        assert (result["iteration"], result["images"], result["split_images"]) == (ITERATIONS, VAL, VAL)
        assert result["rehearsal"] is True
        confusion = counted(out, name, head)
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
