"""Reads message definitions in protoc's language (proto2), as they stand in the caffe.proto of a fork.

What such files use is read: messages and enums, nested or not, optional, required and repeated fields, `default`,
`packed` and `deprecated`, comments. What none of them uses (oneof, map, group, extend, service) is refused by name.
"""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from google.protobuf import text_encoding
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from ..errors import PrototxtError

LABELS = {"optional": 1, "required": 2, "repeated": 3}
SCALARS = {
    name: FieldDescriptorProto.Type.Value(f"TYPE_{name.upper()}")
    for name in (
        *("double", "float", "int32", "int64", "uint32", "uint64", "sint32", "sint64"),
        *("fixed32", "fixed64", "sfixed32", "sfixed64", "bool", "string", "bytes"),
    )
}
_MAX_FIELD = (1 << 29) - 1
_MAX_DEPTH = 32
_TOKEN = re.compile(
    r"""
    (?: \s+ | //[^\n]* | /\*.*?\*/ )+
  | (?P<string> "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' )
  | (?P<word> [\w.+-]+ )
  | (?P<mark> [{}\[\]=;,] )
  | (?P<stray> . )
    """,
    re.VERBOSE | re.DOTALL,
)


class _Token(NamedTuple):
    kind: str  # "word", "string", "mark", "stray" or "end"
    text: str
    offset: int


