"""What `debug_info: true` in a net or solver logs: the mean magnitude of every blob and gradient (net.cpp's lines)."""

from __future__ import annotations

import torch

from .blob import Blob
from .glog import info_at_root, number
from .graph import LearnableParam, Node


def log_forward(node: Node) -> None:
    """Log a layer's tops and parameters after its forward pass."""
    for name, blob in zip(node.top_names, node.top, strict=True):
        info_at_root(
            f"    [Forward] Layer {node.name}, top blob {name} data: {_mean_magnitude(blob.data_tensor())}",
            "net.cpp:593",
        )
    for name, blob in _params(node):
        info_at_root(
            f"    [Forward] Layer {node.name}, param blob {name} data: {_mean_magnitude(blob.data_tensor())}",
            "net.cpp:605",
        )


def log_backward(node: Node) -> None:
    """Log the gradients of a layer's bottoms, where they were asked for, and parameters."""
    for name, blob, wanted in zip(node.bottom_names, node.bottom, node.bottom_need_backward, strict=True):
        if wanted:
            info_at_root(
                f"    [Backward] Layer {node.name}, bottom blob {name} diff: {_mean_magnitude(blob.diff_tensor())}",
                "net.cpp:621",
            )
    wants = getattr(node.layer, "param_propagate_down", [True] * len(node.layer.blobs))
    for index, (blob, wanted) in enumerate(zip(node.layer.blobs, wants, strict=True)):
        if wanted:
            info_at_root(
                f"    [Backward] Layer {node.name}, param blob {index} diff: {_mean_magnitude(blob.diff_tensor())}",
                "net.cpp:632",
            )


def log_backward_total(learnable: list[LearnableParam]) -> None:
    """Log the norms of all learnable parameters and of their gradients after a whole backward pass."""
    norms = []
    for power in (1, 2):
        for part in ("data_tensor", "diff_tensor"):
            total = sum(_sum_of_powers(getattr(param.blob, part)(), power) for param in learnable)
            norms.append(number(total if power == 1 else total**0.5))
    info_at_root(
        "    [Backward] All net params (data, diff): "
        f"L1 norm = ({norms[0]}, {norms[1]}); L2 norm = ({norms[2]}, {norms[3]})",
        "net.cpp:721",
    )


def _params(node: Node) -> list[tuple[str, Blob]]:
    """Return a layer's parameter blobs, each with the name that its param { } gives it, or else its number."""
    specs = node.layer.layer_param.param
    names = [specs[i].name if i < len(specs) and specs[i].name else str(i) for i in range(len(node.layer.blobs))]
    return list(zip(names, node.layer.blobs, strict=True))


def _mean_magnitude(values: torch.Tensor) -> str:
    return number(_sum_of_powers(values, 1) / values.numel() if values.numel() else 0.0)


def _sum_of_powers(values: torch.Tensor, power: int) -> float:
    return float(values.double().abs().pow(power).sum())
