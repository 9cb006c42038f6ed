"""Nets written in Python: ``L.Convolution(n.data, kernel_size=3, num_output=64)`` in place of prototxt.

    from caffe import layers as L, params as P

    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 224, 224]))
    n.conv1 = L.Convolution(n.data, kernel_size=3, num_output=64, weight_filler=dict(type="msra"))
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    print(n.to_proto())

A call of ``L.<Type>`` makes a Function (a layer to be) and gives its Tops (the blobs it will make); a
NetSpec gives tops their names; ``to_proto`` writes the layers, each after those that it reads from. Layer
types are not checked here: a type that a program registers by itself can be written like any other.
Behaviour: BVLC Caffe's python/caffe/net_spec.py.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from google.protobuf.message import Message

from .errors import nearest
from .formats import schema
from .proto import caffe_pb2


class UnknownTopError(AttributeError, KeyError):
    """A NetSpec was asked for a top that nothing has been assigned to.

    A KeyError because BVLC's NetSpec raises one even for an attribute, an AttributeError so that ``hasattr``
    and ``copy`` work.
    """

    __str__ = Exception.__str__  # KeyError's would put the sentence in quotes


def param_name_dict() -> dict[str, str]:
    """Which LayerParameter field holds a type's own message: ``{"Pooling": "pooling", "LRN": "lrn", ...}``.

    Keys are message names without "Parameter", values field names without "_param"; and so for the types that a
    program has declared, by their own names too.
    """
    fields = {name: field for name, field in schema.layer_fields().items() if name.endswith("_param")}
    names = {
        field.message_type.name.removesuffix("Parameter"): name.removesuffix("_param") for name, field in fields.items()
    }
    declared = {kind: name.removesuffix("_param") for kind, name in schema.type_fields().items() if name in fields}
    return {**names, **declared}


@functools.lru_cache(maxsize=1)
def _param_names(generation: int) -> dict[str, str]:
    """Return param_name_dict() as it is at a generation of the schema."""
    return param_name_dict()


def to_proto(*tops: Top | Function) -> caffe_pb2.NetParameter:
    """The net that computes ``tops``, with names made up from types: Convolution1, ReLU1, Convolution2."""
    for top in tops:
        if not isinstance(top, Top | Function):
            raise TypeError(f"to_proto takes Tops made by L.<Type>(...), not {top!r}")
    return _net_of(tops, names={})


def assign_proto(proto: Any, name: str, val: Any) -> None:
    """Set field ``name`` of a message from a plain Python value.

    A dict fills a message, a list or tuple adds to a repeated field, and a single value to a repeated field
    is a list of one. Raises AttributeError for a field that the message does not have, TypeError or
    ValueError for a value that the field does not take; each names the field.
    """
    field = proto.DESCRIPTOR.fields_by_name.get(name)
    message = proto.DESCRIPTOR.name
    if field is None:
        raise AttributeError(f"{message} has no field {name!r}{_nearest(name, proto.DESCRIPTOR.fields_by_name)}")
    current = getattr(proto, name)
    repeated = hasattr(current, "extend")
    if isinstance(val, list | tuple) and not repeated:
        raise TypeError(f"{message}.{name} takes one value, not the {type(val).__name__} {val!r}")
    if field.message_type is None:
        try:
            if repeated:
                current.extend(map(_plain, val if isinstance(val, list | tuple) else [val]))
            else:
                setattr(proto, name, _plain(val))
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{message}.{name} cannot be {val!r}: {error}") from None
        return
    for item in val if isinstance(val, list | tuple) else [val]:
        if not isinstance(item, Mapping | Message):
            raise TypeError(f"{message}.{name} is a {field.message_type.name}: give its fields as a dict, not {item!r}")
        part = current.add() if repeated else current
        if isinstance(item, Message):
            if item.DESCRIPTOR.full_name != part.DESCRIPTOR.full_name:
                raise TypeError(f"{message}.{name} is a {field.message_type.name}, not a {item.DESCRIPTOR.name}")
            part.MergeFromString(item.SerializePartialToString())  # either may know of fields that the other does not
            continue
        for key, value in item.items():
            assign_proto(part, key, value)


class Top:
    """One blob that a layer will make: number ``n`` of the tops of ``fn``."""

    def __init__(self, fn: Function, n: int) -> None:
        self.fn = fn
        self.n = n

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The net that computes this top, with names made up from the types."""
        return to_proto(self)


