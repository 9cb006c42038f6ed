"""The solvers against trajectories and snapshots that BVLC Caffe recorded (tests/golden/solvers)."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe
from caffe import device
from caffe.formats import snapshot

GOLDEN = Path(__file__).parents[2] / "golden"
SOLVERS = GOLDEN / "solvers"
CASES = sorted(path.stem for path in SOLVERS.glob("*.npz"))
STATES = sorted(path.name for path in SOLVERS.glob("*.solverstate*"))
TOLERANCE = {"cpu": 5e-6, "cuda": 1e-4}  # after six steps, of max(1, the largest value)
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU")
SNAPSHOT_AT = 4


def worst(found, wanted):
    """Largest |found - wanted| over max(1, max |wanted|)."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    if not np.isfinite(found).all():
        return np.inf
    return float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max())) if wanted.size else 0.0


MOVED = ((5, 10), (5, 11))  # the windows of pool2, row and column, whose ties went another way in the recordings


def moved_ties(net, difference):
    """Return `difference`, in conv1's gradient, less what moving ties of pool2 explains.

    conv1 pads the image by 12. Beyond the image's reach conv1, pool1 and conv2 are constant, every window of pool2 is
    a tie, and where the first of equal values gets the gradient here, in the recordings the last bit of BVLC Caffe's
    matrix product, which depends on its BLAS's blocks and threads, decided. So: which tied windows, given to another
    of their equal cells, make the recorded gradient? A window moves whole or not at all, which is asserted too.
    """
    layers = list(net._layer_names)
    conv2, dy = net.blobs["conv2"].data[0].copy(), net.blobs["pool2"].diff[0].copy()
    moves = []
    for channel, (row, column) in itertools.product(range(len(dy)), MOVED):
        cells = [(2 * row + i, 2 * column + j) for i in (0, 1) for j in (0, 1)]
        most = max(conv2[channel][cell] for cell in cells)
        first = next(cell for cell in cells if conv2[channel][cell] == most)
        others = [cell for cell in cells if cell != first and conv2[channel][cell] > most - 1e-6]
        if most > 0 and dy[channel, row, column]:
            moves += [(channel, dy[channel, row, column], first, cell) for cell in others]
    weight = net.params["conv2"][0]
    weight.data[...] += weight.diff  # back to those that the gradients were computed with
    effects = []
    for channel, gradient, old, new in moves:
        for name in net.blobs:
            if name.startswith("pool1") and name != "pool1":
                net.blobs[name].diff[...] = 0
        diff = np.zeros_like(conv2)
        diff[channel][old], diff[channel][new] = -gradient, gradient
        net.blobs["conv2"].diff[0] = diff
        net._backward(layers.index("relu_conv2"), layers.index("relu_conv1"))
        effects.append(net.blobs["conv1"].diff.astype(np.float64).ravel())
    effects = np.array(effects).T
    share = np.linalg.lstsq(effects, difference.ravel(), rcond=None)[0]
    assert np.abs(share - share.round()).max() < 0.01 and set(share.round()) <= {0, 1}
    return difference - (effects @ share.round()).reshape(difference.shape)


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=[NO_GPU, pytest.mark.gpu])])
def mode(request):
    if request.param == "gpu":
        caffe.set_mode_gpu()
    yield
    caffe.set_mode_cpu()


def tolerance():
    return TOLERANCE[device.current().type]


@pytest.fixture
def enter(tmp_path, monkeypatch, mode):
    """Go to a folder with a case's files; the recorded state names its weights snap_iter_4.caffemodel there."""
    monkeypatch.syspath_prepend(str(GOLDEN / "recorder"))  # golden_feed, the nets' data layer
    monkeypatch.chdir(tmp_path)

    def put(name):
        for path in SOLVERS.iterdir():
            if path.name.startswith((f"{name}.", f"{name}_iter_")):
                shutil.copy(path, tmp_path / path.name)
                shutil.copy(path, tmp_path / path.name.replace(f"{name}_iter", "snap_iter"))
        return dict(np.load(f"{name}.npz"))

    return put


