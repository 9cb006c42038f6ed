"""Ways to compute a convolution, forward and backward, and the choice among them.

All take images as N x C x spatial axes. `x` is the input, `y` the output, `dx` and `dy` their gradients, `weight` and
`bias` the parameters, and `wanted` says which of the gradients of x, weight and bias are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..allocator import make_room
from . import matrix_product, rewrites
from .sliding import Extents, Sliding

Wanted = tuple[bool, bool, bool]
Three = tuple[Tensor | None, Tensor | None, Tensor | None]  # the gradients of x, weight and bias; None: not wanted
Add = Callable[[Tensor], None]  # adds to a parameter's gradient
Forward = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # of x, weight and bias
Backward = Callable[[Tensor, Tensor, Tensor, Wanted], Three]  # of dy, x and weight

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


class ConvolutionShapes(Protocol):
    """What `choose` reads of a convolution's plan."""

    @property
    def sliding(self) -> Sliding:
        """How the kernel moves."""

    @property
    def images(self) -> Extents:
        """The input as N x C x spatial axes."""

    @property
    def results(self) -> Extents:
        """The output as N x C x spatial axes."""


@dataclass(frozen=True)
class Way:
    """A way to compute one convolution.

    forward(x, weight, bias) returns y, and backward(dy, x, weight, wanted) the three gradients. A way that writes over
    memory that is there has forward_into(y, x, weight, bias) and backward_into(dx, dy, x, weight, wanted, add) in
    their place; dx is None where it is not wanted, and add holds what adds to the weight's and the bias's gradient.
    """

    name: str
    forward: Forward
    backward: Backward
    forward_into: Callable[[Tensor, Tensor, Tensor, Tensor | None], None] | None = None
    backward_into: Callable[[Tensor | None, Tensor, Tensor, Tensor, Wanted, Sequence[Add]], None] | None = None


def choose(plan: ConvolutionShapes, where: torch.device, diagonal: rewrites.Diagonal) -> Way:
    """Return the way to compute a convolution of these shapes on a device; `diagonal` looks for its weight's."""
    if plan.sliding.transposed:
        given = plan.sliding, rewrites.per_channel(plan.sliding), diagonal
        return Way("per channel", partial(per_channel, *given), partial(per_channel_backward, *given))
    core, frame = rewrites.without_frame(plan.sliding)
    way = _of_core(core, plan, where)
    return _framed(way, frame, plan.sliding) if any(frame) else way


def _of_core(sliding: Sliding, plan: ConvolutionShapes, where: torch.device) -> Way:
    way = Way("direct", partial(direct, sliding), partial(direct_backward, sliding))
    if where.type != "cpu" or len(sliding.kernel) != 2:
        return way
    positions = math.prod(plan.results) // sliding.outputs
    least_weights, most_positions = MATRIX_OF_ONE if max(sliding.kernel) == 1 else MATRIX
    if (
        matrix_product.AVAILABLE
        and sliding.groups == 1
        and math.prod(sliding.weight_shape) >= least_weights
        and 0 < positions <= most_positions
    ):
        return Way("matrix", partial(as_matrix, sliding), partial(as_matrix_backward, sliding))
    pieces = Pieces.of(plan)
    if pieces is not None:
        return replace(
            way,
            name="pieces",
            forward_into=partial(in_pieces, sliding, pieces),
            backward_into=partial(in_pieces_backward, sliding, pieces),
        )
    narrow = all(p < k for p, k in zip(sliding.pad, sliding.kernel, strict=True))
    plain = sliding.groups == 1 and sliding.stride == sliding.dilation == (1, 1)
    if sliding.channels < FEW_CHANNELS and plain and narrow:
        return replace(way, name="turned", backward=partial(turned_backward, sliding))
    return way


# Directly: torch's own


