"""Layer: what every layer is, the registry of types, and TensorLayer, the base of the engine's own.

A layer type is one class in layer_types/, found by the name it registers:

    @register("Power")
    class Power(TensorLayer):
        def compute(self, bottoms, params): ...

It gives its parameters' shapes and fillers, its tops' shapes for its bottoms' shapes, and its forward on tensors.
Autograd gives the backward unless the class brings a `gradient` of its own, because Caffe's gradient is another
one or because the layer is worth it. Wiring, phases, sharing and loss weights are the net's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from .blob import Blob, BlobVec, describe
from .errors import NetError
from .filler import fill
from .proto import caffe_pb2

Shape = tuple[int, ...]


class Layer:
    """A layer: what `net.layers` holds, and the class that a Python layer's own class derives from.

    A subclass used through `type: "Python"` defines setup, reshape, forward and backward (layer.hpp,
    python_layer.hpp). `bottom` and `top` are sequences of Blobs; parameters live in `self.blobs`.
    """

    type: str = "Python"
    param_str: str = ""
    phase: int = caffe_pb2.TEST

    def __new__(cls, *args: Any, **kwargs: Any) -> Layer:
        """Give a Python layer its parameter blobs even if its class has an __init__ of its own."""
        layer = super().__new__(cls)
        layer.blobs = BlobVec()
        return layer

    def __init__(self, layer_param: caffe_pb2.LayerParameter | None = None) -> None:
        self.layer_param = layer_param if layer_param is not None else caffe_pb2.LayerParameter()

    blobs: BlobVec
    layer_param: caffe_pb2.LayerParameter

    # True where force_backward may ask for the gradient of this bottom; losses say no for their labels.
    def allow_force_backward(self, bottom_index: int) -> bool:
        """Tell whether force_backward reaches this bottom (layer.hpp AllowForceBackward)."""
        return True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the settings, once, before the first reshape."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops their shapes; called before every forward."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the tops' data."""

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write the diff of each bottom that is asked for, and add to the parameters' diffs."""


