"""Prototxt, protobuf's text format. Every error has its file, line and layer.

`google.protobuf.text_format` reads the same text, but does not say which layer an error is in, and forgets the lines, which
errors of the net need later. The grammar is that of C++ protobuf (`TextFormat` and `io::Tokenizer`) for proto2 messages,
which Caffe uses.
"""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn, cast

from google.protobuf import descriptor_pb2, text_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.message import Message

from ..errors import Place, PrototxtError, did_you_mean
from .caffe_pb2 import LayerParameter, NetParameter, SolverParameter, V0LayerParameter, V1LayerParameter
from .source import Source, label, named_part
from .upgrade import V1_TYPES

MAX_DEPTH = 100  # nested messages; the default of C++ protobuf
MAX_MIB = 256  # the limit of a file: text is not larger, and a device file has no end
_SHOWN = 60  # characters of a token that an error message shows

# One of the alternatives always matches, so reading takes linear time. Only single characters are repeated without limit,
# because `re` keeps a hundred bytes for each repetition of a group. A `number` is any run that begins like a number, even
# with too many exponents. A `string` is only its quote. An `other` is a brace, a separator or the start of an error.
_TOKEN = re.compile(
    r"""[ \t\n\v\f\r]*
    (?: (?P<name> [A-Za-z_][A-Za-z0-9_]* )
      | (?P<number> \.?[0-9] [A-Za-z0-9_.]* (?: (?<=[eE])[+-] [A-Za-z0-9_.]* ){0,2} )
      | (?P<string> ["'] )
      | (?P<comment> \#[^\n]* )
      | (?P<end> \Z )
      | (?P<other> [\s\S] )
    )""",
    re.VERBOSE,
)
_INTEGER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
_FLOAT = re.compile(r"(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?")
_NOT_FINITE = {"inf": "inf", "inff": "inf", "infinity": "inf", "nan": "nan", "nanf": "nan"}
_BOOLS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
_CLOSING = {"{": "}", "<": ">"}
_ESCAPE = re.compile(
    rb"""\\ (?: (?P<octal> [0-7]{1,3} )
      | [xX] (?P<hex> [0-9a-fA-F]{1,2} )
      | u (?P<head> [dD][89abAB][0-9a-fA-F]{2} ) \\u (?P<trail> [dD][c-fC-F][0-9a-fA-F]{2} )
      | (?: u (?P<u4> [0-9a-fA-F]{4} ) | U (?P<u8> 00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4} ) )
      | (?P<letter> [abfnrtv\\?'"] )
      | [\s\S] )""",
    re.VERBOSE,
)
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}

_Proto = descriptor_pb2.FieldDescriptorProto
_INT32, _INT64, _UINT32, _UINT64 = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1), (0, 2**32 - 1), (0, 2**64 - 1)
_RANGES: dict[int, tuple[int, int]] = {
    _Proto.TYPE_INT32: _INT32,
    _Proto.TYPE_SINT32: _INT32,
    _Proto.TYPE_SFIXED32: _INT32,
    _Proto.TYPE_INT64: _INT64,
    _Proto.TYPE_SINT64: _INT64,
    _Proto.TYPE_SFIXED64: _INT64,
    _Proto.TYPE_UINT32: _UINT32,
    _Proto.TYPE_FIXED32: _UINT32,
    _Proto.TYPE_UINT64: _UINT64,
    _Proto.TYPE_FIXED64: _UINT64,
}