def read_definitions(text: str) -> FileDescriptorProto:
    """Return the messages and enums that a text defines.

    Types that are no scalars are left as they are written: `type_name` without `type`.
    Raises PrototxtError, with `line` and `column`, for what is no such text.
    """
    return _Reader(text).file()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        found = (_Token(t.lastgroup, t[0], t.start()) for t in _TOKEN.finditer(text) if t.lastgroup)
        self._tokens = [*found, _Token("end", "", len(text))]
        self._at = 0

    def file(self) -> FileDescriptorProto:
        made = FileDescriptorProto()
        while self._token.kind != "end":
            word = self._word("message, enum")
            if word == "message":
                self._message(made.message_type.add(), depth=1)
            elif word == "enum":
                self._enum(made.enum_type.add())
            elif word in ("syntax", "package", "option"):
                self._skip_statement()
            elif word != ";":
                self._fail("a message or an enum should begin here", back=1)
        return made

    def _message(self, message: DescriptorProto, depth: int) -> None:
        message.name = self._name("message")
        if depth > _MAX_DEPTH:
            self._fail(f"messages are nested more than {_MAX_DEPTH} deep")
        self._expect("{")
        while not self._take("}"):
            word = self._word("a field, message, enum")
            if word == "message":
                self._message(message.nested_type.add(), depth + 1)
            elif word == "enum":
                self._enum(message.enum_type.add())
            elif word in LABELS:
                self._field(message, LABELS[word])
            elif word in ("reserved", "extensions", "option"):
                self._skip_statement()
            elif word != ";":
                self._fail(
                    "a field begins with optional, required or repeated (proto2; oneof, map and group are not read)",
                    back=1,
                )

    def _field(self, message: DescriptorProto, label: int) -> None:
        type_name = self._word("the field's type")
        start = self._at
        field = FieldDescriptorProto(name=self._name("field"), label=label)  # type: ignore[arg-type]
        if type_name in SCALARS:
            field.type = SCALARS[type_name]
        else:
            field.type_name = type_name
        self._expect("=")
        field.number = self._number("the field's number")
        if not 1 <= field.number <= _MAX_FIELD or 19000 <= field.number <= 19999:
            self._fail(f"a field's number is 1 to {_MAX_FIELD}, 19000 to 19999 excepted", back=1)
        for other in message.field:
            if other.name == field.name or other.number == field.number:
                self._at = start
                self._fail(f'{message.name} has two fields of this name or number, "{other.name} = {other.number}"')
        if self._take("["):
            self._options(field)
        self._expect(";")
        message.field.append(field)

    def _options(self, field: FieldDescriptorProto) -> None:
        while True:
            name = self._word("an option")
            self._expect("=")
            if name == "default":
                field.default_value = self._default(field)
            elif name == "packed":
                field.options.packed = self._word("true, false") == "true"
            elif name == "deprecated":
                self._word("true, false")
            else:
                self._fail(f'the option "{name}" is not read; default, packed and deprecated are', back=3)
            if self._take("]"):
                return
            self._expect(",")

    def _default(self, field: FieldDescriptorProto) -> str:
        """Return a default as a descriptor holds it."""
        token = self._token
        kind = field.type if field.HasField("type") else None
        if kind in (SCALARS["string"], SCALARS["bytes"]):
            parts = ""
            while self._token.kind == "string":
                parts += self._token.text[1:-1]
                self._at += 1
            if self._at and self._tokens[self._at - 1].kind == "string":
                return parts if kind == SCALARS["bytes"] else text_encoding.CUnescape(parts).decode()
            self._fail("a string in quotes should stand here")
        word = self._word("the default")
        if kind is None:  # an enum's value, by name
            return word
        if kind == SCALARS["bool"]:
            if word in ("true", "false"):
                return word
            self._fail("a bool's default is true or false", back=1)
        try:
            if kind in (SCALARS["float"], SCALARS["double"]):
                return word if word.lstrip("-") in ("inf", "nan") else repr(float(word))
            return str(_integer(word))
        except ValueError:
            self._at -= 1
            self._fail(f'"{token.text[:60]}" is no default of a field of this type')

    def _enum(self, enum: EnumDescriptorProto) -> None:
        enum.name = self._name("enum")
        self._expect("{")
        while not self._take("}"):
            word = self._word("a value of the enum")
            if word in ("option", "reserved"):
                if word == "option" and self._token.text == "allow_alias":
                    enum.options.allow_alias = True
                self._skip_statement()
            elif word != ";":
                self._expect("=")
                enum.value.add(name=word, number=self._number("the value's number"))
                if self._take("["):
                    while not self._take("]"):
                        self._advance()
                self._expect(";")
        if not enum.value:
            self._fail(f"the enum {enum.name} has no values", back=1)

    # Tokens

    @property
    def _token(self) -> _Token:
        return self._tokens[self._at]

    def _advance(self) -> None:
        if self._token.kind == "end":
            self._fail("the text ends within a definition")
        self._at += 1

    def _take(self, mark: str) -> bool:
        found = self._token.text == mark and self._token.kind == "mark"
        self._at += found
        return found

    def _expect(self, mark: str) -> None:
        if not self._take(mark):
            self._fail(f'"{mark}" should stand here')

    def _word(self, wanted: str) -> str:
        token = self._token
        if token.kind != "word" and token.text != ";":
            self._fail(f"{wanted} or the like should stand here" if "," in wanted else f"{wanted} should stand here")
        self._at += 1
        return token.text

    def _name(self, kind: str) -> str:
        if not re.fullmatch(r"[A-Za-z_]\w*", self._token.text, re.ASCII):
            self._fail(f"a {kind}'s name should stand here")
        self._at += 1
        return self._tokens[self._at - 1].text

    def _number(self, wanted: str) -> int:
        try:
            number = _integer(self._token.text)
            if not -(1 << 31) <= number < 1 << 31:
                raise ValueError
        except ValueError:
            self._fail(f"{wanted} should stand here")
        self._at += 1
        return number

    def _skip_statement(self) -> None:
        while not self._take(";"):
            self._advance()

    def _fail(self, sentence: str, back: int = 0) -> NoReturn:
        """Refuse the text at the current token, or at one `back` before it."""
        token = self._tokens[self._at - back]
        line = self._text.count("\n", 0, token.offset) + 1
        column = token.offset - self._text.rfind("\n", 0, token.offset)
        found = "the end of the text" if token.kind == "end" else f'"{token.text[:60]}"'
        raise PrototxtError(
            f"Message definitions, {line}:{column}: {sentence}; {found} is found.",
            "<message definitions>",
            line,
            column,
        )


def _integer(word: str) -> int:
    """Read a whole number as protoc does: decimal, 0x, or octal with a 0 in front."""
    if not re.fullmatch(r"[+-]?(0x[0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", word) or len(word) > 30:
        raise ValueError(word)
    return int(word, 8 if re.fullmatch(r"[+-]?0[0-7]+", word) else 0)


__all__ = ["read_definitions"]
