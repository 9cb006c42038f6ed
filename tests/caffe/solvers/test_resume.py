"""A resumed run equals one that was never stopped: random states and data positions are saved beside the state."""

import json
import random
import sys

import numpy as np
import pytest

import caffe
from caffe import world
from caffe.solvers import resume

LAYER = """
import random
import caffe
import numpy as np

class Draws(caffe.Layer):
    prefetch = {prefetch}
    def setup(self, bottom, top):
        self.random = random.Random(7)
    def reshape(self, bottom, top):
        top[0].reshape(2, 6); top[1].reshape(2)
    def forward(self, bottom, top):
        draw = np.random.default_rng(self.random.randrange(1000))
        top[0].data[...] = draw.standard_normal((2, 6))
        top[1].data[...] = draw.integers(0, 3, 2)
    def backward(self, top, propagate_down, bottom): pass
    def state(self):
        version, numbers, gauss = self.random.getstate()
        return [version, list(numbers), gauss]
    def set_state(self, state):
        self.random.setstate((state[0], tuple(state[1]), state[2]))
"""
NET = """
name: "net"
layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "draws" layer: "Draws" } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "ip" top: "ip" }
layer { name: "score" type: "InnerProduct" bottom: "ip" top: "score"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 random_seed: 5 max_iter: 100
snapshot_prefix: "snap" snapshot_format: %s
"""


@pytest.fixture(params=[(True, "BINARYPROTO"), (False, "HDF5")], ids=["ahead-binary", "in-place-hdf5"])
def folder(request, tmp_path, monkeypatch):
    prefetch, snapshot_format = request.param
    (tmp_path / "draws.py").write_text(LAYER.format(prefetch=prefetch))
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER % snapshot_format)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "draws", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(solver):
    return [blob.data.copy() for blobs in solver.net.params.values() for blob in blobs]


def state_file(folder):
    return next(str(path) for path in folder.glob("snap_iter_3.solverstate*"))


def test_a_resumed_run_is_bit_identical_to_one_that_was_not_stopped(folder):
    solver = caffe.SGDSolver("solver.prototxt")
    solver.step(3)
    solver.snapshot()
    solver.step(4)
    wanted = weights(solver)

    random.seed(1)
    caffe.set_random_seed(99)
    resumed = caffe.SGDSolver("solver.prototxt")
    resumed.step(2)  # somewhere else in its data and its random numbers
    resumed.restore(state_file(folder))
    resumed.step(4)
    for mine, theirs in zip(weights(resumed), wanted, strict=True):
        assert np.array_equal(mine, theirs)


def test_without_the_file_a_state_is_gone_on_from_as_in_caffe(folder):
    solver = caffe.SGDSolver("solver.prototxt")
    solver.step(3)
    solver.snapshot()
    (folder / "snap_iter_3.resume.json").unlink()
    resumed = caffe.SGDSolver("solver.prototxt")
    resumed.restore(state_file(folder))
    assert resumed.iter == 3
    resumed.step(1)


def test_a_file_of_another_iteration_is_not_used(folder, capfd):
    solver = caffe.SGDSolver("solver.prototxt")
    solver.step(3)
    solver.snapshot()
    path = folder / "snap_iter_3.resume.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "iteration": 2}))
    assert resume.read(state_file(folder), 3) is None
    assert "belongs to another snapshot" in capfd.readouterr().err


def test_a_file_of_another_number_of_solvers_is_not_used(folder, capfd, monkeypatch):
    solver = caffe.SGDSolver("solver.prototxt")
    first, second = {"random": {}, "layers": {"a": 1}}, {"random": {}, "layers": {"a": 2}}
    resume.write("snap_iter_3.solverstate", 3, [first, second])
    assert resume.read("snap_iter_3.solverstate", 3) is None
    assert "2 solver(s), and 1 train now" in capfd.readouterr().err
    monkeypatch.setattr(world, "_count", 2)
    assert resume.read("snap_iter_3.solverstate", 3)["layers"] == first["layers"]
    monkeypatch.setattr(world, "_rank", 1)
    assert resume.read("snap_iter_3.solverstate", 3)["layers"] == second["layers"]
    assert resume.position([solver.net])["layers"].keys() == {"train: data"}


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", '{"iteration": 3}', '{"iteration": 3, "random": 1, "layers": {}}'),
        *('{"iteration": 3, "random": {"cpu": 5}, "layers": {}}', '{"iteration": 3, "random": {}, "layers": 5}'),
        '{"iteration": 3, "random": {}, "layers": {}, "others": [0]}',
    ],
)
def test_a_damaged_file_is_an_error_that_says_what_to_do_and_changes_nothing(folder, content):
    solver = caffe.SGDSolver("solver.prototxt")
    solver.step(3)
    solver.snapshot()
    (folder / "snap_iter_3.resume.json").write_text(content)
    fresh = caffe.SGDSolver("solver.prototxt")
    before = weights(fresh)
    with pytest.raises(caffe.CaffeError, match=r"snap_iter_3\.resume\.json is damaged.*remove the file"):
        fresh.restore(state_file(folder))
    assert fresh.iter == 0 and all(map(np.array_equal, weights(fresh), before))
