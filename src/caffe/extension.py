"""Layer types that a program adds, as those of Caffe's forks: a torch function, its shape rules and its settings.

    @caffe.layer_type(
        "Interp",
        proto="message LayerParameter { optional InterpParameter interp_param = 150; } message InterpParameter { ... }",
        top_shapes=lambda shapes, layer: [(*shapes[0][:2], layer.settings.height, layer.settings.width)],
    )
    def interp(bottoms, params, layer): ...

docs/adding-a-layer-type.md has a worked example.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from google.protobuf.message import Message
from torch import Tensor

from . import rng
from .blob import Blob, describe
from .errors import NetError
from .formats import schema
from .layer import layer_class, register
from .proto import caffe_pb2
from .tensor_layer import Backward, Gradients, Plan, Shape, TensorLayer

Count = int | tuple[int, int | None]
Filler = Message | Mapping[str, Any] | None
TensorFunction = Callable[[list[Tensor], list[Tensor], "FunctionLayer"], Tensor | Sequence[Tensor]]
TopShapes = Callable[[list[Shape], "FunctionLayer"], Sequence[Sequence[int]]]
ParamShapes = Callable[[list[Shape], "FunctionLayer"], Sequence[tuple[Sequence[int], Filler]]]
Implementation = TypeVar("Implementation", bound=Callable[..., Any])  # a function, or a subclass of TensorLayer


def layer_type(
    name: str,
    *,
    proto: str = "",
    settings: str | None = None,
    top_shapes: TopShapes | None = None,
    param_shapes: ParamShapes | None = None,
    bottoms: Count = 1,
    tops: Count = 1,
    loss: bool = False,
    labels: Sequence[int] = (),
    refuses_in_place: bool = False,
) -> Callable[[Implementation], Implementation]:
    """Make a function of torch tensors the layer type `name`.

    The function is called as `function(bottoms, params, layer)` with lists of float32 tensors, which it leaves as they
    are, and returns the top or a sequence of tops. Autograd differentiates it. `layer` has `settings` (the type's
    message, with its defaults), `phase`, `name`, `layer_param`, `generator(tensor)` for random draws, and `fail(...)`,
    which makes an error that names the layer.

    proto: what the fork's caffe.proto adds, see schema.declare. settings: the field of LayerParameter that holds the
    type's settings, `proto`'s only one by default; one of Caffe's own does too. top_shapes(shapes, layer): the tops'
    shapes for the bottoms' (default: each that of bottom 0; of a loss, a scalar). param_shapes(shapes, layer): a
    (shape, filler) for each parameter; the filler is a FillerParameter, a dict of its fields, or None for zeros.
    bottoms, tops: how many, a number or (least, most), most being None for any number. loss: the first top has loss
    weight 1 unless the net says otherwise, and need not be named. labels: the bottoms that get no gradient.

    A subclass of TensorLayer may stand in the function's place; it has its own rules, and gains `settings`.

    Raises PrototxtError or NetError for a declaration that cannot be, and for a type that exists. A function of the
    same module and name replaces its earlier self, as when a notebook's cell runs again.
    """

    rules = Rules(
        _count(name, "bottoms", bottoms), _count(name, "tops", tops), top_shapes, param_shapes, loss, tuple(labels),
        refuses_in_place,
    )  # fmt: skip

    def put(made: Implementation) -> Implementation:
        is_class = isinstance(made, type) and issubclass(made, TensorLayer)
        if not (is_class or inspect.isfunction(made)):
            raise NetError(f"Layer type '{name}' is a function or a subclass of TensorLayer, not {made!r}.")
        cls: Any = made if is_class else _class_of(made, rules)
        if is_class and rules != Rules():
            raise NetError(f"Layer type '{name}': a class has its own rules; give them in {cls.__qualname__}.")
        earlier = layer_class(name)
        if earlier is not None and _origin(earlier) != _origin(cls):
            raise NetError(
                f"Layer type '{name}', which {_origin(cls)} would define, is there already: {_origin(earlier)}. Give "
                "one of them another name."
            )
        added = schema.declare(proto, cls.__module__) if proto else []
        schema.declare_type(name, _settings_field(name, settings, added))
        cls.settings = _Settings()
        register(name, replaces=earlier)(cls)
        return made

    return put


@dataclass(frozen=True)
class Rules:
    """What layer_type is told of a function's layer type."""

    bottoms: tuple[int, int | None] = (1, 1)
    tops: tuple[int, int | None] = (1, 1)
    top_shapes: TopShapes | None = None
    param_shapes: ParamShapes | None = None
    loss: bool = False
    labels: tuple[int, ...] = ()
    refuses_in_place: bool = False


