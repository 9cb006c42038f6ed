"""The solvers: they run a net forward and backward, test it, log, write snapshots, and update its parameters.

Solver is the loop that all types share (solver.cpp); SGDSolver adds the parameters' history and its files
(sgd_solver.cpp), and the other types derive from it, each with an update rule of its own (update_rules.py).
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch

from .. import checked, glog, rng
from ..blob import describe
from ..errors import NonFiniteError, SolverError
from ..formats.prototxt import read_solver, to_text
from ..formats.snapshot import SolverStateData, StoredBlob, read_state, write_state, write_weights
from ..glog import number
from ..net import Net
from ..proto import caffe_pb2
from ..world import root_solver, solver_rank
from . import resume, update_rules
from .finite import describe_first_not_finite, is_finite
from .nets import make_test_nets, make_train_net
from .output_log import log_test, log_train_outputs
from .settings import SolverParameter, check_settings
from .signals import Action, Signals, StopRequested
from .unfilled import warn_of_unfilled_layers


class NetVec(list[Net]):
    """A list of nets, as pycaffe returns a solver's test nets."""


@dataclass
class _Callback:
    on_start: Callable[[], object]
    on_gradients_ready: Callable[[], object]


@runtime_checkable
class Ranks(Protocol):
    """The solvers that train together with one, as it knows them; `add_callback` takes what also is this."""

    def agree(self, own: Action) -> Action:
        """Return the greatest of the actions that the ranks pass; all ranks call this after the same iteration."""

    def gather(self, own: Any) -> list[Any]:
        """Return what every rank passes, by rank; all ranks call this at once."""


