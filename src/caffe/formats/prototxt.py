"""Prototxt: protobuf's text form in and out, with errors that say where and what.

Google's text_format decides what parses. Only when it refuses a text is the text read a second time, here, to find
the message, the field and what was expected: text_format tells a position and little more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ..errors import NetError, PrototxtError, SolverError, nearest, why_not_opened
from ..proto import caffe_pb2
from . import file_kind, schema, upgrade
from .file_kind import Kind

AnyMessage = TypeVar("AnyMessage", bound=Message)
PathLike = str | os.PathLike[str]
MessageDescriptor = Any  # of another class in each of protobuf's implementations

_FIRST = 1 << 16  # bytes of a file that are looked at before the rest is read
_NO_TEXTS = {Kind.WEB_PAGE, Kind.LFS_POINTER, Kind.GZIP, Kind.ZIP, Kind.PICKLE, Kind.NUMPY, Kind.HDF5}
_MAX_SIZE = 1 << 28  # bytes of a prototxt; the largest of published nets has 1 MB


def read_net(path: PathLike) -> caffe_pb2.NetParameter:
    """Read a net's prototxt of any Caffe version, upgraded to today's fields.

    Raises PrototxtError: no such file (`Could not open file X`), another kind of file, or a text that does not parse.
    """
    text = _read_text(path, "net")
    net = parse_text(text, caffe_pb2.NetParameter(), os.fspath(path))
    mixed = _second_form_of_layers(text) if net.layer and net.layers else None
    try:
        upgrade.upgrade_net(net)
    except NetError as error:
        if mixed is not None:
            raise _located(str(error), text, mixed, os.fspath(path)) from error
        raise _error(f"{os.fspath(path)}: {error}", os.fspath(path), bare=True) from error
    return net


def read_solver(path: PathLike) -> caffe_pb2.SolverParameter:
    """Read a solver's prototxt, upgraded; an unset snapshot_prefix becomes the file's path without its extension.

    Raises PrototxtError, as read_net does.
    """
    solver = parse_text(_read_text(path, "solver"), caffe_pb2.SolverParameter(), os.fspath(path))
    try:
        upgrade.upgrade_solver(solver, os.fspath(path))
    except (NetError, SolverError) as error:
        raise _error(f"{os.fspath(path)}: {error}", os.fspath(path), bare=True) from error
    return solver


def parse_text(text: str, message: AnyMessage, source: str = "<text>") -> AnyMessage:
    """Parse a text into `message`, and return it.

    Raises PrototxtError, whose `path`, `line` and `column` (from 1) say where; `source` stands for the path in it.
    """
    read = schema.extended(message)  # the message itself, where a program has declared no fields
    deep = None if read is message else _nested_too_deep(text)  # only a declared message can hold itself
    if deep is not None:
        raise _located(_TOO_DEEP, text, deep, source)
    try:
        text_format.Parse(text, read)
        missing = read.FindInitializationErrors()  # type: ignore[attr-defined]
        if missing:
            fault = _find_fault(text, read.DESCRIPTOR, whole=True)
            raise _located(_missing_fields(read, missing), text, fault.offset if fault else 0, source)
        if read is not message:
            message.ParseFromString(read.SerializeToString())
    except text_format.ParseError as error:
        fault = _find_fault(text, read.DESCRIPTOR)
        if fault is not None:
            raise _located(fault.sentence, text, fault.offset, source) from None
        line, column = error.GetLine() or 1, error.GetColumn() or 1
        raise _error(f"it does not parse: {_library_words(error)}.", source, line, column) from None
    except RecursionError:
        raise _located(_TOO_DEEP, text, _nested_too_deep(text) or 0, source) from None
    return message


def to_text(message: Message) -> str:
    """Return a message as prototxt, as Caffe prints it, with what a program has declared for types of its own.

    Raises CaffeError if a declared field of it does not hold what was declared.
    """
    return str(schema.extended(message))


def _read_text(path: PathLike, kind: str) -> str:
    """Read a text file, or say what it is instead of a `kind`'s prototxt."""
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            content = file.read(_FIRST)
            found = _other_kind(content)
            if found is None:
                content += file.read(_MAX_SIZE)
                found = _other_kind(content)
    except FileNotFoundError:
        raise _error(f"Could not open file {name}", name, bare=True) from None
    except (OSError, ValueError) as error:
        raise _error(f"Could not open file {name}: {why_not_opened(error)}.", name, bare=True) from None
    if found:
        raise _error(f"{name} is {found}; a {kind}'s prototxt is a text file.", name, bare=True)
    text = _decode(content, name)
    if next(_tokens(text)).kind == "end":
        raise _error(f"{name} is empty: it holds no field of a {kind}.", name, bare=True)
    return text