def direct(sliding: Sliding, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return y."""
    return torch.convolution(x, weight, bias, *sliding.arguments)


def direct_backward(sliding: Sliding, dy: Tensor, x: Tensor, weight: Tensor, wanted: Wanted) -> Three:
    """Return the gradients."""
    sizes = [sliding.outputs] if wanted[2] else None
    dx, dw, db = torch.ops.aten.convolution_backward(dy, x, weight, sizes, *sliding.arguments, list(wanted))
    # oneDNN also gives gradients that nobody asked for.
    return dx if wanted[0] else None, dw if wanted[1] else None, db if wanted[2] else None


# Per channel: where the weight is its diagonal alone (rewrites.Diagonal), else directly


def per_channel(
    sliding: Sliding, each: Sliding, diagonal: rewrites.Diagonal, x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Return y."""
    alone = diagonal.of(weight)
    if alone is None:
        return direct(sliding, x, weight, bias)
    return direct(each, x, alone, bias)


def per_channel_backward(
    sliding: Sliding, each: Sliding, diagonal: rewrites.Diagonal, dy: Tensor, x: Tensor, weight: Tensor, wanted: Wanted
) -> Three:
    """Return the gradients; the weight's is dense always."""
    alone = None if wanted[1] else diagonal.of(weight)
    if alone is None:
        return direct_backward(sliding, dy, x, weight, wanted)
    return direct_backward(each, dy, x, alone, wanted)


# Turned: the input's gradient as a convolution of the output's with the kernel turned around


def turned_backward(sliding: Sliding, dy: Tensor, x: Tensor, weight: Tensor, wanted: Wanted) -> Three:
    """Return the gradients, for a stride and dilation of 1 and padding narrower than the kernel."""
    if not wanted[0]:
        return direct_backward(sliding, dy, x, weight, wanted)
    _, dw, db = direct_backward(sliding, dy, x, weight, (False, *wanted[1:]))
    room = [k - 1 - p for k, p in zip(sliding.kernel, sliding.pad, strict=True)]
    return F.conv2d(dy, weight.flip(2, 3).transpose(0, 1), padding=room), dw, db


# As one matrix product: torch's convolution would rearrange all weights of a classifier's fc6 and fc7, made
# convolutions, in every pass, which takes longer than using them


def as_matrix(sliding: Sliding, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return y, N x C x H x W."""
    height, width = (sliding.output_extent(size, i) for i, size in enumerate(x.shape[2:]))
    y = matrix_product.matrix_product(_columns(sliding, x), weight.view(sliding.outputs, -1), bias)
    return y.view(x.shape[0], height, width, sliding.outputs).permute(0, 3, 1, 2).contiguous()


def as_matrix_backward(sliding: Sliding, dy: Tensor, x: Tensor, weight: Tensor, wanted: Wanted) -> Three:
    """Return the gradients."""
    dx = dw = db = None
    dy_rows = dy.permute(0, 2, 3, 1).reshape(-1, sliding.outputs)  # positions x outputs
    if wanted[0]:
        columns = matrix_product.matrix_product(dy_rows, weight.view(sliding.outputs, -1).t())
        columns = columns.view(x.shape[0], -1, columns.shape[1]).transpose(1, 2)
        dx = torch.ops.aten.col2im(columns, x.shape[2:], sliding.kernel, sliding.dilation, sliding.pad, sliding.stride)
    if wanted[1]:
        make_room(weight.nbytes)
        # The second operand is a transposed view, which oneDNN reads as it is; any other it would rearrange.
        dw = matrix_product.matrix_product(dy_rows.t().contiguous(), _columns(sliding, x).t()).view(weight.shape)
    if wanted[2]:
        db = dy_rows.sum(0)
    return dx, dw, db


def _columns(sliding: Sliding, x: Tensor) -> Tensor:
    """Return what the kernel sees at each position: positions x (channels * kernel)."""
    columns = torch.ops.aten.im2col(x, sliding.kernel, sliding.dilation, sliding.pad, sliding.stride)
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])


# Piece by piece: some images of the batch, or some rows of one


@dataclass(frozen=True)
class Pieces:
    """How a batch is cut: into groups of `images` images, and each image into `bands` bands of rows."""

    images: int
    bands: int

    @classmethod
    def of(cls, plan: ConvolutionShapes) -> Pieces | None:
        """Return how to cut a batch, or None for one that is small enough whole."""
        image = 4 * max(math.prod(plan.images[1:]), math.prod(plan.results[1:]))
        if image * plan.images[0] <= 4 * PIECE_BYTES:
            return None
        bands = min(image // PIECE_BYTES, plan.results[-2] // MIN_BAND_ROWS)
        return cls(max(1, PIECE_BYTES // image), max(1, bands))

    def cut(self, y: Tensor) -> list[tuple[slice, slice]]:
        """Return the pieces of an output: its images, and its rows."""
        number, _, height, _ = y.shape
        rows = -(-height // self.bands)
        return [
            (slice(item, min(item + self.images, number)), slice(row, min(row + rows, height)))
            for item in range(0, number, self.images)
            for row in range(0, height, rows)
        ]


def in_pieces(sliding: Sliding, pieces: Pieces, y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Write y."""
    arguments = _of_padded_rows(sliding)
    for items, rows in pieces.cut(y):
        seen = _rows(x[items], _seen(sliding, rows))
        y[items, :, rows] = torch.convolution(seen, weight, bias, *arguments)


def in_pieces_backward(
    sliding: Sliding,
    pieces: Pieces,
    dx: Tensor | None,
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    wanted: Wanted,
    add: Sequence[Add],
) -> None:
    """Write dx, and add to the parameters' gradients."""
    arguments = _of_padded_rows(sliding)
    if dx is not None:
        dx.zero_()
    for items, rows in pieces.cut(dy):
        seen = _seen(sliding, rows)
        dx_rows, dw, db = torch.ops.aten.convolution_backward(
            dy[items, :, rows], _rows(x[items], seen), weight, [sliding.outputs], *arguments, list(wanted)
        )
        inside = range(max(seen.start, 0), min(seen.stop, x.shape[2]))
        if dx is not None and inside:  # neighbouring bands see some rows in common
            part = dx_rows[:, :, inside.start - seen.start :][:, :, : len(inside)]
            dx[items, :, inside.start : inside.stop] += part
        if wanted[1]:
            add[0](dw)
        if wanted[2]:
            add[1](db)


def _of_padded_rows(sliding: Sliding) -> tuple[Any, ...]:
    """Return the convolution's arguments for images that have their rows of padding already."""
    return replace(sliding, pad=(0, sliding.pad[1])).arguments


def _seen(sliding: Sliding, rows: slice) -> range:
    """Return the input rows that some output rows are made of; those outside the image are padding."""
    first = rows.start * sliding.stride[0] - sliding.pad[0]
    return range(first, (rows.stop - 1) * sliding.stride[0] - sliding.pad[0] + sliding.reach(0))


def _rows(x: Tensor, rows: range) -> Tensor:
    """Return some rows of N x C x H x W, with zeros for those outside."""
    height = x.shape[2]
    above = min(0, rows.stop) - min(0, rows.start)
    below = max(height, rows.stop) - max(height, rows.start)
    inside = x[:, :, max(0, rows.start) : max(0, min(rows.stop, height))]
    return F.pad(inside, (0, 0, above, below)) if above or below else inside.contiguous()


# Inside a frame of outputs that see padding alone (rewrites.without_frame)


def _framed(way: Way, frame: Extents, whole: Sliding) -> Way:
    """Return the way that fills the frame, and computes the core as `way` does."""
    return Way(
        f"framed {way.name}",
        partial(direct, whole),
        partial(framed_backward, way, frame),
        partial(framed, way, frame),
        None if way.backward_into is None else partial(framed_backward_into, way, frame),
    )


def framed(way: Way, frame: Extents, y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Write y: the bias, or zero, to the frame, and the core."""
    value = y.new_zeros(()) if bias is None else bias.view(-1, 1, 1)
    (down, across), height, width = frame, y.shape[2], y.shape[3]
    y[:, :, :down] = value
    y[:, :, height - down :] = value
    y[:, :, down : height - down, :across] = value
    y[:, :, down : height - down, width - across :] = value
    core = _core(frame, y)
    if way.forward_into is None:
        core.copy_(way.forward(x, weight, bias))
    else:
        way.forward_into(core, x, weight, bias)


def framed_backward(way: Way, frame: Extents, dy: Tensor, x: Tensor, weight: Tensor, wanted: Wanted) -> Three:
    """Return the gradients; all that the frame gives is the bias's."""
    db = dy.sum((0, 2, 3)) if wanted[2] else None
    if not any(wanted[:2]):
        return None, None, db
    dx, dw, _ = way.backward(_core(frame, dy), x, weight, (*wanted[:2], False))
    return None if dx is None else dx.contiguous(), dw, db


def framed_backward_into(
    way: Way,
    frame: Extents,
    dx: Tensor | None,
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    wanted: Wanted,
    add: Sequence[Add],
) -> None:
    """Write dx, and add to the parameters' gradients."""
    assert way.backward_into is not None
    if wanted[2]:
        add[1](dy.sum((0, 2, 3)))
    if any(wanted[:2]):
        way.backward_into(dx, _core(frame, dy), x, weight, (*wanted[:2], False), add)


def _core(frame: Extents, y: Tensor) -> Tensor:
    """Return the part of an output that sees something of the image."""
    down, across = frame
    return y[:, :, down : y.shape[2] - down, across : y.shape[3] - across]