class Solver:
    """The training loop. Programs make one of its subclasses, or call get_solver.

    Training stops with NonFiniteError at the first pass whose loss is infinite or not a number, before the
    parameters change, and a snapshot of parameters that are not finite is refused; BVLC Caffe trains on. Set
    `stop_when_not_finite = False`, on the class or a solver, for Caffe's way.

    The solver's `solver_mode` and `device_id` are for the command line; here the mode is the program's
    (caffe.set_mode_gpu).
    """

    stop_when_not_finite = True

    def __init__(self, solver_file: str | os.PathLike[str] | caffe_pb2.SolverParameter) -> None:
        """Read the solver's prototxt (or take a SolverParameter), and build its nets.

        Raises RuntimeError if a file cannot be opened, and its subclass CaffeError for what cannot be read or built:
        SolverError for settings that contradict each other and for a snapshot_prefix that cannot be written to.
        """
        if type(self) is Solver:
            raise RuntimeError("This class cannot be instantiated from Python; use SGDSolver or get_solver.")
        self._param = caffe_pb2.SolverParameter()
        self._param.CopyFrom(
            solver_file if isinstance(solver_file, caffe_pb2.SolverParameter) else read_solver(solver_file)
        )
        p = self._param
        glog.info_at_root(f"Initializing solver from parameters: \n{to_text(p)}", "solver.cpp:45")
        check_settings(p)
        if p.random_seed >= 0:
            rng.set_random_seed(p.random_seed + solver_rank(), shared=p.random_seed)
        self._net = make_train_net(p)
        self._test_nets = NetVec(make_test_nets(p))
        self._iter = 0
        self._current_step = 0
        self._losses: deque[float] = deque(maxlen=p.average_loss)
        self._callbacks: list[_Callback] = []
        self._checked_filling = False
        self.signals = Signals()
        self._ranks: Ranks | None = None  # the solvers that train together with this one, once they were added
        glog.info_at_root("Solver scaffolding done.", "solver.cpp:57")

    @property
    def net(self) -> Net:
        """The train net."""
        return self._net

    @property
    def test_nets(self) -> NetVec:
        """The test nets. They take the train net's weights when the solver tests them, or by share_with."""
        return self._test_nets

    @property
    def iter(self) -> int:
        """How many updates have been applied."""
        return self._iter

    @property
    def param(self) -> SolverParameter:
        """The settings that programs may look at or change while training."""
        return SolverParameter(self._param)

    @property
    def lr(self) -> float:
        """The learning rate that the next update takes."""
        return update_rules.learning_rate(self._param, self._iter, self._current_step)[0]

    def add_callback(self, *callback: Any) -> None:
        """Have two functions called in every iteration: on_start() and on_gradients_ready().

        They are called before the forward pass, and between the backward pass and the update. Given as two
        functions, or as one object with methods of those names. Raises TypeError for anything else.
        An object that also is a Ranks, as NCCL, is from now on asked what the ranks do together.
        """
        given = callback
        if len(given) == 1:
            callback = tuple(getattr(given[0], name, None) for name in ("on_start", "on_gradients_ready"))
        if len(callback) != 2 or not all(callable(function) for function in callback):
            raise TypeError(
                "add_callback takes two functions, on_start() and on_gradients_ready(), or one object with methods of "
                f"those names, not {given!r}."
            )
        self._callbacks.append(_Callback(*callback))
        owner = getattr(callback[0], "__self__", None)
        if isinstance(owner, Ranks):
            self._ranks = owner

    def handle_signals(self, sigint_effect: str = "stop", sighup_effect: str = "snapshot") -> Signals:
        """Let Ctrl-C and SIGHUP act on the training: each effect is "stop", "snapshot" or "none".

        The iteration at hand is finished first. "snapshot" then writes one and goes on; "stop" writes one if
        snapshot_after_train, and raises KeyboardInterrupt. A second Ctrl-C stops at once. Where several solvers train
        together, what one is asked all do, after the same iteration. The handlers that were there come back after a
        stop, after solve(), and at the end of `with solver.handle_signals(): ...`.
        Raises SolverError for another effect, and in any thread but the main one.
        """
        self.signals.install(sigint_effect, sighup_effect)
        return self.signals

    def share_weights(self, net: Net) -> None:
        """Let `net` use this solver's weights, layer by layer of the same name, without a copy."""
        if not isinstance(net, Net):
            raise TypeError(f"share_weights takes the Net that is to use the weights, not {net!r}.")
        net.share_with(self._net)

    # Training

    def solve(self, resume_file: str | os.PathLike[str] | None = None) -> None:
        """Train to max_iter, from the state in `resume_file` if given; snapshot, display and test at the end.

        Raises KeyboardInterrupt, after a snapshot, if a signal asked to stop (handle_signals).
        """
        p = self._param
        with self.signals:
            glog.info_at_root(f"Solving {self._net.name}", "solver.cpp:289")
            glog.info_at_root(f"Learning Rate Policy: {p.lr_policy}", "solver.cpp:290")
            if resume_file:
                glog.info_at_root(f"Restoring previous solver status from {os.fspath(resume_file)}", "solver.cpp:296")
                self.restore(resume_file)
            self.step(p.max_iter - self._iter)
            if p.snapshot_after_train and not self._snapshot_is_due():
                self._snapshot_together()
            if self._displays():
                self._losses.append(self._checked(self._net.forward_pass()))
                glog.info_at_root(f"Iteration {self._iter}, loss = {number(self._smoothed_loss())}", "solver.cpp:327")
            if p.test_interval and self._iter % p.test_interval == 0 and root_solver():
                self._test_all()
            glog.info_at_root("Optimization Done.", "solver.cpp:332")

    def step(self, n: int) -> None:
        """Train for `n` iterations, whatever max_iter says.

        An iteration: test if due; on_start; iter_size times forward and backward, the gradients adding up; display;
        on_gradients_ready; update; snapshot if due; what signals asked for. Afterwards the blobs hold what the weights
        before the last update gave, and a parameter's diff is the update that was applied to it. The display's mean
        over average_loss starts anew with every call.
        """
        p = self._param
        stop = self._iter + checked.integer(n, "step's number of iterations")
        self._losses.clear()
        shown, since = self._iter, time.monotonic()
        while self._iter < stop:
            self._net.clear_param_diffs()
            due = p.test_interval and self._iter % p.test_interval == 0
            if due and (self._iter > 0 or p.test_initialization) and root_solver():
                self._test_all()
            for callback in self._callbacks:
                callback.on_start()
            self._net.debug_info = p.debug_info and self._displays()
            self._losses.append(self._forward_backward())
            if self._displays():
                now = time.monotonic()
                self._display(self._iter - shown, now - since)
                shown, since = self._iter, now
            for callback in self._callbacks:
                callback.on_gradients_ready()
            self.apply_update()
            action = self.signals.take()
            if self._ranks is not None:
                action = self._ranks.agree(action)
            if (
                self._snapshot_is_due()
                or action is Action.SNAPSHOT
                or (action is Action.STOP and p.snapshot_after_train)
            ):
                self._snapshot_together()
            if action is Action.STOP:
                self.signals.restore()
                glog.info_at_root("Optimization stopped early.", "solver.cpp:311")
                raise StopRequested(f"A signal asked to stop after iteration {self._iter}.")

    def apply_update(self) -> None:
        """Update the parameters once from the gradients that are in their diffs, and count the iteration."""
        raise NotImplementedError

    def _forward_backward(self) -> float:
        """Add up the gradients of iter_size passes; return their mean loss."""
        loss = 0.0
        for _ in range(self._param.iter_size):
            loss += self._checked(self._net.forward_pass())
            self._net.backward_pass()
        if not self._checked_filling and root_solver():
            warn_of_unfilled_layers(self._net)
        self._checked_filling = True
        return loss / self._param.iter_size

    # Log and tests

    def _displays(self) -> bool:
        return bool(self._param.display) and self._iter % self._param.display == 0

    def _smoothed_loss(self) -> float:
        return sum(self._losses) / len(self._losses)

    def _display(self, iterations: int, seconds: float) -> None:
        """Log the loss, with the speed since the last display, and the net's outputs."""
        speed = number(iterations / seconds if seconds else 0.0)
        glog.info_at_root(
            f"Iteration {self._iter} ({speed} iter/s, {number(seconds)}s/{self._param.display} iters), "
            f"loss = {number(self._smoothed_loss())}",
            "solver.cpp:239",
        )
        log_train_outputs(self._net)

    def _test_all(self) -> None:
        for index, net in enumerate(self._test_nets):
            if not self.signals.stop_pending:
                glog.info_at_root(f"Iteration {self._iter}, Testing net (#{index})", "solver.cpp:347")
                net.share_with(self._net)
                p = self._param
                log_test(net, index, p.test_iter[index], p.test_compute_loss, lambda: self.signals.stop_pending)

    # What is not finite

    def _checked(self, loss: float) -> float:
        """Return the loss of a pass, or raise NonFiniteError with the first layer that went wrong."""
        if self.stop_when_not_finite and not math.isfinite(loss):
            net = self._net
            weights = net.blob_loss_weights
            names = [n for n in net.outputs if weights[n] and not is_finite(net.blobs[n])]
            which = f" (output {', '.join(repr(n) for n in names)})" if names else ""
            raise NonFiniteError(
                f"Iteration {self._iter}: the loss is {number(loss)}{which}. {describe_first_not_finite(net)} "
                "The parameters are those before this iteration. A lower base_lr, or clip_gradients, is the usual cure."
            )
        return loss

    # Snapshots

    def snapshot(self) -> None:
        """Write <snapshot_prefix>_iter_<iter>.caffemodel and .solverstate, or .caffemodel.h5 and .solverstate.h5.

        The folder is made if missing. Weights are written first and the state last, each whole or not at all; what the
        state leaves out goes between them to <snapshot_prefix>_iter_<iter>.resume.json. Where several solvers train
        together, that file lacks the others' positions, which only the snapshots that the solver itself writes have.
        Raises SolverError on any rank but 0, NonFiniteError if a parameter is not finite, CaffeError, with the file
        and the reason, if writing fails; training can go on after any of them.
        """
        self._write_snapshot([resume.position(self._nets())])

    def _snapshot_is_due(self) -> bool:
        return bool(self._param.snapshot) and self._iter % self._param.snapshot == 0

    def _snapshot_together(self) -> None:
        """Write a snapshot at the root, with every rank's position; all ranks call this after the same iteration."""
        if self._ranks is not None:
            positions = self._ranks.gather(resume.position(self._nets()))
        elif root_solver():
            positions = [resume.position(self._nets())]
        if root_solver():
            self._write_snapshot(positions)

    def _write_snapshot(self, positions: list[resume.Position]) -> None:
        if not root_solver():
            raise SolverError(f"Solver {solver_rank()} was asked for a snapshot; only the root, rank 0, writes them.")
        if self.stop_when_not_finite:
            for param in self._net.learnable:
                if not is_finite(param.blob):
                    raise NonFiniteError(
                        f"Iteration {self._iter}: parameter {param.index} of layer '{param.layer_name}' is not finite; "
                        "no snapshot was written, and the last one is still good."
                    )
        p = self._param
        hdf5 = p.snapshot_format == caffe_pb2.SolverParameter.HDF5
        kind, ending = ("HDF5", ".h5") if hdf5 else ("binary proto", "")
        weights = self._snapshot_name(f".caffemodel{ending}")
        glog.info_at_root(f"Snapshotting to {kind} file {weights}", "solver.cpp:474" if hdf5 else "solver.cpp:464")
        layers = self._net.stored_layers(with_diff=p.snapshot_diff, hdf5=hdf5)
        write_weights(weights, self._net.name, layers, hdf5=hdf5)
        state = self._snapshot_name(f".solverstate{ending}")
        line = "sgd_solver.cpp:296" if hdf5 else "sgd_solver.cpp:284"
        glog.info_at_root(f"Snapshotting solver state to {kind} file {state}", line)
        resume.write(state, self._iter, positions)
        self._write_state(state, weights, hdf5)

    def restore(self, state_file: str | os.PathLike[str]) -> None:
        """Go on from a .solverstate or .solverstate.h5: its iteration, weights and history.

        Random states and data layers' positions come from the file that was written beside the state, if it is there
        and as many solvers train together as then; each calls this.
        The weights are looked for where the state says, then beside the state. Raises SolverError if the weights are
        missing or the history does not fit the net, FileFormatError for a damaged state; nothing has changed then.
        """
        path = os.fspath(state_file)
        state = read_state(path)
        self._check_state(path, state)
        position = resume.read(path, state.iter)
        if state.learned_net:
            beside = os.path.join(os.path.dirname(path), os.path.basename(state.learned_net))
            weights = next((f for f in (state.learned_net, beside) if os.path.exists(f)), None)
            if weights is None:
                raise SolverError(
                    f"{path} belongs to the weights {state.learned_net}, which are missing; they were looked for there "
                    f"(from {os.getcwd()}) and at {beside}."
                )
            self._net.copy_from(weights)
        self.go_on_from(state.iter, state.current_step)
        self._take_state(state)
        if position is not None:
            resume.go_to(position, self._nets())

    def go_on_from(self, iteration: int, current_step: int) -> None:
        """Count on from an iteration, and from a step of the multistep policy."""
        self._iter, self._current_step = iteration, current_step

    @property
    def current_step(self) -> int:
        """The step that the step and multistep policies were in at the last update."""
        return self._current_step

    def _nets(self) -> list[Net]:
        return [self._net, *self._test_nets]

    def _write_state(self, path: str, weights: str, hdf5: bool) -> None:
        raise NotImplementedError

    def _check_state(self, path: str, state: SolverStateData) -> None:
        raise NotImplementedError

    def _take_state(self, state: SolverStateData) -> None:
        raise NotImplementedError

    def _snapshot_name(self, ending: str) -> str:
        return f"{self._param.snapshot_prefix}_iter_{self._iter}{ending}"


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum."""

    _rule: ClassVar[update_rules.Rule] = update_rules.SGD

    def __init__(self, solver_file: str | os.PathLike[str] | caffe_pb2.SolverParameter) -> None:
        super().__init__(solver_file)
        self._check_settings()
        # One entry a parameter, twice over for the types that keep two; None is all zeros.
        self.history: list[torch.Tensor | None] = [None] * (len(self._net.learnable) * self._rule.histories)

    def apply_update(self) -> None:
        """Update the parameters once from the gradients that are in their diffs, and count the iteration."""
        p, params = self._param, self._net.learnable
        rate, step = update_rules.learning_rate(p, self._iter, self._current_step)
        if step != self._current_step and p.lr_policy == "multistep":
            glog.info_at_root(f"MultiStep Status: Iteration {self._iter}, step = {step}", "sgd_solver.cpp:50")
        self._current_step = step
        if self._displays():
            glog.info_at_root(f"Iteration {self._iter}, lr = {number(rate)}", "sgd_solver.cpp:112")
        with torch.no_grad():
            if p.clip_gradients >= 0:
                update_rules.clip_gradients(params, p.clip_gradients, self._iter)
            update_rules.update(params, self.history, self._rule, rate, p, self._iter)
        self._net.refresh_views()
        self._iter += 1

    def _check_settings(self) -> None:
        """Refuse settings that the type cannot work with."""

    def _refuse_momentum(self, name: str) -> None:
        if self._param.momentum:
            raise SolverError(f"Momentum cannot be used with {name}; momentum is {number(self._param.momentum)}.")

    def _write_state(self, path: str, weights: str, hdf5: bool) -> None:
        params = self._net.learnable
        history = []
        for index, values in enumerate(self.history):
            dims = params[index % len(params)].blob.dims
            data = np.zeros(dims, np.float32) if values is None else values.contiguous().cpu().numpy()
            history.append(StoredBlob(shape=dims, data=data, diff=None, legacy=False))
        state = SolverStateData(iter=self._iter, learned_net=weights, current_step=self._current_step, history=history)
        write_state(path, state, hdf5=hdf5)

    def _check_state(self, path: str, state: SolverStateData) -> None:
        params = self._net.learnable
        if len(state.history) != len(self.history):
            raise SolverError(
                f"Incorrect length of history blobs: {path} has {len(state.history)}, the net's {len(params)} "
                f"parameters have {len(self.history)}. The state is of another net or another solver type."
            )
        for index, stored in enumerate(state.history):
            param = params[index % len(params)]
            dims = param.blob.dims
            padded = (1,) * (4 - len(dims)) + dims if stored.legacy else dims
            if tuple(stored.shape) != padded:
                raise SolverError(
                    f"History blob {index} of {path} is {describe([stored.shape])}, parameter {param.index} of layer "
                    f"'{param.layer_name}' is {describe([dims])}. The state is of another net."
                )

    def _take_state(self, state: SolverStateData) -> None:
        glog.info_at_root("SGDSolver: restoring history", "sgd_solver.cpp:336")
        params = self._net.learnable
        self.history = [
            torch.from_numpy(stored.data).view(params[index % len(params)].blob.dims) if stored.data.any() else None
            for index, stored in enumerate(state.history)
        ]


class NesterovSolver(SGDSolver):
    """Nesterov's accelerated gradient."""

    _rule = update_rules.NESTEROV