class Function:
    """A layer to be: its type, the tops that it reads, and its parameters as given.

    ``params`` may hold ``ntop`` (how many tops it makes, 1) and ``in_place`` (its tops are its bottoms); the
    rest are the layer's fields. Raises TypeError if an input is not a Top, or ``ntop`` is no number of them.
    """

    def __init__(self, type_name: str, inputs: Iterable[Top], params: dict[str, Any]) -> None:
        self.type_name = type_name
        self.inputs = tuple(inputs)
        for i, bottom in enumerate(self.inputs):
            if not isinstance(bottom, Top):
                raise TypeError(f"{type_name} input {i} is not a Top (type is {type(bottom)})")
        self.params = params
        self.ntop: int = params.pop("ntop", 1)
        if not isinstance(self.ntop, int) or self.ntop < 0:
            raise TypeError(f"{type_name}: ntop is how many tops the layer makes, 0 or more, not {self.ntop!r}")
        self.in_place: bool = params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def to_layer(
        self, bottoms: list[str], names: dict[Top | Function, str], made_up: Counter[str]
    ) -> caffe_pb2.LayerParameter:
        """This layer's message. ``names`` gains the names made up on the way, ``made_up`` counts them.

        A layer bears the name of its first top, whether given or made up; one without tops has its own.
        """

        def name_of(thing: Top | Function) -> str:
            if thing not in names:
                made_up[self.type_name] += 1
                names[thing] = f"{self.type_name}{made_up[self.type_name]}"
            return names[thing]

        layer = schema.extended(caffe_pb2.LayerParameter(type=self.type_name, bottom=bottoms))
        layer.top.extend(bottoms if self.in_place else [name_of(top) for top in self.tops])
        layer.name = name_of(self.tops[0] if self.tops else self)
        for key, value in self.params.items():
            try:
                self._assign(layer, key, value)
            except (AttributeError, TypeError, ValueError) as error:
                raise type(error)(f"{self.type_name} layer {layer.name!r}: {error}") from None
        return layer

    def _assign(self, layer: caffe_pb2.LayerParameter, key: str, value: Any) -> None:
        """Set ``key`` in the type's own message if that has such a field, else in the layer."""
        fields = layer.DESCRIPTOR.fields_by_name
        own = fields.get(_param_names(schema.generation()).get(self.type_name, "") + "_param")
        settings = None if own is None else own.message_type
        if own is not None and settings is not None and not key.endswith("param") and key in settings.fields_by_name:
            assign_proto(getattr(layer, own.name), key, value)
        elif key in fields:
            assign_proto(layer, key, value)
        else:
            raise AttributeError(_unknown_parameter(self.type_name, own, key))


class NetSpec:
    """A net whose tops have names: assign to attributes (``n.conv1 = ...``) or items (``n["a/b"] = ...``).

    Layers come out in the order of assignment, each with what it reads before it.
    """

    tops: dict[str, Top | Function]

    def __init__(self) -> None:
        super().__setattr__("tops", {})

    def __setattr__(self, name: str, value: Top | Function) -> None:
        if not isinstance(value, Top | Function):
            hint = "; a layer with ntop=2 is assigned to two names, n.a, n.b = ..." if _is_tops(value) else ""
            raise TypeError(f"{name!r} must be a Top made by L.<Type>(...), not {type(value).__name__!r}{hint}")
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        tops = self.__dict__.get("tops", {})  # copy and pickle ask before __init__ has run
        if name not in tops:
            raise UnknownTopError(f"no top is named {name!r}{_nearest(name, tops)}")
        return tops[name]

    def __delattr__(self, name: str) -> None:
        self.__getattr__(name)
        del self.tops[name]

    def __setitem__(self, name: str, value: Top | Function) -> None:
        self.__setattr__(name, value)

    def __getitem__(self, name: str) -> Any:
        return self.__getattr__(name)

    def __delitem__(self, name: str) -> None:
        self.__delattr__(name)

    def to_proto(self) -> caffe_pb2.NetParameter:
        """The net of all assigned tops; what they read that has no name gets one made up from its type.

        Raises AttributeError, TypeError or ValueError for a parameter that a layer cannot take.
        """
        return _net_of(self.tops.values(), names={top: name for name, top in self.tops.items()})


