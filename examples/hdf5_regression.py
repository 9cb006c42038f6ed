"""A regression from HDF5: HDF5Data feeds arrays of any shape, EuclideanLoss fits them.

    python examples/hdf5_regression.py [FOLDER]

HDF5Data reads a text file that lists HDF5 files, one a line; each file holds one dataset for each top of the layer,
under the top's name, with the records along the first axis. No picture, no Datum: whatever an array can hold is an
input or a target. h5py writes such a file in three lines.

The data here are 4 numbers and 2 targets that depend on them in a curved way. A net with one hidden layer is trained
by Adam for 600 steps, tested on other records through its TEST-phase data layer, and compared with the best straight
fit. Its mean squared error is a small part of that.

The published counterpart is BVLC Caffe's notebook on HDF5 classification. FOLDER keeps the data and prototxts.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import h5py
import numpy as np

import caffe
from caffe import layers as L

BATCH, TRAIN, TEST = 50, 2000, 500


def records(number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs, N x 4, and targets, N x 2, with a little noise on the targets."""
    x = rng.uniform(-1, 1, (number, 4)).astype(np.float32)
    y = np.stack([np.sin(3 * x[:, 0]) * x[:, 1], x[:, 2] ** 2 - x[:, 3]], axis=1)
    return x, (y + rng.normal(0, 0.02, y.shape)).astype(np.float32)


def write_hdf5(folder: Path, name: str, x: np.ndarray, y: np.ndarray) -> None:
    """Write an HDF5 file with the datasets `data` and `target`, and the list that names it."""
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["data"] = x
        file["target"] = y
    (folder / f"{name}.txt").write_text(f"{folder / name}.h5\n")


def regression(folder: Path) -> str:
    """Return the prototxt: a data layer for each phase, one hidden layer, the loss."""
    n = caffe.NetSpec()
    n.data, n.target = L.HDF5Data(
        ntop=2, source=str(folder / "test.txt"), batch_size=BATCH, include={"phase": caffe.TEST}
    )
    test_data = str(n.to_proto())  # a NetSpec has one layer of a name; the other phase's goes before it
    n.data, n.target = L.HDF5Data(
        ntop=2, source=str(folder / "train.txt"), batch_size=BATCH, shuffle=True, include={"phase": caffe.TRAIN}
    )
    n.hidden = L.InnerProduct(n.data, num_output=40, weight_filler={"type": "xavier"})
    n.tanh = L.TanH(n.hidden, in_place=True)
    n.score = L.InnerProduct(n.tanh, num_output=2, weight_filler={"type": "xavier"})
    n.loss = L.EuclideanLoss(n.score, n.target)
    return test_data + str(n.to_proto())


def main(folder: Path) -> None:
    """Write the data, train, test, and compare with a straight fit."""
    caffe.init_log(2)  # errors only; without this line, Caffe's log
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    (x, y), (x_test, y_test) = records(TRAIN, rng), records(TEST, rng)
    write_hdf5(folder, "train", x, y)
    write_hdf5(folder, "test", x_test, y_test)
    (folder / "net.prototxt").write_text(regression(folder))
    (folder / "solver.prototxt").write_text(
        f'net: "{folder / "net.prototxt"}"\ntest_iter: {TEST // BATCH}\ntest_interval: 1000\n'
        'type: "Adam"\nbase_lr: 0.01\nmomentum: 0.9\nmomentum2: 0.999\n'
        'lr_policy: "multistep"\nstepvalue: 400\ngamma: 0.1\nrandom_seed: 1\n'
    )
    solver = caffe.get_solver(str(folder / "solver.prototxt"))
    solver.step(600)

    test_net = solver.test_nets[0]
    test_net.share_with(solver.net)
    errors = []
    for _ in range(TEST // BATCH):
        test_net.forward()
        errors.append((test_net.blobs["score"].data - test_net.blobs["target"].data) ** 2)
    with_one = np.hstack([x, np.ones((len(x), 1), np.float32)])
    straight = np.linalg.lstsq(with_one, y, rcond=None)[0]
    straight_error = np.mean((np.hstack([x_test, np.ones((len(x_test), 1))]) @ straight - y_test) ** 2)
    print(f"{TEST} other records, mean squared error: straight fit {straight_error:.4f}, net {np.mean(errors):.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="keeps the data and the prototxts")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        main(args.folder or Path(scratch))
