"""What a net's prototxt says of it before it runs: sizes, receptive field, stride, depth, parameters, multiply-adds.

Table 1's lower half in both papers, worked out from a NetParameter. All windows are square. The receptive field is
that of the coarsest scores, before they are up-sampled, as in the table: which of the image's pixels one place sees.
Through layers with several bottoms it is the widest of theirs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from caffe.proto import caffe_pb2
from nets.experiments import lookup

DEPLOY = "deploy.prototxt"

# Layers whose top has the shape of their first bottom and sees the same pixels, place by place.
PLACE_BY_PLACE = {"Dropout", "LRN", "Power", "ReLU", "Scale", "Sigmoid", "Silence", "Softmax"}


def deploy_net(name: str) -> Any:
    """Return the deploy net of an experiment, or of a prototxt, as a NetParameter; ValueError where there is none."""
    path = Path(name)
    if path.suffix == ".prototxt":
        try:
            return text_format.Parse(path.read_text(encoding="utf-8"), caffe_pb2.NetParameter())
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no prototxt of a net: {error}") from None
    experiment = lookup(name)
    return experiment.net(experiment.splits[DEPLOY])


@dataclass(frozen=True)
class Structure:
    """What is known of a net. Counts are of single numbers and of single multiplications with their additions."""

    receptive_field: int
    """How many of the image's pixels, in a row, one of the coarsest scores depends on."""
    stride: int
    """How many of the image's pixels lie between two of them."""
    layers: int
    """Convolutions one after another, from the image to those scores."""
    parameters: int
    """Weights and biases, those that only up-sample left out."""
    learnable: int
    """Weights and biases whose lr_mult is not 0, in all layers."""
    upsampling_parameters: int
    """Weights of the deconvolutions, most of them 0 where these do bilinear interpolation."""
    multiply_adds: int
    """Of the convolutions, for one image."""
    upsampling_multiply_adds: int
    """Of the deconvolutions, the weights that are 0 among them."""


@dataclass(frozen=True)
class _Place:
    """Where the first place of a blob looks: the image's pixels first ... last; the next place, stride pixels on."""

    first: float
    last: float
    stride: int
    depth: int

    @property
    def width(self) -> int:
        return round(self.last - self.first) + 1


@dataclass(frozen=True)
class _Window:
    kernel: int
    stride: int
    pad: int
    dilation: int

    @property
    def extent(self) -> int:
        return self.dilation * (self.kernel - 1) + 1


def structure(net: Any, size: int = 500) -> Structure:
    """Return the structure of a deploy net (a NetParameter) on images of `size` x `size` pixels.

    Raises ValueError for a layer whose effect is not known here, and for an image too small for the net.
    """
    shapes: dict[str, tuple[int, int, int]] = {}  # channels, height, width
    places: dict[str, _Place | None] = {}  # None above an up-sampling
    counts = {"parameters": 0, "learnable": 0, "upsampling_parameters": 0}
    multiply_adds = {"Convolution": 0, "Deconvolution": 0}
    shared: set[str] = set()
    for layer in net.layer:
        unknown = [name for name in layer.bottom if name not in shapes]
        if unknown:
            raise ValueError(f"Layer '{layer.name}' reads '{unknown[0]}', which no layer before it makes.")
        bottoms = [shapes[name] for name in layer.bottom]
        seen = [places[name] for name in layer.bottom]
        blobs = _parameters(layer, bottoms)
        for i, count in enumerate(blobs):
            spec = layer.param[i] if i < len(layer.param) else None
            if spec is not None and spec.name in shared:
                continue
            if spec is not None and spec.name:
                shared.add(spec.name)
            counts["upsampling_parameters" if layer.type == "Deconvolution" else "parameters"] += count
            counts["learnable"] += count if spec is None or spec.lr_mult != 0 else 0
        if layer.type == "Input":
            if len(layer.input_param.shape) not in (1, len(layer.top)):
                raise ValueError(f"Layer '{layer.name}' has {len(layer.top)} tops, but not as many shapes.")
            made = [(_channels(layer, i), size, size) for i in range(len(layer.top))]
            sees: _Place | None = _Place(0, 0, 1, 0)
        else:
            made = _sliced(layer, bottoms[0]) if layer.type == "Slice" else [_shape(layer, bottoms)] * len(layer.top)
            sees = _sees(layer, seen)
        if any(min(shape) < 1 for shape in made):
            raise ValueError(f"Layer '{layer.name}' has nothing left of an image of {size} x {size}: {made[0]}.")
        if layer.type in multiply_adds:
            # A weight works once at each place of a convolution's top, of a deconvolution's bottom.
            _, height, width = made[0] if layer.type == "Convolution" else bottoms[0]
            multiply_adds[layer.type] += blobs[0] * height * width
        for top, shape in zip(layer.top, made, strict=True):
            shapes[top], places[top] = shape, sees
    coarsest = max((p for p in places.values() if p is not None), key=lambda p: (p.width, p.depth), default=None)
    if coarsest is None:
        raise ValueError("The net has no layer of type Input: name a deploy.prototxt.")
    return Structure(
        receptive_field=coarsest.width,
        stride=coarsest.stride,
        layers=coarsest.depth,
        multiply_adds=multiply_adds["Convolution"],
        upsampling_multiply_adds=multiply_adds["Deconvolution"],
        **counts,
    )


def _channels(layer: Any, i: int) -> int:
    shape = layer.input_param.shape[i if len(layer.input_param.shape) > 1 else 0].dim
    if len(shape) != 4:
        raise ValueError(f"Layer '{layer.name}' gives {len(shape)} dimensions, but an image has 4: N x C x H x W.")
    return int(shape[1])