class AdaGradSolver(SGDSolver):
    """AdaGrad; it has no momentum."""

    _rule = update_rules.ADAGRAD

    def _check_settings(self) -> None:
        self._refuse_momentum("AdaGrad")


class RMSPropSolver(SGDSolver):
    """RMSProp; it has no momentum, and rms_decay is the decay of the mean of squares."""

    _rule = update_rules.RMSPROP

    def _check_settings(self) -> None:
        self._refuse_momentum("RMSProp")
        if not 0 <= self._param.rms_decay < 1:
            raise SolverError(f"rms_decay should lie between 0 and 1, not at {number(self._param.rms_decay)}.")


class AdaDeltaSolver(SGDSolver):
    """AdaDelta; `momentum` is the decay of both its means."""

    _rule = update_rules.ADADELTA


class AdamSolver(SGDSolver):
    """Adam; `momentum` and `momentum2` are its two decays."""

    _rule = update_rules.ADAM


_TYPES: dict[str, type[SGDSolver]] = {
    "AdaDelta": AdaDeltaSolver,
    "AdaGrad": AdaGradSolver,
    "Adam": AdamSolver,
    "Nesterov": NesterovSolver,
    "RMSProp": RMSPropSolver,
    "SGD": SGDSolver,
}


def get_solver(solver_file: str | os.PathLike[str] | caffe_pb2.SolverParameter) -> SGDSolver:
    """Make the solver that `type` asks for, in a prototxt or a SolverParameter. Raises SolverError if it is unknown."""
    param = solver_file if isinstance(solver_file, caffe_pb2.SolverParameter) else read_solver(solver_file)
    if param.type not in _TYPES:
        raise SolverError(f"Unknown solver type: {param.type} (known solver types: {', '.join(_TYPES)}).")
    return _TYPES[param.type](param)
