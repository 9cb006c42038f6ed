"""Convolution, Deconvolution, InnerProduct and Embed in ONNX: products with learned weights."""

from __future__ import annotations

from .onnx_graph import INT64, Site, translates


@translates("Convolution")
def convolution(at: Site) -> list[str]:
    """Each bottom correlated with the one weight."""
    return [_sliding(at, "Conv", value) for value in at.bottoms]


@translates("Deconvolution")
def deconvolution(at: Site) -> list[str]:
    """Each bottom spread by the one weight, whose order of axes ONNX shares."""
    return [_sliding(at, "ConvTranspose", value) for value in at.bottoms]


def _sliding(at: Site, op: str, value: str) -> str:
    """Write one convolution; axes before the channels become one batch axis, and are put back."""
    layer, sliding = at.layer, at.layer.sliding
    batched = value
    if layer.axis != 1:
        shape = at.joined_extents(at.integers([-1]), at.extents(value, layer.axis))
        batched = at.node("Reshape", value, shape)
    parameters = [at.weight(index) for index in range(len(layer.blobs))]
    y = at.node(
        op, batched, *parameters,
        kernel_shape=sliding.kernel, strides=sliding.stride, pads=[*sliding.pad, *sliding.pad],
        dilations=sliding.dilation, group=sliding.groups,
    )  # fmt: skip
    if layer.axis == 1:
        return y
    leading = [at.extents(value, 0, layer.axis)] if layer.axis else []
    return at.node("Reshape", y, at.joined_extents(*leading, at.extents(y, 1)))


@translates("InnerProduct")
def inner_product(at: Site) -> str:
    """x W' + b, with the axes from `axis` on as one."""
    layer, axis = at.layer, at.plan.axis
    rows = at.node("Flatten", at.bottom, axis=axis)
    bias = [at.weight(1)] if layer.bias else []
    y = at.node("Gemm", rows, at.weight(0), *bias, transB=0 if layer.transposed else 1)
    if axis == 1:
        return y
    leading = [at.extents(at.bottom, 0, axis)] if axis else []
    return at.node("Reshape", y, at.joined_extents(*leading, at.integers([layer.outputs])))


@translates("Embed", integers=lambda node: {0: node.layer.inputs})  # type: ignore[attr-defined]
def embed(at: Site) -> str:
    """A learned vector for each index, plus a bias."""
    vectors = at.node("Gather", at.weight(0), at.node("Cast", at.bottom, to=INT64), axis=0)
    return at.node("Add", vectors, at.weight(1)) if at.layer.bias else vectors
