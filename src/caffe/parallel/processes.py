"""One process a device on this machine: started together, stopped together, the first error told."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

import torch

from .. import device, rng, world
from ..errors import CaffeError, SolverError
from ..solvers.signals import StopRequested
from .rendezvous import LostRankError, leave, meet_at

_GRACE = 5.0  # seconds that the other ranks have to end by themselves, and to tell their own error, once one has failed

# How a rank ended; where they differ, the first of these is what is told.
_FAILED, _INTERRUPTED, _STOPPED, _LOST, _DONE = "failed", "interrupted", "stopped", "lost", "done"

_MOST_TEXT = 10_000  # characters of an error, so that a report fits in the pipe, which is read when the process is gone


@dataclass
class _Setting:
    """What a rank's process is told before the target runs."""

    rank: int
    count: int
    gpu: int | None
    store_file: str
    seed: int
    threads: int
    tf32: bool


@dataclass
class _Rank:
    """A rank's process, as its parent sees it."""

    number: int
    process: SpawnProcess
    report: Connection

    def outcome(self) -> tuple[str, str]:
        """Return how the ended process ended, and what it said."""
        try:
            if self.report.poll():
                found: tuple[str, str] = self.report.recv()
                return found
        except EOFError:
            pass
        code = self.process.exitcode or 0
        if code >= 0:
            return _FAILED, f"its process ended with exit code {code} and without a word."
        name = signal.Signals(-code).name if -code in {int(s) for s in signal.Signals} else str(-code)
        often = " Often that is the system, which ran out of memory." if name == "SIGKILL" else ""
        return _FAILED, f"its process was killed by {name}.{often}"

    def stop(self) -> None:
        """End the process if it still runs."""
        self.process.terminate()
        self.process.join(_GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def launch(
    target: Callable[..., None], devices: Sequence[int] | None, processes: int, args: tuple[Any, ...] = ()
) -> None:
    """Run target(*args) in one process a device, with rank, count, mode and device set, and the ranks met.

    devices: GPUs by CUDA index; None for `processes` ranks on the CPU. The ranks share out this process's threads.
    target and args must be picklable, as multiprocessing's spawn asks. One rank alone runs in this process. Ctrl-C and
    SIGHUP are passed on to rank 0, which does with them what its solver's handle_signals says.

    Returns once all ranks have. Raises SolverError with the error of the first rank that fails, once the others are
    stopped, StopRequested where a signal stopped the training in good order, and KeyboardInterrupt where it cut it off.
    """
    gpus: list[int | None] = [None] * processes if devices is None else list(devices)
    if not gpus:
        raise SolverError("No device and no process was given to train on.")
    if devices is not None and len(set(devices)) < len(devices):
        raise SolverError(f"GPUs {', '.join(map(str, devices))} were given; each trains in one process only.")
    if len(gpus) == 1:
        if gpus[0] is not None:
            device.set_device(gpus[0])
            device.set_mode_gpu()
        target(*args)
        return
    with tempfile.TemporaryDirectory(prefix="caffe-ranks-") as folder:
        ranks: list[_Rank] = []
        try:
            for number, gpu in enumerate(gpus):
                setting = _Setting(
                    rank=number,
                    count=len(gpus),
                    gpu=gpu,
                    store_file=os.path.join(folder, "store"),
                    seed=rng.shared_seed(),
                    threads=max(1, torch.get_num_threads() // len(gpus)),
                    tf32=torch.backends.cuda.matmul.allow_tf32,
                )
                ranks.append(_start(setting, target, args))
            with _signals_passed_on(ranks[0]):
                outcomes = _watch(ranks)
        finally:
            for rank in ranks:
                rank.stop()
    for kind in (_FAILED, _INTERRUPTED, _STOPPED, _LOST):
        for number, (ended, text) in outcomes.items():
            if ended == kind and kind in (_INTERRUPTED, _STOPPED):
                raise (StopRequested if kind == _STOPPED else KeyboardInterrupt)(text)
            if ended == kind:
                raise SolverError(f"Rank {number} of {len(gpus)}: {text}")


def _start(setting: _Setting, target: Callable[..., None], args: tuple[Any, ...]) -> _Rank:
    context = multiprocessing.get_context("spawn")
    report, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(theirs, setting, target, args), name=f"caffe rank {setting.rank}")
    process.start()
    theirs.close()
    return _Rank(setting.rank, process, report)


def _watch(ranks: Sequence[_Rank]) -> dict[int, tuple[str, str]]:
    """Wait until all have ended, or some time after one has failed; return how they did, in that order."""
    running = list(ranks)
    outcomes: dict[int, tuple[str, str]] = {}
    deadline: float | None = None
    while running:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            break
        ended = wait([rank.process.sentinel for rank in running], left)
        for rank in [rank for rank in running if rank.process.sentinel in ended]:
            running.remove(rank)
            rank.process.join()
            kind, _ = outcomes[rank.number] = rank.outcome()
            # A rank that was asked to stop leaves the root time to write its snapshot.
            if kind in (_FAILED, _LOST) or (kind in (_INTERRUPTED, _STOPPED) and rank.number == 0):
                deadline = deadline or time.monotonic() + _GRACE
    return outcomes


@contextmanager
def _signals_passed_on(root: _Rank) -> Iterator[None]:
    """Send Ctrl-C and SIGHUP on to the root, which tells the other ranks by its solver."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def send(number: int, frame: FrameType | None) -> None:
        if os.name != "nt" and root.process.is_alive() and root.process.pid:  # Windows sends Ctrl-C to all by itself
            os.kill(root.process.pid, number)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, send) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


# In the rank's process


def _run(report: Connection, setting: _Setting, target: Callable[..., None], args: tuple[Any, ...]) -> None:
    """Run the target as one rank, and report how it ended."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # a terminal's Ctrl-C reaches the parent only, and from there the root
    try:
        _take_place(setting)
        target(*args)
        leave()
        outcome = _DONE, ""
    except StopRequested as error:
        outcome = _STOPPED, str(error)
    except KeyboardInterrupt as error:
        outcome = _INTERRUPTED, str(error)
    except LostRankError as error:
        outcome = _LOST, str(error)
    except CaffeError as error:
        outcome = _FAILED, str(error)
    except SystemExit as error:
        outcome = (_FAILED, f"it exited: {error.code}") if error.code else (_DONE, "")
    except BaseException:
        outcome = _FAILED, "\n" + traceback.format_exc().rstrip()
    report.send((outcome[0], outcome[1][-_MOST_TEXT:]))


def _take_place(setting: _Setting) -> None:
    world.set_place(setting.rank, setting.count)
    torch.set_num_threads(setting.threads)
    device.set_precision("tf32" if setting.tf32 else "float32")
    if setting.gpu is not None:
        device.set_device(setting.gpu)
        device.set_mode_gpu()
    rng.set_random_seed(setting.seed + setting.rank, shared=setting.seed)
    meet_at(setting.store_file)


def _end_with_parent() -> None:
    """End this process when its parent is gone, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
