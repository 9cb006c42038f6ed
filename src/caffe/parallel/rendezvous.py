"""How the ranks of one training find each other: a uid on one machine, torchrun on several.

They meet through torch.distributed: NCCL between GPUs, gloo between CPUs. A rank that waits for the others gives up
as soon as it learns that one of them is gone, or after CAFFE_PARALLEL_TIMEOUT seconds (environment; 1800 if unset),
which must be longer than the root's tests and snapshots take.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from .. import device, rng, world
from ..errors import CaffeError, SolverError
from ..world import solver_count, solver_rank

_TIMEOUT = "CAFFE_PARALLEL_TIMEOUT"


class LostRankError(SolverError):
    """Another rank has ended or does not answer; its own error says why."""


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Tell an error of torch.distributed's in Caffe's terms."""
    try:
        yield
    except CaffeError:
        raise
    except RuntimeError as error:
        raise LostRankError(
            f"Rank {solver_rank()} of {solver_count()} waited for {what}, but another rank has ended or did not answer "
            f"within {_timeout().total_seconds():g} s ({_TIMEOUT}). Its own error says why. ({error})"
        ) from error


def new_uid() -> bytes:
    """Make what the ranks of one training on this machine find each other by; valid while this process lives."""
    _require_distributed()
    rng.shared_seed()  # forked ranks then have the same, and share one sequence of data
    folder = tempfile.mkdtemp(prefix="caffe-ranks-")
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return os.fsencode(os.path.join(folder, "store"))


def meet_at(store_file: str) -> None:
    """Meet the ranks of this machine through a file that all of them name and none has used before.

    Raises SolverError where the file's folder is missing or the others do not come.
    """
    _require_distributed()
    if not os.path.isdir(os.path.dirname(store_file)):
        raise SolverError(
            f"The ranks cannot meet: {store_file} has no folder here. The process that called NCCL.new_uid() must "
            "still run, on this machine; for several machines use torchrun."
        )
    with waiting_for("each other"):
        store = dist.FileStore(store_file, solver_count())
        dist.init_process_group(
            _backend(), store=store, rank=solver_rank(), world_size=solver_count(), timeout=_timeout()
        )


def meet(uid: bytes | None) -> None:
    """Meet the other ranks by what new_uid gave to all, or make sure that join or launch has done so.

    Raises SolverError where this is not done as told, or the others do not come.
    """
    _require_distributed()
    if solver_rank() >= solver_count():
        raise SolverError(f"Solver rank {solver_rank()} was set for {solver_count()} solvers; ranks begin with 0.")
    if not dist.is_initialized():
        if uid is None:
            raise SolverError(
                "NCCL needs the uid that NCCL.new_uid() gave to all ranks, unless caffe.parallel.join or launch was "
                "called before."
            )
        meet_at(os.fsdecode(uid))
    found = (dist.get_rank(), dist.get_world_size())
    if found != (solver_rank(), solver_count()):
        raise SolverError(
            f"This process is rank {found[0]} of {found[1]} for torch.distributed, but solver rank {solver_rank()} of "
            f"{solver_count()}. Set them alike."
        )


def join(gpu: bool | None = None) -> bool:
    """Take part in a torchrun: set rank, count and device from its environment, and meet the others.

    To be called before nets are built, so that all ranks draw their data from one sequence. `gpu` says whether to
    compute on the GPU of this rank's number on its host; left out, it does where PyTorch finds one.
    Returns False, having done nothing, where torchrun's RANK and WORLD_SIZE are not in the environment.
    Raises SolverError where the ranks cannot meet, CaffeError where there is no such GPU.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return False
    rank, count = _whole_number("RANK"), _whole_number("WORLD_SIZE")
    world.set_place(rank, count)
    if torch.cuda.is_available() if gpu is None else gpu:
        device.set_device(_whole_number("LOCAL_RANK") if "LOCAL_RANK" in os.environ else rank)
        device.set_mode_gpu()
    if count > 1:
        _require_distributed()
        if not dist.is_initialized():
            with waiting_for("torchrun's meeting point"):
                dist.init_process_group(_backend(), init_method="env://", timeout=_timeout())
        seed = [rng.shared_seed()]
        with waiting_for("the root's seed"):
            dist.broadcast_object_list(seed)
        rng.set_random_seed(seed[0] + rank, shared=seed[0])
    return True


def leave() -> None:
    """Part from the other ranks, once training is over; the end of the process does it too."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _backend() -> str:
    on_gpu = device.current().type == "cuda" and dist.is_nccl_available()
    return "cpu:gloo,cuda:nccl" if on_gpu else "gloo"


def _timeout() -> timedelta:
    text = os.environ.get(_TIMEOUT) or "1800"
    try:
        wait = timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        wait = timedelta()
    if wait <= timedelta():
        raise SolverError(f"{_TIMEOUT} is {text!r}; it is a number of seconds above 0.")
    return wait


def _whole_number(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError:
        raise SolverError(f"The environment's {name} is {os.environ[name]!r}; torchrun sets a whole number.") from None


def _require_distributed() -> None:
    if not dist.is_available():
        raise SolverError(f"PyTorch {torch.__version__} was built without torch.distributed: it trains alone.")
