"""Pooling and SPP in ONNX, with Caffe's windows and divisors at any image size.

ONNX counts windows by floor, or by a ceil mode that is not Caffe's and not the same in every runtime. But a padding
behind the image that depends on nothing but the settings makes floor count as Caffe does,

    floor((pad + in + after - kernel) / stride) + 1

With after = pad + stride - 1 that is the count by ceil. With after = kernel - 1 it is the number of windows that begin
before the image's end, to which Caffe cuts the count where anything is padded. The smaller `after` gives the smaller
count, so it is min(pad + stride - 1, kernel - 1) with padding and stride - 1 without.
"""

from __future__ import annotations

import numpy as np

from ...kernels.pooling import LOWEST, Pair
from ...layer_types.pooling import METHODS
from .onnx_graph import FLOAT, Site, translates


@translates("Pooling")
def pooling(at: Site) -> list[str]:
    """Maxima, means, or in TEST the expected random draws; a second top holds where the maxima are."""
    layer = at.layer
    if layer.method == METHODS.STOCHASTIC and layer.is_global:
        raise at.fail("global STOCHASTIC pooling has no form in ONNX; use MAX or AVE.")
    if layer.is_global:
        if at.tops > 1:
            raise at.fail("the mask of global pooling has no form in ONNX; leave its second top out.")
        return [at.node("GlobalMaxPool" if layer.method == METHODS.MAX else "GlobalAveragePool", at.bottom)]
    windows = Windows(at, layer.kernel, layer.stride, layer.pad, layer.ceil)
    if at.tops > 1:
        return windows.maxima_with_places(at.bottom)
    pool = {METHODS.MAX: windows.maxima, METHODS.AVE: windows.means, METHODS.STOCHASTIC: windows.expected}
    return [pool[layer.method](at.bottom)]


@translates("SPP", fixed_image=True)
def spatial_pyramid(at: Site) -> str:
    """1, 2 x 2, 4 x 4... windows, flattened and joined; their size follows from the image's, which is thus fixed."""
    layer = at.layer
    levels = []
    for level in at.plan.levels:
        windows = Windows(at, level.kernel, level.stride, level.pad, level.ceil)
        pooled = windows.maxima(at.bottom) if layer.takes_maximum else windows.means(at.bottom)
        levels.append(at.node("Flatten", pooled, axis=1))
    return at.node("Concat", *levels, axis=1)


class Windows:
    """Caffe's windows over N x C x H x W, as ONNX's pooling operators take them."""

    def __init__(self, at: Site, kernel: Pair, stride: Pair, pad: Pair, ceil: bool) -> None:
        self.at = at
        self.kernel, self.pad = kernel, pad
        after = [p + s - 1 if ceil else p for p, s in zip(pad, stride, strict=True)]
        if any(pad):
            after = [min(a, k - 1) for a, k in zip(after, kernel, strict=True)]
        self.after = after
        # A window may lie wholly beyond the image (stride above kernel). ONNX pools no such window, so the image grows.
        self.beyond = any(a >= k for a, k in zip(after, kernel, strict=True))
        self.common = {"kernel_shape": list(kernel), "strides": list(stride)}

    def maxima(self, value: str) -> str:
        """Return the maxima; -FLT_MAX for an empty window."""
        if self.beyond:
            return self.at.node("MaxPool", self._grown(value, LOWEST), **self.common)
        return self.at.node("MaxPool", value, pads=[*self.pad, *self.after], **self.common)

    def maxima_with_places(self, value: str) -> list[str]:
        """Return the maxima, and where they are: row * W + column."""
        if self.beyond:
            raise self.at.fail("a mask with a stride above the kernel has no form in ONNX; leave its second top out.")
        maxima, places = self.at.nodes("MaxPool", 2, value, pads=[*self.pad, *self.after], **self.common)
        plane = self.at.node("ReduceProd", self.at.extents(value, 2), keepdims=0)  # ONNX counts from the first item on
        return [maxima, self.at.node("Cast", self.at.node("Mod", places, plane), to=FLOAT)]

    def means(self, value: str) -> str:
        """Return the means: the padding counts as zeros, what lies beyond it counts as nothing."""
        at = self.at
        image = at.extents(value, 2)
        if self.beyond:
            mean = at.node("AveragePool", self._grown(value, 0), **self.common)
            counted = self._grown(self._ones(image), 0)
            share = at.node("AveragePool", counted, **self.common)  # of each window; least is for those beyond
            return at.node("Div", mean, at.node("Max", share, at.number(0.5 / np.prod(self.kernel))))
        if not any(self.pad):
            return at.node("AveragePool", value, pads=[0, 0, *self.after], **self.common)
        mean = at.node("AveragePool", value, pads=[*self.pad, *self.after], count_include_pad=1, **self.common)
        rest = [a - p for a, p in zip(self.after, self.pad, strict=True)]
        if not any(rest):
            return mean
        # Not a Pad and a pool that leaves out its own padding: ONNX Runtime would make one padding of both.
        counted = self._ones(at.node("Add", image, at.integers([2 * p for p in self.pad])))
        share = at.node("AveragePool", counted, pads=[0, 0, *rest], count_include_pad=1, **self.common)
        return at.node("Div", mean, share)

    def expected(self, value: str) -> str:
        """Return the sum of x^2 over the sum of x, in each window."""
        at = self.at
        grown = self._grown(value, 0)
        squares, sums = self._sums(at.node("Mul", grown, grown)), self._sums(grown)
        return at.node("Div", squares, at.node("Max", sums, at.number(float(np.finfo(np.float32).tiny))))

    def _sums(self, value: str) -> str:
        """Return each window's sum, of windows that lie inside."""
        means = self.at.node("AveragePool", value, **self.common)
        return self.at.node("Mul", means, self.at.number(float(np.prod(self.kernel))))

    def _ones(self, image: str) -> str:
        """Return one item of one channel, of the given height and width, that is 1 throughout."""
        return self.at.node("Expand", self.at.number(1), self.at.joined_extents(self.at.integers([1, 1]), image))

    def _grown(self, value: str, filling: float) -> str:
        """Return the image with the cells after it. Not by a Pad, which ONNX Runtime would take into the pooling."""
        at = self.at
        for axis, cells in enumerate(self.after, start=2):
            if cells:
                behind = [at.extents(value, axis + 1)] if axis == 2 else []
                shape = at.joined_extents(at.extents(value, 0, axis), at.integers([cells]), *behind)
                value = at.node("Concat", value, at.node("Expand", at.number(filling), shape), axis=axis)
        return value
