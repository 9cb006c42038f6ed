"""Softmax, and the losses that contain one: SoftmaxWithLoss, InfogainLoss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..blob import Blob
from ..errors import FileFormatError
from ..formats.stored_blob import EncodedBlob
from ..layer import register
from ..tensor_layer import LossLayer, Plan, Shape, TensorLayer
from .labels import LabelRule, Normalization, divisor, normalization

LEAST_PROBABILITY = torch.finfo(torch.float32).tiny  # FLT_MIN, below which SoftmaxWithLoss takes no logarithm
LEAST_INFOGAIN_PROBABILITY = 1e-20  # kLOG_THRESHOLD


@dataclass(frozen=True)
class SoftmaxPlan(Plan):
    """The classes' axis, counted from the front."""

    axis: int


@register("Softmax")
class Softmax(TensorLayer):
    """exp(x) / sum of exp(x) along an axis (softmax_layer.cpp)."""

    def plan(self, shapes: list[Shape]) -> SoftmaxPlan:
        """Plan the bottom's shape."""
        return SoftmaxPlan((shapes[0],), self.axis_of(shapes[0], self.layer_param.softmax_param.axis))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the probabilities."""
        x = bottom[0].data_tensor()
        with top[0].writing_data(like=x) as out:
            torch.softmax(x, self.planned.axis, out=out)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write y (dy - sum of dy y), from the top's data as Caffe does."""
        if propagate_down[0]:
            y, dy = top[0].data_tensor(), top[0].diff_tensor()
            with bottom[0].writing_diff(like=dy) as out:
                torch.ops.aten._softmax_backward_data.out(dy, y, self.planned.axis, y.dtype, grad_input=out)


@dataclass(frozen=True)
class SoftmaxLossPlan(Plan):
    """How labels go with scores, and how many items and places there are, by which a loss may be divided."""

    labels: LabelRule
    items: int
    places: int


class _SoftmaxLoss(LossLayer):
    """What both losses share: probabilities kept from forward, labels, and what the loss is divided by."""

    tops = (1, 2)

    def _read(self, axis: int) -> None:
        param = self.layer_param.loss_param
        self.given_axis = axis
        self.ignore = param.ignore_label if param.HasField("ignore_label") else None
        self.mode = normalization(param, Normalization.VALID)
        self._probabilities = Blob()

    def plan(self, shapes: list[Shape]) -> SoftmaxLossPlan:
        """Plan a scalar, and for a second top the scores' shape."""
        self.check_items(shapes)
        labels = LabelRule.of(self, shapes, self.given_axis, self.ignore)
        tops = ((), shapes[0])[: max(1, len(self.layer_param.top))]
        return SoftmaxLossPlan(tops, labels, math.prod(shapes[0][: labels.axis]), math.prod(labels.shape))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops; a second one shares the probabilities."""
        super().reshape(bottom, top)
        self._probabilities.reshape(*bottom[0].dims)
        if len(top) > 1:
            top[1].share_data(self._probabilities)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the loss, divided."""
        labels = self.planned.labels
        scores = bottom[0].data_tensor()
        with self._probabilities.writing_data(like=scores) as probabilities:
            torch.softmax(scores, labels.axis, out=probabilities)
        index, counted = labels.read(bottom[1].data_tensor())
        losses = self.losses(labels, probabilities, index, bottom)
        if counted is not None:
            losses = losses.masked_fill_(~counted, 0)
        top[0].set_data(losses.sum() / self._divisor(counted))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write the gradient of the scores, from the probabilities that forward found and the labels."""
        if any(propagate_down[1:]):
            raise self.fail("cannot backpropagate to its label bottom; only the scores have a gradient.")
        if not propagate_down[0]:
            return
        labels = self.planned.labels
        probabilities = self._probabilities.data_tensor()
        index, counted = labels.read(bottom[1].data_tensor(), check=False)
        weight = top[0].diff_tensor() / self._divisor(counted)
        weights = weight.expand(index.shape) if counted is None else counted * weight
        with bottom[0].writing_diff(like=probabilities) as out:
            self.write_gradient(labels, out, probabilities, index, weights, bottom)

    def _divisor(self, counted: Tensor | None) -> float | Tensor:
        return divisor(self.mode, self.planned.items, self.planned.places, counted)

    def losses(self, labels: LabelRule, probabilities: Tensor, index: Tensor, bottom: Sequence[Blob]) -> Tensor:
        """Return each place's loss for its label, ignored labels included."""
        raise NotImplementedError

    def write_gradient(
        self,
        labels: LabelRule,
        out: Tensor,
        probabilities: Tensor,
        index: Tensor,
        weights: Tensor,
        bottom: Sequence[Blob],
    ) -> None:
        """Write the gradient of the places' losses, each times its weight, with respect to the scores."""
        raise NotImplementedError


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(_SoftmaxLoss):
    """-log of the softmax at the label, summed and divided by what loss_param says (softmax_loss_layer.cpp).

    Scores N x C x ..., labels as many as the scores have places. A second top holds the softmax. Labels equal to
    ignore_label give neither loss nor gradient. normalization FULL, VALID (default), BATCH_SIZE, NONE.
    """

    def configure(self, shapes: list[Shape]) -> None:
        """Read softmax_param and loss_param."""
        self._read(self.layer_param.softmax_param.axis)

    def losses(self, labels: LabelRule, probabilities: Tensor, index: Tensor, bottom: Sequence[Blob]) -> Tensor:
        """Return -log p of each label."""
        return probabilities.gather(labels.axis, index).clamp_(min=LEAST_PROBABILITY).log_().neg_()

    def write_gradient(
        self,
        labels: LabelRule,
        out: Tensor,
        probabilities: Tensor,
        index: Tensor,
        weights: Tensor,
        bottom: Sequence[Blob],
    ) -> None:
        """Write p, less 1 at the label."""
        torch.mul(probabilities, weights, out=out)
        out.scatter_add_(labels.axis, index, -weights)


