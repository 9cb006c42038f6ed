"""Layers at which a net ends: Accuracy, ArgMax, Threshold, which have no gradient, and Silence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..blob import Blob, describe
from ..layer import register
from ..tensor_layer import Plan, Shape, TensorLayer
from .labels import LabelRule


class _WithoutGradient(TensorLayer):
    """A layer that no gradient goes through."""

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Refuse every bottom (BVLC Caffe ends the process in backward)."""
        return False

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Refuse to give a gradient."""
        if any(propagate_down):
            raise self.fail("has no gradient; a loss above it cannot train what lies below.")


@dataclass(frozen=True)
class AccuracyPlan(Plan):
    """How labels go with scores."""

    labels: LabelRule


@register("Accuracy")
class Accuracy(_WithoutGradient):
    """The share of labels among the top_k highest scores; a second top has it for each class (accuracy_layer.cpp).

    A score equal to the label's counts as higher. Ignored labels do not count; with none left the result is 0.
    """

    bottoms = (2, 2)
    tops = (1, 2)

    def configure(self, shapes: list[Shape]) -> None:
        """Read accuracy_param."""
        param = self.layer_param.accuracy_param
        self.axis, self.top_k = param.axis, param.top_k
        self.ignore = param.ignore_label if param.HasField("ignore_label") else None
        self.per_class = len(self.layer_param.top) > 1

    def plan(self, shapes: list[Shape]) -> AccuracyPlan:
        """Plan a scalar, and the number of classes for a second top."""
        labels = LabelRule.of(self, shapes, self.axis, self.ignore)
        if self.top_k > labels.classes:
            raise self.fail(f"top_k {self.top_k} is above the number of classes, {labels.classes}.")
        return AccuracyPlan(((), (labels.classes,)) if self.per_class else ((),), labels)

    def compute(self, plan: AccuracyPlan, bottoms: list[Tensor], params: list[Tensor]) -> list[Tensor]:
        """Return the shares."""
        scores, axis = bottoms[0], plan.labels.axis
        index, counted = plan.labels.read(bottoms[1])
        higher = (scores >= scores.gather(axis, index)).sum(axis, keepdim=True)  # the label's own score among them
        right = higher <= self.top_k
        if counted is not None:
            right, index = right[counted], index[counted]
        total = right.sum()
        tops = [total / max(1, index.numel())]
        if self.per_class:
            classes = plan.labels.classes
            number = torch.bincount(index.flatten(), minlength=classes)
            hits = torch.bincount(index.flatten()[right.flatten()], minlength=classes)
            tops.append(hits / number.clamp(min=1))
        return tops


@register("ArgMax")
class ArgMax(_WithoutGradient):
    """The top_k highest values' places along `axis`, or of a whole item without one (argmax_layer.cpp).

    With out_max_val: along an axis the values instead, for whole items the values beside the places. Of equal values
    the last comes first.
    """

    def configure(self, shapes: list[Shape]) -> None:
        """Read argmax_param."""
        param = self.layer_param.argmax_param
        self.top_k, self.with_values = param.top_k, param.out_max_val
        self.axis = None
        if param.HasField("axis"):
            self.axis = self.axis_of(shapes[0], param.axis)
        if self.top_k < 1:
            raise self.fail("top_k must be 1 or more.")

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan the bottom's shape with top_k along the axis; without one, N x 1 (2 with values) x top_k x 1..."""
        shape = shapes[0]
        if len(shape) <= (self.axis or 0):
            raise self.fail(f"its bottom has no axis {self.axis or 0}: it is {describe(shapes)}.")
        size = math.prod(shape[1:]) if self.axis is None else shape[self.axis]
        if self.top_k > size:
            raise self.fail(f"top_k {self.top_k} is above the {size} values to choose from in {describe(shapes)}.")
        if self.axis is not None:
            return Plan(((*shape[: self.axis], self.top_k, *shape[self.axis + 1 :]),))
        return Plan(((shape[0], 2 if self.with_values else 1, self.top_k, *[1] * (len(shape) - 3)),))

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the places or values."""
        x = bottoms[0]
        if self.axis is None:
            x = x.reshape(len(x), math.prod(x.shape[1:]))
        axis = 1 if self.axis is None else self.axis
        # Of equal values both torch functions put the first first; Caffe sorts by value and then by place, downwards.
        backwards = x.flip(axis)
        if self.top_k == 1:
            found = backwards.argmax(axis, keepdim=True)
        else:
            found = torch.sort(backwards, dim=axis, descending=True, stable=True)[1].narrow(axis, 0, self.top_k)
        places = x.shape[axis] - 1 - found
        if self.axis is not None:
            return x.gather(axis, places) if self.with_values else places.to(x.dtype)
        rows = [places.to(x.dtype), x.gather(1, places)] if self.with_values else [places.to(x.dtype)]
        return torch.stack(rows, 1).reshape(plan.tops[0])


@register("Threshold")
class Threshold(_WithoutGradient):
    """1 where x is above the threshold, 0 elsewhere (threshold_layer.cpp)."""

    def configure(self, shapes: list[Shape]) -> None:
        """Read threshold_param."""
        self.threshold = self.layer_param.threshold_param.threshold

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return zeros and ones."""
        return (bottoms[0] > self.threshold).to(bottoms[0].dtype)


@register("Silence")
class Silence(TensorLayer):
    """Take bottoms that are wanted nowhere, so that they are no outputs of the net (silence_layer.cpp)."""

    bottoms = (1, None)
    tops = (0, 0)

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan nothing: there are no tops."""
        return Plan(())

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Do nothing."""

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Give the bottoms a gradient of zero."""
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.clear_diff()