def _other_kind(content: bytes) -> str | None:
    """Name the kind of file that has this content, or begins with it, or None if it may be a prototxt."""
    kind = file_kind.kind_of(content[: file_kind.FIRST])
    if kind in _NO_TEXTS:
        return kind.value
    if b"\0" in content:
        return "a binary file, perhaps weights (.caffemodel) or a solver's state"
    if len(content) > _MAX_SIZE:
        return f"a file of more than {_MAX_SIZE >> 20} MB"
    return None


def _decode(content: bytes, source: str) -> str:
    """Decode UTF-8; what is not may stand in comments, as Caffe has it, and nowhere else."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("utf-8-sig", errors="replace")
    for token in _tokens(text):
        if "\ufffd" in token.text:
            raise _located("this is not UTF-8; save the file in that encoding", text, token.offset, source)
        if token.kind == "stray":
            break  # it does not parse anyway
    return text


def _error(
    sentence: str, source: str, line: int | None = None, column: int | None = None, bare: bool = False
) -> PrototxtError:
    where = source if line is None else f"{source}:{line}:{column}"
    if not bare and sentence[-1] not in ".?":
        sentence += "."
    return PrototxtError(sentence if bare else f"{where}: {sentence}", source, line, column)


def _located(sentence: str, text: str, offset: int, source: str) -> PrototxtError:
    return _error(sentence, source, text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def _library_words(error: text_format.ParseError) -> str:
    """text_format's own sentence without position and quoted source line (which may be the whole file)."""
    words = str(error).rstrip(".")
    return words.rsplit("': ", 1)[-1].split(" : ", 1)[-1][:200]


def _missing_fields(message: Message, missing: list[str]) -> str:
    """Say which required fields are unset, as paths (layer[3].clip_param.max), and in which layers."""
    layers: dict[str, None] = {}  # a set that keeps its order
    for path in missing:
        found = re.match(r"(layers?)\[(\d+)\]", path)
        if found:
            layers[getattr(message, found[1])[int(found[2])].name] = None
    names = ", ".join(f'"{name}"' for name in layers)
    return f"not set, and required: {', '.join(missing)}" + (f" (layer {names})" if layers else "")


# Finding what text_format refused


class _Token(NamedTuple):
    kind: str  # "word" (a name or number), "string", "mark" (punctuation), "stray", or "end"
    text: str
    offset: int


class _Fault(Exception):
    """What is wrong with a text, and at which offset."""

    def __init__(self, offset: int, sentence: str) -> None:
        super().__init__(sentence)
        self.offset = offset
        self.sentence = sentence
        self.layer_known = False


_TOKEN = re.compile(
    r"""
    (?: \s+ | \#[^\n]* )+
  | (?P<string> "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' )
  | (?P<word> [\w.+-]+ )
  | (?P<mark> [{}<>\[\]:,;] )
  | (?P<stray> . )
    """,
    re.VERBOSE,
)
_INTEGER = re.compile(r"-?(0x[0-9a-f]+|\d+)", re.IGNORECASE)
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*(e[+-]?\d+)?f?|\.\d+(e[+-]?\d+)?f?|inf(inity)?f?|nan)", re.IGNORECASE)
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
_MAX_DEPTH = 50  # blocks in each other; Caffe's own schema has five
_TOO_DEEP = "its blocks are nested too deep to be a prototxt"
_LAYERS = ("LayerParameter", "V1LayerParameter", "V0LayerParameter")
_CLOSING = {"{": "}", "<": ">"}


def _tokens(text: str) -> Iterator[_Token]:
    for found in _TOKEN.finditer(text):
        if found.lastgroup is not None:
            yield _Token(found.lastgroup, found[0], found.start())
    yield _Token("end", "", len(text))


def _second_form_of_layers(text: str) -> int | None:
    """Return where a text that begins with `layer` blocks goes on with `layers`, or the other way round."""
    depth, first = 0, ""
    for token in _tokens(text):
        depth += (token.text in _CLOSING) - (token.text in _CLOSING.values())
        if depth == 0 and token.text in ("layer", "layers"):
            first = first or token.text
            if token.text != first:
                return token.offset
    return None


def _nested_too_deep(text: str) -> int | None:
    """Return where the blocks of a text become deeper than any net's, or None if they do not."""
    depth = 0
    for token in _tokens(text):
        depth += (token.text in _CLOSING) - (token.text in _CLOSING.values())
        if depth > _MAX_DEPTH:
            return token.offset
    return None


