"""TensorLayer: the base of the engine's own layer types, each a function on tensors with a plan before it.

    @register("Square")
    class Square(TensorLayer):
        def compute(self, plan, bottoms, params):
            return bottoms[0].square()

A type gives its parameters' shapes and fillers; a pure `plan`, which follows from the bottoms' shapes alone; and its
forward on tensors, which receives the plan. Autograd gives the backward unless the class brings a `gradient` of its
own, because Caffe's gradient is another one or because the layer is worth it. docs/adding-a-layer-type.md has more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .blob import Blob, describe
from .errors import NetError
from .filler import fill
from .layer import Layer
from .proto import caffe_pb2

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What follows from the bottoms' shapes alone: the tops' shapes. A type's own plan adds what else it works out."""

    tops: tuple[Shape, ...]


@dataclass
class Backward:
    """What a gradient is computed from: the blobs as they are now, and what is asked for."""

    top_diffs: list[Tensor]
    tops: list[Tensor]
    bottoms: list[Tensor]
    params: list[Tensor]
    want_bottoms: Sequence[bool]
    want_params: Sequence[bool]


@dataclass
class Gradients:
    """Gradients with respect to bottoms and parameters; None where none was asked for."""

    bottoms: Sequence[Tensor | None]
    params: Sequence[Tensor | None] = ()


