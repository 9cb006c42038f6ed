"""Weight fillers: what a parameter holds before training (filler.hpp)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import device, rng
from .blob import Blob, describe
from .errors import NetError, nearest
from .proto import caffe_pb2

Filler = Callable[[Tensor, caffe_pb2.FillerParameter], Tensor]


def fill(blob: Blob, param: caffe_pb2.FillerParameter) -> None:
    """Fill a blob's data as `param` says.

    Raises NetError for an unknown type, `sparse` with any filler but gaussian, or a shape that the filler cannot
    fill. Draws come from the CPU's generator, so that a seed fills the same numbers on every device.
    """
    filler = FILLERS.get(param.type)
    if filler is None:
        close = nearest(param.type, FILLERS)
        hint = f" Did you mean '{close}'?" if close else ""
        raise NetError(f"Unknown filler name: {param.type}.{hint} Known fillers: {', '.join(FILLERS)}.")
    if param.sparse >= 0 and param.type != "gaussian":
        raise NetError(f"Sparsity not supported by the {param.type} filler; only gaussian has it.")
    if param.type == "constant" and param.value == 0:
        blob.clear_data()
        return
    values = filler(torch.empty(blob.dims), param)
    blob.set_data(values.to(device.current()))


def _random() -> torch.Generator:
    return rng.generator(device.CPU)


def constant(values: Tensor, param: caffe_pb2.FillerParameter) -> Tensor:
    """Fill with `value` (0 by default)."""
    return values.fill_(param.value)


def uniform(values: Tensor, param: caffe_pb2.FillerParameter) -> Tensor:
    """Fill from the uniform distribution between `min` and `max`."""
    if param.min > param.max:
        raise NetError(f"The uniform filler's min {param.min} is above its max {param.max}.")
    if not param.max - param.min <= torch.finfo(values.dtype).max:
        raise NetError(f"The uniform filler's min {param.min} and max {param.max} span no range of finite numbers.")
    return values.uniform_(param.min, param.max, generator=_random())


def gaussian(values: Tensor, param: caffe_pb2.FillerParameter) -> Tensor:
    """Fill from the normal distribution; `sparse` keeps that many inputs an output on average, the rest zero."""
    if not param.std >= 0:
        raise NetError(f"The gaussian filler's std is {param.std}; it must be 0 or more.")
    values.normal_(param.mean, param.std, generator=_random())
    if param.sparse >= 0:
        if values.ndim < 1:
            raise NetError("A sparse gaussian filler needs a blob of one axis or more.")
        kept = min(1.0, param.sparse / max(1, values.shape[0]))
        values *= torch.empty_like(values).bernoulli_(kept, generator=_random())
    return values


def positive_unitball(values: Tensor, param: caffe_pb2.FillerParameter) -> Tensor:
    """Fill uniformly from 0 to 1, then divide so that each item along the first axis sums to 1."""
    if values.numel() == 0:
        return values
    values.uniform_(0.0, 1.0, generator=_random())
    rows = values.view(values.shape[0], -1) if values.ndim else values.view(1, 1)
    rows /= rows.sum(1, keepdim=True)
    return values


def xavier(values: Tensor, param: caffe_pb2.FillerParameter) -> Tensor:
    """Fill uniformly within sqrt(3 / n), n being what variance_norm names (Glorot and Bengio 2010)."""
    bound = math.sqrt(3.0 / _fan(values, param))
    return values.uniform_(-bound, bound, generator=_random())


def msra(values: Tensor, param: caffe_pb2.FillerParameter) -> Tensor:
    """Fill from the normal distribution of deviation sqrt(2 / n) (He et al. 2015)."""
    return values.normal_(0.0, math.sqrt(2.0 / _fan(values, param)), generator=_random())


def bilinear(values: Tensor, param: caffe_pb2.FillerParameter) -> Tensor:
    """Fill every channel pair with the bilinear kernel: for a deconvolution with group = channels.

    FCN's own nets have no groups and want the diagonal alone, which surgery.interp fills.
    """
    if values.ndim != 4 or values.shape[2] != values.shape[3]:
        raise NetError(f"The bilinear filler needs a square 4-axis kernel, not {describe([values.shape])}.")
    size = values.shape[3]
    factor = math.ceil(size / 2)
    centre = (size - 1) / (2.0 * factor)
    line = 1 - (torch.arange(size) / factor - centre).abs()
    return values.copy_(line[:, None] * line[None, :])


def _fan(values: Tensor, param: caffe_pb2.FillerParameter) -> float:
    """Return n of xavier and msra: fan_in = count / shape[0], fan_out = count / shape[1] (filler.hpp:150)."""
    fan_in = values.numel() / max(1, values.shape[0]) if values.ndim else 1
    fan_out = values.numel() / max(1, values.shape[1]) if values.ndim > 1 else values.numel()
    norm = param.variance_norm
    n = (fan_in + fan_out) / 2 if norm == param.AVERAGE else fan_out if norm == param.FAN_OUT else fan_in
    return max(1.0, n)


FILLERS: dict[str, Filler] = {
    "constant": constant,
    "uniform": uniform,
    "gaussian": gaussian,
    "positive_unitball": positive_unitball,
    "xavier": xavier,
    "msra": msra,
    "bilinear": bilinear,
}
