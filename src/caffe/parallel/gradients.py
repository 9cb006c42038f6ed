"""Data-parallel training: one process a device, each with a solver and data of its own, and the same weights.

The rule is Caffe's (parallel.cpp): each iteration the ranks' gradients are summed and divided by the number of ranks,
after all passes of iter_size and before anything else is done with them, so that n ranks have n times the batch. Every
rank then makes the same update, and weights stay equal without being sent again. Only rank 0 logs, tests and writes.

Three ways to have the processes: `launch` starts them on one machine; `torchrun` on one or several, and `join` takes
part; or a program starts them and gives each the same `NCCL.new_uid()`, as Caffe's python/train.py does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .. import device
from ..errors import SolverError
from ..graph import LearnableParam
from ..net import Net
from ..solvers.signals import Action
from ..solvers.solver import SGDSolver
from ..world import solver_count, solver_rank
from .rendezvous import meet, new_uid, waiting_for

# Gradients are sent in buckets of at least this many values (4 MB): fewer would cost more in round trips than they
# gain by being on their way during backward.
BUCKET = 1 << 20


@dataclass
class _Bucket:
    """Parameters whose gradients travel together, and the layer after whose backward they are complete."""

    layer: int
    params: list[LearnableParam] = field(default_factory=list)
    values: int = 0


class NCCL:
    """What makes a solver train together with those of the other ranks; pycaffe's name, whatever carries the data.

    nccl = caffe.NCCL(solver, uid); nccl.bcast(); solver.add_callback(nccl); and, so that gradients are sent while
    backward still runs, solver.net.after_backward(nccl) if solver.param.layer_wise_reduce. Both ways give the same
    numbers. solver_count and solver_rank are set first; with a count of 1 nothing is done.
    """

    def __init__(self, solver: SGDSolver, uid: bytes | None = None) -> None:
        """Meet the other ranks, which call this too; `uid` is what new_uid gave, or None after join or launch.

        Raises SolverError where the ranks cannot meet, or their nets differ.
        """
        self._solver = solver
        self._buckets = _buckets(solver.net)
        self._sent: dict[int, tuple[Tensor, dist.Work]] = {}  # by bucket
        self._in_iteration = False
        self._passes = 0
        if solver_count() > 1:
            meet(uid)
            self._check_that_nets_are_alike()

    @staticmethod
    def new_uid() -> bytes:
        """Make what the ranks of one training on this machine find each other by; valid while this process lives."""
        return new_uid()

    def bcast(self) -> None:
        """Give every rank the root's weights, iteration and history."""
        if solver_count() == 1:
            return
        solver, where = self._solver, device.current()
        with waiting_for("the root's weights"):
            progress = [(solver.iter, solver.current_step, [h is not None for h in solver.history])]
            dist.broadcast_object_list(progress)
            iteration, step, kept = progress[0]
            solver.go_on_from(iteration, step)
            learnable = solver.net.learnable
            for param in learnable:
                param.blob.set_data(_from_root(param.blob.data_tensor().clone()))
            for index, is_kept in enumerate(kept):
                own, dims = solver.history[index], learnable[index % len(learnable)].blob.dims
                values = torch.zeros(dims, device=where) if own is None else own.to(where)
                solver.history[index] = _from_root(values) if is_kept else None
        solver.net.refresh_views()

    def on_start(self) -> None:
        """Begin an iteration: the solver calls this before its first pass."""
        if solver_count() > 1:
            self._in_iteration = True
            self._passes = 0
            self._sent.clear()

    def __call__(self, layer: int) -> None:
        """Send the gradients that are complete now that this layer has run backward; net.after_backward's hook.

        Within an iteration that is in its last pass. A program's own net.backward() is reduced layer by layer.
        """
        if solver_count() == 1:
            return
        last_pass = self._passes == self._solver.param.iter_size - 1
        if last_pass or not self._in_iteration:
            for index, bucket in enumerate(self._buckets):
                if bucket.layer == layer:
                    self._send(index)
        if not self._in_iteration:
            self._receive()
        elif layer == 0:
            self._passes += 1

    def on_gradients_ready(self) -> None:
        """Wait until every diff is the mean of the ranks' gradients."""
        if solver_count() == 1:
            return
        for index in range(len(self._buckets)):
            if index not in self._sent:
                self._send(index)
        self._receive()
        self._in_iteration = False

    def agree(self, own: Action) -> Action:
        """Return the greatest of what signals asked of the ranks; all ranks call this after the same iteration."""
        if solver_count() == 1:
            return own
        with waiting_for("the gradients"):
            # Sent by the host where it can be, so that no GPU is waited for.
            where = device.CPU if "gloo" in dist.get_backend_config() else device.current()
            action = torch.tensor([int(own)], device=where)
            dist.all_reduce(action, dist.ReduceOp.MAX)
        return Action(int(action))

    def gather(self, own: Any) -> list[Any]:
        """Return what every rank passes, by rank; all ranks call this at once."""
        if solver_count() == 1:
            return [own]
        everyone: list[Any] = [None] * solver_count()
        with waiting_for("a snapshot"):
            dist.all_gather_object(everyone, own)
        return everyone

    def _send(self, index: int) -> None:
        # A copy travels: the diffs themselves are the program's to look at meanwhile.
        params = self._buckets[index].params
        values = torch.cat([param.blob.diff_tensor().reshape(-1) for param in params])
        with waiting_for("the gradients"):
            work = dist.all_reduce(values, async_op=True)
        assert work is not None
        self._sent[index] = values, work

    def _receive(self) -> None:
        for index, (values, work) in self._sent.items():
            params = self._buckets[index].params
            with waiting_for("the gradients"):
                work.wait()
            values.mul_(1.0 / solver_count())
            for param, part in zip(params, values.split([param.blob.count for param in params]), strict=True):
                param.blob.set_diff(part.view(param.blob.dims))
        self._sent.clear()

    def _check_that_nets_are_alike(self) -> None:
        solver = self._solver
        own = ([(p.layer_name, p.blob.dims) for p in solver.net.learnable], solver.param.iter_size, len(solver.history))
        for rank, other in enumerate(self.gather(own)):
            if other != own:
                raise SolverError(
                    f"Ranks {solver_rank()} and {rank} train different nets, or with different solvers: their "
                    "parameters, iter_size or history differ. Give every rank the same solver prototxt."
                )


