"""FCN-8s on this engine, from the experiment's own prototxts: through `import caffe`, as any program would run it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import numpy as np
from google.protobuf import text_format
from workload import ROOT, Workload, fill, image, label, sample

import caffe
from caffe.proto import caffe_pb2


def train_net_text(w: Workload) -> str:
    """Return the experiment's train net with Input layers in the place of the data set, for an image of w's size."""
    net = caffe_pb2.NetParameter()
    text_format.Parse((ROOT / w.experiment / "train.prototxt").read_text(), net)
    inputs = []
    for top, channels in (("data", 3), ("label", 1)):
        layer = caffe_pb2.LayerParameter(name=top, type="Input", top=[top])
        layer.input_param.shape.add(dim=[1, channels, w.height, w.width])
        inputs.append(layer)
    kept = [layer for layer in net.layer if layer.type != "Python"]
    for layer in kept:
        if layer.type == "Dropout":
            layer.dropout_param.dropout_ratio = w.dropout
    del net.layer[:]
    net.layer.extend([*inputs, *kept])
    return text_format.MessageToString(net)


def solver_text(w: Workload, net_path: Path) -> str:
    """Return the experiment's solver for that train net: no test net, no snapshots, the log at most every 20."""
    solver = caffe_pb2.SolverParameter()
    text_format.Parse((ROOT / w.experiment / "solver.prototxt").read_text(), solver)
    for field in ("test_net", "test_iter", "test_interval", "test_initialization", "snapshot"):
        solver.ClearField(field)
    solver.train_net = str(net_path)
    solver.snapshot_prefix = str(net_path.with_suffix(""))
    solver.snapshot_after_train = False
    given = (solver.base_lr, solver.momentum, solver.weight_decay)
    expected = (w.base_lr, w.momentum, w.weight_decay)
    if not np.allclose(given, expected, rtol=1e-6, atol=0):
        raise SystemExit(
            f"{w.experiment}/solver.prototxt has base_lr, momentum and weight_decay {given}; the net that it is "
            f"compared with is trained with {expected}. Change workload.py."
        )
    return text_format.MessageToString(solver)


class Run:
    """The net with its input: what a benchmark runs."""

    def __init__(self, w: Workload, train: bool) -> None:
        self.w = w
        self.image, self.label = image(w), label(w)
        if train:
            with tempfile.TemporaryDirectory() as folder:
                net_path, solver_path = Path(folder, "train.prototxt"), Path(folder, "solver.prototxt")
                net_path.write_text(train_net_text(w))
                solver_path.write_text(solver_text(w, net_path))
                self.solver = caffe.SGDSolver(str(solver_path))
            self.net = self.solver.net
        else:
            self.net = caffe.Net(str(ROOT / w.experiment / "deploy.prototxt"), caffe.TEST)
            self.net.blobs["data"].reshape(1, 3, w.height, w.width)
        for layer, blobs in self.net.params.items():
            for index, blob in enumerate(blobs):
                fill(layer, index, blob.data)

    @staticmethod
    def versions() -> dict[str, str]:
        """Return the version of the API."""
        return {"caffe": caffe.__version__}

    def forward(self) -> np.ndarray:
        """Return the scores of the image."""
        self.net.blobs["data"].data[...] = self.image
        return self.net.forward()["score"]

    def step(self) -> float:
        """Train for one iteration and return its loss."""
        self.net.blobs["data"].data[...] = self.image
        self.net.blobs["label"].data[...] = self.label
        self.solver.step(1)
        return float(self.net.blobs["loss"].data)

    def updates(self) -> dict[str, np.ndarray]:
        """Return a sample of what the last iteration subtracted from each learned parameter."""
        return {
            f"{layer} {index}": sample(blob.diff)
            for layer, blobs in self.net.params.items()
            if not layer.startswith("upscore")
            for index, blob in enumerate(blobs)
        }