class _Settings:
    """The settings of a layer, read from its message once."""

    def __get__(self, layer: TensorLayer | None, owner: type) -> Any:
        if layer is None:
            return self
        field = schema.type_fields().get(layer.type)
        if field is None:
            raise layer.fail("its type declares no settings; give layer_type `proto`, or `settings`.")
        found = vars(layer)["settings"] = schema.settings_of(layer.layer_param, field)
        return found


class FunctionLayer(TensorLayer):
    """A layer whose type is a function; layer_type makes a subclass of each."""

    settings: Any
    function: ClassVar[staticmethod[Any, Any]]
    rules: ClassVar[Rules]

    def __init__(self, layer_param: caffe_pb2.LayerParameter) -> None:
        super().__init__(layer_param)
        self._top_count = 0
        self._drawn_from: dict[torch.device, Tensor] = {}  # the generators' states before forward's draws
        self._replaying = False

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Note the number of tops, which the shape rule must give, before all else."""
        self._top_count = len(top)
        super().setup(bottom, top)

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Refuse the labels."""
        return bottom_index not in self.rules.labels

    def param_shapes(self, shapes: list[Shape]) -> list[tuple[Shape, caffe_pb2.FillerParameter | None]]:
        """Return what the type's rule gives; no parameters without one."""
        rule = self.rules.param_shapes
        found = [] if rule is None else rule(shapes, self)
        try:
            return [(_shape(shape), _filler(filler)) for shape, filler in found]
        except (TypeError, ValueError) as error:
            raise self.fail(
                f"param_shapes gives a list of (shape, filler), a filler being a FillerParameter, a dict of its fields "
                f"or None; not {found!r} ({error})."
            ) from None

    def plan(self, shapes: list[Shape]) -> Plan:
        """Plan what the type's rule gives, one shape a top."""
        rule = self.rules.top_shapes
        if rule is not None:
            found = rule(shapes, self)
        elif self.rules.loss or not shapes:
            found = [()] * self._top_count
        else:
            found = [shapes[0]] * self._top_count
        try:
            made = [_shape(shape) for shape in found]
        except (TypeError, ValueError):
            raise self.fail(f"top_shapes gives a list of shapes, not {found!r}.") from None
        if len(made) != self._top_count:
            raise self.fail(f"top_shapes gives {len(made)} shape(s), {describe(made)}, for {self._top_count} top(s).")
        return Plan(tuple(made))

    def compute(self, plan: Plan, bottoms: list[Tensor], params: list[Tensor]) -> Sequence[Tensor]:
        """Return what the function gives, checked, in memory of its own."""
        if not self._replaying:
            self._drawn_from.clear()
        given = [*bottoms, *params]
        versions = [_version(x) for x in given]
        results = type(self).function(bottoms, params, self)
        for i, (x, version) in enumerate(zip(given, versions, strict=True)):
            if _version(x) != version:
                what = f"bottom {i}" if i < len(bottoms) else f"parameter {i - len(bottoms)}"
                raise self.fail(f"its function wrote over {what}; it must make new tensors (no `out=`, no `add_`).")
        tops = [results] if isinstance(results, Tensor) else results
        self._check(plan, tops, given)
        taken = {x.data_ptr() for x in given}
        made = []
        for top in tops:
            made.append(top.clone() if top.data_ptr() in taken else top.contiguous())
            taken.add(made[-1].data_ptr())
        return made

    def gradient(self, plan: Plan, b: Backward) -> Gradients:
        """Differentiate the function, with the random numbers that forward drew."""
        now = {where: rng.generator(where).get_state() for where in self._drawn_from}
        for where, state in self._drawn_from.items():
            rng.generator(where).set_state(state)
        self._replaying = True
        try:
            return super().gradient(plan, b)
        finally:
            self._replaying = False
            for where, state in now.items():
                rng.generator(where).set_state(state)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Refuse a gradient for a label."""
        for i in self.rules.labels:
            if i < len(propagate_down) and propagate_down[i]:
                raise self.fail(f"cannot backpropagate to bottom {i}, its label.")
        super().backward(top, propagate_down, bottom)

    def generator(self, like: Tensor) -> torch.Generator:
        """Return the generator to draw from on a tensor's device: caffe.set_random_seed's, saved in snapshots.

        In backward it draws again what it drew in forward.
        """
        made = rng.generator(like.device)
        if not self._replaying:
            self._drawn_from.setdefault(like.device, made.get_state())
        return made

    def _check(self, plan: Plan, tops: Any, given: list[Tensor]) -> None:
        """Refuse results that are not what the shape rule says, where the layer's other blobs are."""
        if not isinstance(tops, Sequence) or not all(isinstance(top, Tensor) for top in tops):
            raise self.fail(f"its function returned {_kind(tops)}; it must return a tensor, or a list of tensors.")
        if len(tops) != len(plan.tops):
            raise self.fail(f"its function returned {len(tops)} tensor(s) for {len(plan.tops)} top(s).")
        for i, (top, shape) in enumerate(zip(tops, plan.tops, strict=True)):
            if tuple(top.shape) != shape:
                raise self.fail(
                    f"its function returned the shape {describe([tuple(top.shape)])} for top {i}; by its shape rule "
                    f"that is {describe([shape])}."
                )
            if top.dtype != torch.float32:
                raise self.fail(f"its function returned {top.dtype} for top {i}; blobs are torch.float32.")
            if given and top.device != given[0].device:
                raise self.fail(
                    f"its function returned a tensor on {top.device} for top {i}; the layer's blobs are on "
                    f"{given[0].device}. Make tensors from others (x.new_zeros, torch.empty_like)."
                )


