"""What layers that read integer labels share: matching them to scores, checking them, and what a loss is divided by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..blob import describe
from ..proto import caffe_pb2
from ..tensor_layer import Shape, TensorLayer, canonical_axis

Normalization = caffe_pb2.LossParameter.NormalizationMode


@dataclass(frozen=True)
class LabelRule:
    """How labels go with scores: one label for each place of the scores, classes being along one axis."""

    layer: TensorLayer
    axis: int
    classes: int
    shape: Shape  # the scores', with 1 class
    ignore: int | None

    @classmethod
    def of(cls, layer: TensorLayer, shapes: list[Shape], axis: int, ignore: int | None) -> LabelRule:
        """Match labels of shapes[1] to scores of shapes[0]; a layer's error says what does not fit."""
        scores, labels = shapes[:2]
        found = canonical_axis(axis, len(scores))
        if found is None:
            raise layer.fail(f"axis {axis} is not an axis of its scores, {describe(shapes[:1])}.")
        shape = (*scores[:found], 1, *scores[found + 1 :])
        if math.prod(shape) != math.prod(labels):
            raise layer.fail(
                f"number of labels must match number of predictions; scores {describe([scores])} with classes along "
                f"axis {found} need {math.prod(shape)} labels, as {describe([shape])}, but labels are "
                f"{describe([labels])}."
            )
        return cls(layer, found, scores[found], shape, ignore)

    def read(self, labels: Tensor, check: bool = True) -> tuple[Tensor, Tensor | None]:
        """Return the labels as class numbers, of the rule's shape, and which count; None if all do.

        Ignored labels read as class 0. Values are cut to integers, as Caffe does. `check` raises NetError for one
        that is no class (BVLC Caffe reads past the end of the scores).
        """
        index = labels.long().reshape(self.shape)
        counted = None
        if self.ignore is not None:
            counted = index != self.ignore
            index = index * counted
        if check and index.numel():
            least, most = torch.aminmax(index)
            strange = labels.reshape(self.shape).isnan()  # which some processors read as 0
            if least < 0 or most >= self.classes or strange.any():
                self._refuse(labels.reshape(-1), ((index < 0) | (index >= self.classes) | strange).reshape(-1))
        return index, counted

    def _refuse(self, labels: Tensor, wrong: Tensor) -> None:
        place = int(wrong.nonzero()[0])
        ignored = f"ignore_label is {self.ignore}" if self.ignore is not None else "no ignore_label is set"
        raise self.layer.fail(
            f"label {labels[place].item():g} (value {place} of {labels.numel()}) is out of range: the scores have "
            f"{self.classes} classes, so labels go from 0 to {self.classes - 1}, and {ignored}. Correct the labels, "
            "the scores' number of classes, or ignore_label."
        )


def normalization(param: caffe_pb2.LossParameter, default: int) -> int:
    """Return what a loss is divided by: `normalization`, or what the older `normalize` means.

    `normalize: false` means BATCH_SIZE, not NONE (softmax_loss_layer.cpp:28).
    """
    if param.HasField("normalization"):
        return param.normalization
    if param.HasField("normalize"):
        return Normalization.VALID if param.normalize else Normalization.BATCH_SIZE
    return default


def divisor(mode: int, items: int, places: int, counted: Tensor | None) -> float | Tensor:
    """Return FULL: all places; VALID: those that count; BATCH_SIZE: the items; NONE: 1. At least 1."""
    if mode == Normalization.VALID and counted is not None:
        return counted.sum().clamp(min=1)
    divisors: dict[int, int] = {Normalization.BATCH_SIZE: items, Normalization.NONE: 1}
    return float(max(1, divisors.get(mode, places)))