class Layers:
    """What ``caffe.layers`` is: ``L.<Type>(*bottoms, ntop=1, in_place=False, **parameters)``.

    Gives one Top, a tuple of Tops for ``ntop`` above 1, or the Function itself for ``ntop=0``.
    """

    def __getattr__(self, type_name: str) -> Callable[..., Any]:
        if type_name.startswith("__"):  # Python's own questions (copy, inspect, doctest) are not layer types
            raise AttributeError(type_name)

        def layer(*bottoms: Top, **params: Any) -> Top | tuple[Top, ...] | Function:
            fn = Function(type_name, bottoms, params)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        return layer


class Parameters:
    """What ``caffe.params`` is: ``P.Pooling.MAX`` is the constant MAX of the message PoolingParameter."""

    def __getattr__(self, name: str) -> ParameterConstants:
        message = schema.message_class(f"{name}Parameter")
        if message is None:
            known = [m.removesuffix("Parameter") for m in schema.message_names() if m.endswith("Parameter")]
            raise AttributeError(f"caffe.proto has no message {name}Parameter{_nearest(name, known)}")
        return ParameterConstants(message)


class ParameterConstants:
    """The enum constants of one message, as attributes."""

    def __init__(self, message: Any) -> None:
        self._message = message

    def __getattr__(self, constant: str) -> Any:
        if constant.startswith("_"):  # Python's own questions (copy, pickle, inspect)
            raise AttributeError(constant)
        if not hasattr(self._message, constant):
            known = [value for enum in self._message.DESCRIPTOR.enum_types for value in enum.values_by_name]
            raise AttributeError(
                f"{self._message.DESCRIPTOR.name} has no constant {constant!r}{_nearest(constant, known)}"
            )
        return getattr(self._message, constant)


def _net_of(roots: Iterable[Top | Function], names: dict[Top | Function, str]) -> caffe_pb2.NetParameter:
    """The layers that compute ``roots``, each once, depth first, after the layers of its inputs in order."""
    layers: dict[Function, caffe_pb2.LayerParameter] = {}
    made_up: Counter[str] = Counter()
    # A stack of our own: a net of some hundred layers, reached from its loss, is deeper than Python recurses.
    pending = [_function_of(root) for root in roots][::-1]
    while pending:
        fn = pending[-1]
        missing = [bottom.fn for bottom in fn.inputs if bottom.fn not in layers]
        if fn in layers:
            pending.pop()
        elif missing:
            pending.append(missing[0])
        else:
            bottoms = [layers[bottom.fn].top[bottom.n] for bottom in fn.inputs]
            layers[fn] = fn.to_layer(bottoms, names, made_up)
    net = schema.extended(caffe_pb2.NetParameter())
    net.layer.extend(layers.values())
    as_caffe: caffe_pb2.NetParameter = schema.plain(net)
    # Programs print nets with str(), which shows declared fields in a message that knows them only.
    return as_caffe if as_caffe is net or str(as_caffe) == str(net) else net


def _function_of(root: Top | Function) -> Function:
    return root.fn if isinstance(root, Top) else root


def _plain(value: Any) -> Any:
    """Return numpy's numbers as Python's, of which every protobuf takes all kinds."""
    return value.item() if isinstance(value, np.generic) else value


def _is_tops(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(top, Top) for top in value)


def _nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error's sentence: the known name nearest to a wrong one, or what there is."""
    names = list(known)
    close = nearest(name, names)
    if close:
        return f"; did you mean {close!r}?"
    return f"; it has {', '.join(sorted(names))}" if names else "; it has none"


def _unknown_parameter(type_name: str, own: Any, key: str) -> str:
    """The sentence for a keyword that neither the type's own message nor LayerParameter has."""
    layer_fields = schema.layer_fields()
    if own is not None:
        fields = own.message_type.fields_by_name
        known = {**fields, **layer_fields} if key.endswith("param") else fields
        return f"neither {own.name} nor the layer has a field {key!r}{_nearest(key, known)}"
    homes = [
        field.name
        for field in layer_fields.values()
        if field.message_type is not None and key in field.message_type.fields_by_name
    ]
    sentence = f"{type_name} has no message of its own, and a layer no field {key!r}"
    if homes:
        return f"{sentence}; it is a field of {', '.join(homes)}: write {homes[0]}=dict({key}=...)"
    return f"{sentence}{_nearest(key, layer_fields)}"


layers = Layers()
params = Parameters()