def _find_fault(text: str, descriptor: MessageDescriptor, whole: bool = False) -> _Fault | None:
    """Return the first fault of a text that should be a message, or None where none is seen.

    With `whole`, a block without one of its required fields is a fault too.
    """
    try:
        _FaultFinder(text, whole).fields(descriptor, closing="", opened_at=0, name="")
    except _Fault as fault:
        return fault
    return None


class _FaultFinder:
    """Walks a text beside the schema until they disagree.

    Caffe's schema does not nest in itself and unknown blocks are a fault, so that the recursion is a few levels deep.
    What a program declares may; such texts have been held to _MAX_DEPTH.
    """

    def __init__(self, text: str, whole: bool) -> None:
        self._whole = whole
        self._rest = _tokens(text)
        self._token = next(self._rest)
        self._last_string = ""
        self._around: list[MessageDescriptor] = []  # the messages that are open here, outermost first

    def fields(self, descriptor: MessageDescriptor, closing: str, opened_at: int, name: str) -> None:
        """Walk the fields of a message up to its closing bracket (the text's end, for the outermost)."""
        self._around.append(descriptor)
        self._walk(descriptor, closing, opened_at, name)
        self._around.pop()

    def _walk(self, descriptor: MessageDescriptor, closing: str, opened_at: int, name: str) -> None:
        given: set[str] = set()
        layer = ""
        while True:
            token = self._token
            if token.kind == "end":
                if closing:
                    raise _Fault(opened_at, f'the block "{name}" that begins here is not closed')
                return
            if token.text and token.text in "}>":
                if not closing:
                    raise _Fault(token.offset, f'this "{token.text}" closes nothing')
                if token.text != closing:
                    raise _Fault(
                        token.offset, f'"{token.text}" stands where "{closing}" should close the block "{name}"'
                    )
                if self._whole and any(_is_required(field) and field.name not in given for field in descriptor.fields):
                    raise _Fault(opened_at, f'the block "{name}" lacks a field that it needs')
                return
            try:
                field = self._field(descriptor, given)
                if field.name == "name" and token.kind == "word":
                    layer = self._last_string
            except _Fault as fault:
                if layer and not fault.layer_known and descriptor.name in _LAYERS:
                    fault.sentence = f'layer "{layer}": {fault.sentence}'
                    fault.layer_known = True
                raise

    def _field(self, descriptor: MessageDescriptor, given: set[str]) -> FieldDescriptor:
        token = self._token
        if token.kind != "word" or not (token.text[0].isalpha() or token.text[0] == "_"):
            raise _Fault(token.offset, f"{_shown(token)} stands where a field of {descriptor.name} should")
        field: FieldDescriptor | None = descriptor.fields_by_name.get(token.text)
        if field is None:
            hint = _hint(token.text, self._around)
            raise _Fault(token.offset, f"{descriptor.name} has no field {_shown(token)}{hint}")
        if field.name in given and not _is_repeated(field):
            raise _Fault(token.offset, f'"{field.name}" is given twice; {descriptor.name} has one')
        given.add(field.name)
        self._next()
        has_colon = self._take(":")
        if field.message_type is None and not has_colon:
            raise _Fault(
                self._token.offset,
                f'"{field.name}" of {descriptor.name} takes {_expected(field)}, after a colon: '
                f"{_shown(self._token)} stands there",
            )
        if self._token.text == "[" and _is_repeated(field):
            self._list(field, descriptor.name)
        else:
            self._value(field, descriptor.name)
        _ = self._take(",") or self._take(";")
        return field

    def _list(self, field: FieldDescriptor, owner: str) -> None:
        self._next()
        if self._take("]"):
            return
        self._value(field, owner)
        while not self._take("]"):
            if not self._take(","):
                found = f'{_shown(self._token)} stands in the list "{field.name}" where a comma or "]" should'
                raise _Fault(self._token.offset, found)
            self._value(field, owner)

    def _value(self, field: FieldDescriptor, owner: str) -> None:
        token = self._token
        if field.message_type is not None:
            if token.text not in _CLOSING:
                raise _Fault(
                    token.offset, f'"{field.name}" is a block, {field.name} {{ ... }}; {_shown(token)} stands there'
                )
            self._next()
            self.fields(field.message_type, _CLOSING[token.text], token.offset, field.name)
        elif not _is_value(field, token):
            raise _Fault(token.offset, _wrong_value(field, owner, token))
        self._next()
        if token.kind == "string":
            self._last_string = token.text[1:-1]
            while self._token.kind == "string":  # strings that follow each other are one
                self._next()

    def _next(self) -> None:
        self._token = next(self._rest, self._token)

    def _take(self, mark: str) -> bool:
        found = self._token.text == mark
        if found:
            self._next()
        return found