class LayerVec(list[Layer]):
    """A list of layers, as pycaffe returns a net's."""


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

    Subclasses give `top_shapes` and `compute`, and where they need them `configure`, `param_shapes`, `gradient`.
    """

    # How many bottoms and tops the type takes: (least, most), None for any number (the *Blobs() of layer.hpp).
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    # Loss layers: the weight of the first top where the prototxt gives none, and a top made where it names none.
    default_loss_weight: ClassVar[float] = 0.0
    auto_top: ClassVar[bool] = False
    # Layers that refuse to write their top over their bottom.
    refuses_in_place: ClassVar[bool] = False

    def __init__(self, layer_param: caffe_pb2.LayerParameter) -> None:
        super().__init__(layer_param)
        self.type = layer_param.type
        self.name = layer_param.name
        self.phase = layer_param.phase
        # Which parameters need a gradient (layer.hpp param_propagate_down); the net sets it.
        self.param_propagate_down: list[bool] = []
        self.needs_backward = True
        self._shapes: list[Shape] | None = None
        self._input: Tensor | None = None

    # What a type says of itself

    def configure(self, shapes: list[Shape]) -> None:
        """Read and check the layer's settings, once, given the bottoms' first shapes."""

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return each parameter's shape and filler, for the bottoms' first shapes."""
        return []

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return the tops' shapes for the bottoms' shapes; raise through `fail` what cannot be."""
        return [shapes[0]]

    def compute(self, bottoms: list[Tensor], params: list[Tensor]) -> Tensor | Sequence[Tensor]:
        """Return the tops: new tensors, of no other blob's memory."""
        raise NotImplementedError

    def gradient(self, b: Backward) -> Gradients:
        """Return the gradients: by default, autograd through `compute` on the blobs as they are now."""
        with torch.enable_grad():
            bottoms = [x.detach().requires_grad_(w) for x, w in zip(b.bottoms, b.want_bottoms, strict=True)]
            params = [p.detach().requires_grad_(w) for p, w in zip(b.params, b.want_params, strict=True)]
            tops = self.compute(bottoms, params)
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
        """Work out the tops' shapes anew if a bottom's shape has changed."""
        shapes = [b.dims for b in bottom]
        if shapes != self._shapes or self._tops_moved(top):
            self._top_shapes = self.top_shapes(shapes)
            self._shapes = shapes
            for blob, shape in zip(top, self._top_shapes, strict=True):
                if shape != blob.dims and any(blob is b for b in bottom):
                    raise self.fail(
                        f"it makes {describe([shape])} of {describe([blob])}, so it cannot work in place; give its top "
                        "a name of its own."
                    )
                blob.reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Compute the tops from the bottoms on the current device."""
        bottoms = [b.data_tensor() for b in bottom]
        if top and top[0] is bottom[0] and self.needs_backward:
            # The gradient needs the input that the result is about to overwrite.
            self._input = bottoms[0].clone() if bottom[0].data_version is None else bottoms[0]
        for blob in top:
            blob.discard_data(unless_of=bottom)
        results = self.compute(bottoms, [p.data_tensor() for p in self.blobs])
        for blob, result in zip(top, [results] if isinstance(results, Tensor) else results, strict=True):
            blob.set_data(_owned(result, bottoms))

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
        grads = self.gradient(b)
        lent = [*b.top_diffs, *b.tops, *b.bottoms, *b.params]
        for param, grad in zip(self.blobs, grads.params, strict=False):
            if grad is not None:
                param.add_diff(_owned(grad, lent))
        for blob, grad in zip(bottom, grads.bottoms, strict=True):
            if grad is not None:
                blob.set_diff(_owned(grad, lent))

    def check_shapes(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Refuse a backward pass over blobs that were reshaped since the last reshape or forward."""
        if bottom and self._shapes is not None:
            if [b.dims for b in bottom] != self._shapes or self._tops_moved(top):
                raise self.fail(
                    f"its bottoms were {describe(self._shapes)} and its tops {describe(self._top_shapes)} when last "
                    f"shaped; now they are {describe(bottom)} and {describe(top)}. Run forward before backward."
                )
            if self._input is not None:
                self.check_kept(self._input, bottom[0].dims)

    def check_kept(self, kept: Tensor, dims: Shape) -> None:
        """Refuse a backward pass that needs what forward kept, if that is of another shape than the blob now."""
        if kept.shape != dims:
            raise self.fail(
                f"what the last forward kept for the gradient is {describe([kept.shape])}; the blob has been reshaped "
                f"to {describe([dims])} since. Run forward before backward."
            )

    def _tops_moved(self, top: Sequence[Blob]) -> bool:
        return any(t.dims != s for t, s in zip(top, self._top_shapes, strict=True))

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
    default_loss_weight = 1.0
    auto_top = True

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Refuse the label (loss_layer.hpp)."""
        return bottom_index != 1

    def top_shapes(self, shapes: list[Shape]) -> list[Shape]:
        """Return a scalar, once prediction and label agree in number (loss_layer.cpp)."""
        if shapes[0][:1] != shapes[1][:1] or not shapes[0]:
            raise self.fail(f"the data and label should have the same first dimension, not {describe(shapes)}.")
        return [()]

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Refuse a gradient for the label, which Caffe has none for either."""
        if len(propagate_down) > 1 and propagate_down[1] and not self.allow_force_backward(1):
            raise self.fail("cannot backpropagate to its label bottom.")
        super().backward(top, propagate_down, bottom)


def _owned(result: Tensor, lent: list[Tensor]) -> Tensor:
    """Return a tensor whose memory is none of `lent`'s and no larger than itself, so that a blob can own it."""
    start = result.data_ptr()
    shared = any(start == b.data_ptr() for b in lent) or result.untyped_storage().nbytes() != result.nbytes
    return result.clone(memory_format=torch.contiguous_format) if shared else result


LayerClass = TypeVar("LayerClass", bound="type[TensorLayer]")

_types: dict[str, type[TensorLayer]] = {}


def register(name: str, replaces: type[TensorLayer] | None = None) -> Callable[[LayerClass], LayerClass]:
    """Make a class the layer type of that name; a second class of a name is refused, unless the first is `replaces`."""

    def put(cls: LayerClass) -> LayerClass:
        if name in _types and _types[name] is not replaces:
            raise NetError(f"Layer type '{name}' is registered already, by {_types[name].__qualname__}.")
        _types[name] = cls
        return cls

    return put


def layer_class(name: str) -> type[TensorLayer] | None:
    """Return the class of a layer type, or None if there is none of that name."""
    return _types.get(name)


def layer_types() -> list[str]:
    """Return the names of all layer types, sorted, Python's included."""
    return sorted([*_types, "Python"])


def _without_leading_ones(shape: Shape) -> Shape:
    first = next((i for i, extent in enumerate(shape) if extent != 1), len(shape))
    return shape[first:]


def canonical_axis(axis: int, axes: int) -> int | None:
    """Return an axis counted from the front (-1 is the last), or None if there is no such axis."""
    return axis % axes if -axes <= axis < axes else None
