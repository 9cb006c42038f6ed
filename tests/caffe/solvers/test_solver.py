"""The solvers: the training loop, its log, tests and snapshots (facts of solver.cpp)."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

import caffe
from caffe import world
from caffe.errors import NonFiniteError, SolverError
from caffe.formats import snapshot

INPUT = """
layer { name: "in" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 5 } shape { dim: 4 } } }
"""
IP1 = """
layer { name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
        param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        inner_product_param { num_output: 6
                              weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0.1 } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
"""
IP2 = """
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""
ACCURACY = """
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
NET = f'name: "small" {INPUT} {IP1} {IP2} {ACCURACY}'
TYPES = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def feed(net, seed=0):
    rng = np.random.default_rng(seed)
    net.blobs["data"].data[...] = rng.standard_normal((4, 5))
    net.blobs["label"].data[...] = rng.integers(0, 3, 4)


def make(settings="", net=NET, fed=True):
    with open("net.prototxt", "w") as f:
        f.write(net)
    lr = "" if "lr_policy" in settings else 'lr_policy: "fixed"'
    base = "" if "base_lr" in settings else "base_lr: 0.1"
    seed = "" if "random_seed" in settings else "random_seed: 3"
    source = "" if "net: " in settings else 'net: "net.prototxt"'
    with open("solver.prototxt", "w") as f:
        f.write(f"{source} {base} {lr} {seed} {settings}")
    solver = caffe.get_solver("solver.prototxt")
    if fed:
        for one in [solver.net, *solver.test_nets]:
            feed(one)
    return solver


def copies(net, what="data"):
    return {f"{k}/{i}": getattr(b, what).copy() for k, v in net.params.items() for i, b in enumerate(v)}


def lines(captured):
    return [line.split("] ", 1)[-1] for line in captured.err.splitlines()]


# Making a solver


def test_types_and_their_order_of_inheritance():
    for name in TYPES:
        solver = make(f'type: "{name}"')
        cls = getattr(caffe, f"{name}Solver")
        assert type(solver) is cls
        wanted = [cls, caffe.SGDSolver, caffe._caffe.Solver, object]
        assert cls.__mro__ == tuple(dict.fromkeys(wanted))
    assert type(caffe.SGDSolver("solver.prototxt")) is caffe.SGDSolver  # whatever `type` says
    with pytest.raises(RuntimeError):
        caffe._caffe.Solver("solver.prototxt")


def test_what_a_solver_cannot_be_made_from():
    with pytest.raises(RuntimeError, match="Could not open file nowhere"):
        caffe.SGDSolver("nowhere.prototxt")
    with pytest.raises(SolverError, match="Unknown solver type: Adem"):
        make('type: "Adem"')
    for name in ("AdaGrad", "RMSProp"):
        with pytest.raises(SolverError, match=f"Momentum cannot be used with {name}"):
            make(f'type: "{name}" momentum: 0.9')
    with pytest.raises(SolverError, match="rms_decay should lie between 0 and 1"):
        make('type: "RMSProp" rms_decay: 1')
    with pytest.raises(SolverError, match="average_loss"):
        make("average_loss: 0")
    with pytest.raises(SolverError, match="iter_size"):
        make("iter_size: 0")


def test_the_old_solver_type_is_upgraded():
    assert type(make("solver_type: NESTEROV momentum: 0.9")) is caffe.NesterovSolver


def test_seed_decides_the_weights():
    seeded = [make(f"random_seed: {seed}").net.params["ip1"][0].data for seed in (3, 3, 4)]
    assert np.array_equal(seeded[0], seeded[1])
    assert not np.array_equal(seeded[0], seeded[2])


def test_settings_that_programs_read_and_write():
    solver = make("max_iter: 7 display: 3 layer_wise_reduce: false base_lr: 0.25")
    assert (solver.param.max_iter, solver.param.display, solver.param.layer_wise_reduce) == (7, 3, False)
    assert solver.param.base_lr == 0.25 and solver.lr == 0.25
    solver.param.base_lr = 0.5
    assert solver.param.base_lr == 0.5 and solver.lr == 0.5  # at once
    with pytest.raises(AttributeError):
        solver.param.max_iter = 8


# Nets


def test_nets_outlive_their_solver():
    solver = make("test_iter: 1 test_interval: 1")
    net, test = solver.net, solver.test_nets[0]
    del solver
    assert net.forward()["loss"] > 0 and test.forward()["loss"] > 0


def test_number_of_train_nets():
    with pytest.raises(SolverError, match="must specify a train net"):
        make('test_net: "net.prototxt" test_iter: 1 test_interval: 1', fed=False)
    with pytest.raises(SolverError, match="net and train_net are set"):
        make('net: "net.prototxt" train_net: "net.prototxt"', fed=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('train_net: "net.prototxt" test_net: "net.prototxt" test_interval: 1', "test_iter must be specified"),
        ('train_net: "net.prototxt" test_iter: 1 test_interval: 1', "test_iter must be specified"),
        ('net: "net.prototxt" test_iter: 1 test_interval: 1 test_state {} test_state {}', "once per test net"),
        ('net: "net.prototxt" test_iter: 1', "test_interval must be above 0"),
    ],
)
def test_counts_that_do_not_agree(settings, message):
    with pytest.raises(SolverError, match=message):
        make(settings, fed=False)


def test_nets_come_in_caffes_order_and_each_in_its_state():
    stage = f"""name: "staged" state {{ stage: "own" }} {INPUT}
        layer {{ name: "always" type: "Power" bottom: "data" top: "always" }}
        layer {{ name: "train" type: "Power" bottom: "data" top: "train"
                 include {{ phase: TRAIN stage: "own" stage: "t" }} }}
        layer {{ name: "a" type: "Power" bottom: "data" top: "a" include {{ phase: TEST stage: "a" stage: "own" }} }}
        layer {{ name: "b" type: "Power" bottom: "data" top: "b" include {{ phase: TEST stage: "b" }} }}"""
    with open("file.prototxt", "w") as f:
        f.write(NET)
    solver = make(
        'net: "net.prototxt" train_state { stage: "t" } test_net: "file.prototxt" '
        f"test_net_param {{ {NET.replace('small', 'inline')} }} "
        "test_iter: 1 test_iter: 1 test_iter: 1 test_iter: 1 test_interval: 5 "
        'test_state {} test_state {} test_state { stage: "a" } test_state { stage: "b" }',
        net=stage,
        fed=False,
    )
    assert [n.name for n in solver.test_nets] == ["inline", "small", "staged", "staged"]
    assert "accuracy" in solver.test_nets[0].blobs
    names = [list(n._layer_names) for n in (solver.net, *solver.test_nets[2:])]
    assert [set(n) & {"train", "a", "b"} for n in names] == [{"train"}, {"a"}, {"b"}]


def test_weights_are_loaded_into_all_nets():
    source = make()
    source.net.save("a.caffemodel")
    wanted = copies(source.net)
    solver = make('weights: "a.caffemodel" test_iter: 1 test_interval: 9 random_seed: 8')
    for net in (solver.net, solver.test_nets[0]):
        assert all(np.array_equal(v, wanted[k]) for k, v in copies(net).items())
    with pytest.raises(RuntimeError, match="missing"):
        make('weights: "a.caffemodel, missing.caffemodel"')


def test_share_weights_and_share_with():
    solver = make("test_iter: 1 test_interval: 9")
    other = caffe.Net("net.prototxt", caffe.TEST)
    solver.share_weights(other)
    solver.test_nets[0].share_with(solver.net)
    solver.net.params["ip1"][0].data[...] = 7
    for net in (other, solver.test_nets[0]):
        assert (net.params["ip1"][0].data == 7).all()


# The loop


def test_step_leaves_the_old_blobs_and_the_update_in_diff():
    solver = make("momentum: 0.9 weight_decay: 0.1")
    before = copies(solver.net)
    solver.net.forward()
    wanted = {name: blob.data.copy() for name, blob in solver.net.blobs.items()}
    solver.step(1)
    assert solver.iter == 1
    for name, blob in solver.net.blobs.items():
        assert np.array_equal(blob.data, wanted[name]), name  # what the old weights gave
    for key, diff in copies(solver.net, "diff").items():
        layer, index = key.split("/")
        assert diff.any()
        assert np.array_equal(solver.net.params[layer][int(index)].data, before[key] - diff)


def test_a_view_taken_once_follows_the_training():
    solver = make()
    weight, diff = solver.net.params["ip1"][0].data, solver.net.params["ip1"][0].diff
    before = weight.copy()
    solver.step(1)
    assert np.array_equal(weight, before - diff) and diff.any()
    weight[...] = 0  # and what is written into it is what trains
    solver.step(1)
    assert np.array_equal(weight, -diff)


def test_step_goes_on_beyond_max_iter_and_solve_stops_there():
    solver = make('max_iter: 3 snapshot_prefix: "s"')
    solver.step(5)
    assert solver.iter == 5
    assert not [f for f in os.listdir() if "iter" in f]
    solver = make('max_iter: 3 snapshot_prefix: "s"')
    solver.solve()
    assert solver.iter == 3
    written = [f"s_iter_3.{ending}" for ending in ("caffemodel", "resume.json", "solverstate")]
    assert sorted(f for f in os.listdir() if "iter" in f) == written


def test_solve_snapshots_at_the_end_only_where_it_is_due():
    make('max_iter: 4 snapshot: 2 snapshot_prefix: "a"').solve()
    make('max_iter: 3 snapshot: 2 snapshot_prefix: "b"').solve()
    make('max_iter: 3 snapshot: 2 snapshot_prefix: "c" snapshot_after_train: false').solve()
    states = sorted(f for f in os.listdir() if f.endswith("state"))
    wanted = ["a_iter_2", "a_iter_4", "b_iter_2", "b_iter_3", "c_iter_2"]
    assert states == [f"{name}.solverstate" for name in wanted]


def test_callbacks_come_at_their_moments():
    solver = make("iter_size: 2")
    seen = []
    solver.net.before_forward(lambda i: seen.append("forward") if i == 0 else None)
    solver.net.after_backward(lambda i: seen.append("backward") if i == 0 else None)
    weight = solver.net.params["ip1"][0]

    def on_start():
        assert not weight.diff.any()
        seen.append(f"start {solver.iter}")

    def on_gradients_ready():
        assert weight.diff.any()
        seen.append(f"ready {solver.iter}")

    solver.add_callback(on_start, on_gradients_ready)

    class Object:
        def on_start(self):
            seen.append("object start")

        def on_gradients_ready(self):
            seen.append("object ready")
            weight.diff[...] = 0

    solver.add_callback(Object())
    before = weight.data.copy()
    solver.step(1)
    passes = ["forward", "backward"] * 2
    assert seen == ["start 0", "object start", *passes, "ready 0", "object ready"]
    assert np.array_equal(weight.data, before)  # the callback took the gradient away


def test_iter_size_means_gradients_and_losses(capsys):
    plain, twice = make("display: 1"), make("display: 1 iter_size: 2")
    for solver in (plain, twice):
        solver.step(1)
    for key, diff in copies(twice.net, "diff").items():
        np.testing.assert_allclose(diff, copies(plain.net, "diff")[key], rtol=1e-6, atol=1e-9)
    losses = re.findall(r"iters\), loss = (\S+)", capsys.readouterr().err)
    assert len(losses) == 2 and losses[0] == losses[1]


def test_apply_update_counts_and_uses_the_diffs_as_they_are():
    solver = make("momentum: 0.5")
    weight = solver.net.params["ip1"][0]
    before = weight.data.copy()
    weight.diff[...] = 1
    solver.apply_update()
    np.testing.assert_allclose(weight.data, before - np.float32(0.1), rtol=1e-6)
    assert solver.iter == 1


# The log


def test_log_lines_are_those_that_parsers_look_for(capsys):
    solver = make(
        "display: 2 max_iter: 4 test_iter: 2 test_interval: 2 test_compute_loss: true snapshot_after_train: false"
    )
    capsys.readouterr()
    loss = float(solver.net.forward()["loss"])
    solver.solve()
    found = lines(capsys.readouterr())
    assert found[:2] == ["Solving small", "Learning Rate Policy: fixed"]
    assert found[-1] == "Optimization Done."
    number = r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?"
    displays = [
        re.fullmatch(rf"Iteration (\d+) \(({number}) iter/s, ({number})s/2 iters\), loss = ({number})", s)
        for s in found
    ]
    displays = [m for m in displays if m]
    assert [m.group(1) for m in displays] == ["0", "2"]
    assert displays[0].group(2) == "0"  # no speed yet, rather than whatever was in memory
    assert float(displays[0].group(4)) == pytest.approx(loss, rel=1e-5)
    assert f"    Train net output #0: loss = {loss:g} (* 1 = {loss:g} loss)" in found
    assert [s for s in found if "lr = " in s] == ["Iteration 0, lr = 0.1", "Iteration 2, lr = 0.1"]
    assert [s for s in found if "Testing" in s] == [f"Iteration {i}, Testing net (#0)" for i in (0, 2, 4)]
    accuracies = [s for s in found if re.fullmatch(rf"    Test net output #0: accuracy = {number}", s)]
    losses = [s for s in found if re.fullmatch(rf"    Test net output #1: loss = {number} \(\* 1 = {number} loss\)", s)]
    assert len(accuracies) == len(losses) == 3
    assert f"Test loss: {loss:g}" in found
    assert re.fullmatch(rf"Iteration 4, loss = {number}", next(s for s in found if s.startswith("Iteration 4, loss")))
    order = [s.split(",")[0].split(" (")[0].strip() for s in found if s.startswith("Iteration 0")]
    assert order == ["Iteration 0"] * 3
    assert found.index("Iteration 0, Testing net (#0)") < found.index("Iteration 0, lr = 0.1")


def test_debug_info_is_logged_where_the_loss_is(capsys):
    solver = make("debug_info: true display: 2 test_iter: 1 test_interval: 3 test_initialization: false")
    capsys.readouterr()
    solver.step(4)
    found = [line.strip() for line in lines(capsys.readouterr())]
    forward = [i for i, line in enumerate(found) if line.startswith("[Forward] Layer ip1, top blob ip1 data")]
    shown = [i for i, line in enumerate(found) if re.match(r"Iteration [02] \(", line)]
    tested = found.index("Iteration 3, Testing net (#0)")
    assert forward[0] < shown[0] < forward[1] < shown[1] < tested < forward[2] and len(forward) == 3
    assert sum(line.startswith("[Backward] All net params") for line in found) == 2
    assert not make().net.debug_info


def test_speed_is_that_since_the_last_display(capsys):
    solver = make("display: 2")
    capsys.readouterr()
    solver.step(5)
    shown = re.findall(r"\((\S+) iter/s, (\S+)s/2 iters\)", capsys.readouterr().err)
    assert [float(speed) * float(seconds) for speed, seconds in shown] == pytest.approx([0, 2, 2], rel=1e-4)


def test_average_loss_is_a_running_mean_that_every_step_starts_anew(capsys):
    solver = make("display: 1 average_loss: 3 base_lr: 0.5")
    raw = []
    solver.add_callback(lambda: None, lambda: raw.append(float(solver.net.blobs["loss"].data)))
    capsys.readouterr()
    solver.step(5)
    solver.step(2)
    shown = [float(s) for s in re.findall(r"iters\), loss = (\S+)", capsys.readouterr().err)]
    wanted = [np.mean(raw[max(0, k - 2) : k + 1]) for k in range(5)] + [raw[5], np.mean(raw[5:7])]
    assert shown == pytest.approx(wanted, rel=1e-5)
    assert raw[0] > raw[6]


def test_tests_are_run_when_due(capsys):
    def tested(settings, *steps):
        solver = make(f"test_iter: 1 test_iter: 1 {settings}")
        capsys.readouterr()
        for n in steps:
            solver.step(n)
        return re.findall(r"Iteration (\d+), Testing net \(#(\d)\)", capsys.readouterr().err)

    assert tested("test_interval: 2", 3) == [("0", "0"), ("0", "1"), ("2", "0"), ("2", "1")]
    assert tested("test_interval: 2 test_initialization: false", 2, 1) == [("2", "0"), ("2", "1")]


def test_a_test_takes_the_trained_weights_and_means_its_passes(capsys):
    solver = make("test_iter: 3 test_interval: 1 test_initialization: false")
    solver.step(1)
    test = solver.test_nets[0]
    seen = []
    test.before_forward(lambda i: feed(test, len(seen)) if i == 0 else None)
    test.after_forward(lambda i: seen.append(test.blobs["loss"].data.item()) if i == len(test.layers) - 1 else None)
    weights = copies(solver.net)
    capsys.readouterr()
    solver.step(1)
    assert len(seen) == 3 and len(set(seen)) == 3
    assert f"    Test net output #1: loss = {np.mean(seen):g} (* 1 = " in capsys.readouterr().err
    feed(solver.net, 2)
    for key, values in weights.items():
        layer, index = key.split("/")
        solver.net.params[layer][int(index)].data[...] = values
    assert solver.net.forward()["loss"] == pytest.approx(seen[2], rel=1e-6)


def test_an_output_that_changes_its_size_between_passes_has_no_mean():
    solver = make(
        "test_iter: 2 test_interval: 1", net=NET + 'layer { name: "p" type: "Power" bottom: "data" top: "p" }'
    )
    test = solver.test_nets[0]
    sizes = [4, 2]

    def resize(i):
        if i == 0 and sizes:
            n = sizes.pop(0)
            test.blobs["data"].reshape(n, 5)
            test.blobs["label"].reshape(n)

    test.before_forward(resize)
    with pytest.raises(SolverError, match="'p' of test net #0 has 10 values in one pass and 20"):
        solver.step(1)


def test_only_the_root_logs_tests_and_writes(capsys, monkeypatch):
    monkeypatch.setattr(world, "_rank", 1)
    solver = make('display: 1 test_iter: 1 test_interval: 1 snapshot: 1 snapshot_prefix: "s" max_iter: 2')
    capsys.readouterr()
    solver.step(2)
    assert solver.iter == 2
    assert capsys.readouterr().err == ""
    assert not [f for f in os.listdir() if f.startswith("s_")]
    with pytest.raises(SolverError, match="rank 0"):
        solver.snapshot()


# Snapshots


@pytest.mark.parametrize("hdf5", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_a_resumed_run_equals_one_that_never_stopped(kind, hdf5):
    momentum = "" if kind in ("AdaGrad", "RMSProp") else "momentum: 0.9"
    form = "HDF5" if hdf5 else "BINARYPROTO"
    settings = (
        f'type: "{kind}" {momentum} weight_decay: 0.01 lr_policy: "multistep" stepvalue: 1 stepvalue: 2 gamma: 0.5 '
        f'snapshot: 3 snapshot_format: {form} snapshot_prefix: "new/folder/s"'
    )
    whole = make(settings)
    whole.step(6)
    ending = ".h5" if hdf5 else ""
    names = [f"s_iter_{i}.{kind}{ending}" for i in (3, 6) for kind in ("caffemodel", "solverstate")]
    beside = [f"s_iter_{i}.resume.json" for i in (3, 6)]
    assert sorted(os.listdir("new/folder")) == sorted(names + beside)
    resumed = make(settings)
    resumed.net.params["ip1"][0].data[...] = 5  # replaced by what the state names
    resumed.restore(f"new/folder/s_iter_3.solverstate{ending}")
    assert resumed.iter == 3
    feed(resumed.net)
    resumed.step(3)
    for what in ("data", "diff"):
        for key, values in copies(resumed.net, what).items():
            assert np.array_equal(values, copies(whole.net, what)[key]), key
    assert resumed.lr == whole.lr


def test_solve_resumes_from_a_state(capsys):
    solver = make('max_iter: 2 snapshot_prefix: "s"')
    solver.solve()
    other = make('max_iter: 4 snapshot_prefix: "s"')
    capsys.readouterr()
    other.solve("s_iter_2.solverstate")
    found = lines(capsys.readouterr())
    assert "Restoring previous solver status from s_iter_2.solverstate" in found
    assert "Snapshotting to binary proto file s_iter_4.caffemodel" in found
    assert "Snapshotting solver state to binary proto file s_iter_4.solverstate" in found
    assert other.iter == 4


def test_weights_are_found_beside_a_state_that_was_moved(tmp_path):
    solver = make('snapshot_prefix: "here/s"')
    solver.step(1)
    solver.snapshot()
    assert snapshot.read_state("here/s_iter_1.solverstate").learned_net == "here/s_iter_1.caffemodel"
    os.rename("here", "there")
    other = make()
    other.restore("there/s_iter_1.solverstate")
    assert all(np.array_equal(v, copies(solver.net)[k]) for k, v in copies(other.net).items())
    os.remove("there/s_iter_1.caffemodel")
    fresh = make()
    with pytest.raises(SolverError, match=r"weights here/s_iter_1\.caffemodel, which are missing"):
        fresh.restore("there/s_iter_1.solverstate")
    assert fresh.iter == 0


def test_a_state_of_another_net_or_type_changes_nothing():
    solver = make('momentum: 0.9 snapshot_prefix: "s"')
    solver.step(2)
    solver.snapshot()
    for settings, net, message in (
        ('type: "Adam"', NET, "Incorrect length of history blobs: .* has 4, .* have 8"),
        ("", NET.replace("num_output: 6", "num_output: 7"), "parameter 0 of layer 'ip1' is 7 x 5"),
    ):
        other = make(settings, net=net)
        before = copies(other.net)
        with pytest.raises(SolverError, match=message):
            other.restore("s_iter_2.solverstate")
        assert other.iter == 0
        assert all(np.array_equal(v, before[k]) for k, v in copies(other.net).items())


def test_snapshot_diff_is_stored_when_asked_for():
    solver = make('snapshot_prefix: "s" snapshot_diff: true')
    solver.step(1)
    solver.snapshot()
    stored = {layer.name: layer for layer in snapshot.read_weights("s_iter_1.caffemodel")}
    assert np.array_equal(stored["ip1"].blobs[0].diff, solver.net.params["ip1"][0].diff)


def test_where_snapshots_go(tmp_path):
    make("snapshot: 5").snapshot()  # the solver's own name where no prefix is given
    assert os.path.exists("solver_iter_0.caffemodel")
    (tmp_path / "folder").mkdir()
    make('snapshot_prefix: "folder"').snapshot()
    assert os.path.exists("folder/solver_iter_0.solverstate")
    make('snapshot: 5 snapshot_prefix: "not/there/yet/s"')
    assert os.listdir("not/there/yet") == []  # the probe is gone
    (tmp_path / "file").write_text("")
    with pytest.raises(SolverError, match="Cannot write to snapshot prefix 'file/s'"):
        make('snapshot: 5 snapshot_prefix: "file/s"')


def test_the_state_is_written_after_the_weights(monkeypatch):
    solver = make('snapshot_prefix: "s"')
    monkeypatch.setattr(
        "caffe.solvers.solver.write_weights", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        solver.snapshot()
    assert not [f for f in os.listdir() if "iter" in f]


def test_momentum_of_a_parameter_frozen_later_runs_out():
    solver = make('momentum: 0.5 snapshot_prefix: "s"')
    solver.step(1)
    solver.snapshot()
    last = solver.net.params["ip1"][0].diff.copy()
    frozen = make("momentum: 0.5", net=NET.replace("param { lr_mult: 1 }", "param { lr_mult: 0 }"))
    frozen.restore("s_iter_1.solverstate")
    frozen.step(1)
    np.testing.assert_allclose(frozen.net.params["ip1"][0].diff, 0.5 * last, rtol=1e-6)


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_a_full_disk_costs_neither_the_last_snapshot_nor_the_training(form):
    """A limit on file sizes stands for the full disk: the system then refuses to write, after some bytes."""
    resource = pytest.importorskip("resource", reason="this system has no such limit")
    settings = f'momentum: 0.9 snapshot_prefix: "s" snapshot_format: {form}'
    untroubled = make(settings)
    untroubled.step(2)
    solver = make(settings)
    solver.step(1)
    solver.snapshot()
    before = {str(path): path.read_bytes() for path in Path().glob("*iter*")}
    assert len(before) == 3
    (weights,) = (name for name in before if "caffemodel" in name)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(caffe.CaffeError, match=rf"Could not write .*{weights}: File too large"):
            solver.snapshot()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {str(path): path.read_bytes() for path in Path().glob("*iter*")} == before
    solver.step(1)
    assert all(np.array_equal(v, copies(untroubled.net)[k]) for k, v in copies(solver.net).items())
    solver.snapshot()
    assert len([name for name in os.listdir() if "iter_2" in name]) == 3


def test_a_snapshot_that_may_not_be_written_names_the_file(tmp_path):
    solver = make('snapshot_prefix: "folder/s"')
    (tmp_path / "folder").write_text("a file, where a folder should be made")
    with pytest.raises(caffe.CaffeError, match=r"Could not write folder/s_iter_0\.caffemodel: (Not a dir|File exists)"):
        solver.snapshot()
    solver.step(1)


# What is not finite


def test_a_loss_that_is_not_finite_stops_before_the_weights_change():
    solver = make('snapshot_prefix: "s"')
    solver.step(2)
    solver.net.blobs["data"].data[1, 2] = np.nan
    before = copies(solver.net)
    with pytest.raises(
        NonFiniteError, match=r"Iteration 2: the loss is nan \(output 'loss'\).* blob 'data', .*layer 'in'"
    ):
        solver.step(1)
    assert solver.iter == 2
    assert all(np.array_equal(v, before[k]) for k, v in copies(solver.net).items())
    feed(solver.net)
    solver.net.params["ip2"][0].data[0, 0] = np.inf
    with pytest.raises(NonFiniteError, match="parameter 0 of layer 'ip2'"):
        solver.step(1)
    with pytest.raises(NonFiniteError, match="parameter 0 of layer 'ip2' is not finite; no snapshot"):
        solver.snapshot()
    assert not [f for f in os.listdir() if "iter" in f]


def test_caffes_way_with_what_is_not_finite():
    solver = make()
    solver.stop_when_not_finite = False
    solver.net.blobs["data"].data[1, 2] = np.nan
    solver.step(2)
    assert solver.iter == 2