class TensorLayer(Layer):
    """A layer that is a function on tensors.

    Subclasses give `plan` and `compute`, and where they need them `configure`, `param_shapes`, `gradient`.
    """

    # How many bottoms and tops the type takes: (least, most), None for any number (the *Blobs() of layer.hpp).
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    # Whether the net makes a top where the prototxt names none; losses do.
    auto_top: ClassVar[bool] = False
    # Layers that refuse to write their top over their bottom.
    refuses_in_place: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a class of the form before there were plans: its shapes would not be asked for."""
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        takes_no_plan = ("compute" in own and _parameters(own["compute"]) == 3) or (
            "gradient" in own and _parameters(own["gradient"]) == 2
        )
        if "top_shapes" in own or takes_no_plan:
            raise TypeError(
                f"{cls.__qualname__} is written as layer types were before they had a plan. Define plan(self, shapes), "
                "which returns Plan(tops) and changes nothing, in place of top_shapes; compute(self, plan, bottoms, "
                "params) and gradient(self, plan, b) receive it (docs/adding-a-layer-type.md)."
            )

    def __init__(self, layer_param: caffe_pb2.LayerParameter) -> None:
        super().__init__(layer_param)
        self.type = layer_param.type
        self.name = layer_param.name
        self.phase = layer_param.phase
        # Which parameters need a gradient (layer.hpp param_propagate_down), and whether the layer runs backward at all.
        self.param_propagate_down: list[bool] = []
        self.needs_backward = True
        # The plan of the bottoms' last shapes: each type's own kind of Plan.
        self.planned: Any = None
        self._shapes: list[Shape] | None = None
        self._input: Tensor | None = None

    # What a type says of itself

    def configure(self, shapes: list[Shape]) -> None:
        """Read and check the layer's settings, once, given the bottoms' first shapes."""

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return each parameter's shape and filler, for the bottoms' first shapes."""
        return []

    def plan(self, shapes: list[Shape]) -> Plan:
        """Return what follows from the bottoms' shapes; raise through `fail` what cannot be. It changes nothing."""
        return Plan((shapes[0],))

    def compute(self, plan: Any, bottoms: list[Tensor], params: list[Tensor]) -> Tensor | Sequence[Tensor]:
        """Return the tops: new tensors, of no other blob's memory. `plan` is what `plan` made of their shapes."""
        raise NotImplementedError

    def gradient(self, plan: Any, b: Backward) -> Gradients:
        """Return the gradients: by default, autograd through `compute` on the blobs as they are now."""
        with torch.enable_grad():
            bottoms = [x.detach().requires_grad_(w) for x, w in zip(b.bottoms, b.want_bottoms, strict=True)]
            params = [p.detach().requires_grad_(w) for p, w in zip(b.params, b.want_params, strict=True)]
            tops = self.compute(plan, bottoms, params)
            tops = [tops] if isinstance(tops, Tensor) else list(tops)
            pairs = [(t, d) for t, d in zip(tops, b.top_diffs, strict=True) if t.requires_grad]
            sources = [x for x in (*bottoms, *params) if x.requires_grad]
            found: dict[int, Tensor | None] = {}
            if pairs and sources:
                grads = torch.autograd.grad([t for t, _ in pairs], sources, [d for _, d in pairs], allow_unused=True)
                found = {id(x): g for x, g in zip(sources, grads, strict=True)}

        def of(x: Tensor) -> Tensor | None:
            if not x.requires_grad:
                return None
            g = found.get(id(x))
            return torch.zeros_like(x) if g is None else g

        return Gradients([of(x) for x in bottoms], [of(p) for p in params])

    def fail(self, what: str) -> NetError:
        """Make the error that names this layer: `raise self.fail("...")`."""
        return NetError(f"Layer '{self.name}' ({self.type}): {what}")

    def axis_of(self, shape: Shape, axis: int) -> int:
        """Return an axis of a bottom, as settings give it, counted from the front. Raises NetError if it has none."""
        found = canonical_axis(axis, len(shape))
        if found is None:
            raise self.fail(f"axis {axis} is not an axis of its bottom, {describe([shape])}.")
        return found

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return the tops' shapes for the bottoms'. Raises NetError for shapes that cannot be."""
        return list(self.plan(shapes).tops)

    # What the net calls

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the numbers of bottoms and tops, read the settings, and make and fill the parameters."""
        self._check_number("bottom", len(bottom), self.bottoms)
        self._check_number("top", len(top), self.tops)
        if self.refuses_in_place and any(t is b for t in top for b in bottom):
            raise self.fail("this type cannot work in place; give its top a name of its own.")
        shapes = [b.dims for b in bottom]
        self.configure(shapes)
        if self.blobs:
            self._check_given_blobs([shape for shape, _ in self.param_shapes(shapes)])
        else:
            for shape, filler in self.param_shapes(shapes):
                blob = Blob(*shape)
                if filler is not None:
                    try:
                        fill(blob, filler)
                    except NetError as error:
                        raise self.fail(str(error)) from None
                self.blobs.append(blob)
        self.param_propagate_down = [True] * len(self.blobs)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Plan anew, and shape the tops, if a bottom's shape has changed."""
        shapes = [b.dims for b in bottom]
        if shapes != self._shapes or self._tops_moved(top):
            self._adopt(shapes, self.plan(shapes), bottom, top)

    def _adopt(self, shapes: list[Shape], plan: Plan, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops by a plan, and keep it. A layer whose tops depend on values brings a plan of its own."""
        for blob, shape in zip(top, plan.tops, strict=True):
            if shape != blob.dims and any(blob is b for b in bottom):
                raise self.fail(
                    f"it makes {describe([shape])} of {describe([blob])}, so it cannot work in place; give its top "
                    "a name of its own."
                )
        for blob, shape in zip(top, plan.tops, strict=True):
            blob.reshape(*shape)
        self._shapes, self.planned = shapes, plan

    def _forward_pass(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops and write them; autograd keeps nothing."""
        with torch.no_grad():
            self.reshape(bottom, top)
            self.forward(bottom, top)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Compute the tops from the bottoms on the current device."""
        bottoms = [b.data_tensor() for b in bottom]
        if top and top[0] is bottom[0] and self.needs_backward:
            # The gradient needs the input that the result is about to overwrite.
            self._input = bottoms[0].clone() if bottom[0].data_version is None else bottoms[0]
        for blob in top:
            blob.discard_data(unless_of=bottom)
        results = self.compute(self.planned, bottoms, [p.data_tensor() for p in self.blobs])
        for blob, result in zip(top, [results] if isinstance(results, Tensor) else results, strict=True):
            blob.set_data(_owned(result, bottoms))

    def _backward_pass(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Run backward, once the blobs are found to have the shapes that forward saw; autograd keeps nothing."""
        with torch.no_grad():
            self._check_shapes(bottom, top)
            self.backward(top, propagate_down, bottom)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Compute the gradients asked for from the blobs as they are now."""
        want_params = self.param_propagate_down
        if not any(propagate_down) and not any(want_params):
            return
        bottoms = [b.data_tensor() for b in bottom]
        if self._input is not None and top[0] is bottom[0]:
            bottoms[0] = self._input
        b = Backward(
            top_diffs=[t.diff_tensor() for t in top],
            tops=[t.data_tensor() for t in top],
            bottoms=bottoms,
            params=[p.data_tensor() for p in self.blobs],
            want_bottoms=propagate_down,
            want_params=want_params,
        )
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.discard_diff(unless_of=top)
        grads = self.gradient(self.planned, b)
        lent = [*b.top_diffs, *b.tops, *b.bottoms, *b.params]
        for param, grad in zip(self.blobs, grads.params, strict=False):
            if grad is not None:
                param.add_diff(_owned(grad, lent))
        for blob, grad in zip(bottom, grads.bottoms, strict=True):
            if grad is not None:
                blob.set_diff(_owned(grad, lent))

    def _unnamed_tops(self, named: int) -> int:
        """Return how many tops an auto_top type lacks."""
        return max(0, self.tops[0] - named) if self.auto_top else 0

    def _note_gradients(self, of_params: Sequence[bool], needs_backward: bool) -> None:
        """Note what the net wants."""
        self.param_propagate_down, self.needs_backward = list(of_params), needs_backward

    def _gives_gradients(self) -> list[bool]:
        """Tell of each parameter whether a backward pass adds to its diff."""
        return [self.needs_backward and wanted for wanted in self.param_propagate_down]

    def check_kept(self, kept: Tensor, dims: Shape) -> None:
        """Refuse a backward pass that needs what forward kept, if that is of another shape than the blob now."""
        if kept.shape != dims:
            raise self.fail(
                f"what the last forward kept for the gradient is {describe([kept.shape])}; the blob has been reshaped "
                f"to {describe([dims])} since. Run forward before backward."
            )

    def _check_shapes(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Refuse a backward pass over blobs that were reshaped since the last reshape or forward."""
        if bottom and self._shapes is not None:
            if [b.dims for b in bottom] != self._shapes or self._tops_moved(top):
                raise self.fail(
                    f"its bottoms were {describe(self._shapes)} and its tops {describe(self.planned.tops)} when last "
                    f"shaped; now they are {describe(bottom)} and {describe(top)}. Run forward before backward."
                )
            if self._input is not None:
                self.check_kept(self._input, bottom[0].dims)

    def _tops_moved(self, top: Sequence[Blob]) -> bool:
        return any(t.dims != s for t, s in zip(top, self.planned.tops, strict=True))

    def _check_given_blobs(self, shapes: list[Shape]) -> None:
        """Refuse parameters in the prototxt that are not this layer's; old ones have axes of 1 in front."""
        found = [b.dims for b in self.blobs]
        if [_without_leading_ones(s) for s in found] != [_without_leading_ones(s) for s in shapes]:
            raise self.fail(
                f"the prototxt gives it blobs of {describe(found)}; by its settings they are {describe(shapes)}."
            )
        for blob, shape in zip(self.blobs, shapes, strict=True):
            blob.reshape(*shape)

    def _check_number(self, kind: str, found: int, wanted: tuple[int, int | None]) -> None:
        least, most = wanted
        if found < least or (most is not None and found > most):
            some = f"{least}" if least == most else f"{least} to {most}" if most is not None else f"{least} or more"
            raise self.fail(f"takes {some} {kind} blob(s), but {found} are given.")


class LossLayer(TensorLayer):
    """A loss: a scalar top of weight 1 unless told otherwise, and a label in bottom 1 that gets no gradient."""

    bottoms = (2, 2)
    _default_loss_weight = 1.0
    auto_top = True

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Refuse the label (loss_layer.hpp)."""
        return bottom_index != 1

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan a scalar, once prediction and label agree in number (loss_layer.cpp)."""
        self.check_items(shapes)
        return Plan(((),))

    def check_items(self, shapes: list[Shape]) -> None:
        """Refuse predictions and labels of different numbers of items."""
        if shapes[0][:1] != shapes[1][:1] or not shapes[0]:
            raise self.fail(f"the data and label should have the same first dimension, not {describe(shapes)}.")

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Refuse a gradient for the label, which Caffe has none for either."""
        if len(propagate_down) > 1 and propagate_down[1] and not self.allow_force_backward(1):
            raise self.fail("cannot backpropagate to its label bottom.")
        super().backward(top, propagate_down, bottom)


def canonical_axis(axis: int, axes: int) -> int | None:
    """Return an axis counted from the front (-1 is the last), or None if there is no such axis."""
    return axis % axes if -axes <= axis < axes else None


def _parameters(function: Any) -> int | None:
    """Return how many parameters a function written in Python has, self included."""
    return getattr(getattr(function, "__code__", None), "co_argcount", None)


def _owned(result: Tensor, lent: list[Tensor]) -> Tensor:
    """Return a tensor whose memory is none of `lent`'s and no larger than itself, so that a blob can own it."""
    start = result.data_ptr()
    shared = any(start == b.data_ptr() for b in lent) or result.untyped_storage().nbytes() != result.nbytes
    return result.clone(memory_format=torch.contiguous_format) if shared else result


def _without_leading_ones(shape: Shape) -> Shape:
    first = next((i for i, extent in enumerate(shape) if extent != 1), len(shape))
    return shape[first:]
