"""How parameters learn: learning-rate policies, clipping, weight decay, and the update of each solver type.

The order of operations is Caffe's (sgd_solver.cpp): clip all gradients together, divide by iter_size, add the
decay, let the type's rule turn the gradient into the update, subtract it from the weights. The update stays in the
parameter's diff. The learning rate is inside the history, so that changing it does not rescale what was gathered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from .. import glog
from ..errors import NonFiniteError, SolverError
from ..graph import LearnableParam
from ..proto import caffe_pb2

Settings: TypeAlias = caffe_pb2.SolverParameter

# Learning-rate policies


def learning_rate(param: Settings, iteration: int, current_step: int) -> tuple[float, int]:
    """Return the rate for an iteration, and the step that the step and multistep policies are then in.

    `current_step` is the step of the update before. multistep moves on by one step at most in an update, whatever its
    stepvalues (sgd_solver.cpp GetLearningRate).
    Raises SolverError for an unknown policy, or where the policy has no value: poly beyond max_iter, say.
    """
    policy = param.lr_policy
    if policy == "step":
        if param.stepsize <= 0:
            raise SolverError(f'lr_policy: "step" needs a stepsize above 0, not {param.stepsize}.')
        current_step = iteration // param.stepsize
    elif policy == "multistep":
        steps = param.stepvalue
        if current_step < len(steps) and iteration >= steps[current_step]:
            current_step += 1
    elif policy not in _FACTORS:
        raise SolverError(f"Unknown learning rate policy: {policy} (known: {', '.join(_FACTORS)}).")
    try:
        rate = param.base_lr * _FACTORS[policy](param, iteration, current_step)
    except ArithmeticError as error:
        raise _no_rate(param, iteration, str(error)) from error
    if isinstance(rate, complex) or not math.isfinite(rate):
        raise _no_rate(param, iteration, f"it gives {rate}")
    return rate, current_step


def _no_rate(param: Settings, iteration: int, reason: str) -> SolverError:
    advice = f" The poly policy ends at max_iter, {param.max_iter}: raise it." if param.lr_policy == "poly" else ""
    return SolverError(
        f'lr_policy "{param.lr_policy}" has no learning rate at iteration {iteration}: {reason}.{advice}'
    )


# What base_lr is multiplied with; a negative base under a fractional power gives a complex number in Python.
_FACTORS: dict[str, Callable[[Settings, int, int], float]] = {
    "fixed": lambda p, iteration, step: 1.0,
    "step": lambda p, iteration, step: p.gamma**step,
    "exp": lambda p, iteration, step: p.gamma**iteration,
    "inv": lambda p, iteration, step: (1.0 + p.gamma * iteration) ** -p.power,
    "multistep": lambda p, iteration, step: p.gamma**step,
    "poly": lambda p, iteration, step: (1.0 - iteration / p.max_iter) ** p.power,
    "sigmoid": lambda p, iteration, step: _sigmoid(p.gamma * (iteration - p.stepsize)),
}


def _sigmoid(x: float) -> float:
    """Return 1 / (1 + e^-x), without overflow on either side."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


# Update rules. Each turns the gradients in `diff` into the update, in place, and moves the histories on. They take
# lists of tensors, one entry a parameter or a part of one; every rule works value by value, so that the parts do not
# matter.

Tensors: TypeAlias = list[Tensor]


@dataclass(frozen=True)
class Rule:
    """A solver type's update: the function, and what it keeps."""

    compute: Callable[[Tensors, list[Tensors], float, Settings, int], None]
    histories: int = 1  # a parameter
    rate_in_history: bool = False  # the rate is a factor of all that enters the history


def _sgd(diff: Tensors, history: list[Tensors], rate: float, p: Settings, iteration: int) -> None:
    """h = momentum * h + rate * g; the update is h (Polyak 1964)."""
    (h,) = history
    torch._foreach_mul_(h, p.momentum)
    torch._foreach_add_(h, diff, alpha=rate)
    torch._foreach_copy_(diff, h)


def _nesterov(diff: Tensors, history: list[Tensors], rate: float, p: Settings, iteration: int) -> None:
    """h' = momentum * h + rate * g; the update is (1 + momentum) * h' - momentum * h (Nesterov 1983)."""
    (h,) = history
    torch._foreach_mul_(h, p.momentum)
    before = [values.clone() for values in h]
    torch._foreach_add_(h, diff, alpha=rate)
    torch._foreach_copy_(diff, h)
    torch._foreach_mul_(diff, 1 + p.momentum)
    torch._foreach_sub_(diff, before)


