"""Layers whose tops are their bottom's memory under another name or shape: Split, Reshape, Flatten."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..blob import Blob, describe
from ..layer import register
from ..tensor_layer import Plan, Shape, TensorLayer, canonical_axis


@register("Split")
class Split(TensorLayer):
    """Give a bottom that several layers read to each of them, and sum the gradients they return (split_layer.cpp).

    Nets insert it themselves. The tops share the bottom's data memory.
    """

    tops = (1, None)
    refuses_in_place = True

    def configure(self, shapes: list[Shape]) -> None:
        """Count the tops."""
        self.copies = len(self.layer_param.top)

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan the bottom's shape for each top."""
        return Plan((shapes[0],) * self.copies)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops, and let them share the bottom's data."""
        super().reshape(bottom, top)
        for blob in top:
            blob.share_data(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Do nothing: the tops' data is the bottom's."""

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write the sum of the tops' diffs, in their order, without those that nobody ever wrote."""
        if not propagate_down[0]:
            return
        diffs = [t.diff_tensor() for t in top if not t.diff_is_zero]
        if not diffs:
            bottom[0].clear_diff()
            return
        with bottom[0].writing_diff(like=diffs[0]) as out:
            if len(diffs) == 1:
                out.copy_(diffs[0])
            else:
                torch.add(diffs[0], diffs[1], out=out)
            for diff in diffs[2:]:
                out.add_(diff)


class _SameMemory(TensorLayer):
    """A layer that changes nothing but the shape: its top shares the bottom's data and diff memory."""

    refuses_in_place = True

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the top, and let it share the bottom's memory."""
        super().reshape(bottom, top)
        top[0].share_data(bottom[0])
        top[0].share_diff(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Do nothing: the top's data is the bottom's."""

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Do nothing: the bottom's diff is the top's."""


@register("Reshape")
class Reshape(_SameMemory):
    """Give the axes from `axis` on, num_axes of them, the extents of `shape`: 0 copies one, -1 follows from the rest.

    (reshape_layer.cpp)
    """

    def configure(self, shapes: list[Shape]) -> None:
        """Read reshape_param."""
        param = self.layer_param.reshape_param
        self.axis, self.num_axes = param.axis, param.num_axes
        self.extents = tuple(param.shape.dim)
        if self.extents.count(-1) > 1:
            raise self.fail(f"new shape contains multiple -1 dims: {describe([self.extents])}; at most one can follow.")
        if self.num_axes < -1:
            raise self.fail(f"num_axes must be -1 (to the last axis) or more, not {self.num_axes}.")

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan the new shape, which holds as many values as the old."""
        shape = shapes[0]
        # -1 here is the place after the last axis, where new axes can be put (num_axes 0).
        start = self.axis if self.axis >= 0 else len(shape) + 1 + self.axis
        end = len(shape) if self.num_axes == -1 else start + self.num_axes
        if not 0 <= start <= len(shape) or end > len(shape):
            raise self.fail(
                f"axis {self.axis} with num_axes {self.num_axes} is out of range for its bottom, {describe([shape])}."
            )
        new = list(self.extents)
        for i, extent in enumerate(new):
            if extent == 0:
                if start + i >= len(shape):
                    raise self.fail(
                        f"dim {i} of its shape is 0, but its bottom, {describe([shape])}, has no axis to copy."
                    )
                new[i] = shape[start + i]
        known = math.prod([*shape[:start], *(e for e in new if e != -1), *shape[end:]])
        if -1 in new:
            if known == 0 or math.prod(shape) % known:
                raise self.fail(
                    f"its bottom, {describe([shape])}, cannot be divided by the product of the extents of its shape, "
                    f"{describe([self.extents])}, to find the one that is -1."
                )
            new[new.index(-1)] = math.prod(shape) // known
        result = (*shape[:start], *new, *shape[end:])
        if math.prod(result) != math.prod(shape):
            raise self.fail(
                f"output count must match input count; {describe([shape])} cannot become {describe([result])}."
            )
        return Plan((result,))


@register("Flatten")
class Flatten(_SameMemory):
    """Make one axis of the axes from `axis` to end_axis (flatten_layer.cpp)."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read flatten_param."""
        param = self.layer_param.flatten_param
        self.axis, self.end_axis = param.axis, param.end_axis

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan the flattened shape."""
        shape = shapes[0]
        start, end = canonical_axis(self.axis, len(shape)), canonical_axis(self.end_axis, len(shape))
        if start is None or end is None or end < start:
            raise self.fail(
                f"axis {self.axis} to end_axis {self.end_axis} is no range of axes of its bottom, {describe([shape])}."
            )
        return Plan(((*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]),))
