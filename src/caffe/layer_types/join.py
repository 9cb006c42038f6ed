"""Layers that put blobs together along an axis or take them apart: Concat, Slice, Crop, Tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..blob import Blob, describe
from ..layer import register
from ..proto import caffe_pb2
from ..tensor_layer import Plan, Shape, TensorLayer


def _only(blobs: Sequence[Blob]) -> bool:
    return len(blobs) == 1


@dataclass(frozen=True)
class AxisPlan(Plan):
    """An axis, counted from the front, and the parts' extents along it."""

    axis: int
    sizes: tuple[int, ...]


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

    def plan(self, shapes: list[Shape]) -> AxisPlan:
        """Plan the joined shape; all other axes must agree."""
        axis = self.axis_of(shapes[0], self.given_axis)
        rest = [(*s[:axis], *s[axis + 1 :]) for s in shapes]
        if any(len(s) != len(shapes[0]) or r != rest[0] for s, r in zip(shapes, rest, strict=True)):
            raise self.fail(f"all bottoms must have one shape but for axis {axis}, not {describe(shapes)}.")
        sizes = tuple(s[axis] for s in shapes)
        return AxisPlan(((*shapes[0][:axis], sum(sizes), *shapes[0][axis + 1 :]),), axis, sizes)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the top."""
        super().reshape(bottom, top)
        if _only(bottom):
            self._share(top[0], bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the bottoms into the top."""
        if not _only(bottom):
            parts = [b.data_tensor() for b in bottom]
            with top[0].writing_data(like=parts[0]) as out:
                torch.cat(parts, self.planned.axis, out=out)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Copy each bottom's part of the top's diff."""
        if _only(bottom):
            return
        dy = top[0].diff_tensor()
        parts = dy.split(self.planned.sizes, self.planned.axis)
        for blob, part, wanted in zip(bottom, parts, propagate_down, strict=True):
            if wanted:
                with blob.writing_diff(like=dy) as out:
                    out.copy_(part)


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

    def plan(self, shapes: list[Shape]) -> AxisPlan:
        """Plan the parts."""
        shape = shapes[0]
        axis = self.axis_of(shape, self.given_axis)
        size = shape[axis]
        if self.points:
            edges = [0, *self.points, size]
            sizes = [end - start for start, end in pairwise(edges)]
            if min(sizes) <= 0:
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
            sizes = [size // self.parts] * self.parts
        return AxisPlan(tuple((*shape[:axis], part, *shape[axis + 1 :]) for part in sizes), axis, tuple(sizes))

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
        for blob, part in zip(top, x.split(self.planned.sizes, self.planned.axis), strict=True):
            with blob.writing_data(like=x) as out:
                out.copy_(part)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Put the parts' diffs together."""
        if not propagate_down[0] or _only(top):
            return
        diffs = [t.diff_tensor() for t in top]
        with bottom[0].writing_diff(like=diffs[0]) as out:
            torch.cat(diffs, self.planned.axis, out=out)


@dataclass(frozen=True)
class CropPlan(Plan):
    """The window that is cut out: for each axis that is cut its number, where the window starts, and its extent."""

    windows: tuple[tuple[int, int, int], ...]


@register("Crop")
class Crop(TensorLayer):
    """Cut the first bottom to the second's extents from `axis` on, starting at `offset` (crop_layer.cpp).

    The second bottom gives nothing but its shape, and never gets a gradient: its diff is not written.
    """

    bottoms = (2, 2)

    def configure(self, shapes: list[Shape]) -> None:
        """Read crop_param's offsets."""
        self.offsets = list(self.layer_param.crop_param.offset) or [0]

    def plan(self, shapes: list[Shape]) -> CropPlan:
        """Plan the window, once it is found to lie inside the bottom."""
        source, reference = shapes
        first = self.axis_of(source, self.layer_param.crop_param.axis)
        axes = range(first, len(source))
        if len(self.offsets) not in (1, len(axes)):
            raise self.fail(
                f"offset is given {len(self.offsets)} times; once, or once for each of the {len(axes)} axes from axis "
                f"{first} on."
            )
        if len(reference) < len(source):
            raise self.fail(f"its bottoms need the same axes from axis {first} on, not {describe(shapes)}.")
        offsets = self.offsets * len(axes) if len(self.offsets) == 1 else self.offsets
        for axis, offset in zip(axes, offsets, strict=True):
            if offset + reference[axis] > source[axis]:
                raise self.fail(
                    f"the crop for axis {axis} is out of bounds: offset {offset} and size {reference[axis]} reach past "
                    f"{source[axis]} (its bottoms are {describe(shapes)})."
                )
        windows = tuple((axis, offset, reference[axis]) for axis, offset in zip(axes, offsets, strict=True))
        return CropPlan(((*source[:first], *reference[first : len(source)]),), windows)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the window."""
        x = window = bottom[0].data_tensor()
        for axis, start, size in self.planned.windows:
            window = window.narrow(axis, start, size)
        with top[0].writing_data(like=x) as out:
            out.copy_(window)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write the top's diff into the window, and zero around it."""
        if not propagate_down[0]:
            return
        dy = top[0].diff_tensor()
        with bottom[0].writing_diff(like=dy) as out:
            window = out
            for axis, start, size in self.planned.windows:
                for margin in _margins(window, axis, start, size):
                    margin.zero_()
                window = window.narrow(axis, start, size)
            window.copy_(dy)


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

    def plan(self, shapes: list[Shape]) -> AxisPlan:
        """Plan the tiled shape."""
        shape = shapes[0]
        axis = self.axis_of(shape, self.layer_param.tile_param.axis)
        tiled = (*shape[:axis], shape[axis] * self.tiles, *shape[axis + 1 :])
        return AxisPlan((tiled,), axis, (shape[axis],))

    def compute(self, plan: AxisPlan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the tiled values."""
        return torch.cat(bottoms * self.tiles, plan.axis)