def finish(solver, recorded):
    """Train to the last recorded step, and hold everything recorded against the solver."""
    errors = {}
    steps = sum(key.startswith("loss/") for key in recorded)
    for k in range(solver.iter, steps):
        solver.step(1)
        errors[f"loss/{k}"] = worst(solver.net.blobs["loss"].data, recorded[f"loss/{k}"])
    for key, wanted in recorded.items():
        kind, *rest = key.split("/")
        if kind in ("after", "diff"):
            blob = solver.net.params[rest[0]][int(rest[1])]
            errors[key] = worst(blob.data if kind == "after" else blob.diff, wanted)
        elif kind in ("inner", "innerdiff"):
            blob = solver.net.blobs[rest[0]]
            errors[key] = worst(blob.data if kind == "inner" else blob.diff, wanted)
    if errors["innerdiff/conv1"] > tolerance():
        wanted = recorded["innerdiff/conv1"]
        left = moved_ties(solver.net, wanted.astype(np.float64) - solver.net.blobs["conv1"].diff)
        errors["innerdiff/conv1"] = np.abs(left).max() / max(1.0, np.abs(wanted).max())
    assert solver.iter == steps and len(errors) > steps + 20
    assert {k: e for k, e in errors.items() if e > tolerance()} == {}


def test_all_cases_are_here():
    assert len(CASES) == 20 and len(STATES) == 3


@pytest.mark.parametrize("name", CASES)
def test_six_steps_as_caffe_made_them(enter, name):
    recorded = enter(name)
    solver = caffe.get_solver(f"{name}.solver.prototxt")
    for key, values in recorded.items():
        if key.startswith("param/"):
            _, layer, index = key.split("/")
            solver.net.params[layer][int(index)].data[...] = values
    finish(solver, recorded)


@pytest.mark.parametrize("state", STATES)
def test_a_snapshot_of_caffes_own_is_continued(enter, state):
    name = state.partition("_iter_")[0]
    recorded = enter(name)
    solver = caffe.get_solver(f"{name}.solver.prototxt")
    solver.restore(state.replace(f"{name}_iter", "snap_iter"))  # loads the weights that it names
    assert solver.iter == SNAPSHOT_AT
    feed = solver.net.layers[0]
    feed.k = SNAPSHOT_AT
    finish(solver, recorded)


@pytest.mark.parametrize("state", STATES)
def test_a_snapshot_of_our_own_holds_what_caffes_holds(enter, state):
    name = state.partition("_iter_")[0]
    recorded = enter(name)
    solver = caffe.get_solver(f"{name}.solver.prototxt")
    for key, values in recorded.items():
        if key.startswith("param/"):
            _, layer, index = key.split("/")
            solver.net.params[layer][int(index)].data[...] = values
    solver.step(SNAPSHOT_AT)
    ending = ".h5" if state.endswith(".h5") else ""
    theirs = {kind: Path(f"{name}_iter_4.{kind}{ending}") for kind in ("caffemodel", "solverstate")}
    ours = {kind: Path(f"snap_iter_4.{kind}{ending}") for kind in theirs}
    for path in ours.values():
        path.unlink()
    solver.snapshot()
    weights = [caffe.get_solver(f"{name}.solver.prototxt").net for _ in range(2)]
    weights[0].copy_from(str(ours["caffemodel"]))
    weights[1].copy_from(str(theirs["caffemodel"]))
    for layer in weights[0].params:
        for mine, wanted in zip(weights[0].params[layer], weights[1].params[layer], strict=True):
            assert worst(mine.data, wanted.data) <= tolerance(), layer
    history = [snapshot.read_state(str(s["solverstate"])) for s in (ours, theirs)]
    assert (history[0].iter, history[0].learned_net, history[0].current_step) == (
        history[1].iter, history[1].learned_net, history[1].current_step,
    )  # fmt: skip
    for mine, wanted in zip(history[0].history, history[1].history, strict=True):
        assert worst(mine.data, wanted.data) <= tolerance()
