"""Losses without a softmax; each is a scalar, and its gradient is multiplied by its loss weight."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blob import describe
from ..layer import register
from ..tensor_layer import Backward, Gradients, LossLayer, Plan, Shape
from .labels import LabelRule, Normalization, divisor, normalization


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(LossLayer):
    """-(t log s + (1 - t) log(1 - s)), s being the sigmoid of the score (sigmoid_cross_entropy_loss_layer.cpp).

    Targets of the scores' number, 0 to 1; those whose integer part is ignore_label give neither loss nor gradient.
    The sum is divided as loss_param says, by default by the number of items (BATCH_SIZE).
    """

    def configure(self, shapes: list[Shape]) -> None:
        """Read loss_param."""
        param = self.layer_param.loss_param
        self.ignore = param.ignore_label if param.HasField("ignore_label") else None
        self.mode = normalization(param, Normalization.BATCH_SIZE)

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan a scalar, once there is a target for each score."""
        if math.prod(shapes[0]) != math.prod(shapes[1]):
            raise self.fail(f"needs a target for each score; they are {describe(shapes)}.")
        return super().plan(shapes)

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the loss."""
        x, target, counted = self._read(bottoms)
        losses = F.binary_cross_entropy_with_logits(x, target, reduction="none")
        if counted is not None:
            losses = losses.masked_fill_(~counted, 0)
        return losses.sum() / self._divisor(x, counted)

    def gradient(self, plan: Plan, b: Backward) -> Gradients:
        """Return sigmoid - target, divided."""
        x, target, counted = self._read(b.bottoms)
        dx = torch.sigmoid(x).sub_(target)
        if counted is not None:
            dx.masked_fill_(~counted, 0)
        return Gradients([dx.mul_(b.top_diffs[0] / self._divisor(x, counted)), None])

    def _read(self, bottoms: list[Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        x, target = bottoms[0], bottoms[1].reshape(bottoms[0].shape)
        return x, target, None if self.ignore is None else target.trunc() != self.ignore

    def _divisor(self, x: Tensor, counted: Tensor | None) -> float | Tensor:
        return divisor(self.mode, x.shape[0], x.numel(), counted)


@register("EuclideanLoss")
class EuclideanLoss(LossLayer):
    """The sum of (a - b)^2 divided by twice the number of items; both bottoms have a gradient.

    (euclidean_loss_layer.cpp)
    """

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Allow both bottoms."""
        return True

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan a scalar, once both bottoms hold as many values an item."""
        if math.prod(shapes[0][1:]) != math.prod(shapes[1][1:]):
            raise self.fail(f"its bottoms must have the same dimension, not {describe(shapes)}.")
        return super().plan(shapes)

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the loss."""
        a, b = bottoms
        return (a - b.reshape(a.shape)).square_().sum() / (2 * a.shape[0])

    def gradient(self, plan: Plan, b: Backward) -> Gradients:
        """Return (a - b) / items, and its negative."""
        a, other = b.bottoms
        dx = (a - other.reshape(a.shape)).mul_(b.top_diffs[0] / a.shape[0])
        want_a, want_b = b.want_bottoms
        return Gradients([dx if want_a else None, dx.neg().view(other.shape) if want_b else None])


@dataclass(frozen=True)
class LabelledRowsPlan(Plan):
    """The scores as items x values an item, and how one label an item goes with them."""

    rows: Shape
    labels: LabelRule

    @classmethod
    def of(cls, layer: LossLayer, shapes: list[Shape]) -> LabelledRowsPlan:
        """Plan a scalar; a layer's error says what does not fit."""
        layer.check_items(shapes)
        rows = _rows(shapes[0])
        return cls(((),), rows, LabelRule.of(layer, [rows, shapes[1]], 1, None))


