"""OpenCV's DNN module, forward: from the experiment's deploy.prototxt and a .caffemodel that this engine saves."""

from __future__ import annotations

import importlib
from pathlib import Path

import cv2  # type: ignore[import-not-found,import-untyped,unused-ignore]
import numpy as np
import peer
from google.protobuf import text_format
from workload import ROOT, Workload


def prepare(w: Workload, folder: Path) -> np.ndarray:
    """Write net.prototxt for the image's size, and net.caffemodel."""
    engine = importlib.import_module("engine")  # here, so that the measured process does without
    engine.Run(w, train=False).net.save(str(folder / "net.caffemodel"))
    net = engine.caffe_pb2.NetParameter()
    text_format.Parse((ROOT / w.experiment / "deploy.prototxt").read_text(), net)
    net.layer[0].input_param.shape[0].dim[2:] = [w.height, w.width]
    (folder / "net.prototxt").write_text(text_format.MessageToString(net))
    return importlib.import_module("plain").Run(w, train=False).forward()


def load(folder: Path, threads: int) -> peer.Forward:
    """Read the net."""
    cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))

    def forward(image: np.ndarray) -> np.ndarray:
        net.setInput(image)
        return net.forward("score")

    return forward


if __name__ == "__main__":
    peer.run(prepare, load, cv2.__version__)
