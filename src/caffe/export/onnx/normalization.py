"""Normalisation in ONNX: LRN, BatchNorm, Scale, Bias, MVN, Softmax."""

from __future__ import annotations

import numpy as np

from .onnx_graph import Site, translates


@translates("LRN")
def lrn(at: Site) -> str:
    """x / (k + alpha times the mean of x^2 around it) ^ beta, over channels as ONNX has it, or over pixels."""
    layer = at.layer
    if layer.across:
        return at.node("LRN", at.bottom, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
    mean = at.node(
        "AveragePool", at.node("Mul", at.bottom, at.bottom),
        kernel_shape=[layer.size] * 2, pads=[layer.size // 2] * 4, count_include_pad=1,
    )  # fmt: skip
    scale = at.affine(mean, layer.alpha, 1)
    return at.node("Mul", at.bottom, at.node("Pow", scale, at.number(-layer.beta)))


@translates("BatchNorm")
def batch_norm(at: Site) -> str:
    """(x - mean) / sqrt(variance + eps) by the stored sums, divided by what the third parameter says."""
    layer = at.layer
    if not layer.uses_sums:
        raise at.fail("use_global_stats: false normalises by the batch's own mean; set it to true.")
    mean, variance, divisor = (blob.data_tensor().cpu().numpy() for blob in layer.blobs)
    factor = np.float32(0 if divisor[0] == 0 else 1 / divisor[0])
    ones = np.ones(layer.channels, np.float32)
    constants = [at.array(values) for values in (ones, 0 * ones, mean * factor, variance * factor)]
    if at.rank > 1:
        return at.node("BatchNormalization", at.bottom, *constants, epsilon=layer.eps)
    channel = at.integers([1])  # of one axis: every value is of one channel
    y = at.node("BatchNormalization", at.node("Unsqueeze", at.bottom, channel), *constants, epsilon=layer.eps)
    return at.node("Squeeze", y, channel)


def _operand(at: Site) -> str:
    """Return the factor or term, learned or a second bottom, with axes of 1 behind that spread it."""
    layer = at.layer
    operand = layer.operand if layer.learned else at.shapes[1]
    trailing = len(at.plan.spread) - len(operand)
    if layer.learned:
        return at.weight(0, (*operand, *[1] * trailing))
    if not trailing or not operand:
        return at.bottoms[1]
    behind = range(len(operand), len(operand) + trailing)
    return at.node("Unsqueeze", at.bottoms[1], at.integers(behind))


@translates("Scale")
def scale(at: Site) -> str:
    """x * scale, plus a bias."""
    layer = at.layer
    y = at.node("Mul", at.bottom, _operand(at))
    if not layer.bias:
        return y
    return at.node("Add", y, at.weight(len(layer.blobs) - 1, at.plan.spread))


@translates("Bias")
def bias(at: Site) -> str:
    """x + bias."""
    return at.node("Add", at.bottom, _operand(at))


@translates("MVN")
def mvn(at: Site) -> str:
    """Each channel, or each item, less its mean, and divided by its deviation + eps."""
    layer = at.layer
    axes = list(range(layer.kept_axes, at.rank))
    if not axes:  # each value is its own mean
        return at.node("Sub", at.bottom, at.bottom)
    centred = at.node("Sub", at.bottom, at.node("ReduceMean", at.bottom, axes=axes))
    if not layer.divides:
        return centred
    variance = at.node("ReduceMean", at.node("Mul", centred, centred), axes=axes)
    return at.node("Div", centred, at.affine(at.node("Sqrt", variance), 1, layer.eps))


@translates("Softmax")
def softmax(at: Site) -> str:
    """exp(x) / sum of exp(x) along an axis."""
    return at.node("Softmax", at.bottom, axis=at.plan.axis)