def _adagrad(diff: Tensors, history: list[Tensors], rate: float, p: Settings, iteration: int) -> None:
    """h += g^2; the update is rate * g / (sqrt(h) + delta) (Duchi et al. 2011)."""
    (h,) = history
    torch._foreach_addcmul_(h, diff, diff)
    _divide_by_root(diff, h, p.delta)
    torch._foreach_mul_(diff, rate)


def _rmsprop(diff: Tensors, history: list[Tensors], rate: float, p: Settings, iteration: int) -> None:
    """h = rms_decay * h + (1 - rms_decay) * g^2; the update is rate * g / (sqrt(h) + delta) (Tieleman, Hinton 2012)."""
    (h,) = history
    _decaying_square(h, diff, p.rms_decay)
    _divide_by_root(diff, h, p.delta)
    torch._foreach_mul_(diff, rate)


def _adadelta(diff: Tensors, history: list[Tensors], rate: float, p: Settings, iteration: int) -> None:
    """The update is rate * g * sqrt((u + delta) / (h + delta)), with h and u running means of g^2 and of the
    updates' squares, both decaying by `momentum` (Zeiler 2012).
    """
    h, u = history
    _decaying_square(h, diff, p.momentum)
    scale = torch._foreach_add(u, p.delta)
    torch._foreach_div_(scale, list(torch._foreach_add(h, p.delta)))
    torch._foreach_sqrt_(scale)
    torch._foreach_mul_(diff, scale)
    _decaying_square(u, diff, p.momentum)
    torch._foreach_mul_(diff, rate)


def _adam(diff: Tensors, history: list[Tensors], rate: float, p: Settings, iteration: int) -> None:
    """The update is rate * correction * m / (sqrt(v) + delta), with m and v running means of g and g^2, decaying by
    `momentum` and `momentum2` (Kingma and Ba 2015).
    """
    m, v = history
    t = iteration + 1
    correction = math.sqrt(1.0 - p.momentum2**t) / (1.0 - p.momentum**t)
    torch._foreach_mul_(m, p.momentum)
    torch._foreach_add_(m, diff, alpha=1.0 - p.momentum)
    _decaying_square(v, diff, p.momentum2)
    torch._foreach_copy_(diff, m)
    _divide_by_root(diff, v, p.delta)
    torch._foreach_mul_(diff, rate * correction)


def _decaying_square(mean: Tensors, values: Tensors, decay: float) -> None:
    torch._foreach_mul_(mean, decay)
    torch._foreach_addcmul_(mean, values, values, value=1.0 - decay)


def _divide_by_root(values: Tensors, squares: Tensors, delta: float) -> None:
    root = torch._foreach_sqrt(squares)
    torch._foreach_add_(root, delta)
    torch._foreach_div_(values, root)


SGD = Rule(_sgd, rate_in_history=True)
NESTEROV = Rule(_nesterov, rate_in_history=True)
ADAGRAD = Rule(_adagrad)
RMSPROP = Rule(_rmsprop)
ADADELTA = Rule(_adadelta, histories=2)
ADAM = Rule(_adam, histories=2)

# The pass over all parameters

# On the CPU large parameters are taken in pieces of this many values: all operations on a piece run while it is in
# the cache, so that memory is passed once. PyTorch shares out only larger tensors among threads, which costs more
# than it brings where memory is the limit (100 M values with decay, 2 threads: 0.09 s, against 0.13 s for whole
# tensors and 0.14 s for pieces eight times as large).
_FLOAT_MAX = torch.finfo(torch.float32).max
PIECE = 1 << 15


@dataclass
class _Batch:
    """Parameters, or pieces of some, that are updated by the same operations."""

    data: Tensors = field(default_factory=list)
    diff: Tensors = field(default_factory=list)
    history: list[Tensors] = field(default_factory=list)
    count: int = 0

    def append(self, part: Sequence[Tensor]) -> None:
        """Take a parameter's data, diff and histories."""
        data, diff, *history = part
        if not self.data:
            self.history = [[] for _ in history]
        self.data.append(data)
        self.diff.append(diff)
        for kept, values in zip(self.history, history, strict=True):
            kept.append(values)
        self.count += data.numel()


