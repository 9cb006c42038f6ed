"""The messages of caffe.proto, and what programs declare beside them for the layer types of Caffe's forks.

The classes of caffe_pb2 cannot grow fields. In them a declared field travels as what protobuf calls an unknown field:
copying, writing and reading keep it, `str()` does not show it. Classes that know the declared fields are made from
caffe.proto with those fields added, in a descriptor pool of their own, and messages pass between the two as bytes.
Where nothing is declared there are no such classes, and nothing is converted.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, EncodeError, Message

from ..errors import CaffeError, NetError
from ..proto import caffe_pb2
from .definitions import read_definitions

AnyMessage = TypeVar("AnyMessage", bound=Message)

_PACKAGE = f".{caffe_pb2.DESCRIPTOR.package}"
_FLOATS = (FieldDescriptorProto.TYPE_FLOAT, FieldDescriptorProto.TYPE_DOUBLE)


class _Declaration(NamedTuple):
    module: str
    definitions: FileDescriptorProto


_declared: dict[tuple[str, ...], _Declaration] = {}
_classes: dict[str, type[Message]] = {}  # by name, those that know the declared fields; empty if there are none
_type_fields: dict[str, str] = {}
_generation = 0


def declare(proto: str, module: str | None = None) -> list[str]:
    """Add message definitions to caffe.proto's, for this process, and return the names of LayerParameter's new fields.

    `proto` is what a fork's caffe.proto adds, in its own words:

        message LayerParameter { optional NormalizeParameter norm_param = 206; }
        message NormalizeParameter { optional bool across_spatial = 1 [default = true]; }

    A message that Caffe has gains the fields given here; what repeats Caffe's own is passed over. Prototxts are read
    and printed with these fields from now on, and NetSpec takes them. `module` (default: the caller's) is who declares:
    the same module may declare its messages anew, as when a notebook's cell runs again.

    Raises PrototxtError for a text that does not parse, NetError if a name or number is taken.
    """
    global _declared, _classes, _generation
    definitions = read_definitions(proto)
    if module is None:
        module = sys._getframe(1).f_globals.get("__name__", "?")
    made = {**_declared, _key(module, definitions): _Declaration(module, definitions)}
    classes = _make_classes(_merged(made.values()))
    _declared, _classes = made, classes
    _generation += 1
    own = [m for m in definitions.message_type if m.name == "LayerParameter"]
    known = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    return [field.name for message in own for field in message.field if field.name not in known]


def declare_type(type_name: str, field: str | None) -> None:
    """Say which field of LayerParameter holds the settings of a layer type; NetError if there is no such field."""
    global _generation
    _generation += 1
    if field is None:
        _type_fields.pop(type_name, None)
        return
    if field not in layer_fields():
        raise NetError(f"Layer type '{type_name}': LayerParameter has no field '{field}' to hold its settings.")
    _type_fields[type_name] = field


def generation() -> int:
    """Return a number that changes whenever something is declared."""
    return _generation


def type_fields() -> dict[str, str]:
    """Return which field of LayerParameter holds a declared type's settings, by type."""
    return dict(_type_fields)


def layer_fields() -> Mapping[str, Any]:
    """Return LayerParameter's fields by name, declared ones included."""
    return _classes.get("LayerParameter", caffe_pb2.LayerParameter).DESCRIPTOR.fields_by_name


def message_class(name: str) -> type[Message] | None:
    """Return the class of a message of caffe.proto or of a declaration, or None if there is none of that name."""
    return _classes.get(name) or getattr(caffe_pb2, name, None)


def message_names() -> list[str]:
    """Return the names of all messages, declared ones included."""
    return list(_classes or caffe_pb2.DESCRIPTOR.message_types_by_name)


def extended(message: AnyMessage) -> AnyMessage:
    """Return a copy of a caffe_pb2 message that knows the declared fields; the message itself if nothing is declared.

    Raises CaffeError if a declared field of it does not hold what was declared.
    """
    name = message.DESCRIPTOR.name
    if not _classes or type(message) is not getattr(caffe_pb2, name, None):
        return message
    return _convert(message, _classes[name])  # type: ignore[return-value]


def plain(message: Message) -> Any:
    """Return a message as caffe_pb2's class of its name: a copy if it is of another class, else the message itself."""
    cls = getattr(caffe_pb2, message.DESCRIPTOR.name)
    return message if type(message) is cls else _convert(message, cls)


def settings_of(param: caffe_pb2.LayerParameter, field: str) -> Any:
    """Return a layer's settings: LayerParameter's field of that name, Caffe's own or declared, with its defaults."""
    if field in param.DESCRIPTOR.fields_by_name:
        return getattr(param, field)
    try:
        return getattr(extended(param), field)
    except CaffeError as error:
        raise NetError(f"Layer '{param.name}' ({param.type}): {error}") from error


def _convert(message: Message, cls: type[Message]) -> Message:
    try:
        return cls.FromString(message.SerializePartialToString())
    except (DecodeError, EncodeError, RecursionError) as error:
        raise CaffeError(
            f"its {message.DESCRIPTOR.name} does not hold what was declared for it, or nests too deep ({error})."
        ) from None


# Putting the declarations together


def _key(module: str, definitions: FileDescriptorProto) -> tuple[str, ...]:
    """Return what a declaration is known by: its module, its new messages and the fields that it adds to Caffe's."""
    names = {enum.name for enum in definitions.enum_type}
    for message in definitions.message_type:
        if message.name in caffe_pb2.DESCRIPTOR.message_types_by_name:
            names.update(f"{message.name}.{field.name}" for field in message.field)
        else:
            names.add(message.name)
    return (module, *sorted(names))


def _merged(declarations: Iterable[_Declaration]) -> FileDescriptorProto:
    """Return caffe.proto with all declarations added; NetError if two of them, or one and Caffe, disagree."""
    merged = FileDescriptorProto()
    caffe_pb2.DESCRIPTOR.CopyToProto(merged)
    origins: dict[str, str] = {}  # who declared a message, an enum or a field
    for module, definitions in declarations:
        added = FileDescriptorProto()
        added.CopyFrom(definitions)
        kinds = {**_kinds(merged), **_kinds(added)}
        for message in added.message_type:
            _resolve(message, _PACKAGE, kinds)
        for enum in added.enum_type:
            _add_whole(enum.name, enum, merged.enum_type, origins, module)
        for message in added.message_type:
            known = next((m for m in merged.message_type if m.name == message.name), None)
            if known is None or message.name in origins:
                _add_whole(message.name, message, merged.message_type, origins, module)
            else:
                _add_fields(message, known, origins, module)
    return merged


def _add_whole(name: str, new: Any, known: Any, origins: dict[str, str], module: str) -> None:
    """Add a message or an enum, unless it is there already just so."""
    for other in known:
        if other.name == name:
            if other != new:
                raise NetError(
                    f"{name}, which module {module} declares, is {_by(origins.get(name))} with another content. Give "
                    "it another name in the declaration: the names of messages and enums are in no file."
                )
            return
    known.append(new)
    origins[name] = module


def _add_fields(new: DescriptorProto, known: DescriptorProto, origins: dict[str, str], module: str) -> None:
    """Add fields to one of Caffe's messages."""
    for field in new.field:
        taken = next((f for f in known.field if field.name == f.name or field.number == f.number), None)
        if taken is None:
            known.field.append(field)
            origins[f"{known.name}.{field.name}"] = module
        elif _meaning(field) != _meaning(taken):
            raise NetError(
                f"{known.name}: {_shown(field)}, which module {module} declares, and {_shown(taken)}, "
                f"{_by(origins.get(f'{known.name}.{taken.name}'))}, cannot both be. Any free number will do for "
                "prototxts; only binary files that a fork wrote hold the number of its own."
            )
    for kind in ("nested_type", "enum_type"):
        for inner in getattr(new, kind):
            _add_whole(inner.name, inner, getattr(known, kind), origins, module)


def _by(module: str | None) -> str:
    return "Caffe's own" if module is None else f"declared by module {module}"


def _shown(field: FieldDescriptorProto) -> str:
    type_name = field.type_name.removeprefix(f"{_PACKAGE}.") or FieldDescriptorProto.Type.Name(field.type)[5:].lower()
    return f"`{type_name} {field.name} = {field.number}`"


def _meaning(field: FieldDescriptorProto) -> tuple[Any, ...]:
    """Return what two fields must have in common to be the same; a number may be written in more than one way."""
    default: Any = field.default_value if field.HasField("default_value") else None
    if default is not None and field.type in _FLOATS:
        default = array("f", [float(default)]).tobytes()
    return field.name, field.number, field.label, field.type, field.type_name, default, field.options.packed


def _kinds(file: FileDescriptorProto) -> dict[str, int]:
    """Return whether each full name of a file is a message's or an enum's."""

    def of(message: DescriptorProto, scope: str) -> Iterator[tuple[str, int]]:
        name = f"{scope}.{message.name}"
        yield name, FieldDescriptorProto.TYPE_MESSAGE
        for enum in message.enum_type:
            yield f"{name}.{enum.name}", FieldDescriptorProto.TYPE_ENUM
        for inner in message.nested_type:
            yield from of(inner, name)

    kinds: dict[str, int] = {f"{_PACKAGE}.{enum.name}": FieldDescriptorProto.TYPE_ENUM for enum in file.enum_type}
    for message in file.message_type:
        kinds.update(of(message, _PACKAGE))
    return kinds


def _resolve(message: DescriptorProto, scope: str, kinds: dict[str, int]) -> None:
    """Find what the fields' types mean, from the innermost scope outwards, as protoc does."""
    scope = f"{scope}.{message.name}"
    for field in message.field:
        if field.HasField("type"):
            continue
        around, found = scope, ""
        while not found:
            candidate = field.type_name if field.type_name[0] == "." else f"{around}.{field.type_name}"
            if candidate in kinds:
                found = candidate
            elif not around:
                raise NetError(
                    f"{message.name}.{field.name} is of the type {field.type_name}, which is neither Caffe's nor "
                    "defined beside it; declare that message or enum too."
                )
            around = around.rpartition(".")[0]
        field.type_name, field.type = found, kinds[found]  # type: ignore[assignment]
    for inner in message.nested_type:
        _resolve(inner, scope, kinds)


def _make_classes(file: FileDescriptorProto) -> dict[str, type[Message]]:
    pool = DescriptorPool()
    try:
        pool.AddSerializedFile(file.SerializeToString())
        return {
            message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{message.name}"))
            for message in file.message_type
        }
    except (TypeError, ValueError, KeyError) as error:
        raise NetError(f"protobuf refuses the declared messages: {error}") from error


__all__ = [
    "declare",
    "declare_type",
    "extended",
    "generation",
    "layer_fields",
    "message_class",
    "message_names",
    "plain",
    "settings_of",
    "type_fields",
]
