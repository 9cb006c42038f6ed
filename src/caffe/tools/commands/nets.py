"""The commands that run or look at one net: test, time, summary, draw, export."""

from __future__ import annotations

import numpy as np

from ... import glog
from ...errors import CaffeError
from ...formats.prototxt import read_net
from ...glog import number
from ...net import Net
from ...proto import caffe_pb2
from ..flags import Flags
from . import gpus
from .setup import listed

PHASES = {"TRAIN": caffe_pb2.TRAIN, "TEST": caffe_pb2.TEST}


def test(flags: Flags) -> None:
    """Run a net's TEST phase on weights, and log its outputs: every batch's, then the means.

    Raises CaffeError where an output has another number of values in each batch, so that it has no mean.
    """
    _require(flags.model, "-model", "the net's prototxt, to score it")
    _require(flags.weights, "-weights", "the net's weights, to score it")
    if flags.iterations < 1:
        raise CaffeError(f"-iterations is {flags.iterations}; to score a net takes 1 or more.")
    gpus.use_one(flags.gpu)
    net = _net(flags, caffe_pb2.TEST)
    for path in listed(flags.weights):
        net.copy_from(path)
    glog.info(f"Running for {flags.iterations} iterations.", "caffe.cpp:281")
    loss = 0.0
    sums: dict[str, np.ndarray] = {}
    for batch in range(flags.iterations):
        loss += net.forward_pass()
        for name in net.outputs:
            values = net.blobs[name].data.astype(np.float64).ravel()
            for value in values:
                glog.info(f"Batch {batch}, {name} = {number(value)}", "caffe.cpp:304")
            if sums.setdefault(name, np.zeros_like(values)).shape != values.shape:
                raise CaffeError(
                    f"Output '{name}' has {values.size} values in batch {batch} and {sums[name].size} before, so that "
                    "it has no mean. Give it to a Silence layer."
                )
            sums[name] += values
    glog.info(f"Loss: {number(loss / flags.iterations)}", "caffe.cpp:309")
    weights = net.blob_loss_weights
    for name, total in sums.items():
        for mean in total / flags.iterations:
            part = f" (* {number(weights[name])} = {number(weights[name] * mean)} loss)" if weights[name] else ""
            glog.info(f"{name} = {number(mean)}{part}", "caffe.cpp:321")


def time(flags: Flags) -> None:
    """Log how long each layer of a net takes, forward and backward."""
    from ..timing import time_net  # noqa: PLC0415

    _require(flags.model, "-model", "the net's prototxt, to time it")
    gpus.use_one(flags.gpu)
    time_net(_net(flags, _phase(flags, "TRAIN")), flags.iterations)


def summary(flags: Flags, net_file: str) -> None:
    """Print the table of a net's layers, shapes, parameters, multiply-adds and memory."""
    from ..summary import summarize  # noqa: PLC0415

    shapes = {}
    for part in flags.shape.split(";") if flags.shape else ():
        name, _, dims = part.partition("=")
        try:
            shapes[name.strip()] = tuple(int(dim) for dim in dims.split(","))
        except ValueError:
            raise CaffeError(f"-shape has {part!r}; a shape is written as data=1,3,224,224.") from None
    print(summarize(net_file, phase=_phase(flags, "TEST"), shapes=shapes or None))


def draw(flags: Flags, net_file: str, picture: str) -> None:
    """Draw a net to a file, in the format of its ending."""
    from ...draw import draw_net_to_file  # noqa: PLC0415

    if flags.rankdir not in ("LR", "TB", "BT"):
        raise CaffeError(f"-rankdir is {flags.rankdir!r}; it is LR, TB or BT.")
    phase = _phase(flags, "TEST") if flags.phase not in ("", "ALL") else None
    draw_net_to_file(read_net(net_file), picture, flags.rankdir, phase, flags.display_lrm)
    glog.info(f"Drew {net_file} to {picture}")


def export(flags: Flags, *files: str) -> None:
    """Write a net with its weights as ONNX, or weights alone as safetensors; the last file's ending says which."""
    from ... import export as exporters  # noqa: PLC0415

    out = files[-1]
    if out.endswith(".safetensors"):
        exporters.to_safetensors(files[-2], out)  # NET, if given, is not needed
    elif out.endswith(".onnx") and len(files) == 3:
        exporters.to_onnx(*files)
    elif out.endswith(".onnx"):
        raise CaffeError(f"To write {out} takes the net's prototxt and its weights: caffe export NET WEIGHTS {out}.")
    else:
        raise CaffeError(f"{out} is of no known kind; caffe export writes .onnx and .safetensors.")
    glog.info(f"Wrote {out}")


def _net(flags: Flags, phase: int) -> Net:
    return Net(flags.model, phase, level=flags.level, stages=listed(flags.stage))


def _phase(flags: Flags, default: str) -> int:
    name = flags.phase or default
    if name not in PHASES:
        raise CaffeError(f'phase must be "TRAIN" or "TEST", not {name!r}.')
    return PHASES[name]


def _require(value: str, flag: str, meaning: str) -> None:
    if not value:
        raise CaffeError(f"{flag} is missing: {meaning}.")