def clip_gradients(params: Sequence[LearnableParam], limit: float, iteration: int) -> None:
    """Scale all gradients down together if the L2 norm of them all is above `limit` (sgd_solver.cpp ClipGradients).

    Raises NonFiniteError, naming the first such parameter, if the norm is not finite.
    """
    written = [p for p in params if not p.blob.diff_is_zero]
    diffs = [p.blob.diff_tensor() for p in written]
    if not diffs:
        return
    norms = torch.stack(list(torch._foreach_norm(diffs))).double().tolist()
    norm = math.hypot(*norms)
    if not math.isfinite(norm):
        first = next((p for p, n in zip(written, norms, strict=True) if not math.isfinite(n)), written[0])
        raise NonFiniteError(
            f"Iteration {iteration}: the gradients' L2 norm is {norm}, so that they cannot be clipped; the first "
            f"gradient that is not finite is that of layer '{first.layer_name}', parameter {first.index}."
        )
    if norm > limit:
        scale = limit / norm
        glog.info_at_root(
            f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {limit:g}) by scale factor {scale:g}",
            "sgd_solver.cpp:99",
        )
        with ExitStack() as writing:
            torch._foreach_mul_([writing.enter_context(param.blob.writing_diff()) for param in written], scale)


def update(
    params: Sequence[LearnableParam],
    history: list[Tensor | None],
    rule: Rule,
    rate: float,
    p: Settings,
    iteration: int,
) -> None:
    """Turn every parameter's diff into its update and subtract it from the data.

    `history` holds one tensor a parameter, or two (first all of the first kind, then all of the second), of the
    parameter's shape and on its device; None stands for zeros and is replaced where a parameter first learns.
    Raises SolverError for an unknown regularization_type, and a rate or decay beyond single precision.
    """
    if p.weight_decay and p.regularization_type not in ("L1", "L2"):
        raise SolverError(f"Unknown regularization type: {p.regularization_type} (known: L1, L2).")
    with ExitStack() as writing:
        for lr_mult, decay_mult, batch in _batches(params, history, rule, writing):
            if p.iter_size != 1:
                torch._foreach_mul_(batch.diff, 1.0 / p.iter_size)
            decay = _single(p.weight_decay * decay_mult, "weight decay")
            if decay:
                weights = batch.data if p.regularization_type == "L2" else [w.sign() for w in batch.data]
                torch._foreach_add_(batch.diff, weights, alpha=decay)
            rule.compute(batch.diff, batch.history, _single(rate * lr_mult, "learning rate"), p, iteration)
            torch._foreach_sub_(batch.data, batch.diff)


def _single(value: float, what: str) -> float:
    if math.isfinite(value) and abs(value) > _FLOAT_MAX:
        raise SolverError(f"The {what}, with its multiplier, is {value:g}: that is beyond single precision.")
    return value


def _batches(
    params: Sequence[LearnableParam], history: list[Tensor | None], rule: Rule, writing: ExitStack
) -> Iterator[tuple[float, float, _Batch]]:
    """Group the parameters by their multipliers: on the CPU into pieces that fit the cache, on a GPU whole."""
    gathered: dict[tuple[float, float], _Batch] = {}
    for i, param in enumerate(params):
        # What a rate of 0 keeps from learning needs no work: the history stays zero, and so does the update.
        if param.lr_mult == 0 and history[i] is None and rule.rate_in_history:
            param.blob.clear_diff()
            continue
        data = writing.enter_context(param.blob.writing_data())
        diff = writing.enter_context(param.blob.writing_diff())
        own = [_history_of(data, history, j) for j in range(i, len(history), len(params))]
        key = (param.lr_mult, param.decay_mult)
        whole = (data, diff, *own)
        on_cpu = data.device.type == "cpu"
        parts: Iterable[Sequence[Tensor]] = [whole]
        if on_cpu and data.numel() > PIECE and all(t.is_contiguous() for t in whole):
            parts = zip(*(t.view(-1).split(PIECE) for t in whole), strict=True)
        for part in parts:
            batch = gathered.setdefault(key, _Batch())
            batch.append(part)
            if on_cpu and batch.count >= PIECE:
                yield *key, gathered.pop(key)
    for key, batch in gathered.items():
        yield *key, batch


def _history_of(data: Tensor, history: list[Tensor | None], index: int) -> Tensor:
    """Return one history of a parameter, made or moved to where the parameter is."""
    values = history[index]
    if values is None:
        values = torch.zeros_like(data)
    elif values.device != data.device:
        values = values.to(data.device)
    history[index] = values
    return values
