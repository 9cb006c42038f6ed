"""`python paper.py reproduce` with the real programs: two stages, stopped once, gone on with, and scored."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe.proto import caffe_pb2
from datasets import shapes
from nets import experiments
from nets.bases import BASES
from nets.convolutionalize import convolutional_net, load

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("voc-fcn32s", "voc-fcn16s")
THIN = 16
ITERATIONS = 3


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The repository's programs, with thin nets of the two stages, and nothing that was trained."""
    clone = tmp_path / "clone"
    clone.mkdir()
    for path in [*ROOT.glob("*.py"), *ROOT.glob("*.j2")]:
        shutil.copy(path, clone)
    for package in sorted(path.parent for path in ROOT.glob("*/__init__.py")):
        shutil.copytree(package, clone / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in STAGES:
        experiments.write(name, clone, thin=THIN)
        for file in ("solve.py", "solver.prototxt"):
            shutil.copy(ROOT / name / file, clone / name)
    return clone


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder like data/: six generated images, and a thin VGG16 of random weights."""
    data = tmp_path / "data"
    shapes.make(data, shapes.Parameters(train=4, val=2, size=48), "voc", processes=1)
    net = load(convolutional_net(BASES["vgg16"], THIN))
    rng = np.random.default_rng(1337)
    for name, (weights, _) in net.params.items():
        # Values of about one size in all layers, though an image's are of about 64.
        scale = np.sqrt(2 / np.prod(weights.shape[1:])) / (64 if name == "conv1_1" else 1)
        weights.data[...] = scale * rng.standard_normal(tuple(weights.shape))
    base = data / "ilsvrc-nets" / BASES["vgg16"].weights
    base.parent.mkdir()
    net.save(str(base))
    return data


@pytest.mark.slow
def test_two_stages_are_trained_one_from_the_other_and_a_stopped_one_goes_on(clone, data):
    command = [sys.executable, "paper.py", "reproduce", "pami3/16s", "--iterations", str(ITERATIONS), "--data", data]
    environment = {name: value for name, value in os.environ.items() if name not in ("FCN_DATA", "FCN_RESULTS")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    snapshots = [
        clone / "results" / f"iterations-{ITERATIONS}" / name / f"train_iter_{ITERATIONS}.caffemodel" for name in STAGES
    ]

    said = clone / "said"
    with said.open("w") as output:
        running = subprocess.Popen(
            command, cwd=clone, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 120
            while not snapshots[0].exists():
                assert running.poll() is None and time.monotonic() < deadline, said.read_text()
                time.sleep(0.01)
            os.killpg(running.pid, signal.SIGINT)  # as a terminal sends Ctrl-C: to the program and to its step
            assert running.wait(timeout=60) == 130, said.read_text()
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
    assert "The same command goes on from there." in said.read_text()
    assert not snapshots[1].exists()
    first = snapshots[0].stat().st_mtime_ns

    again = subprocess.run(
        command, cwd=clone, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "train voc-fcn32s: done already" in again.stdout
    assert snapshots[0].stat().st_mtime_ns == first

    # The score layer starts at zero in 32s, and at what 32s has learned in 16s, whose rate is a hundredth.
    learned, gone_on = (score_weights(path) for path in snapshots)
    assert np.abs(learned).max() > 0
    assert 0 < np.abs(gone_on - learned).max() < 0.1 * np.abs(learned).max()

    result = json.loads((clone / "results" / "voc-fcn16s" / f"seg11valid_iter_{ITERATIONS}.json").read_text())
    assert result["weights"]["sha256"] == hashlib.sha256(snapshots[1].read_bytes()).hexdigest()
    assert (result["experiment"], result["iteration"], result["rehearsal"]) == ("voc-fcn16s", ITERATIONS, False)
    assert (result["images"], result["split_images"]) == (2, 2)


def score_weights(snapshot: Path) -> np.ndarray:
    net = caffe_pb2.NetParameter.FromString(snapshot.read_bytes())
    blob = next(layer.blobs[0] for layer in net.layer if layer.name == "score_fr")
    return caffe.io.blobproto_to_array(blob)
