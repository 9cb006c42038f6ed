"""Layer: what every layer is to the net, and the registry of the layer types.

A layer type of the engine's own is one class in one file of layer_types/, found by the name that it registers; most
are a TensorLayer (tensor_layer.py). A layer of a program's own derives from Layer and is named by `type: "Python"`.
Wiring, phases, sharing and loss weights are the net's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from .blob import Blob, BlobVec
from .errors import NetError
from .proto import caffe_pb2


class Layer:
    """A layer: what `net.layers` holds, and the class that a Python layer's own class derives from.

    A subclass used through `type: "Python"` defines setup, reshape, forward and backward (layer.hpp,
    python_layer.hpp). `bottom` and `top` are sequences of Blobs; parameters live in `self.blobs`.
    """

    type: str = "Python"
    param_str: str = ""
    phase: int = caffe_pb2.TEST

    # The weight of the first top in the loss where the prototxt gives none; for the net, as the last methods are.
    _default_loss_weight: ClassVar[float] = 0.0

    blobs: BlobVec
    layer_param: caffe_pb2.LayerParameter

    def __new__(cls, *args: Any, **kwargs: Any) -> Layer:
        """Give a Python layer its parameter blobs even if its class has an __init__ of its own."""
        layer = super().__new__(cls)
        layer.blobs = BlobVec()
        return layer

    def __init__(self, layer_param: caffe_pb2.LayerParameter | None = None) -> None:
        self.layer_param = layer_param if layer_param is not None else caffe_pb2.LayerParameter()

    # What a layer does

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the settings, once, before the first reshape."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops their shapes; called before every forward."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the tops' data."""

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write the diff of each bottom that is asked for, and add to the parameters' diffs."""

    # What the net asks and tells, under names that a program's own class will not have; the defaults are for that

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Tell whether force_backward reaches this bottom (layer.hpp AllowForceBackward); no label's, say."""
        return True

    def _unnamed_tops(self, named: int) -> int:
        """Return how many tops the net makes beyond the `named` ones: a loss may leave its top out."""
        return 0

    def _note_gradients(self, of_params: Sequence[bool], needs_backward: bool) -> None:
        """Be told which parameters' gradients are wanted, and whether the layer will run backward at all."""

    def _gives_gradients(self) -> list[bool]:
        """Tell of each parameter whether a backward pass adds to its diff."""
        return [True] * len(self.blobs)

    def _forward_pass(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops and write them, as one step of a net's forward pass."""
        self.reshape(bottom, top)
        self.forward(bottom, top)

    def _backward_pass(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Run backward as one step of a net's backward pass."""
        self.backward(top, propagate_down, bottom)


class LayerVec(list[Layer]):
    """A list of layers, as pycaffe returns a net's."""


LayerClass = TypeVar("LayerClass", bound="type[Layer]")

_types: dict[str, type[Layer]] = {}


def register(name: str, replaces: type[Layer] | None = None) -> Callable[[LayerClass], LayerClass]:
    """Make a class the layer type of that name; a second class of a name is refused, unless the first is `replaces`."""

    def put(cls: LayerClass) -> LayerClass:
        if name in _types and _types[name] is not replaces:
            raise NetError(f"Layer type '{name}' is registered already, by {_types[name].__qualname__}.")
        _types[name] = cls
        return cls

    return put


def layer_class(name: str) -> type[Layer] | None:
    """Return the class of a layer type, or None if there is none of that name."""
    return _types.get(name)


def type_names() -> list[str]:
    """Return the names of all layer types, sorted, Python's included."""
    return sorted([*_types, "Python"])