def _class_of(function: TensorFunction, rules: Rules) -> type[FunctionLayer]:
    attributes = {
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "__doc__": function.__doc__,
        "function": staticmethod(function),
        "rules": rules,
        "bottoms": rules.bottoms,
        "tops": rules.tops,
        "_default_loss_weight": 1.0 if rules.loss else 0.0,
        "auto_top": rules.loss,
        "refuses_in_place": rules.refuses_in_place,
    }
    return type(function.__name__, (FunctionLayer,), attributes)


def _origin(made: type) -> str:
    return f"{made.__module__}.{made.__qualname__}"


def _settings_field(name: str, settings: str | None, added: Sequence[str]) -> str | None:
    """Return the field that holds a type's settings."""
    if settings is not None or not added:
        return settings
    if len(added) > 1:
        raise NetError(
            f"Layer type '{name}': its declaration adds {', '.join(added)} to LayerParameter; say which of them holds "
            'the type\'s settings, settings="...".'
        )
    return added[0]


def _count(name: str, kind: str, count: Count) -> tuple[int, int | None]:
    least, most = (count, count) if isinstance(count, int) else count
    if least < 0 or (most is not None and most < least):
        raise NetError(f"Layer type '{name}': {kind} is a number or (least, most), not {count!r}.")
    return least, most


def _shape(shape: Sequence[int]) -> Shape:
    return tuple(int(extent) for extent in shape)


def _filler(filler: Filler) -> caffe_pb2.FillerParameter | None:
    if filler is None or isinstance(filler, caffe_pb2.FillerParameter):
        return filler
    if isinstance(filler, Mapping):
        return caffe_pb2.FillerParameter(**filler)
    plain: caffe_pb2.FillerParameter = schema.plain(filler)  # a filler that stood in a declared message
    return plain


def _version(x: Tensor) -> int:
    """Return what changes when a tensor is written to; inference tensors do not count."""
    return 0 if x.is_inference() else x._version


def _kind(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a {type(value).__name__} of {', '.join(sorted({type(item).__name__ for item in value})) or 'nothing'}"
    return f"a {type(value).__name__}"


__all__ = ["FunctionLayer", "layer_type"]