def _shape(layer: Any, bottoms: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    """Return the shape of a layer's tops for its bottoms' shapes: Caffe's arithmetic."""
    if not bottoms:
        raise ValueError(
            f"Layer '{layer.name}' is of type {layer.type} and makes data of its own: name a deploy.prototxt."
        )
    channels, *size = bottoms[0]
    if layer.type == "Crop":
        size = list(bottoms[1][1:])
    elif layer.type == "Concat":
        if layer.concat_param.axis != 1 or len({shape[1:] for shape in bottoms}) != 1:
            raise ValueError(f"Layer '{layer.name}' does not concatenate channels of one size: {bottoms}.")
        channels = sum(shape[0] for shape in bottoms)
    elif layer.type == "Eltwise":
        if len(set(bottoms)) != 1:
            raise ValueError(f"Layer '{layer.name}' combines unequal shapes: {bottoms}.")
    elif layer.type in ("Convolution", "Deconvolution", "Pooling"):
        w = _window(layer)
        if layer.type == "Convolution":
            size = [(length + 2 * w.pad - w.extent) // w.stride + 1 for length in size]
        elif layer.type == "Deconvolution":
            size = [w.stride * (length - 1) + w.extent - 2 * w.pad for length in size]
        else:
            size = [_pooled(length, w) for length in size]
        if layer.type != "Pooling":
            channels = layer.convolution_param.num_output
    elif layer.type not in PLACE_BY_PLACE:
        raise ValueError(
            f"Layer '{layer.name}' is of type {layer.type}, whose effect on shapes is not known here: name a net "
            "without losses, such as deploy.prototxt."
        )
    return channels, size[0], size[1]


def _sliced(layer: Any, bottom: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Return the shapes that a layer slices the channels of its bottom into."""
    channels, height, width = bottom
    equal = [channels * i // len(layer.top) for i in range(1, len(layer.top))]
    cuts = [0, *(layer.slice_param.slice_point or equal), channels]
    if layer.slice_param.axis != 1 or len(cuts) != len(layer.top) + 1:
        raise ValueError(f"Layer '{layer.name}' does not slice channels into as many parts as it has tops.")
    return [(last - first, height, width) for first, last in pairwise(cuts)]


def _pooled(length: int, w: _Window) -> int:
    """Return a pooled length: rounded up, less a last window that would begin beyond the image."""
    pooled = math.ceil((length + 2 * w.pad - w.kernel) / w.stride) + 1
    return pooled - 1 if w.pad and (pooled - 1) * w.stride >= length + w.pad else pooled


def _sees(layer: Any, bottoms: list[_Place | None]) -> _Place | None:
    """Return what a layer's tops see of the image, for what its bottoms do."""
    if layer.type == "Deconvolution" or bottoms[0] is None:
        return None
    at = bottoms[0]
    if layer.type in ("Convolution", "Pooling"):
        w = _window(layer)
        first = at.first - w.pad * at.stride
        last = at.last + (w.extent - 1 - w.pad) * at.stride
        return _Place(first, last, at.stride * w.stride, at.depth + (layer.type == "Convolution"))
    if layer.type == "Crop":
        moved = (layer.crop_param.offset[0] if layer.crop_param.offset else 0) * at.stride
        return _Place(at.first + moved, at.last + moved, at.stride, at.depth)
    if layer.type in ("Concat", "Eltwise"):
        known = [p for p in bottoms if p is not None]
        if len(known) < len(bottoms):
            return None
        if len({p.stride for p in known}) != 1:
            raise ValueError(f"Layer '{layer.name}' combines blobs of strides {[p.stride for p in known]}.")
        depth = max(p.depth for p in known)
        return _Place(min(p.first for p in known), max(p.last for p in known), at.stride, depth)
    return at


def _window(layer: Any) -> _Window:
    """Return the window of a convolution, a deconvolution or a pooling layer; ValueError if it is not square."""
    if layer.type == "Pooling":
        p = layer.pooling_param
        if p.global_pooling or p.HasField("kernel_h") or p.stride_h or p.pad_h:
            raise ValueError(f"Layer '{layer.name}' pools other windows than square ones of a fixed size.")
        window = _Window(p.kernel_size, p.stride, p.pad, 1)
    else:
        p = layer.convolution_param
        given = [set(field) for field in (p.kernel_size, p.stride, p.pad, p.dilation)]
        if p.HasField("kernel_h") or p.HasField("stride_h") or p.HasField("pad_h") or any(len(g) > 1 for g in given):
            raise ValueError(f"Layer '{layer.name}' has windows that are not square.")
        window = _Window(*(g.pop() if g else default for g, default in zip(given, (0, 1, 0, 1), strict=True)))
    if window.kernel < 1 or window.stride < 1:
        raise ValueError(f"Layer '{layer.name}' has windows of {window.kernel} pixels at stride {window.stride}.")
    return window


def _parameters(layer: Any, bottoms: list[tuple[int, int, int]]) -> list[int]:
    """Return how many numbers each of a layer's parameter blobs holds."""
    if layer.type in ("Convolution", "Deconvolution"):
        p = layer.convolution_param
        weights = bottoms[0][0] // p.group * p.num_output * _window(layer).kernel ** 2
        return [weights, p.num_output] if p.bias_term else [weights]
    if layer.type == "Scale" and len(bottoms) == 1:
        # One factor a channel, as by default; 0 axes is one for all.
        factors = 1 if layer.scale_param.num_axes == 0 else bottoms[0][0]
        return [factors] * (1 + layer.scale_param.bias_term)
    return []