def train_together(solver: SGDSolver) -> None:
    """Let a solver train with those of the other ranks that join or launch brought together; alone, do nothing.

    It gets the root's weights, iteration and history now, and the mean gradient in every iteration. Restore it first.
    """
    if solver_count() == 1:
        return
    ranks = NCCL(solver)
    ranks.bcast()
    solver.add_callback(ranks)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(ranks)


def _buckets(net: Net) -> list[_Bucket]:
    """Share out the parameters that get gradients, in the order in which backward completes them.

    It follows from the net alone, so that all ranks send the same. A shared parameter is complete after the first
    layer that has it, which is the last to run backward.
    """
    owners = {id(param.blob.diff_memory): param for param in net.learnable}
    complete: dict[int, int] = {}
    for index, layer in enumerate(net.layers):
        for blob, want in zip(layer.blobs, layer._gives_gradients(), strict=True):
            if want:
                complete.setdefault(id(blob.diff_memory), index)
    buckets: list[_Bucket] = []
    for key, layer_index in sorted(complete.items(), key=lambda item: -item[1]):
        if not buckets or buckets[-1].values >= BUCKET:
            buckets.append(_Bucket(layer_index))
        buckets[-1].layer = layer_index
        buckets[-1].params.append(owners[key])
        buckets[-1].values += owners[key].blob.count
    return buckets


def _from_root(values: Tensor) -> Tensor:
    values = values.contiguous()
    dist.broadcast(values, src=0)
    return values


__all__ = ["NCCL", "train_together"]