def parse(text: str | bytes, message: Message, name: str = "") -> Source:
    """Reads prototxt text into an empty message. `name` is the file name for errors.

    Raises PrototxtError for everything that C++ protobuf refuses, except a byte order mark, which is skipped.
    Comments may have any encoding; strings are UTF-8.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise PrototxtError("this text is in UTF-16, it must be saved as UTF-8", name)
    if b"\0" in data:
        raise PrototxtError("this is no prototxt but a binary file (a .caffemodel?)", name)
    return _Parser(data.decode("utf-8-sig", "surrogateescape"), name).parse(message)


def read(path: str | os.PathLike, message: Message) -> Source:
    """Reads a prototxt file into an empty message. Raises PrototxtError, also if the file cannot be read."""
    return parse(read_bytes(path), message, str(path))


def read_bytes(path: str | os.PathLike) -> bytes:
    """The bytes of a prototxt file. Raises PrototxtError if the file cannot be read or has no end."""
    try:
        with open(path, "rb") as file:
            pieces = iter(lambda: file.read(1 << 20), b"")
            data = b"".join(itertools.islice(pieces, MAX_MIB + 1))
    except (OSError, ValueError) as error:
        raise PrototxtError(f"cannot read this file: {getattr(error, 'strerror', None) or error}", str(path)) from error
    if len(data) > MAX_MIB << 20:
        raise PrototxtError(f"expected text of at most {MAX_MIB} MiB", str(path))
    return data


def to_text(message: Message) -> str:
    """The message as prototxt: one field per line, indented by two spaces per level."""
    return text_format.MessageToString(message)


@dataclass(frozen=True)
class _Field:
    name: str
    type: int  # a FieldDescriptorProto.TYPE_...
    repeated: bool
    required: bool
    message_type: Descriptor | None
    enum_type: EnumDescriptor | None


@cache
def _fields(descriptor: Descriptor) -> dict[str, _Field]:
    # Labels are read from the descriptor's proto: the descriptor's own attribute differs between protobuf's runtimes.
    proto = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(proto)
    labels = {item.name: item.label for item in proto.field}
    return {
        item.name: _Field(
            name=item.name,
            type=item.type,
            repeated=labels[item.name] == _Proto.LABEL_REPEATED,
            required=labels[item.name] == _Proto.LABEL_REQUIRED,
            message_type=item.message_type,
            enum_type=item.enum_type,
        )
        for item in descriptor.fields
    }


def token_from(text: str, at: int) -> tuple[str, int, int]:
    """The next token from an offset on: its kind (see `_TOKEN`, without comments), its start and its end."""
    while True:
        match = cast("re.Match[str]", _TOKEN.match(text, at))
        kind = cast(str, match.lastgroup)
        start, at = match.span(kind)
        if kind == "string":
            end = _end_of_string(text, start)
            return ("string", start, end) if end else ("other", start, at)
        if kind != "comment":
            return kind, start, at


def _end_of_string(text: str, start: int) -> int:
    """The end of the string whose quote is at `start`, or 0 if its line has no closing quote."""
    before = start
    while (end := text.find(text[start], before + 1)) >= 0 and text.find("\n", before, end) < 0:
        backslashes = 0
        while text[end - 1 - backslashes] == "\\":
            backslashes += 1
        if backslashes % 2 == 0:
            return end + 1
        before = end
    return 0


class _Parser:
    """A recursive descent parser with one token of lookahead: `kind`, `token`, `start` and `end`."""

    def __init__(self, text: str, name: str):
        self.text = text
        self.source = Source(name)
        self.counted = 0, 1  # an offset and its line
        self.open: list[tuple[Message, int]] = []  # the messages around the token, with the offsets of their braces
        self.token, self.end = "", 0
        self.advance()

    def parse(self, message: Message) -> Source:
        self.open.append((message, 0))
        self.body(message, close="")
        return self.source

    def advance(self) -> str:
        """Moves to the next token, and returns the current one."""
        last = self.token
        self.kind, self.start, self.end = token_from(self.text, self.end)
        self.token = self.text[self.start : self.end]
        return last

    def line(self, offset: int) -> int:
        """The line of an offset; it continues counting from the offset of the last call."""
        before, line = self.counted if self.counted[0] <= offset else (0, 1)
        self.counted = offset, line + self.text.count("\n", before, offset)
        return self.counted[1]

    # Messages and fields

    def body(self, message: Message, close: str) -> None:
        """All fields of a message, up to its closing token; the outermost message ends with the text."""
        fields = _fields(message.DESCRIPTOR)
        while self.token != close:
            if self.kind != "name":
                self.fail_at_field(message, close)
            item = fields.get(self.token)
            if item is None:
                self.fail_at_unknown_field(message)
            if not item.repeated and message.HasField(item.name):
                self.fail(f'{message.DESCRIPTOR.name} takes one "{item.name}", this is the second')
            self.field(message, item)
            if self.token in (",", ";"):
                self.advance()
        for item in fields.values():
            if item.required and not message.HasField(item.name):
                self.fail(f'{message.DESCRIPTOR.name} needs the field "{item.name}"', self.open[-1][1])

    def field(self, message: Message, item: _Field) -> None:
        """A field's name, an optional colon, and a value or a list of values."""
        start = self.start
        self.advance()
        if self.token == ":":
            self.advance()
        elif item.message_type is None:
            self.fail_at_token(f'":" after "{item.name}"')
        if self.token != "[":
            return self.value(message, item, start)
        if not item.repeated:
            self.fail(f'"{item.name}" takes one value, not a list in [ ]')
        self.advance()
        if self.token != "]":
            self.value(message, item, start)
        while self.token != "]":
            if self.token != ",":
                self.fail_at_token(f'"," or "]" in the list of "{item.name}"')
            self.advance()
            self.value(message, item, start)
        self.advance()

    def value(self, message: Message, item: _Field, start: int) -> None:
        if item.message_type is not None:
            self.message(message, item, start)
        elif item.repeated:
            getattr(message, item.name).append(self.scalar(item))
        else:
            setattr(message, item.name, self.scalar(item))

    def message(self, parent: Message, item: _Field, start: int) -> None:
        """A message in braces. The name of its field is at `start`; `Source` gets the line of that."""
        close = _CLOSING.get(self.token)
        if close is None:
            self.fail_at_value(item, "a message in { }")
        if len(self.open) > MAX_DEPTH:
            self.fail(f"more than {MAX_DEPTH} messages inside one another")
        child = getattr(parent, item.name)
        if item.repeated:
            child = child.add()
        else:
            child.SetInParent()
        self.open.append((child, self.start))
        self.advance()
        self.body(child, close)
        self.open.pop()
        self.advance()
        if isinstance(child, (LayerParameter, V1LayerParameter)):
            self.source.add(child, self.line(start))

    # Scalars

    def scalar(self, item: _Field) -> Any:
        if item.type in _RANGES:
            return self.integer(item, *_RANGES[item.type])
        if item.type in (_Proto.TYPE_FLOAT, _Proto.TYPE_DOUBLE):
            return self.number(item)
        if item.type == _Proto.TYPE_BOOL:
            return self.bool(item)
        if item.enum_type is not None:
            return self.enum(item, item.enum_type)
        return self.string(item)

    def sign(self) -> str:
        return self.advance() if self.token == "-" else ""

    def integer(self, item: _Field, low: int, high: int) -> int:
        sign = self.sign()
        value = _to_integer(sign, self.token)
        if value is None or not low <= value <= high or (sign and low == 0):
            self.fail_at_value(item, f"a whole number from {low} to {high}", sign)
        self.advance()
        return value

    def number(self, item: _Field) -> float:
        sign = self.sign()
        text = self.token.lower()
        if text not in _NOT_FINITE and not _FLOAT.fullmatch(text):
            self.fail_at_value(item, "a number", sign)
        self.advance()
        return float(sign + _NOT_FINITE.get(text, text.rstrip("f")))

    def bool(self, item: _Field) -> bool:
        value = _BOOLS.get(self.token, _to_integer("", self.token))
        if value not in (0, 1):
            self.fail_at_value(item, "true or false")
        self.advance()
        return value == 1

    def enum(self, item: _Field, enum_type: EnumDescriptor) -> int:
        if self.kind == "name" and self.token in enum_type.values_by_name:
            return enum_type.values_by_name[self.advance()].number
        sign = self.sign()
        value = _to_integer(sign, self.token)
        if value is None or value not in enum_type.values_by_number:
            names = list(enum_type.values_by_name)
            expected = ", ".join(names) if len(names) < 10 else f"the names of {enum_type.name}"
            unquoted = self.token.strip("\"'")
            hint = (
                f" (write {unquoted} without quotes)"
                if unquoted in names
                else did_you_mean(unquoted[:_SHOWN].upper(), names)
            )
            self.fail_at_value(item, f"one of {expected}", sign, hint)
        self.advance()
        return value

    def string(self, item: _Field) -> str | bytes:
        """One or more strings in quotes, joined."""
        if self.kind != "string":
            self.fail_at_value(item, "a string in quotes")
        start, parts = self.start, []
        while self.kind == "string":
            parts.append(self.unescaped())
            self.advance()
        value = b"".join(parts)
        if item.type == _Proto.TYPE_BYTES:
            return value
        try:
            return value.decode()
        except UnicodeDecodeError:
            self.fail(f'the string of "{item.name}" is not in UTF-8', start)

    def unescaped(self) -> bytes:
        raw = self.token[1:-1].encode("utf-8", "surrogateescape")
        if b"\\" not in raw:
            return raw
        try:
            return _ESCAPE.sub(_escaped, raw)
        except ValueError as error:
            self.fail(f"a string cannot contain {error} (a backslash itself is written as two)")

    # Errors

    def fail(self, message: str, offset: int | None = None) -> NoReturn:
        line = self.line(self.start if offset is None else offset)
        layers = [named_part(item) for item, _ in self.open if isinstance(item, _LAYERS)]
        layer = label(layers[-1]) if layers and layers[-1].name else ""
        raise PrototxtError(message, Place(self.source.name, line, layer))

    def fail_at_token(self, expected: str, sign: str = "", hint: str = "") -> NoReturn:
        if self.token in ("'", '"'):
            self.fail("this string has no closing quote on its line")
        self.fail(f"expected {expected}, got {sign}{self.seen()}{hint}")

    def fail_at_value(self, item: _Field, expected: str, sign: str = "", hint: str = "") -> NoReturn:
        self.fail_at_token(f'{expected} for "{item.name}"', sign, self.hint_for_old_form(item) or hint)

    def fail_at_field(self, message: Message, close: str) -> NoReturn:
        offset = self.open[-1][1]
        if self.kind == "end":
            self.fail(f'the "{self.text[offset]}" here is never closed', offset)
        if self.token in ("}", ">") and not close:
            self.fail(f'there is no open "{{" or "<" for this "{self.token}"')
        end = f' or "{close}" to close the "{self.text[offset]}" of line {self.line(offset)}' if close else ""
        self.fail_at_token(f"a field of {message.DESCRIPTOR.name}{end}")

    def fail_at_unknown_field(self, message: Message) -> NoReturn:
        old, new = _fields(V1LayerParameter.DESCRIPTOR), _fields(LayerParameter.DESCRIPTOR)
        if any(self.token in _fields(item.DESCRIPTOR) for item, _ in self.open[:-1]):
            hint = f' (is a "}}" missing for the "{{" of line {self.line(self.open[-1][1])}?)'
        elif isinstance(message, SolverParameter) and self.token in _fields(NetParameter.DESCRIPTOR):
            hint = " (this looks like a net, not a solver)"
        elif isinstance(message, NetParameter) and self.token in _fields(SolverParameter.DESCRIPTOR):
            hint = " (this looks like a solver, not a net)"
        elif isinstance(message, LayerParameter) and self.token in old:
            hint = ' (it belongs to the old "layers"; a "layer" has param { lr_mult decay_mult share_mode })'
        elif isinstance(message, V1LayerParameter) and self.token in new:
            hint = ' (it belongs to "layer", not to the old "layers")'
        else:
            hint = did_you_mean(self.token[:_SHOWN], _fields(message.DESCRIPTOR))
        self.fail(f'{message.DESCRIPTOR.name} has no field "{self.token[:_SHOWN]}"{hint}')

    def hint_for_old_form(self, item: _Field) -> str:
        """A hint for a value that has the form of `layers` in `layer`, or of `layer` in `layers`."""
        message = self.open[-1][0]
        modern = {new: old for old, new in V1_TYPES.items()}
        if isinstance(message, LayerParameter) and item.name == "type" and self.token in V1_TYPES:
            return f' (in a "layer" it is type: "{V1_TYPES[self.token]}", without quotes it belongs to the old "layers")'
        if isinstance(message, V1LayerParameter) and item.name == "type" and self.token[1:-1] in modern:
            return f' (in the old "layers" it is type: {modern[self.token[1:-1]]}, in quotes it belongs to "layer")'
        if isinstance(message, LayerParameter) and item.name == "param" and self.kind == "string":
            return f' (in a "layer" it is param {{ name: {self.token} }})'
        return ""

    def seen(self) -> str:
        """The token as errors show it."""
        if self.kind == "end":
            return "the end of the file"
        if self.kind == "other" and not self.token.isprintable():
            code = ord(self.token)
            return f"the byte 0x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"the character U+{code:04X}"
        text = self.token if len(self.token) <= _SHOWN else self.token[:_SHOWN] + "..."
        if self.kind == "string":
            return "the string " + text.encode("utf-8", "replace").decode()
        return text if self.kind in ("name", "number") else f'"{text}"'