@register("InfogainLoss")
class InfogainLoss(_SoftmaxLoss):
    """-sum over classes of H[label, class] log p[class], p being the scores' softmax (infogain_loss_layer.cpp).

    H, classes x classes, is the third bottom, or the BlobProto in infogain_loss_param's source file.
    """

    bottoms = (2, 3)

    def configure(self, shapes: list[Shape]) -> None:
        """Read infogain_loss_param, loss_param and, with two bottoms, the file of H."""
        param = self.layer_param.infogain_loss_param
        self._read(param.axis)
        self._stored = self._load(param.source) if len(shapes) == 2 else None

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Refuse the labels and H."""
        return bottom_index == 0

    def plan(self, shapes: list[Shape]) -> SoftmaxLossPlan:
        """Plan the tops, once H is found to be classes x classes."""
        plan = super().plan(shapes)
        classes = plan.labels.classes
        found = math.prod(shapes[2]) if self._stored is None else self._stored.numel()
        if found != classes**2:
            raise self.fail(f"H has {found} values; {classes} classes need {classes**2}.")
        return plan

    def losses(self, labels: LabelRule, probabilities: Tensor, index: Tensor, bottom: Sequence[Blob]) -> Tensor:
        """Return each place's loss."""
        logs = probabilities.clamp(min=LEAST_INFOGAIN_PROBABILITY).log_()
        return (self._rows(labels, index, bottom) * logs).sum(labels.axis, keepdim=True).neg_()

    def write_gradient(
        self,
        labels: LabelRule,
        out: Tensor,
        probabilities: Tensor,
        index: Tensor,
        weights: Tensor,
        bottom: Sequence[Blob],
    ) -> None:
        """Write p times the sum of the label's row of H, less the row."""
        rows = self._rows(labels, index, bottom)
        torch.mul(probabilities, rows.sum(labels.axis, keepdim=True), out=out)
        out.sub_(rows).mul_(weights)

    def _rows(self, labels: LabelRule, index: Tensor, bottom: Sequence[Blob]) -> Tensor:
        """Return the label's row of H at each place, along the classes' axis."""
        matrix = bottom[2].data_tensor() if self._stored is None else self._stored.to(index.device)
        rows = matrix.reshape(labels.classes, labels.classes)[index.squeeze(labels.axis)]
        return rows.movedim(-1, labels.axis)

    def _load(self, path: str) -> Tensor:
        if not path:
            raise self.fail("needs H: as a third bottom, or as a file named by infogain_loss_param's source.")
        try:
            with open(path, "rb") as file:
                content = file.read()
            blob = EncodedBlob(content, 0, len(content), "H")
            return torch.from_numpy(blob.values() if blob.has_shape else blob.flat())
        except OSError as error:
            raise self.fail(f"cannot read H from '{path}': {error.strerror}.") from None
        except FileFormatError as error:
            raise self.fail(f"cannot read H from '{path}': it holds no BlobProto. {error}") from None
