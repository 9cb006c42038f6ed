"""Processes that train together: how each one's end is told, and which end is told first."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import time
from unittest import mock

import pytest
import torch

import caffe
from caffe import parallel, rng, world
from caffe.errors import SolverError
from caffe.parallel import processes, rendezvous

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without torch.distributed"),
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL"),
]


@pytest.fixture(autouse=True)
def alone_again():
    yield
    rendezvous.leave()
    world.set_solver_rank(0)
    world.set_solver_count(1)
    world.set_multiprocess(False)


def rank_of(target, *args):
    """Return a rank whose process is that of another target, which needs no import of the engine."""
    context = multiprocessing.get_context("spawn")
    report, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=args)
    process.start()
    return processes._Rank(1, process, report), theirs


def test_how_ranks_end_that_say_nothing(monkeypatch):
    monkeypatch.setattr(processes, "_GRACE", 0.3)
    waiting, _ = rank_of(time.sleep, 100)
    waiting.number = 0
    killed, pipe = rank_of(signal.raise_signal, signal.SIGKILL)
    outcomes = processes._watch([waiting, killed])
    assert outcomes == {1: ("failed", mock.ANY)}
    assert re.match("its process was killed by SIGKILL.*memory", outcomes[1][1])
    waiting.stop()
    assert waiting.process.exitcode == -signal.SIGTERM
    exited, pipe = rank_of(os._exit, 7)
    pipe.close()
    assert processes._watch([exited])[1] == ("failed", "its process ended with exit code 7 and without a word.")


def test_the_cause_is_told_before_its_consequences(monkeypatch, tmp_path):
    def ends(*outcomes):
        monkeypatch.setattr(processes, "_start", lambda setting, target, args: mock.Mock())
        monkeypatch.setattr(processes, "_watch", lambda ranks: dict(enumerate(outcomes)))
        return processes.launch(print, None, len(outcomes), ())

    failed, lost, interrupted, done = ((kind, kind) for kind in ("failed", "lost", "interrupted", "done"))
    with pytest.raises(SolverError, match="Rank 1 of 2: failed"):
        ends(lost, failed)
    with pytest.raises(SolverError, match="Rank 0 of 2: failed"):
        ends(failed, interrupted)
    with pytest.raises(KeyboardInterrupt):
        ends(lost, interrupted)
    with pytest.raises(SolverError, match="Rank 1 of 2: lost"):
        ends(done, lost)
    ends(done, done)


def raising(error):
    raise error


@pytest.mark.parametrize(
    ("target", "args", "reported"),
    [
        (len, ("",), ("done", "")),
        (sys.exit, (0,), ("done", "")),
        (sys.exit, ("no data",), ("failed", "it exited: no data")),
        (raising, (KeyboardInterrupt("stop"),), ("interrupted", "stop")),
        (raising, (parallel.LostRankError("gone"),), ("lost", "gone")),
        (raising, (SolverError("wrong"),), ("failed", "wrong")),
        (raising, (ValueError("x" * 20_000),), ("failed", "x" * 10_000)),
    ],
)
def test_what_a_rank_reports_of_its_end(monkeypatch, tmp_path, target, args, reported):
    monkeypatch.setattr(os, "setpgrp", lambda: None)
    setting = processes._Setting(0, 1, None, str(tmp_path / "store"), 5, torch.get_num_threads(), False)
    report = mock.Mock()
    processes._run(report, setting, target, args)
    report.send.assert_called_once_with(reported)
    assert rng.shared_seed() == 5 and caffe._caffe.solver_rank() == 0


def test_launch_runs_one_rank_alone_here():
    here = []
    processes.launch(here.append, None, 1, (os.getpid(),))
    assert here == [os.getpid()]
    with pytest.raises(SolverError, match="No device"):
        processes.launch(here.append, [], 1, ())
    with pytest.raises(SolverError, match="GPUs 0, 0 were given"):
        processes.launch(here.append, [0, 0], 2, ())
    if not torch.cuda.is_available():
        with pytest.raises(caffe.CaffeError, match="no CUDA device"):
            processes.launch(here.append, [0], 1, ())
