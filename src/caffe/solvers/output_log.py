"""What a solver logs of its nets' outputs, in training and in its tests (the lines of solver.cpp's Step and Test)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .. import glog
from ..errors import SolverError
from ..glog import number
from ..net import Net


def log_train_outputs(net: Net) -> None:
    """Log the outputs of a train net as its last pass left them."""
    _log_outputs("Train", net, {name: _values(net, name) for name in net.outputs})


def log_test(net: Net, index: int, passes: int, with_loss: bool, interrupted: Callable[[], bool]) -> None:
    """Run test net #`index` that many times, and log the mean of every output; asked to stop, log nothing but that.

    Raises SolverError for an output whose number of values is another one in each pass.
    """
    loss = 0.0
    sums: dict[str, torch.Tensor] = {}
    for _ in range(passes):
        if interrupted():
            glog.info_at_root("Test interrupted.", "solver.cpp:396")
            return
        loss += net.forward_pass()
        for name in net.outputs:
            values = _values(net, name)
            if name not in sums:
                sums[name] = values
            elif sums[name].shape == values.shape:
                sums[name] += values
            else:
                raise SolverError(
                    f"Output '{name}' of test net #{index} has {values.numel()} values in one pass and "
                    f"{sums[name].numel()} in another, so that it has no mean. Give it to a Silence layer."
                )
    if with_loss and passes:
        glog.info_at_root(f"Test loss: {number(loss / passes)}", "solver.cpp:401")
    _log_outputs("Test", net, {name: values / passes for name, values in sums.items()})


def _values(net: Net, name: str) -> torch.Tensor:
    """Return a blob's values as a list on the host that nobody else holds."""
    return net.blobs[name].data_tensor().to("cpu", torch.float64).reshape(-1)


def _log_outputs(phase: str, net: Net, outputs: dict[str, torch.Tensor]) -> None:
    """Log every value of every output, numbered on, and what it adds to the loss where it has a weight."""
    source = {"Train": "solver.cpp:258", "Test": "solver.cpp:414"}[phase]
    index, weights = 0, net.blob_loss_weights
    for name, values in outputs.items():
        weight = weights[name]
        for value in values.tolist():
            part = f" (* {number(weight)} = {number(weight * value)} loss)" if weight else ""
            glog.info_at_root(f"    {phase} net output #{index}: {name} = {number(value)}{part}", source)
            index += 1
