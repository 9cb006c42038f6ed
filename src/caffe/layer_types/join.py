"""Layers that put blobs together along an axis or take them apart: Concat, Slice, Crop, Tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..blob import Blob, describe
from ..layer import Shape, TensorLayer, register
from ..proto import caffe_pb2
from .reuse import data_out, diff_out


def _only(blobs: Sequence[Blob]) -> bool:
    return len(blobs) == 1


class _AlongAxis(TensorLayer):
    """What Concat and Slice share: an axis, given as `axis` or in old nets as an unsigned number."""

    def _given_axis(self, param: caffe_pb2.ConcatParameter | caffe_pb2.SliceParameter, legacy_name: str) -> int:
        legacy = param.HasField(legacy_name)
        if legacy and param.HasField("axis"):
            raise self.fail(f"give either axis or {legacy_name}, not both.")
        return int(getattr(param, legacy_name)) if legacy else param.axis

    def _share(self, one: Blob, other: Blob) -> None:
        """Let a join of one blob be that blob, as Caffe does."""
        one.share_data(other)
        one.share_diff(other)


@register("Concat")
class Concat(_AlongAxis):
    """The bottoms one after the other along an axis (concat_layer.cpp)."""

    bottoms = (1, None)

    def configure(self, shapes: list[Shape]) -> None:
        """Read concat_param."""
        self.given_axis = self._given_axis(self.layer_param.concat_param, "concat_dim")

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return the joined shape; all other axes must agree."""
        axis = self.axis = self.axis_of(shapes[0], self.given_axis)
        rest = [(*s[:axis], *s[axis + 1 :]) for s in shapes]
        if any(len(s) != len(shapes[0]) or r != rest[0] for s, r in zip(shapes, rest, strict=True)):
            raise self.fail(f"all bottoms must have one shape but for axis {axis}, not {describe(shapes)}.")
        return [(*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the top."""
        super().reshape(bottom, top)
        if _only(bottom):
            self._share(top[0], bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the bottoms into the top."""
        if not _only(bottom):
            parts = [b.data_tensor() for b in bottom]
            torch.cat(parts, self.axis, out=data_out(top[0], parts[0]))
            top[0].touch()

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Copy each bottom's part of the top's diff."""
        if _only(bottom):
            return
        dy = top[0].diff_tensor()
        start = 0
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            size = blob.dims[self.axis]
            if wanted:
                diff_out(blob, dy).copy_(dy.narrow(self.axis, start, size))
                blob.touch()
            start += size


@register("Slice")
class Slice(_AlongAxis):
    """The bottom cut along an axis, at slice_point or in equal parts (slice_layer.cpp)."""

    tops = (1, None)

    def configure(self, shapes: list[Shape]) -> None:
        """Read slice_param."""
        param = self.layer_param.slice_param
        self.given_axis = self._given_axis(param, "slice_dim")
        self.points = list(param.slice_point)
        self.parts = len(self.layer_param.top)
        if self.points and len(self.points) != self.parts - 1:
            raise self.fail(f"{self.parts} tops need {self.parts - 1} slice_point, not {len(self.points)}.")

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return the parts' shapes."""
        shape = shapes[0]
        axis = self.axis = self.axis_of(shape, self.given_axis)
        size = shape[axis]
        if self.points:
            edges = [0, *self.points, size]
            self.sizes = [end - start for start, end in pairwise(edges)]
            if min(self.sizes) <= 0:
                raise self.fail(
                    f"slice_point {self.points} must rise and stay within 1 to {size - 1}: its bottom, "
                    f"{describe(shapes)}, has {size} along axis {axis}."
                )
        elif size % self.parts:
            raise self.fail(
                f"its bottom, {describe(shapes)}, cannot be cut into {self.parts} equal parts along axis {axis}; "
                "give slice_point."
            )
        else:
            self.sizes = [size // self.parts] * self.parts
        return [(*shape[:axis], part, *shape[axis + 1 :]) for part in self.sizes]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops."""
        super().reshape(bottom, top)
        if _only(top):
            self._share(top[0], bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy each part."""
        if _only(top):
            return
        x = bottom[0].data_tensor()
        for blob, part in zip(top, x.split(self.sizes, self.axis), strict=True):
            data_out(blob, x).copy_(part)
            blob.touch()

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Put the parts' diffs together."""
        if not propagate_down[0] or _only(top):
            return
        diffs = [t.diff_tensor() for t in top]
        torch.cat(diffs, self.axis, out=diff_out(bottom[0], diffs[0]))
        bottom[0].touch()


@register("Crop")
class Crop(TensorLayer):
    """Cut the first bottom to the second's extents from `axis` on, starting at `offset` (crop_layer.cpp).

    The second bottom gives nothing but its shape, and never gets a gradient: its diff is not written.
    """

    bottoms = (2, 2)

    def configure(self, shapes: list[Shape]) -> None:
        """Read crop_param's offsets."""
        self.offsets = list(self.layer_param.crop_param.offset) or [0]

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return the cropped shape, once the window is found to lie inside the bottom."""
        source, reference = shapes
        self.axis = self.axis_of(source, self.layer_param.crop_param.axis)
        axes = range(self.axis, len(source))
        if len(self.offsets) not in (1, len(axes)):
            raise self.fail(
                f"offset is given {len(self.offsets)} times; once, or once for each of the {len(axes)} axes from axis "
                f"{self.axis} on."
            )
        if len(reference) < len(source):
            raise self.fail(f"its bottoms need the same axes from axis {self.axis} on, not {describe(shapes)}.")
        offsets = self.offsets * len(axes) if len(self.offsets) == 1 else self.offsets
        for axis, offset in zip(axes, offsets, strict=True):
            if offset + reference[axis] > source[axis]:
                raise self.fail(
                    f"the crop for axis {axis} is out of bounds: offset {offset} and size {reference[axis]} reach past "
                    f"{source[axis]} (its bottoms are {describe(shapes)})."
                )
        self.windows = [(axis, offset, reference[axis]) for axis, offset in zip(axes, offsets, strict=True)]
        return [(*source[: self.axis], *reference[self.axis : len(source)])]

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the window."""
        x = window = bottom[0].data_tensor()
        for axis, start, size in self.windows:
            window = window.narrow(axis, start, size)
        data_out(top[0], x).copy_(window)
        top[0].touch()

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write the top's diff into the window, and zero around it."""
        if not propagate_down[0]:
            return
        dy = top[0].diff_tensor()
        window = diff_out(bottom[0], dy)
        for axis, start, size in self.windows:
            for margin in _margins(window, axis, start, size):
                margin.zero_()
            window = window.narrow(axis, start, size)
        window.copy_(dy)
        bottom[0].touch()


def _margins(x: Tensor, axis: int, start: int, size: int) -> Iterator[Tensor]:
    """Return what lies before and behind a range of an axis, where there is anything."""
    behind = x.shape[axis] - start - size
    if start:
        yield x.narrow(axis, 0, start)
    if behind:
        yield x.narrow(axis, start + size, behind)


@register("Tile")
class Tile(TensorLayer):
    """The bottom `tiles` times, one after the other along an axis (tile_layer.cpp)."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read tile_param."""
        self.tiles = self.layer_param.tile_param.tiles
        if self.tiles < 1:
            raise self.fail(f"tile_param needs tiles of 1 or more, not {self.tiles}.")

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return the tiled shape."""
        shape = shapes[0]
        axis = self.axis = self.axis_of(shape, self.layer_param.tile_param.axis)
        return [(*shape[:axis], shape[axis] * self.tiles, *shape[axis + 1 :])]

    def compute(self, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the tiled values."""
        return torch.cat(bottoms * self.tiles, self.axis)
