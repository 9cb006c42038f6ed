"""Convolution and Deconvolution, N-dimensional, with groups and dilation (base_conv_layer.cpp, conv_layer.cpp).

Weights are output channels x input channels / group x kernel; a Deconvolution's are input channels x output
channels / group x kernel. Output extents: convolution floor((in + 2 pad - extent) / stride) + 1; deconvolution
stride (in - 1) + extent - 2 pad; extent = dilation (kernel - 1) + 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import device
from ..allocator import make_room
from ..blob import Blob, describe
from ..layer import Backward, Gradients, Shape, TensorLayer, register
from ..proto import caffe_pb2
from . import onednn
from .reuse import data_out, diff_out

# The kernels torch has; more spatial axes than that are refused by name.
MAX_SPATIAL_AXES = 3


class _SlidingKernel(TensorLayer):
    """What both directions share: settings, shapes and the gradient."""

    bottoms = (1, None)
    tops = (1, None)
    transposed = False

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the settings, and make the parameters."""
        super().setup(bottom, top)
        if len(top) != len(bottom):
            raise self.fail(f"it has {len(bottom)} bottom(s) and {len(top)} top(s); each bottom needs a top.")

    def configure(self, shapes: list[Shape]) -> None:
        """Read convolution_param for bottoms N x C x spatial..., with C at `axis`."""
        param = self.layer_param.convolution_param
        axis = self.axis = self.axis_of(shapes[0], param.axis)
        spatial = len(shapes[0]) - axis - 1
        if not 1 <= spatial <= MAX_SPATIAL_AXES:
            raise self.fail(
                f"its bottom, {describe(shapes[:1])}, has {spatial} spatial axes after axis {axis}; "
                f"1 to {MAX_SPATIAL_AXES} can be convolved."
            )
        self.channels = shapes[0][axis]
        self.outputs = param.num_output
        self.groups = param.group
        self.bias = param.bias_term
        self.kernel = self._extents("kernel", param, spatial, None)
        self.stride = self._extents("stride", param, spatial, 1)
        self.pad = self._extents("pad", param, spatial, 0)
        self.dilation = self._extents("dilation", param, spatial, 1)
        if self.outputs < 1:
            raise self.fail("convolution_param needs num_output of 1 or more.")
        if self.groups < 1 or self.channels % self.groups or self.outputs % self.groups:
            raise self.fail(
                f"group {self.groups} must divide both its {self.channels} input channels and its num_output, "
                f"{self.outputs}."
            )
        self.weight_filler = param.weight_filler
        self.bias_filler = param.bias_filler
        self.no_padding = [0] * spatial
        # A transposed convolution is torch's convolution with the roles of input and output exchanged.
        self.arguments = (self.stride, self.pad, self.dilation, self.transposed, self.no_padding, self.groups)

    def _extents(
        self, name: str, param: caffe_pb2.ConvolutionParameter, spatial: int, default: int | None
    ) -> list[int]:
        """Return one setting an axis from `kernel_size: 3`, repeated values, or the _h and _w pair."""
        field = "kernel_size" if name == "kernel" else name
        values = list(getattr(param, field))
        pair = f"{name}_h", f"{name}_w"
        if name != "dilation" and (param.HasField(pair[0]) or param.HasField(pair[1])):
            if values:
                raise self.fail(f"give either {field} or {pair[0]} and {pair[1]}, not both.")
            if spatial != 2:
                raise self.fail(f"{pair[0]} and {pair[1]} are for 2 spatial axes; this bottom has {spatial}.")
            values = [getattr(param, pair[0]), getattr(param, pair[1])]
        if not values:
            if default is None:
                raise self.fail("convolution_param needs kernel_size, or kernel_h and kernel_w.")
            values = [default]
        if len(values) not in (1, spatial):
            raise self.fail(f"{field} is given {len(values)} times; once, or once for each of {spatial} spatial axes.")
        if name != "pad" and min(values) < 1:
            raise self.fail(f"{field} must be 1 or more, not {min(values)}.")
        return values * spatial if len(values) == 1 else values

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return the weight's shape and, with a bias, num_output."""
        first, second = (self.channels, self.outputs) if self.transposed else (self.outputs, self.channels)
        weight = (first, second // self.groups, *self.kernel)
        params: list[tuple[Shape, caffe_pb2.FillerParameter | None]] = [(weight, self.weight_filler)]
        if self.bias:
            params.append(((self.outputs,), self.bias_filler))
        return params

    def output_extent(self, size: int, axis: int) -> int:
        """Return the output's extent along a spatial axis, for an input of `size`."""
        raise NotImplementedError

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return N x num_output x output extents, for each bottom."""
        if any(s != shapes[0] for s in shapes):
            raise self.fail(f"all bottoms must have one shape, not {describe(shapes)}.")
        shape = shapes[0]
        if len(shape) <= self.axis or shape[self.axis] != self.channels:
            raise self.fail(
                f"its weights are for {self.channels} input channels at axis {self.axis}; "
                f"its bottom is {describe([shape])}."
            )
        extents = self.output_extents(shape)
        if min(extents) < 1:
            raise self.fail(
                f"kernel {self.kernel}, pad {self.pad}, stride {self.stride} and dilation {self.dilation} leave "
                f"nothing of its bottom, {describe([shape])}: the output would be {describe([extents])}."
            )
        return [(*shape[: self.axis], self.outputs, *extents)] * len(shapes)

    def output_extents(self, shape: Shape) -> Shape:
        """Return the output's spatial extents. Raises NetError for a bottom that the kernel cannot move over."""
        sizes = shape[self.axis + 1 :]
        if len(sizes) != len(self.kernel):
            raise self.fail(f"its kernel has {len(self.kernel)} spatial axes; its bottom is {describe([shape])}.")
        if 0 in sizes:
            raise self.fail(f"its bottom, {describe([shape])}, has no place where a kernel could be.")
        return tuple(self.output_extent(size, i) for i, size in enumerate(sizes))

    def _extent(self, axis: int) -> int:
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def _as_batch(self, x: Tensor) -> Tensor:
        """View the axes before the channels as one batch axis."""
        return x if self.axis == 1 else x.reshape(math.prod(x.shape[: self.axis]), *x.shape[self.axis :])

    def _as_shape(self, x: Tensor, like: Tensor) -> Tensor:
        """Undo _as_batch: give the result the leading axes of `like`."""
        return x if self.axis == 1 else x.reshape(*like.shape[: self.axis], *x.shape[1:])

    def compute(self, bottoms: list[Tensor], params: list[Tensor]) -> Sequence[Tensor]:
        """Convolve each bottom with the one weight."""
        bias = params[1] if self.bias else None
        return [self._as_shape(self._convolve(self._as_batch(x), params[0], bias), x) for x in bottoms]

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.convolution(x, weight, bias, *self.arguments)

    def gradient(self, b: Backward) -> Gradients:
        """Return the gradients that torch's own convolution gives, summed over the bottoms for the parameters."""
        want_weight, want_bias = b.want_params[0], self.bias and b.want_params[1]
        bottoms: list[Tensor | None] = []
        weight: Tensor | None = None
        bias: Tensor | None = None
        for x, dy, wanted in zip(b.bottoms, b.top_diffs, b.want_bottoms, strict=True):
            dx, dw, db = self._backward(
                self._as_batch(dy), self._as_batch(x), b.params[0], (wanted, want_weight, want_bias)
            )
            bottoms.append(None if dx is None else self._as_shape(dx, x))
            if dw is not None:
                weight = dw if weight is None else weight.add_(dw)
            if db is not None:
                bias = db if bias is None else bias.add_(db)
        return Gradients(bottoms, [weight, bias])

    def _backward(
        self, dy: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        sizes = [self.outputs] if self.bias else None
        dx, dw, db = torch.ops.aten.convolution_backward(dy, x, weight, sizes, *self.arguments, list(wanted))
        return dx, dw, db


# A convolution on a CPU takes temporary copies of its images, in a layout of its own. A batch well larger than
# PIECE_BYTES goes piece by piece, some images or a band of one image's rows, each of about that size, so that the
# copies stay small (and in the cache).
PIECE_BYTES = 4 << 20
MIN_BAND_ROWS = 8

# From how many weights on, and up to how many output positions, a convolution runs as one matrix product: kernels of
# one value, which need no copies of what each position sees, and larger ones.
MATRIX_OF_ONE = 1 << 18, 1 << 12
MATRIX = 1 << 24, 1 << 9
# Below how many input channels oneDNN's gradient for the input is slower than a convolution with the kernel turned.
FEW_CHANNELS = 16


@register("Convolution")
class Convolution(_SlidingKernel):
    """Correlate the bottom with a bank of kernels (conv_layer.cpp).

    On a CPU a large kernel with few positions (a classifier's fc6 and fc7, made convolutions) runs as a matrix
    product: torch's convolution would rearrange all its weights in every pass, which takes longer than using them.

    Padding beyond what a kernel reaches makes a frame of outputs that see nothing of the image: they are the bias, and
    only the core inside the frame is convolved.
    """

    images = bands = 0  # images a piece, and bands an image, where the batch goes piece by piece
    as_matrix = turned = framed = False

    def configure(self, shapes: list[Shape]) -> None:
        """Read convolution_param, and see how far the padding goes beyond the kernel's reach."""
        super().configure(shapes)
        self.frame = [0] * len(self.kernel)
        if len(self.kernel) == 2 and self.axis == 1 and self.stride == [1, 1]:
            self.frame = [max(0, p + 1 - self._extent(i)) for i, p in enumerate(self.pad)]
        self.framed = any(self.frame)
        self.core_pad = [p - f for p, f in zip(self.pad, self.frame, strict=True)]
        self.arguments = (self.stride, self.core_pad, *self.arguments[2:])

    def output_extent(self, size: int, axis: int) -> int:
        """Return floor((size + 2 pad - extent) / stride) + 1."""
        return (size + 2 * self.pad[axis] - self._extent(axis)) // self.stride[axis] + 1

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return N x num_output x output extents, for each bottom."""
        tops = super().top_shapes(shapes)
        positions = math.prod(tops[0]) // self.outputs
        weights = self.outputs * self.channels * math.prod(self.kernel)
        self.images = self.bands = 0
        if len(self.kernel) == 2 and self.axis == 1:
            image = 4 * max(math.prod(shapes[0][1:]), math.prod(tops[0][1:]))
            if image * shapes[0][0] > 4 * PIECE_BYTES:
                self.images = max(1, PIECE_BYTES // image)
                self.bands = max(1, min(image // PIECE_BYTES, tops[0][-2] // MIN_BAND_ROWS))
        least_weights, most_positions = MATRIX_OF_ONE if max(self.kernel) == 1 else MATRIX
        self.as_matrix = (
            onednn.AVAILABLE
            and len(self.kernel) == 2
            and self.groups == 1
            and weights >= least_weights
            and 0 < positions <= most_positions
        )
        self.turned = (
            len(self.kernel) == 2
            and self.channels < FEW_CHANNELS
            and self.groups == 1
            and self.stride == self.dilation == [1, 1]
            and all(p < k for p, k in zip(self.core_pad, self.kernel, strict=True))
        )
        return tops

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self.as_matrix or x.device.type != "cpu":
            return super()._convolve(x, weight, bias)
        height, width = (self.output_extent(size, i) - 2 * self.frame[i] for i, size in enumerate(x.shape[2:]))
        y = onednn.matrix_product(self._windows(x), weight.view(self.outputs, -1), bias)
        return y.view(x.shape[0], height, width, self.outputs).permute(0, 3, 1, 2).contiguous()

    def _backward(
        self, dy: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        if x.device.type != "cpu":
            return super()._backward(dy, x, weight, wanted)
        if self.turned and wanted[0]:
            _, dw, db = super()._backward(dy, x, weight, (False, *wanted[1:]))
            room = [k - 1 - p for k, p in zip(self.kernel, self.core_pad, strict=True)]
            return F.conv2d(dy, weight.flip(2, 3).transpose(0, 1), padding=room), dw, db
        if not self.as_matrix:
            return super()._backward(dy, x, weight, wanted)
        dx = dw = db = None
        dy_rows = dy.permute(0, 2, 3, 1).reshape(-1, self.outputs)  # positions x outputs
        if wanted[0]:
            columns = onednn.matrix_product(dy_rows, weight.view(self.outputs, -1).t())
            columns = columns.view(x.shape[0], -1, columns.shape[1]).transpose(1, 2)
            dx = torch.ops.aten.col2im(columns, x.shape[2:], self.kernel, self.dilation, self.core_pad, self.stride)
        if wanted[1]:
            make_room(weight.nbytes)
            # The second operand is a transposed view, which oneDNN reads as it is; any other it would rearrange.
            dw = onednn.matrix_product(dy_rows.t().contiguous(), self._windows(x).t()).view(weight.shape)
        if wanted[2]:
            db = dy_rows.sum(0)
        return dx, dw, db

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the tops; large batches piece by piece, over the memory that the tops have."""
        if not (self.framed or self._by_pieces):
            super().forward(bottom, top)
            return
        weight = self.blobs[0].data_tensor()
        bias = self.blobs[1].data_tensor() if self.bias else None
        for x, y in zip(bottom, top, strict=True):
            out = data_out(y, weight)
            core = self._core(out)
            if self.framed:
                self._fill_frame(out, bias)
            if not self._by_pieces:
                core.copy_(self._convolve(x.data_tensor(), weight, bias))
            else:
                for items, rows in self._pieces(core):
                    seen = _rows(x.data_tensor()[items], self._seen(rows))
                    core[items, :, rows] = torch.convolution(seen, weight, bias, *self._piece_arguments)
            y.touch()

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write the bottoms' gradients and add to the parameters'; large batches piece by piece."""
        if not (self.framed or self._by_pieces):
            super().backward(top, propagate_down, bottom)
            return
        want_weight, want_bias = self.param_propagate_down[0], self.bias and self.param_propagate_down[1]
        for y, x, wanted in zip(top, bottom, propagate_down, strict=True):
            dy = y.diff_tensor()
            if want_bias and self.framed:
                self.blobs[1].add_diff(dy.sum((0, 2, 3)))
            asked = (wanted, want_weight, want_bias and not self.framed)
            if not any(asked):
                continue
            if self._by_pieces:
                self._backward_pieces(self._core(dy), x, asked)
                continue
            dx, dw, db = self._backward(self._core(dy), x.data_tensor(), self.blobs[0].data_tensor(), asked)
            for param, grad in zip(self.blobs, (dw, db), strict=False):
                if grad is not None:
                    param.add_diff(grad)
            if dx is not None:
                x.set_diff(dx.contiguous())

    def _core(self, y: Tensor) -> Tensor:
        """Return the part of the output that sees something of the image."""
        down, across = self.frame
        return y[:, :, down : y.shape[2] - down, across : y.shape[3] - across]

    def _fill_frame(self, y: Tensor, bias: Tensor | None) -> None:
        """Write the bias, or zero, to the part of the output that sees only padding."""
        value = y.new_zeros(()) if bias is None else bias.view(-1, 1, 1)
        (down, across), height, width = self.frame, y.shape[2], y.shape[3]
        y[:, :, :down] = value
        y[:, :, height - down :] = value
        y[:, :, down : height - down, :across] = value
        y[:, :, down : height - down, width - across :] = value

    def _backward_pieces(self, dy: Tensor, bottom: Blob, asked: tuple[bool, bool, bool]) -> None:
        wanted, want_weight, want_bias = asked
        x, weight = bottom.data_tensor(), self.blobs[0].data_tensor()
        dx = diff_out(bottom, weight).zero_() if wanted else None
        for items, rows in self._pieces(dy):
            seen = self._seen(rows)
            dx_rows, dw, db = torch.ops.aten.convolution_backward(
                dy[items, :, rows], _rows(x[items], seen), weight, [self.outputs], *self._piece_arguments,
                list(asked),
            )  # fmt: skip
            inside = range(max(seen.start, 0), min(seen.stop, x.shape[2]))
            if dx is not None and inside:  # neighbouring bands see some rows in common
                dx[items, :, inside.start : inside.stop] += dx_rows[:, :, inside.start - seen.start :][
                    :, :, : len(inside)
                ]
            if want_weight:
                self.blobs[0].add_diff(dw)
            if want_bias:
                self.blobs[1].add_diff(db)
        bottom.touch()

    @property
    def _by_pieces(self) -> bool:
        return self.bands > 0 and not self.as_matrix and device.current().type == "cpu"

    @property
    def _piece_arguments(self) -> tuple[Any, ...]:
        """The convolution's arguments for images that have their rows of padding already."""
        return self.stride, [0, self.core_pad[1]], self.dilation, False, self.no_padding, self.groups

    def _pieces(self, output: Tensor) -> list[tuple[slice, slice]]:
        """Cut the output into pieces: some images each, or some rows of one."""
        number, _, height, _ = output.shape
        rows = -(-height // self.bands)
        return [
            (slice(item, min(item + self.images, number)), slice(row, min(row + rows, height)))
            for item in range(0, number, self.images)
            for row in range(0, height, rows)
        ]

    def _seen(self, rows: slice) -> range:
        """Return the input rows that some output rows are made of; those outside the image are padding."""
        first = rows.start * self.stride[0] - self.core_pad[0]
        return range(first, (rows.stop - 1) * self.stride[0] - self.core_pad[0] + self._extent(0))

    def _windows(self, x: Tensor) -> Tensor:
        """Return what the kernel sees at each position: positions x (channels * kernel)."""
        columns = torch.ops.aten.im2col(x, self.kernel, self.dilation, self.core_pad, self.stride)
        return columns.transpose(1, 2).reshape(-1, columns.shape[1])


def _rows(x: Tensor, rows: range) -> Tensor:
    """Return some rows of N x C x H x W, with zeros for those outside."""
    height = x.shape[2]
    above = min(0, rows.stop) - min(0, rows.start)
    below = max(height, rows.stop) - max(height, rows.start)
    inside = x[:, :, max(0, rows.start) : max(0, min(rows.stop, height))]
    return F.pad(inside, (0, 0, above, below)) if above or below else inside.contiguous()


@register("Deconvolution")
class Deconvolution(_SlidingKernel):
    """Spread each input value over the output by a kernel: a convolution's transpose (deconv_layer.cpp).

    Interpolation is often written without groups: a dense weight of which only the diagonal, each channel onto
    itself, is not zero. Such a weight runs channel by channel, a tenth of the work; so does its gradient for the
    bottom. The gradient for the weight itself is dense always.
    """

    transposed = True

    def configure(self, shapes: list[Shape]) -> None:
        """Read convolution_param."""
        super().configure(shapes)
        self._found: tuple[int, Tensor | None] | None = None  # the weight's version, and its diagonal if that is all
        self.per_channel = (*self.arguments[:5], self.channels)

    def output_extent(self, size: int, axis: int) -> int:
        """Return stride (size - 1) + extent - 2 pad."""
        return self.stride[axis] * (size - 1) + self._extent(axis) - 2 * self.pad[axis]

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        diagonal = self._diagonal(weight)
        if diagonal is not None:
            return torch.convolution(x, diagonal, bias, *self.per_channel)
        return super()._convolve(x, weight, bias)

    def _backward(
        self, dy: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        diagonal = None if wanted[1] else self._diagonal(weight)
        if diagonal is None:
            return super()._backward(dy, x, weight, wanted)
        sizes = [self.outputs] if self.bias else None
        dx, _, db = torch.ops.aten.convolution_backward(dy, x, diagonal, sizes, *self.per_channel, list(wanted))
        return dx, None, db

    def _diagonal(self, weight: Tensor) -> Tensor | None:
        """Return C x 1 x kernel if the weight is C x C x kernel and zero off the diagonal, else None."""
        if self.groups != 1 or self.channels != self.outputs or self.channels == 1:
            return None
        version = self.blobs[0].data_version
        if self._found is None or version is None or self._found[0] != version:
            each = torch.arange(self.channels, device=weight.device)
            diagonal = weight[each, each].unsqueeze(1)
            alone = int(torch.count_nonzero(weight)) == int(torch.count_nonzero(diagonal))
            found = diagonal if alone else None
            if version is None:  # a program holds a view, and may write through it at any moment
                return found
            self._found = (version, found)
        return self._found[1]
