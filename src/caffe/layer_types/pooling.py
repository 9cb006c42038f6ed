"""Pooling and SPP: maxima, means or random draws of sliding windows (pooling_layer.cpp, spp_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import rng
from ..blob import Blob, describe
from ..kernels.pooling import (
    Pair,
    Windows,
    choose,
    max_pool,
    mean_pool,
    mean_pool_backward_into,
    mean_pool_into,
    put_back,
)
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Plan, Shape, TensorLayer

METHODS = caffe_pb2.PoolingParameter.PoolMethod


@dataclass(frozen=True)
class PoolingPlan(Plan):
    """The windows over the bottom's images."""

    windows: Windows


@register("Pooling")
class Pooling(TensorLayer):
    """N x C x H x W -> N x C x windows; with MAX a second top holds where the maxima are, as row * W + column."""

    tops = (1, 2)
    refuses_in_place = True

    def configure(self, shapes: list[Shape]) -> None:
        """Read pooling_param."""
        param = self.layer_param.pooling_param
        self.method = param.pool
        self.is_global = param.global_pooling
        if len(self.layer_param.top) > 1 and self.method != METHODS.MAX:
            raise self.fail("only MAX pooling has a second top, the mask.")
        self.kernel = (0, 0) if self.is_global else self._pair("kernel", "kernel_size", 0)
        self.stride = self._pair("stride", "stride", 1)
        self.pad = self._pair("pad", "pad", 0)
        if self.is_global:
            if any(param.HasField(f) for f in ("kernel_size", "kernel_h", "kernel_w")):
                raise self.fail(
                    "with global_pooling: true the kernel is the image's size; kernel_size cannot be given."
                )
            if self.stride != (1, 1) or self.pad != (0, 0):
                raise self.fail("with global_pooling: true only pad 0 and stride 1 make sense.")
        elif min(self.kernel) < 1:
            raise self.fail("pooling_param needs kernel_size of 1 or more, or kernel_h and kernel_w.")
        if min(self.stride) < 1:
            raise self.fail(f"stride must be 1 or more, not {min(self.stride)}.")
        if any(self.pad):
            if self.method == METHODS.STOCHASTIC:
                raise self.fail("padding is for MAX and AVE pooling only.")
            if any(p >= k for p, k in zip(self.pad, self.kernel, strict=True)):
                raise self.fail(f"pad {self.pad} must be below kernel {self.kernel} (height, width).")
        self.ceil = param.round_mode == param.CEIL
        self._places: Tensor | None = None  # where forward found the values

    def _pair(self, name: str, field: str, default: int) -> Pair:
        """Return a setting's (height, width), given once or as the _h and _w pair."""
        param = self.layer_param.pooling_param
        names = f"{name}_h", f"{name}_w"
        paired = [param.HasField(n) for n in names]
        if param.HasField(field) and any(paired):
            raise self.fail(f"give either {field} or {names[0]} and {names[1]}, not both.")
        if any(paired) and not all(paired) and name != "pad":
            raise self.fail(f"give both {names[0]} and {names[1]}.")
        if any(paired):
            return getattr(param, names[0]), getattr(param, names[1])
        value = getattr(param, field) if param.HasField(field) else default
        return value, value

    def plan(self, shapes: list[Shape]) -> PoolingPlan:
        """Plan N x C x windows, for each top."""
        if len(shapes[0]) != 4:
            raise self.fail(f"its bottom must have 4 axes, N x C x H x W, not {describe(shapes)}.")
        if 0 in shapes[0][1:]:
            raise self.fail(f"its bottom, {describe(shapes)}, has no channel, or no pixel, to pool.")
        image = shapes[0][2:]
        w = Windows.over(image, image if self.is_global else self.kernel, self.stride, self.pad, self.ceil)
        if min(w.count) < 1:
            raise self.fail(
                f"kernel {w.kernel} (height, width) with pad {w.pad} is too large for its bottom, {describe(shapes)}."
            )
        return PoolingPlan(((*shapes[0][:2], *w.count),) * max(1, len(self.layer_param.top)), w)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the pooled values, and keep where they come from if a gradient may be asked for."""
        w, x = self.planned.windows, bottom[0].data_tensor()
        if self.method == METHODS.AVE and w.native:
            with top[0].writing_data(like=x) as y:
                mean_pool_into(y, x, w)
        elif self.method == METHODS.AVE:
            super().forward(bottom, top)
        elif self.method == METHODS.STOCHASTIC:
            top[0].set_data(self._draw(w, x))
        else:
            way = choose(w, x, len(top) > 1, self.needs_backward)
            with top[0].writing_data(like=x) as y:
                self._places = way.forward(w, y, x, self._places)
        if len(top) > 1:
            assert self._places is not None
            top[1].set_data(self._places.to(x.dtype))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write the gradient: dy / divisor over a mean's window, or dy where the value came from."""
        if not propagate_down[0]:
            return
        w, x, dy = self.planned.windows, bottom[0].data_tensor(), top[0].diff_tensor()
        if self.method == METHODS.AVE and w.native:
            with bottom[0].writing_diff(like=dy) as dx:
                mean_pool_backward_into(dx, dy, x, w)
            return
        if self.method == METHODS.AVE:
            super().backward(top, propagate_down, bottom)
            return
        if self._places is not None:
            self.check_kept(self._places, top[0].dims)
        if self.method == METHODS.STOCHASTIC:
            if self._places is None:
                raise self.fail("STOCHASTIC pooling has a gradient in the TRAIN phase only, after a forward pass.")
            bottom[0].set_diff(put_back(dy, self._places, x))
            return
        way = choose(w, x, len(top) > 1, self.needs_backward)
        with bottom[0].writing_diff(like=x) as dx:
            way.backward(w, dx, dy, x, self._places)

    def compute(self, plan: PoolingPlan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the means."""
        return mean_pool(bottoms[0], plan.windows)

    def _draw(self, w: Windows, x: Tensor) -> Tensor:
        """Draw a value of each window with a probability that is its share of the sum, or in TEST expect it."""
        (height, width), (down, along), columns = w.kernel, w.stride, x.shape[3]
        cells = F.pad(x, w.frame).unfold(2, height, down).unfold(3, width, along).flatten(4)
        if self.phase == caffe_pb2.TEST:
            return cells.square().sum(-1) / cells.sum(-1).clamp(min=torch.finfo(x.dtype).tiny)
        sums = cells.cumsum(-1)
        drawn = torch.rand(sums.shape[:-1], device=x.device, generator=rng.generator(x.device))
        choice = (sums < (drawn * sums[..., -1]).unsqueeze(-1)).sum(-1).clamp(max=height * width - 1)
        first = (
            torch.arange(cells.shape[2], device=x.device)[:, None] * (down * columns)
            + torch.arange(cells.shape[3], device=x.device) * along
        )
        self._places = first + choice // width * columns + choice % width
        return cells.gather(-1, choice.unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class SPPPlan(Plan):
    """The windows of each level of the pyramid."""

    levels: tuple[Windows, ...]


@register("SPP")
class SPP(TensorLayer):
    """Spatial pyramid pooling (He et al. 2014): 1, 2 x 2, 4 x 4... windows over the image, flattened and joined."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read spp_param."""
        param = self.layer_param.spp_param
        self.height = param.pyramid_height
        if self.height < 1:
            raise self.fail("spp_param needs pyramid_height of 1 or more.")
        if param.pool == param.STOCHASTIC:
            raise self.fail("STOCHASTIC pooling is not supported here; use MAX or AVE.")
        self.takes_maximum = param.pool == param.MAX

    def plan(self, shapes: list[Shape]) -> SPPPlan:
        """Plan N x all windows of all channels."""
        if len(shapes[0]) != 4:
            raise self.fail(f"its bottom must have 4 axes, N x C x H x W, not {describe(shapes)}.")
        if 0 in shapes[0][1:]:
            raise self.fail(f"its bottom, {describe(shapes)}, has no channel, or no pixel, to pool.")
        number, channels, *image = shapes[0]
        levels = tuple(self._level((image[0], image[1]), 2**level) for level in range(self.height))
        return SPPPlan(((number, channels * sum(w.count[0] * w.count[1] for w in levels)),), levels)

    def _level(self, image: Pair, bins: int) -> Windows:
        """Return bins x bins windows side by side, with what they are too large by as padding."""
        kernel = -(-image[0] // bins), -(-image[1] // bins)
        pad = (kernel[0] * bins - image[0] + 1) // 2, (kernel[1] * bins - image[1] + 1) // 2
        if any(p >= k for p, k in zip(pad, kernel, strict=True)):
            raise self.fail(
                f"pyramid_height {self.height} asks for {bins} x {bins} windows, too many for an image of "
                f"{image[0]} x {image[1]}."
            )
        return Windows.over(image, kernel, kernel, pad)

    def compute(self, plan: SPPPlan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the pyramid, from the whole image to the finest level."""
        x = bottoms[0]
        pooled = [max_pool(x, w)[0] if self.takes_maximum else mean_pool(x, w) for w in plan.levels]
        return torch.cat([p.flatten(1) for p in pooled], 1)
