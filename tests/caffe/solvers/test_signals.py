"""Ctrl-C and SIGHUP act between two iterations, and a second Ctrl-C at once."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest

import caffe
from caffe.errors import SolverError
from caffe.solvers.signals import Action, Signals, StopRequested

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")

NET = """
layer { name: "x" type: "DummyData" top: "x" top: "t"
        dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 1 } data_filler { type: "constant" value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" }
"""


@pytest.fixture(autouse=True)
def handlers_that_come_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Under nohup SIGHUP is ignored, in some shells' background jobs SIGINT: the tests begin from Python's own handlers.
    before = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    outside = {number: signal.signal(number, handler) for number, handler in before.items()}
    yield
    found = {number: signal.getsignal(number) for number in before}
    for number, handler in outside.items():
        signal.signal(number, handler)
    assert found == before


def make(settings="", max_iter=9):
    with open("net.prototxt", "w") as file:
        file.write(NET)
    with open("solver.prototxt", "w") as file:
        file.write(
            f'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: {max_iter} snapshot_prefix: "s" '
            f"display: 1 test_iter: 3 test_interval: 4 test_initialization: false {settings}"
        )
    return caffe.SGDSolver("solver.prototxt")


def send(solver, **asked):
    """Send this process the signals, `SIGINT=2` in iteration 2 say, while the gradients are computed."""

    def on_start():
        for name, iteration in asked.items():
            if solver.iter == iteration:
                os.kill(os.getpid(), getattr(signal, name))

    solver.add_callback(on_start, lambda: None)


def states():
    return sorted(name for name in os.listdir() if name.endswith("state"))


@pytest.mark.parametrize("train", [lambda s: s.solve(), lambda s: s.step(9)], ids=["solve", "step"])
def test_ctrl_c_finishes_the_iteration_snapshots_and_stops(capsys, train):
    solver, whole = make(), make()
    send(solver, SIGINT=2)
    solver.handle_signals()
    with pytest.raises(StopRequested, match="after iteration 3"):
        train(solver)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert solver.iter == 3 and states() == ["s_iter_3.solverstate"]
    text = capsys.readouterr().err
    assert text.rindex("Snapshotting solver state") < text.rindex("Optimization stopped early.")
    assert "Optimization Done." not in text
    resumed = make()
    resumed.restore("s_iter_3.solverstate")
    for one, n in ((resumed, 6), (whole, 9)):
        one.step(n)
    assert np.array_equal(resumed.net.params["ip"][0].data, whole.net.params["ip"][0].data)


def test_sighup_snapshots_and_goes_on():
    solver = make()
    send(solver, SIGHUP=1)
    solver.handle_signals()
    solver.solve()
    assert solver.iter == 9 and states() == ["s_iter_2.solverstate", "s_iter_9.solverstate"]


def test_effects_can_be_chosen():
    solver = make("snapshot_after_train: false")
    send(solver, SIGINT=1, SIGHUP=3)
    solver.handle_signals(sigint_effect="snapshot", sighup_effect="stop")
    with pytest.raises(KeyboardInterrupt):
        solver.solve()
    assert solver.iter == 4 and states() == ["s_iter_2.solverstate"]
    solver = make()
    send(solver, SIGINT=1, SIGHUP=1)
    with solver.handle_signals("none", "none"):
        solver.step(3)
    assert solver.iter == 3
    with pytest.raises(SolverError, match="'none', 'snapshot', 'stop', not 'halt'"):
        solver.handle_signals("halt")


def test_a_due_snapshot_is_written_once():
    solver = make("snapshot: 2")
    send(solver, SIGINT=1)
    written = []
    solver._write_snapshot = lambda positions: written.append(solver.iter)
    solver.handle_signals()
    with pytest.raises(KeyboardInterrupt):
        solver.solve()
    assert written == [2]


def test_a_second_ctrl_c_stops_at_once():
    solver = make()

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    solver.add_callback(twice, lambda: None)
    with solver.handle_signals(), pytest.raises(KeyboardInterrupt, match="second"):
        solver.step(1)
        pytest.fail("the iteration went on")
    assert solver.iter == 0 and not states()


def test_a_test_is_interrupted(capsys):
    solver = make()
    test = solver.test_nets[0]
    passes = []
    test.before_forward(lambda i: i == 0 and (passes.append(i), os.kill(os.getpid(), signal.SIGINT)))
    solver.handle_signals()
    with pytest.raises(StopRequested, match="after iteration 5"):
        solver.step(9)
    assert len(passes) == 1
    text = capsys.readouterr().err
    assert "Test interrupted." in text and "Test net output" not in text


def test_a_stop_that_comes_after_the_last_iteration_is_told(capsys):
    solver = make(max_iter=4)
    test = solver.test_nets[0]
    test.before_forward(lambda i: i == 0 and os.kill(os.getpid(), signal.SIGINT))
    solver.handle_signals()
    with pytest.raises(KeyboardInterrupt):
        solver.solve()
    assert solver.iter == 4 and states() == ["s_iter_4.solverstate"]


def test_signals_are_given_back_unless_others_took_them():
    signals = Signals()
    signals.install()
    signals.install(sighup_effect="none")
    mine = signal.getsignal(signal.SIGINT)
    assert signal.getsignal(signal.SIGHUP) == mine
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.raise_signal(signal.SIGINT)
    assert signals.stop_pending and signals.take() is Action.STOP and signals.take() is Action.NONE
    other = threading.Thread(target=signals.restore)  # of no effect there
    other.start()
    other.join()
    assert signal.getsignal(signal.SIGINT) == mine
    signals.restore()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_only_the_main_thread_can_handle_signals():
    errors = []

    def attempt():
        try:
            Signals().install()
        except SolverError as error:
            errors.append(str(error))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert "main thread only" in errors[0]
