"""Data-parallel training: ranks together equal one solver with the passes of all, and a rank's end is told to all.

This file is also the program that the other ranks run, and the module of their Python layers.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

import caffe
from caffe import parallel, rng, world
from caffe.errors import SolverError
from caffe.parallel import gradients, processes, rendezvous
from caffe.solvers.signals import StopRequested
from tests import forked

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without torch.distributed")

TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
NET = """
name: "net"
layer { name: "data" type: "Python" top: "a" top: "b" top: "label"
        python_param { module: "test_parallel" layer: "Draws" } }
layer { name: "ip_a" type: "InnerProduct" bottom: "a" top: "ip_a" param { name: "w" } param { lr_mult: 0 }
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "ip_b" type: "InnerProduct" bottom: "b" top: "ip_b" param { name: "w" } param { lr_mult: 2 }
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "ip_a" bottom: "ip_b" top: "sum" }
DROP
layer { name: "score" type: "InnerProduct" bottom: "sum" top: "score"
        inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
DROPOUT = 'layer { name: "drop" type: "Dropout" bottom: "sum" top: "sum" }'


class Draws(caffe.Layer):
    """One item a batch: draw number i is a function of i; rank r of n takes r, r + n, ..."""

    prefetch = True

    def setup(self, bottom, top):
        self.next = caffe.solver_rank()

    def reshape(self, bottom, top):
        for blob in top[:2]:
            blob.reshape(1, 4)
        top[2].reshape(1)

    def forward(self, bottom, top):
        draw = np.random.default_rng(self.next)
        self.next += caffe.solver_count()
        for blob in top[:2]:
            blob.data[...] = draw.standard_normal((1, 4))
        top[2].data[...] = draw.integers(3)

    def state(self):
        return self.next

    def set_state(self, state):
        self.next = state


def settings(kind="SGD", more=""):
    momentum = "" if kind in ("AdaGrad", "RMSProp") else "momentum: 0.9"
    policy = "" if "lr_policy" in more else 'lr_policy: "fixed"'
    rate = 0.01 if kind in ("RMSProp", "Adam") else 0.1
    return f'type: "{kind}" base_lr: {rate} {policy} {momentum} weight_decay: 0.01 random_seed: 3 {more}'


def make(text, net=NET):
    """Make a solver from files of its rank's own, so that no rank reads what another is writing."""
    name = f"rank{caffe.solver_rank()}"
    Path(f"{name}.net.prototxt").write_text(net.replace("DROP", ""))
    Path(f"{name}.solver.prototxt").write_text(f'net: "{name}.net.prototxt" {text}')
    return caffe.get_solver(f"{name}.solver.prototxt")


def weights(net, what="data"):
    return np.concatenate([getattr(blob, what).ravel() for blobs in net.params.values() for blob in blobs])


def history(solver):
    return np.concatenate([np.zeros(1) if h is None else h.numpy().ravel() for h in solver.history])


# What both ranks do, each with its own draws. Each function returns what the test compares, by name.


def agreed_on_a_seed():
    """join, in a group that has met already, as under torchrun."""
    rank = caffe.solver_rank()
    caffe.set_random_seed(10 + rank)
    with mock.patch.dict(os.environ, RANK=str(rank), WORLD_SIZE="2"):
        assert parallel.join(gpu=False)
    assert (caffe.solver_rank(), caffe.solver_count()) == (rank, 2)
    yield "seed", np.array(rng.shared_seed())
    yield "drawn", torch.randn(3, generator=rng.generator()).numpy()


def trained_as_all_types():
    for kind, layer_wise in itertools.product(TYPES, ("true", "false")):
        solver = make(settings(kind, f"layer_wise_reduce: {layer_wise}"))
        parallel.train_together(solver)
        solver.step(4)
        yield f"{kind} {layer_wise}", weights(solver.net)
        yield f"{kind} {layer_wise} diff", weights(solver.net, "diff")


def trained_with_iter_size():
    for layer_wise in ("true", "false"):
        solver = make(settings(more=f"iter_size: 2 layer_wise_reduce: {layer_wise}"))
        parallel.train_together(solver)
        solver.step(3)
        yield f"iter_size {layer_wise}", weights(solver.net)


def clipped():
    plain = 'base_lr: 1 lr_policy: "fixed" random_seed: 3'
    for name, text in (("free", plain), ("clipped", f"{plain} clip_gradients: 0.01")):
        solver = make(text)
        parallel.train_together(solver)
        solver.step(1)
        yield name, np.concatenate([p.blob.diff.ravel() / (p.lr_mult or 1) for p in solver.net.learnable])


def reduced_by_a_programs_own_backward():
    solver = make(settings())
    parallel.train_together(solver)
    own = caffe.Net("rank0.net.prototxt", caffe.TRAIN)
    own.share_with(solver.net)
    own.forward()
    own.backward()
    yield "own gradient", weights(own, "diff")
    solver.net.forward()
    solver.net.backward()
    yield "reduced", weights(solver.net, "diff")


def given_the_roots_progress():
    solver = make(settings("Adam", 'lr_policy: "multistep" stepvalue: 1 gamma: 0.5'))
    if caffe.solver_rank() == 0:
        solver.step(2)
    parallel.train_together(solver)
    yield "progress", np.array([solver.iter, solver.current_step, solver.lr])
    yield "history", history(solver)


def resumed():
    """Train 6 iterations with a snapshot at 3, then the last 3 again from it, after other draws."""
    text = settings(more='snapshot: 3 snapshot_prefix: "run/s"')
    net = NET.replace("DROP", DROPOUT)
    lines = logged()
    solver = make(text, net)
    parallel.train_together(solver)
    solver.step(6)
    yield "uninterrupted", weights(solver.net)
    caffe.set_random_seed(99)
    again = make(text, net)
    again.step(1)
    again.restore("run/s_iter_3.solverstate")
    parallel.train_together(again)
    again.step(3)
    yield "resumed", weights(again.net)
    yield "snapshots logged", np.array(sum("Snapshotting to" in line for line in lines))
    if caffe.solver_rank():
        with pytest.raises(SolverError, match="only the root"):
            solver.snapshot()
    else:
        again.snapshot()  # of the root's position alone
        assert "others" not in Path("run/s_iter_6.resume.json").read_text()


def stopped_by_signals():
    """SIGHUP at rank 1 in the second iteration, SIGINT there in the third."""
    solver = make(settings(more='snapshot_prefix: "signals/s"'))
    parallel.train_together(solver)
    if caffe.solver_rank() == 1:
        asks = {1: signal.SIGHUP, 2: signal.SIGINT}
        solver.add_callback(lambda: solver.iter in asks and os.kill(os.getpid(), asks[solver.iter]), lambda: None)
    before = signal.getsignal(signal.SIGINT)
    solver.handle_signals()
    with pytest.raises(StopRequested, match="after iteration 3"):
        solver.step(9)
    assert signal.getsignal(signal.SIGINT) == before
    yield "stopped at", np.array(solver.iter)


def refused_for_different_nets():
    solver = make(settings(), NET if caffe.solver_rank() else NET.replace("num_output: 3", "num_output: 4"))
    with pytest.raises(SolverError, match=r"Ranks . and . train different nets"):
        parallel.train_together(solver)
    yield "refused", np.array(1)


def logged():
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("caffe").addHandler(handler)
    return lines


EVERYTHING = (
    agreed_on_a_seed,
    trained_as_all_types,
    trained_with_iter_size,
    clipped,
    reduced_by_a_programs_own_backward,
    given_the_roots_progress,
    resumed,
    stopped_by_signals,
    refused_for_different_nets,
)


def do_everything(rank):
    gradients.BUCKET = 12  # so that the few parameters here fill several
    found = {}
    for work in EVERYTHING:
        found.update(dict(work()))
    np.savez(f"rank{rank}.npz", **found)
    return found


@pytest.fixture(autouse=True)
def alone_and_in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CAFFE_PARALLEL_TIMEOUT", "60")
    monkeypatch.setattr(gradients, "BUCKET", gradients.BUCKET)
    yield
    rendezvous.leave()
    world.set_solver_rank(0)
    world.set_solver_count(1)
    world.set_multiprocess(False)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Return what rank 0, here, and rank 1, in a process of its own, made of EVERYTHING."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(os.path.dirname(__file__))
        patch.chdir(tmp_path_factory.mktemp("ranks"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CAFFE_PARALLEL_TIMEOUT", "60")
        patch.setattr(gradients, "BUCKET", 12)
        uid = parallel.NCCL.new_uid()
        with open("errors", "w+") as errors:
            other = forked.start(__file__, "everything", os.fsdecode(uid), stderr=errors)
            try:
                meet_as(0, uid)
                mine = do_everything(0)
                mine["states"] = sorted(path.name for path in Path("signals").glob("*.solverstate"))
            finally:
                rendezvous.leave()
                world.set_solver_rank(0)
                world.set_solver_count(1)
                other.join(60)
                other.kill()
                other.join()
                assert other.exitcode == 0, Path("errors").read_text()
        return mine, dict(np.load("rank1.npz"))


def meet_as(rank, uid):
    caffe.set_solver_count(2)
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
    rendezvous.meet(uid)


@pytest.mark.slow
def test_ranks_that_joined_share_the_seed_of_their_data_and_not_their_own_draws(both):
    assert both[0]["seed"] == both[1]["seed"] == 10
    assert not np.array_equal(both[0]["drawn"], both[1]["drawn"])


@pytest.mark.parametrize("kind", TYPES)
def test_two_ranks_equal_one_solver_with_both_passes(both, kind):
    alone = make(settings(kind, "iter_size: 2"))
    alone.step(4)
    for rank in both:
        np.testing.assert_allclose(rank[f"{kind} true"], weights(alone.net), rtol=2e-5, atol=1e-6)
        assert np.array_equal(rank[f"{kind} true"], both[0][f"{kind} true"])  # the ranks never part
        for what in ("", " diff"):  # layer by layer or at once
            assert np.array_equal(rank[f"{kind} true{what}"], rank[f"{kind} false{what}"])


def test_two_ranks_with_iter_size_equal_one_solver_with_all_passes(both):
    alone = make(settings(more="iter_size: 4"))
    alone.step(3)
    for rank, layer_wise in itertools.product(both, ("true", "false")):
        np.testing.assert_allclose(rank[f"iter_size {layer_wise}"], weights(alone.net), rtol=2e-5, atol=1e-6)


def test_gradients_are_clipped_after_the_division_by_the_ranks(both):
    for rank in both:
        norm = np.linalg.norm(rank["free"])
        assert norm > 0.1
        np.testing.assert_allclose(rank["clipped"], rank["free"] * 0.01 / norm, rtol=1e-5, atol=1e-8)


def test_a_programs_own_backward_is_reduced_too(both):
    mean = (both[0]["own gradient"] + both[1]["own gradient"]) / 2
    assert not np.allclose(both[0]["own gradient"], both[1]["own gradient"])
    for rank in both:
        np.testing.assert_allclose(rank["reduced"], mean, rtol=1e-5, atol=1e-7)


def test_every_rank_goes_on_from_the_roots_iteration_and_history(both):
    assert both[0]["progress"].tolist() == both[1]["progress"].tolist() == pytest.approx([2, 1, 0.005])
    assert both[0]["history"].any() and np.array_equal(both[0]["history"], both[1]["history"])


def test_two_resumed_ranks_equal_two_that_never_stopped(both):
    for rank in both:
        assert np.array_equal(rank["resumed"], rank["uninterrupted"])


def test_only_the_root_writes_and_logs_snapshots(both):
    assert both[0]["snapshots logged"] == 3 and both[1]["snapshots logged"] == 0


def test_what_a_signal_asks_of_one_rank_all_do_in_the_same_iteration(both):
    assert both[0]["stopped at"] == both[1]["stopped at"] == 3
    assert both[0]["states"] == ["s_iter_2.solverstate", "s_iter_3.solverstate"]


def test_different_nets_are_refused(both):
    assert both[0]["refused"] == both[1]["refused"] == 1


# Alone


def test_one_solver_alone_is_left_as_it_is():
    solver, plain = make(settings()), make(settings())
    parallel.train_together(solver)
    nccl = parallel.NCCL(solver, parallel.NCCL.new_uid())
    nccl.bcast()
    solver.add_callback(nccl)
    solver.net.after_backward(nccl)
    for one in (solver, plain):
        one.step(2)
    assert np.array_equal(weights(solver.net), weights(plain.net))
    assert caffe.has_nccl()


def test_what_does_not_fit_is_told():
    solver = make(settings())
    caffe.set_multiprocess(True)
    caffe.set_solver_count(2)
    with pytest.raises(SolverError, match="needs the uid"):
        parallel.NCCL(solver)
    with pytest.raises(SolverError, match=r"has no folder here.*torchrun"):
        parallel.NCCL(solver, b"/no/such/folder/store")
    caffe.set_solver_rank(2)
    with pytest.raises(SolverError, match="rank 2 was set for 2 solvers"):
        parallel.NCCL(solver, b"")
    with pytest.raises(SolverError, match="Rank 2 of 2"):
        world.set_place(2, 2)


@pytest.mark.slow
def test_a_rank_that_waits_in_vain_gives_up(monkeypatch):
    monkeypatch.setenv("CAFFE_PARALLEL_TIMEOUT", "0.2")
    solver = make(settings())
    caffe.set_solver_count(2)
    with pytest.raises(rendezvous.LostRankError, match=r"Rank 0 of 2 waited for each other.*within 0\.2 s"):
        parallel.NCCL(solver, parallel.NCCL.new_uid())
    for wrong in ("-1", "soon", "nan", "inf"):
        monkeypatch.setenv("CAFFE_PARALLEL_TIMEOUT", wrong)
        with pytest.raises(SolverError, match=f"CAFFE_PARALLEL_TIMEOUT is '{wrong}'"):
            parallel.NCCL(solver, parallel.NCCL.new_uid())


def test_without_torch_distributed_it_says_so(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    assert not caffe.has_nccl()
    with pytest.raises(SolverError, match="without torch"):
        parallel.NCCL.new_uid()
    rendezvous.leave()


def test_ranks_share_the_seed_of_their_data_and_not_their_own(monkeypatch):
    fourth = make(settings().replace("random_seed: 3", "random_seed: 4"))
    monkeypatch.setattr(world, "_rank", 1)
    assert np.array_equal(weights(make(settings()).net), weights(fourth.net))
    assert rng.shared_seed() == 3


def test_torchrun_is_not_joined_outside_it_and_its_environment_is_read(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert parallel.join() is False
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert parallel.join() is True and caffe.solver_count() == 1
    if not torch.cuda.is_available():
        with pytest.raises(caffe.CaffeError, match="no CUDA device"):
            parallel.join(gpu=True)
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(SolverError, match="RANK is 'first'"):
        parallel.join()


# Started by launch, by torchrun, and as Caffe's python/train.py does


def train_a_rank(folder, fails=False):
    """Train to the end; then again, until rank 1 fails or the parent gets a Ctrl-C."""
    os.chdir(folder)
    rank = caffe.solver_rank()
    solver = make(settings(more='max_iter: 3 snapshot_prefix: "whole"'))
    parallel.train_together(solver)
    solver.solve()
    Path(f"rank{rank}.done").write_text(f"{solver.iter} {rng.shared_seed()} {weights(solver.net).sum()}")
    if "launched" in folder:
        assert torch.get_num_threads() == 1
        solver = make(settings(more='max_iter: 100000 snapshot_prefix: "stopped"'))
        parallel.train_together(solver)
        solver.handle_signals()
        if rank == 1 and fails:
            solver.add_callback(lambda: solver.iter == 1 and go_wrong(), lambda: None)
        if rank == 0 and not fails:
            parent = multiprocessing.parent_process()
            solver.add_callback(lambda: solver.iter == 1 and os.kill(parent.pid, signal.SIGINT), lambda: None)
        solver.solve()


def go_wrong():
    raise ValueError("there is a hole in the data")


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """Launch two ranks of train_a_rank, as the module of its own name, which new processes can import."""
    import test_parallel  # noqa: PLC0415

    monkeypatch.setattr(multiprocessing, "get_context", lambda method: forked.CONTEXT)  # test_cli.py spawns them
    folder = tmp_path / "launched"
    folder.mkdir()
    return folder, lambda *args: processes.launch(test_parallel.train_a_rank, None, 2, (str(folder), *args))


@pytest.mark.slow
def test_launch_runs_a_process_for_each_rank_and_passes_ctrl_c_on(launched):
    folder, launch = launched
    with pytest.raises(StopRequested, match="asked to stop after iteration"):
        launch()
    done = [(folder / f"rank{rank}.done").read_text() for rank in (0, 1)]
    assert done[0] == done[1] and done[0].startswith("3 3 ")
    assert (folder / "whole_iter_3.solverstate").exists()
    assert len(list(folder.glob("stopped_iter_*.solverstate"))) == 1
    assert not torch.distributed.is_initialized() and caffe.solver_count() == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_launch_tells_why_a_rank_failed_and_stops_the_others(launched):
    folder, launch = launched
    with pytest.raises(SolverError, match=r"Rank 1 of 2: \n(?s:.*)ValueError: there is a hole in the data"):
        launch(True)
    assert not list(folder.glob("stopped*"))


@pytest.mark.slow
def test_torchrun_trains_with_what_join_and_train_together_say(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ran = subprocess.run(
        [*command, __file__, "torchrun"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    done = [Path(f"rank{rank}.done").read_text() for rank in (0, 1)]
    assert done[0] == done[1]


@pytest.mark.slow
def test_the_published_pattern_of_a_process_for_each_gpu(tmp_path):
    program = subprocess.run(
        [sys.executable, __file__, "train.py"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=100,
        check=False,
    )
    errors = program.stderr
    assert program.returncode == 0, errors
    assert len(re.findall(r"Iteration 2, lr", errors)) == 1  # the root's log alone
    finals = [np.load(f"rank{rank}.npy") for rank in (0, 1)]
    assert np.array_equal(*finals)
    alone = make(settings(more="iter_size: 2"))
    alone.step(3)
    np.testing.assert_allclose(finals[0], weights(alone.net), rtol=2e-5, atol=1e-6)


def published_train(solver, snapshot, gpus):
    from multiprocessing import Process  # noqa: PLC0415

    uid = caffe.NCCL.new_uid()
    caffe.init_log()
    caffe.log("Using devices %s" % str(gpus))  # noqa: UP031
    procs = [Process(target=published_solve, args=(solver, snapshot, gpus, uid, rank)) for rank in range(len(gpus))]
    for p in procs:
        p.daemon = True
        p.start()
    for p in procs:
        p.join()
    assert [p.exitcode for p in procs] == [0, 0]


def published_solve(proto, snapshot, gpus, uid, rank):
    caffe.set_mode_cpu()  # the pattern has set_mode_gpu() and set_device(gpus[rank])
    caffe.set_solver_count(len(gpus))
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
    solver = caffe.SGDSolver(proto)
    if snapshot and len(snapshot) != 0:
        solver.restore(snapshot)
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    solver.step(solver.param.max_iter)
    np.save(f"rank{rank}.npy", weights(solver.net))


def main(what, *words):
    torch.set_num_threads(1)
    if what == "everything":
        meet_as(1, os.fsencode(words[0]))
        do_everything(1)
    elif what == "torchrun":
        assert parallel.join()
        train_a_rank(os.getcwd())
        rendezvous.leave()
    else:
        make(settings(more="max_iter: 3 display: 1"))
        published_train("rank0.solver.prototxt", None, [0, 1])


if __name__ == "__main__":
    main(*sys.argv[1:])
