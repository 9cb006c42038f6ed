"""A loss written in Python: the same training with it as with the built-in EuclideanLoss.

    python examples/python_loss/train.py [FOLDER]

euclidean_loss.py, beside this file, is the layer. A prototxt names its module and class, and gives it the weight that
a built-in loss has by default:

    layer {
      name: "loss" type: "Python" bottom: "score" bottom: "target" top: "loss"
      python_param { module: "euclidean_loss" layer: "EuclideanLossLayer" }
      loss_weight: 1
    }

The module is imported as Python imports any other: from the folder of the program, or from PYTHONPATH. Two solvers
start from the same weights, one with either loss, and take the same 50 steps; losses and weights stay equal.

The published counterpart is the Python layer example of BVLC Caffe. FOLDER keeps the prototxts.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import caffe
from caffe import layers as L

BATCH, STEPS = 16, 50


def regression(python: bool) -> str:
    """Return the prototxt of a small regression, 6 values to 3, with the loss in Python or the built-in one."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [BATCH, 6]})
    n.target = L.Input(shape={"dim": [BATCH, 3]})
    n.hidden = L.InnerProduct(n.data, num_output=20, weight_filler={"type": "xavier"})
    n.tanh = L.TanH(n.hidden, in_place=True)
    n.score = L.InnerProduct(n.tanh, num_output=3, weight_filler={"type": "xavier"})
    if python:
        settings = {"module": "euclidean_loss", "layer": "EuclideanLossLayer"}
        n.loss = L.Python(n.score, n.target, python_param=settings, loss_weight=1)
    else:
        n.loss = L.EuclideanLoss(n.score, n.target)
    return str(n.to_proto())


def solver(folder: Path, name: str, python: bool) -> caffe.SGDSolver:
    """Write one of the two nets and its solver, and build it; the seed gives both nets the same weights."""
    (folder / f"{name}.prototxt").write_text(regression(python))
    (folder / f"{name}_solver.prototxt").write_text(
        f'train_net: "{folder / name}.prototxt"\nbase_lr: 0.1\nmomentum: 0.9\nlr_policy: "fixed"\nrandom_seed: 1\n'
    )
    return caffe.SGDSolver(str(folder / f"{name}_solver.prototxt"))


def main(folder: Path) -> None:
    """Train both nets on the same batches, and compare them."""
    caffe.init_log(2)  # errors only; without this line, Caffe's log
    folder.mkdir(parents=True, exist_ok=True)
    ours, builtin = solver(folder, "python", True), solver(folder, "builtin", False)
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(6, 3))
    apart = 0.0
    for step in range(STEPS):
        data = rng.normal(size=(BATCH, 6))
        for s in (ours, builtin):
            s.net.blobs["data"].data[...] = data
            s.net.blobs["target"].data[...] = np.sin(data @ mixing)
            s.step(1)
        losses = [float(s.net.blobs["loss"].data) for s in (ours, builtin)]
        apart = max(apart, abs(losses[0] - losses[1]))
        if step in (0, STEPS - 1):
            print(f"step {step + 1}: loss {losses[0]:.6f} in Python, {losses[1]:.6f} built in")
    weights = [[blob.data for blobs in s.net.params.values() for blob in blobs] for s in (ours, builtin)]
    weights_apart = max(float(abs(a - b).max()) for a, b in zip(*weights, strict=True))
    print(f"over {STEPS} steps the losses differ by {apart:.1e} at most; the weights after them by {weights_apart:.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="keeps the prototxts")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        main(args.folder or Path(scratch))
