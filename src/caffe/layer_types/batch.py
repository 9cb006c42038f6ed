"""Layers that choose items of a batch: BatchReindex, Filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..blob import Blob, describe
from ..layer import register
from ..tensor_layer import Backward, Gradients, Plan, Shape, TensorLayer


@register("BatchReindex")
class BatchReindex(TensorLayer):
    """The items of the first bottom that the second names, by number, in its order (batch_reindex_layer.cpp)."""

    bottoms = (2, 2)

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Refuse the indices."""
        return bottom_index == 0

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan as many items as there are indices."""
        if len(shapes[1]) != 1 or not shapes[0]:
            raise self.fail(f"its second bottom must have one axis, of item numbers; they are {describe(shapes)}.")
        return Plan(((*shapes[1], *shapes[0][1:]),))

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Tensor:
        """Return the named items."""
        return bottoms[0].index_select(0, self._indices(bottoms))

    def gradient(self, plan: Plan, b: Backward) -> Gradients:
        """Return each item's sum over the places it went to."""
        if b.want_bottoms[1]:
            raise self.fail("cannot backpropagate to its indices.")
        return Gradients([torch.zeros_like(b.bottoms[0]).index_add_(0, self._indices(b.bottoms), b.top_diffs[0]), None])

    def _indices(self, bottoms: list[Tensor]) -> Tensor:
        items = bottoms[0].shape[0]
        indices = bottoms[1].long()
        if indices.numel():
            least, most = (int(v) for v in torch.aminmax(indices))
            if least < 0 or most >= items:
                bad = least if least < 0 else most
                raise self.fail(f"index {bad} is out of range: its bottom has the items 0 to {items - 1}.")
        return indices


@dataclass(frozen=True)
class FilterPlan(Plan):
    """A batch as the selector's values make it: the numbers of the items that are let through, or None for all."""

    kept: Tensor | None = None


@register("Filter")
class Filter(TensorLayer):
    """The items of each bottom for which the last bottom, the selector, is not 0 (filter_layer.cpp).

    The tops' number of items depends on the selector's values, and is found at each reshape but the first.
    """

    bottoms = (2, None)
    tops = (1, None)
    refuses_in_place = True

    def configure(self, shapes: list[Shape]) -> None:
        """Check the tops' number."""
        if len(self.layer_param.top) != len(shapes) - 1:
            raise self.fail(f"{len(shapes)} bottoms, the last of them the selector, need {len(shapes) - 1} tops.")

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Refuse the selector."""
        return bottom_index != len(self.layer_param.bottom) - 1

    def plan(self, shapes: list[Shape]) -> FilterPlan:
        """Plan for all items, as shapes alone do not tell which are let through."""
        *filtered, selector = shapes
        if not selector or any(extent != 1 for extent in selector[1:]):
            raise self.fail(f"its selector must have one value an item, not {describe([selector])}.")
        if any(s[:1] != selector[:1] for s in filtered):
            raise self.fail(f"all bottoms must have as many items as its selector; they are {describe(shapes)}.")
        return FilterPlan(tuple(filtered))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the selector, once there may be values in it, and shape the tops."""
        if self.planned is None:
            super().reshape(bottom, top)
            return
        shapes = [b.dims for b in bottom]
        everything = self.plan(shapes)
        kept = bottom[-1].data_tensor().reshape(-1).nonzero().reshape(-1)
        tops = tuple((kept.numel(), *shape[1:]) for shape in everything.tops)
        self._adopt(shapes, FilterPlan(tops, kept), bottom, top)

    def compute(self, plan: FilterPlan, bottoms: list[Tensor], params: list[Tensor]) -> list[Tensor]:
        """Return the items let through."""
        return [x if plan.kept is None else x.index_select(0, plan.kept) for x in bottoms[:-1]]

    def gradient(self, plan: FilterPlan, b: Backward) -> Gradients:
        """Return the tops' diffs for the items let through, and zero for the others."""
        if b.want_bottoms[-1]:
            raise self.fail("cannot backpropagate to its selector.")
        bottoms: list[Tensor | None] = [
            _spread(dy, x, plan.kept) if wanted else None
            for x, dy, wanted in zip(b.bottoms[:-1], b.top_diffs, b.want_bottoms[:-1], strict=True)
        ]
        return Gradients([*bottoms, None])


def _spread(dy: Tensor, x: Tensor, kept: Tensor | None) -> Tensor:
    return dy.clone() if kept is None else torch.zeros_like(x).index_copy_(0, kept, dy)
