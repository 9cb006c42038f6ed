"""`caffe train`: a solver from its prototxt, from weights or a snapshot, on the CPU, a GPU or several processes."""

from __future__ import annotations

from contextlib import suppress

import torch

from ... import device, glog, parallel
from ...errors import SolverError
from ...formats.prototxt import read_solver
from ...proto import caffe_pb2
from ...solvers.signals import StopRequested
from ...solvers.solver import get_solver
from ..flags import Flags
from . import gpus
from .setup import following, listed

_EFFECTS = ("stop", "snapshot", "none")


def train(flags: Flags) -> None:
    """Train to max_iter, or until a signal asks to stop.

    Under torchrun this process is one rank of several; with several GPUs in -gpu one process is started for each.
    """
    if not flags.solver:
        raise SolverError("Need a solver definition to train: -solver FILE.")
    if flags.snapshot and flags.weights:
        raise SolverError("Give a snapshot to resume training or weights to finetune but not both.")
    for name, effect in (("sigint_effect", flags.sigint_effect), ("sighup_effect", flags.sighup_effect)):
        if effect not in _EFFECTS:
            raise SolverError(
                f'Invalid signal effect "{effect}" was specified in -{name}; it is stop, snapshot or none.'
            )
    param = _settings(flags)
    on_gpus = _gpus(flags, param)
    with suppress(StopRequested):  # any other KeyboardInterrupt left an iteration unfinished
        _train_on(on_gpus, param, flags)
    glog.info_at_root("Optimization Done.", "caffe.cpp:250")


def _train_on(on_gpus: list[int], param: caffe_pb2.SolverParameter, flags: Flags) -> None:
    if parallel.join(gpu=bool(on_gpus)):
        _run(param, flags)
        parallel.leave()
        return
    if not on_gpus:
        glog.info("Use CPU.", "caffe.cpp:197")
        device.set_mode_cpu()
        _run(param, flags)
        return
    glog.info(f"Using GPUs {', '.join(map(str, on_gpus))}", "caffe.cpp:204")
    for index in on_gpus:
        glog.info(f"GPU {index}: {torch.cuda.get_device_name(index)}", "caffe.cpp:209")
    param.device_id = on_gpus[0]
    if len(on_gpus) > 1:
        parallel.launch(_run_rank, on_gpus, len(on_gpus), (param.SerializeToString(), flags))
        return
    device.set_device(on_gpus[0])
    device.set_mode_gpu()
    _run(param, flags)


def _settings(flags: Flags) -> caffe_pb2.SolverParameter:
    """Return the solver's settings, with what the command line has to say about them (tools/caffe.cpp)."""
    param = read_solver(flags.solver)
    param.train_state.level = flags.level
    param.train_state.stage.extend(listed(flags.stage))
    if "iterations" in flags.given:
        param.max_iter = flags.iterations
    if flags.snapshot or flags.weights:
        del param.weights[:]
    if flags.weights:
        param.weights.append(flags.weights)
    return param


def _gpus(flags: Flags, param: caffe_pb2.SolverParameter) -> list[int]:
    """Return the GPUs to train on: those of -gpu, or else the one of the solver's own mode and device_id."""
    if flags.gpu or param.solver_mode == caffe_pb2.SolverParameter.CPU:
        return gpus.chosen(flags.gpu)
    if gpus.count():
        return gpus.chosen(str(param.device_id))
    glog.warning(
        "The solver asks for a GPU (solver_mode: GPU, which is the default) and there is none; training on the CPU."
    )
    return []


def _run_rank(settings: bytes, flags: Flags) -> None:
    """Train as one of several ranks, in a process that has just started."""
    with following(flags):
        _run(caffe_pb2.SolverParameter.FromString(settings), flags)


def _run(param: caffe_pb2.SolverParameter, flags: Flags) -> None:
    """Train in this process, whose device and rank are set. Raises StopRequested once a signal has stopped it."""
    solver = get_solver(param)
    with solver.handle_signals(flags.sigint_effect, flags.sighup_effect):
        if flags.snapshot:
            glog.info_at_root(f"Resuming from {flags.snapshot}", "caffe.cpp:235")
            solver.restore(flags.snapshot)
        parallel.train_together(solver)
        glog.info_at_root("Starting Optimization", "caffe.cpp:239")
        solver.solve()
