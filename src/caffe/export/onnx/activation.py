"""Activations in ONNX: functions of one value at a time."""

from __future__ import annotations

from .onnx_graph import FLOAT, Site, translates


@translates("ReLU")
def relu(at: Site) -> str:
    """max(x, 0), with a slope for x below 0."""
    slope = at.layer.slope
    return at.node("LeakyRelu", at.bottom, alpha=slope) if slope else at.node("Relu", at.bottom)


@translates("PReLU")
def prelu(at: Site) -> str:
    """A learned slope a channel below 0, or one in all."""
    channels = 1 if at.layer.shared else at.layer.channels
    return at.node("PRelu", at.bottom, at.weight(0, (channels, *[1] * (at.rank - 2))))


@translates("ELU")
def elu(at: Site) -> str:
    """alpha (exp(x) - 1) below 0."""
    return at.node("Elu", at.bottom, alpha=at.layer.alpha)


@translates("Sigmoid")
def sigmoid(at: Site) -> str:
    """1 / (1 + exp(-x))."""
    return at.node("Sigmoid", at.bottom)


@translates("TanH")
def tanh(at: Site) -> str:
    """The hyperbolic tangent."""
    return at.node("Tanh", at.bottom)


@translates("AbsVal")
def absolute(at: Site) -> str:
    """|x|."""
    return at.node("Abs", at.bottom)


@translates("BNLL")
def bnll(at: Site) -> str:
    """log(1 + exp(x))."""
    return at.node("Softplus", at.bottom)


@translates("Swish")
def swish(at: Site) -> str:
    """x * sigmoid(beta x)."""
    return at.node("Mul", at.bottom, at.node("Sigmoid", at.affine(at.bottom, at.layer.beta, 0)))


@translates("Clip")
def clip(at: Site) -> str:
    """x cut to min..max."""
    return at.node("Clip", at.bottom, at.number(at.layer.least), at.number(at.layer.most))


@translates("Threshold", steps=True)
def threshold(at: Site) -> str:
    """1 above the threshold, 0 elsewhere."""
    return at.node("Cast", at.node("Greater", at.bottom, at.number(at.layer.threshold)), to=FLOAT)


@translates("Power")
def power(at: Site) -> str:
    """(shift + scale x) ^ power; a power of 0 gives 1 whatever x is."""
    layer = at.layer
    if layer.power == 0:
        return at.node("Expand", at.number(1), at.extents(at.bottom))
    inner = at.affine(at.bottom, layer.scale, layer.shift)
    return inner if layer.power == 1 else at.node("Pow", inner, at.number(layer.power))


@translates("Exp")
def exponential(at: Site) -> str:
    """base ^ (shift + scale x)."""
    layer = at.layer
    return at.node("Exp", at.affine(at.bottom, layer.scale * layer.log_base, layer.shift * layer.log_base))


@translates("Log")
def logarithm(at: Site) -> str:
    """log to `base` of (shift + scale x)."""
    layer = at.layer
    return at.affine(at.node("Log", at.affine(at.bottom, layer.scale, layer.shift)), 1 / layer.log_base, 0)


@translates("Dropout")
def dropout(at: Site) -> str:
    """The identity: nothing is dropped in TEST."""
    return at.bottom