def _is_repeated(field: FieldDescriptor) -> bool:
    repeated = getattr(field, "is_repeated", None)  # protobuf 6.31 brought it, and 7 dropped `label`
    return bool(repeated) if repeated is not None else getattr(field, "label") == 3  # noqa: B009


def _is_required(field: FieldDescriptor) -> bool:
    required = getattr(field, "is_required", None)  # as is_repeated
    return bool(required) if required is not None else getattr(field, "label") == 2  # noqa: B009


def _is_value(field: FieldDescriptor, token: _Token) -> bool:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return token.kind == "string"
    if token.kind != "word":
        return False
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return token.text in ("true", "false", "t", "f", "1", "0", "True", "False")
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return bool(_FLOAT.fullmatch(token.text))
    if field.enum_type is not None and token.text in field.enum_type.values_by_name:
        return True
    if not _INTEGER.fullmatch(token.text):
        return False
    number = _integer(token.text)
    if number is None:
        return False
    if field.enum_type is not None:
        return number in field.enum_type.values_by_number
    least, most = _RANGES[kind]
    return least <= number <= most


def _integer(word: str) -> int | None:
    """Read a whole number as protobuf does, an octal one with a 0 in front; None for 08 and thousands of digits."""
    try:
        return int(word, 8 if re.fullmatch("-?0[0-7]+", word) else 0)
    except ValueError:
        return None


def _wrong_value(field: FieldDescriptor, owner: str, token: _Token) -> str:
    sentence = f'"{field.name}" of {owner} takes {_expected(field)}, not {_shown(token)}'
    if field.enum_type is not None:
        close = nearest(token.text.strip("\"'"), field.enum_type.values_by_name)
        return f"{sentence}; did you mean {close}?" if close else sentence
    if field.cpp_type in _RANGES and _INTEGER.fullmatch(token.text):
        least, most = _RANGES[field.cpp_type]
        return f"{sentence}, which is not between {least} and {most}"
    return sentence


def _expected(field: FieldDescriptor) -> str:
    kind = field.cpp_type
    if field.enum_type is not None:
        return _one_of(list(field.enum_type.values_by_name))
    if kind in _RANGES:
        return "a whole number"
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return "a string in quotes"
    return "true or false" if kind == FieldDescriptor.CPPTYPE_BOOL else "a number"


def _hint(name: str, around: list[MessageDescriptor]) -> str:
    """Say where an unknown field of the last of the open messages may belong, or what it may have been meant to be."""
    descriptor = around[-1]
    for outer in reversed(around[:-1]):
        if name in outer.fields_by_name:
            return f"; {outer.name} has: is a closing bracket missing before it?"
    roots = (caffe_pb2.NetParameter.DESCRIPTOR, caffe_pb2.SolverParameter.DESCRIPTOR)
    if descriptor.full_name in [root.full_name for root in roots]:
        for root, kind in zip(roots, ("net", "solver"), strict=True):
            if name in root.fields_by_name:
                return f"; {root.name} has: is this a {kind}'s prototxt?"
    blocks = [
        field.name for field in descriptor.fields if field.message_type and name in field.message_type.fields_by_name
    ]
    if 0 < len(blocks) <= 6:
        return f"; it is a field of {_one_of(blocks, 'and')}"
    close = nearest(name, descriptor.fields_by_name)
    if descriptor.name == "LayerParameter" and name.endswith("_param"):
        fork = "if it is a field of a Caffe fork, declare it with caffe.layer_type"
        return f'; did you mean "{close}"? Or {fork}' if close else f"; {fork}"
    if close:
        return f'; did you mean "{close}"?'
    fields = list(descriptor.fields_by_name)
    return f"; its fields are {_one_of(fields, 'and')}" if len(fields) <= 12 else ""


def _one_of(names: list[str], word: str = "or") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def _shown(token: _Token) -> str:
    """A token as an error shows it: whole if short."""
    if token.kind == "end":
        return "the end of the text"
    if token.kind == "stray" and token.text in "\"'":
        return "a quote that is not closed in its line"
    text = token.text if len(token.text) <= 60 else f"{token.text[:57]}..."
    return text if token.kind == "string" else f'"{text}"'


__all__ = ["parse_text", "read_net", "read_solver", "to_text"]