def _to_integer(sign: str, text: str) -> int | None:
    if not _INTEGER.fullmatch(text):
        return None
    base = 10 if text == "0" or text[0] != "0" else 16 if text[1] in "xX" else 8
    # Python takes quadratic time for long decimal numbers. Such numbers are out of every range, whatever their value.
    digits = text if len(text) < 25 or base != 10 else "9" * 25
    return int(sign + digits, base)


def _escaped(match: re.Match[bytes]) -> bytes:
    """The value of an escape sequence. Raises ValueError with the text of an unknown one."""
    groups = {name: value for name, value in match.groupdict().items() if value is not None}
    if "octal" in groups:
        return bytes([int(groups["octal"], 8) & 0xFF])
    if "hex" in groups:
        return bytes([int(groups["hex"], 16)])
    if "letter" in groups:
        return _LETTERS.get(groups["letter"], groups["letter"])
    if "head" in groups:  # two surrogates of a character beyond U+FFFF, as in UTF-16
        code = 0x10000 + ((int(groups["head"], 16) - 0xD800) << 10) + int(groups["trail"], 16) - 0xDC00
    elif groups:
        code = int(groups.get("u4") or groups["u8"], 16)
    else:
        raise ValueError(match[0].decode("utf-8", "replace"))
    return chr(code).encode("utf-8", "surrogatepass")


_LAYERS = (LayerParameter, V1LayerParameter, V0LayerParameter)
