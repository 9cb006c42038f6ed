"""Pooling and SPP: maxima, means or random draws of sliding windows (pooling_layer.cpp, spp_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import rng
from ..blob import Blob, describe
from ..layer import Shape, TensorLayer, register
from ..proto import caffe_pb2
from .reuse import data_out, diff_out
from .windows import (
    Pair,
    Windows,
    max_pool,
    max_pool_2x2_backward_into,
    max_pool_into,
    mean_pool,
    put_back,
)

METHODS = caffe_pb2.PoolingParameter.PoolMethod
SEPARABLE = 4  # kernels up to this size are pooled row by row, then column by column


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

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return N x C x windows, for each top."""
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
        self.windows = w
        separable = w.native and not any(w.pad) and max(w.kernel) <= SEPARABLE
        self.without_places = separable and self.method == METHODS.MAX and len(self.layer_param.top) == 1
        halved = tuple(-(-size // 2) for size in w.image)
        self.halves = self.without_places and w.kernel == w.stride == (2, 2) and w.count == halved
        return [(*shapes[0][:2], *w.count)] * max(1, len(self.layer_param.top))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the pooled values, and keep where they come from if a gradient may be asked for."""
        x = bottom[0].data_tensor()
        self._pool(x, top[0])
        top[0].touch()
        if len(top) > 1:
            assert self._places is not None
            top[1].set_data(self._places.to(x.dtype))

    def _pool(self, x: Tensor, top: Blob) -> None:
        w = self.windows
        if self.method == METHODS.AVE:
            if w.native:
                torch.ops.aten.avg_pool2d.out(x, *self._arguments(), out=data_out(top, x))
            else:
                top.set_data(mean_pool(x, w))
        elif self.method == METHODS.STOCHASTIC:
            top.set_data(self._draw(x))
        elif self._from_values(x) or (self.without_places and not self.needs_backward and x.device.type == "cpu"):
            max_pool_into(data_out(top, x), x, w)
        elif w.native:
            out, places = data_out(top, x), self._places
            if places is None or places.shape != out.shape or places.device != out.device:
                places = self._places = torch.empty_like(out, dtype=torch.int64)
            torch.ops.aten.max_pool2d_with_indices.out(x, *self._arguments(), out=out, indices=places)
        else:
            values, self._places = max_pool(x, w)
            top.set_data(values)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write the gradient: dy / divisor over a mean's window, or dy where the value came from."""
        if not propagate_down[0]:
            return
        w, x, dy = self.windows, bottom[0].data_tensor(), top[0].diff_tensor()
        if self.method == METHODS.AVE:
            if w.native:
                out = diff_out(bottom[0], dy)
                torch.ops.aten.avg_pool2d_backward.grad_input(dy, x, *self._arguments(), grad_input=out)
                bottom[0].touch()
            else:
                super().backward(top, propagate_down, bottom)
            return
        if self._from_values(x):
            max_pool_2x2_backward_into(diff_out(bottom[0], x), dy.contiguous(), x)
            bottom[0].touch()
            return
        if self._places is None and self.method == METHODS.STOCHASTIC:
            raise self.fail("STOCHASTIC pooling has a gradient in the TRAIN phase only, after a forward pass.")
        if self._places is not None:
            self.check_kept(self._places, top[0].dims)
        places = max_pool(x, w)[1] if self._places is None else self._places
        if self.method == METHODS.MAX and w.native:
            torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
                dy, x, *self._arguments(), places, grad_input=diff_out(bottom[0], dy)
            )
            bottom[0].touch()
        else:
            bottom[0].set_diff(put_back(dy, places, x))

    def _from_values(self, x: Tensor) -> bool:
        """Tell whether both passes need the values alone, and not where the maxima are: half the time and memory."""
        return self.halves and x.device.type == "cpu" and x.is_contiguous()

    def compute(self, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the means."""
        return mean_pool(bottoms[0], self.windows)

    def _arguments(self) -> tuple[object, ...]:
        """Return the windows as torch's pooling operators take them."""
        w = self.windows
        if self.method == METHODS.MAX:
            return w.kernel, w.stride, w.pad, (1, 1), w.ceil
        return w.kernel, w.stride, w.pad, w.ceil, True, None

    def _draw(self, x: Tensor) -> Tensor:
        """Draw a value of each window with a probability that is its share of the sum, or in TEST expect it."""
        (height, width), (down, along), columns = self.windows.kernel, self.windows.stride, x.shape[3]
        cells = F.pad(x, self.windows.frame).unfold(2, height, down).unfold(3, width, along).flatten(4)
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

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return N x all windows of all channels."""
        if len(shapes[0]) != 4:
            raise self.fail(f"its bottom must have 4 axes, N x C x H x W, not {describe(shapes)}.")
        if 0 in shapes[0][1:]:
            raise self.fail(f"its bottom, {describe(shapes)}, has no channel, or no pixel, to pool.")
        number, channels, *image = shapes[0]
        self.levels = [self._level((image[0], image[1]), 2**level) for level in range(self.height)]
        return [(number, channels * sum(w.count[0] * w.count[1] for w in self.levels))]

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

    def compute(self, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the pyramid, from the whole image to the finest level."""
        x = bottoms[0]
        pooled = [max_pool(x, w)[0] if self.takes_maximum else mean_pool(x, w) for w in self.levels]
        return torch.cat([p.flatten(1) for p in pooled], 1)