@register("HingeLoss")
class HingeLoss(LossLayer):
    """max(0, 1 - score) at the label, max(0, 1 + score) elsewhere; L1 sums them, L2 their squares, divided by items.

    (hinge_loss_layer.cpp)
    """

    def configure(self, shapes: list[Shape]) -> None:
        """Read the norm."""
        param = self.layer_param.hinge_loss_param
        self.squares = param.norm == param.L2

    def plan(self, shapes: list[Shape]) -> LabelledRowsPlan:
        """Plan a scalar, once there is one label an item."""
        return LabelledRowsPlan.of(self, shapes)

    def compute(self, plan: LabelledRowsPlan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the loss."""
        margins, _ = self._margins(plan, bottoms)
        return (margins.square_() if self.squares else margins).sum() / plan.rows[0]

    def gradient(self, plan: LabelledRowsPlan, b: Backward) -> Gradients:
        """Return +-1, or twice the margin, where it is above 0."""
        margins, signs = self._margins(plan, b.bottoms)
        slope = margins.mul_(2) if self.squares else margins.sign_()
        return Gradients([slope.mul_(signs).mul_(b.top_diffs[0] / plan.rows[0]).view(b.bottoms[0].shape), None])

    def _margins(self, plan: LabelledRowsPlan, bottoms: list[Tensor]) -> tuple[Tensor, Tensor]:
        scores = bottoms[0].reshape(plan.rows)
        index, _ = plan.labels.read(bottoms[1])
        signs = torch.ones_like(scores).scatter_(1, index, -1.0)
        return (scores * signs).add_(1).clamp_(min=0), signs


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(LossLayer):
    """-log of the probability at the label, which the bottom holds, divided by items.

    (multinomial_logistic_loss_layer.cpp)
    """

    LEAST = 1e-20  # kLOG_THRESHOLD

    def plan(self, shapes: list[Shape]) -> LabelledRowsPlan:
        """Plan a scalar, once there is one label an item."""
        return LabelledRowsPlan.of(self, shapes)

    def compute(self, plan: LabelledRowsPlan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the loss."""
        index, _ = plan.labels.read(bottoms[1])
        return self._at_label(plan, bottoms[0], index).log_().sum().neg_() / plan.rows[0]

    def gradient(self, plan: LabelledRowsPlan, b: Backward) -> Gradients:
        """Return -1 / p at the label, 0 elsewhere."""
        index, _ = plan.labels.read(b.bottoms[1])
        slope = -b.top_diffs[0] / plan.rows[0] / self._at_label(plan, b.bottoms[0], index)
        dx = b.bottoms[0].new_zeros(plan.rows).scatter_(1, index, slope)
        return Gradients([dx.view(b.bottoms[0].shape), None])

    def _at_label(self, plan: LabelledRowsPlan, probabilities: Tensor, index: Tensor) -> Tensor:
        return probabilities.reshape(plan.rows).gather(1, index).clamp_(min=self.LEAST)


@register("ContrastiveLoss")
class ContrastiveLoss(LossLayer):
    """Half the mean of d^2 for similar pairs, of max(0, margin - d)^2 for others (Hadsell et al. 2006).

    d is the distance of the rows of two bottoms, N x C; the third says which are similar. legacy_version uses
    max(0, margin - d^2) for the others (contrastive_loss_layer.cpp).
    """

    bottoms = (3, 3)

    def configure(self, shapes: list[Shape]) -> None:
        """Read contrastive_loss_param."""
        param = self.layer_param.contrastive_loss_param
        self.margin, self.legacy = param.margin, param.legacy_version

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Refuse the similarity."""
        return bottom_index != 2

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan a scalar, once both features agree and there is one similarity an item."""
        first, second, similar = shapes
        fits = len(first) > 1 and first == second and set(first[2:]) <= {1} and bool(similar)
        if not fits or _rows(similar) != (first[0], 1):
            raise self.fail(f"needs two bottoms N x C of one shape and N similarities, not {describe(shapes)}.")
        return Plan(((),))

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the loss."""
        difference, similar = self._read(bottoms)
        squares = difference.square().sum(1, keepdim=True)
        gap = self._gap(squares)
        return torch.where(similar, squares, gap if self.legacy else gap.square()).sum() / (2 * len(difference))

    def gradient(self, plan: Plan, b: Backward) -> Gradients:
        """Return a - b for similar pairs, -(a - b) gap / d for others within the margin; the second's is negative."""
        if b.want_bottoms[2]:
            raise self.fail("cannot backpropagate to its similarities.")
        difference, similar = self._read(b.bottoms)
        squares = difference.square().sum(1, keepdim=True)
        gap = self._gap(squares)
        pull = gap.sign() if self.legacy else gap / (squares.sqrt() + 1e-4)  # the constant is Caffe's
        dx = difference.mul_(torch.where(similar, 1.0, -pull)).mul_(b.top_diffs[0] / len(difference))
        dx = dx.view(b.bottoms[0].shape)
        return Gradients([dx if b.want_bottoms[0] else None, dx.neg() if b.want_bottoms[1] else None, None])

    def _read(self, bottoms: list[Tensor]) -> tuple[Tensor, Tensor]:
        first, second = (x.flatten(1) for x in bottoms[:2])
        return first - second, bottoms[2].long().reshape(-1, 1) != 0

    def _gap(self, squares: Tensor) -> Tensor:
        return (self.margin - (squares if self.legacy else squares.sqrt())).clamp_(min=0)


def _rows(shape: Shape) -> Shape:
    """Return a shape as items x values an item."""
    return shape[0], math.prod(shape[1:])
