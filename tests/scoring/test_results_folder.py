"""FCN_RESULTS: all that training and scoring write goes to one folder, and what was trained is found there."""

from __future__ import annotations

import json
import os
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

import analyze
from datasets import shapes
from nets import folders, starts
from nets.experiments import lookup
from published import reproduce
from scoring import results
from tests import forked

ROOT = Path(__file__).resolve().parents[2]


def test_without_it_everything_lies_as_in_the_reference(monkeypatch):
    monkeypatch.delenv("FCN_RESULTS", raising=False)
    assert folders.results_folder() == ROOT / "results"
    assert folders.run_folder("voc-fcn8s") == ROOT / "voc-fcn8s" / "snapshot"
    weights = ROOT / "voc-fcn32s" / "snapshot" / "train_iter_100000.caffemodel"
    assert starts.files(lookup("voc-fcn16s"), ROOT / "voc-fcn16s") == [weights]


def test_it_holds_results_snapshots_and_rehearsals(monkeypatch, tmp_path):
    monkeypatch.setenv("FCN_RESULTS", str(tmp_path))
    assert folders.results_folder() == tmp_path
    assert folders.run_folder("nyud-fcn/hha-32s") == tmp_path / "nyud-fcn" / "hha-32s" / "snapshot"
    assert folders.run_folder("voc-fcn8s", kind="rehearsal") == tmp_path / "voc-fcn8s" / "rehearsal"
    weights = tmp_path / "voc-fcn32s" / "snapshot" / "train_iter_100000.caffemodel"
    assert starts.files(lookup("voc-fcn16s"), ROOT / "voc-fcn16s") == [weights]
    # What is no snapshot, or in no experiment, stays where it is.
    monkeypatch.delenv("FCN_DATA", raising=False)
    assert starts.files(lookup("voc-fcn32s"), ROOT / "voc-fcn32s") == [ROOT / "data/ilsvrc-nets/vgg16-fcn.caffemodel"]
    other = tmp_path / "snapshot" / "x.caffemodel"
    own = replace(lookup("voc-fcn32s"), starts_from=(str(other), "../snapshot/y.caffemodel"))
    assert starts.files(own, tmp_path / "my-fcn") == [other, tmp_path / "snapshot/y.caffemodel"]
    assert reproduce._final_weights("voc-fcn32s", reproduce.Options()).is_relative_to(tmp_path)


def test_the_weights_found_there_are_the_furthest(monkeypatch, tmp_path):
    monkeypatch.setenv("FCN_RESULTS", str(tmp_path))
    run = tmp_path / "voc-fcn8s" / "snapshot"
    run.mkdir(parents=True)
    for iteration in (900, 4000):
        (run / f"train_iter_{iteration}.caffemodel").touch()
    assert folders.find_weights(ROOT / "voc-fcn8s", None) == run / "train_iter_4000.caffemodel"
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "voc-fcn16s" / "snapshot")):
        folders.find_weights(ROOT / "voc-fcn16s", None)


def test_the_demo_and_the_analyses_write_there(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FCN_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("FCN_DATA", str(tmp_path / "data"))
    shapes.make(tmp_path / "data", shapes.Parameters(train=2, val=1, size=48), processes=1)
    assert analyze.main(["upper-bounds"]) == 0
    assert json.loads((tmp_path / "results/upper-bounds/seg11valid.json").read_text())["images"] == 1
    # The demo goes there too, and stops: this is another set than its own.
    shapes.make(tmp_path / "data" / "shapes", shapes.Parameters(train=2, val=1, size=48), processes=1)
    assert runpy.run_path(str(ROOT / "shapes-fcn/demo.py"), run_name="demo")["main"]([]) == 1
    printed = capsys.readouterr()
    assert f"The generated images are in {tmp_path / 'data/shapes'}" in printed.out
    assert "train 2 instead of 1200" in printed.err


def test_the_version_can_be_told(monkeypatch):
    monkeypatch.setenv("FCN_VERSION", "1.2.3-4-gabcdef")
    assert results.code_version() == "1.2.3-4-gabcdef"


@pytest.mark.slow
def test_a_run_goes_there(tmp_path):
    shapes.make(tmp_path / "data" / "shapes", shapes.Parameters(train=2, val=1, size=48), processes=1)
    environment = {**os.environ, "FCN_RESULTS": str(tmp_path / "results"), "OMP_NUM_THREADS": "1"}
    command = ("solve.py", "--rehearse", "2", "--no-report", "--data", tmp_path / "data")
    ran = forked.run(*command, cwd=ROOT / "voc-fcn32s", env=environment)
    assert ran.returncode == 0, ran.stderr
    run = tmp_path / "results" / "voc-fcn32s" / "rehearsal"
    assert json.loads((run / "results" / "seg11valid_iter_2.json").read_text())["rehearsal"] is True
