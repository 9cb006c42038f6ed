"""ONNX Runtime, forward: from an export of the net in plain PyTorch."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-not-found,import-untyped,unused-ignore]
import peer
from workload import Workload, image


def prepare(w: Workload, folder: Path) -> np.ndarray:
    """Write net.onnx."""
    torch = importlib.import_module("torch")  # here, so that the measured process does without
    plain = importlib.import_module("plain").Run(w, train=False)
    torch.onnx.export(plain.net, (torch.from_numpy(image(w)),), str(folder / "net.onnx"), verbose=False)
    return plain.forward()


def load(folder: Path, threads: int) -> peer.Forward:
    """Read the net."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(folder / "net.onnx"), options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda values: session.run(None, {name: values})[0]


if __name__ == "__main__":
    peer.run(prepare, load, onnxruntime.__version__)
