"""Prototxt, protobuf's text format. Every error has its file, line and layer.

`google.protobuf.text_format` reads the same text, but does not say which layer an error is in, and forgets the lines, which
errors of the net need later. The grammar is that of C++ protobuf (`TextFormat` and `io::Tokenizer`) for proto2 messages,
which Caffe uses.
"""

from __future__ import annotations

import itertools
import os
import re
from typing import Any, NamedTuple, NoReturn

from google.protobuf import descriptor_pb2, text_format
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message

from ..errors import Place, PrototxtError, did_you_mean
from . import forks
from .caffe_pb2 import LayerParameter, NetParameter, SolverParameter, V0LayerParameter, V1LayerParameter
from .schema import Field, fields_of
from .source import Source, label, named_part
from .tokens import CLOSING, quote_is_missing, token_from
from .upgrade import V1_TYPES

MAX_DEPTH = 100  # nested messages; the default of C++ protobuf
MAX_MIB = 256  # the limit of a file: text is not larger, and a device file has no end
_SHOWN = 60  # characters of a token that an error message shows
_LOOK_AHEAD = 1000  # the most tokens of a layer that are read in advance for an error
BINARY = "this is no prototxt but a binary file; weights are given with --weights, a solver state with --snapshot"

_INTEGER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
_FLOAT = re.compile(r"(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?")
_NOT_FINITE = {"inf": "inf", "inff": "inf", "infinity": "inf", "nan": "nan", "nanf": "nan"}
_BOOLS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
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


def why_no_layer_type(name: str) -> str:
    """Why there is no layer type of that name; empty if there is, or if no types are known.

    `layer`, which this package cannot import, puts its own function in place of this one.
    """
    return ""


def parse(text: str | bytes, message: Message, name: str = "") -> Source:
    """Reads prototxt text into an empty message. `name` is the file name for errors.

    Raises PrototxtError for everything that C++ protobuf refuses, except a byte order mark, which is skipped.
    Comments may have any encoding; strings are UTF-8.
    """
    return Parser(decoded(text, name), name).parse(message)


def decoded(text: str | bytes, name: str = "") -> str:
    """The text of a prototxt, whose bytes that are not UTF-8 become surrogates. Raises PrototxtError for another file."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise PrototxtError("this text is in UTF-16, it must be saved as UTF-8", name)
    if b"\0" in data:
        raise PrototxtError(BINARY, name)
    return data.decode("utf-8-sig", "surrogateescape")


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
        but = f", but {BINARY}" if b"\0" in data[: 1 << 20] else ""
        raise PrototxtError(f"expected text of at most {MAX_MIB} MiB{but}", str(path))
    return data


def to_text(message: Message) -> str:
    """The message as prototxt: one field per line, indented by two spaces per level."""
    return text_format.MessageToString(message)


class Open(NamedTuple):
    """A message that is being read, with the offsets of its brace and of the name of its field."""

    message: Message
    brace: int = 0
    start: int = 0


class Parser:
    """A recursive descent parser with one token of lookahead: `kind`, `token`, `start` and `end`.

    It raises the first error. `recovery.Collector` overrides `recover` and what belongs to it, and goes on after errors.
    """

    def __init__(self, text: str, name: str):
        self.text = text
        self.source = Source(name)
        self.counted = 0, 1  # an offset and its line
        self.open: list[Open] = []  # the messages around the token, the outermost first
        self.token, self.end = "", 0
        self.advance()

    def parse(self, message: Message) -> Source:
        self.open.append(Open(message))
        self.body(message, close="")
        self.check_required(message)
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
        fields = fields_of(message.DESCRIPTOR)
        while not self.at_end_of(close):
            start = self.start
            try:
                self.one_field(message, fields, close)
            except PrototxtError as error:
                self.recover(error, start, close)

    def at_end_of(self, close: str) -> bool:
        return self.token == close

    def recover(self, error: PrototxtError, start: int, close: str) -> None:
        """Goes on after an error in the field that begins at `start`, of a message that `close` ends."""
        raise error

    def one_field(self, message: Message, fields: dict[str, Field], close: str) -> None:
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

    def check_required(self, message: Message) -> None:
        for item in fields_of(message.DESCRIPTOR).values():
            if item.required and not message.HasField(item.name):
                self.fail(f'{message.DESCRIPTOR.name} needs the field "{item.name}"', self.open[-1].brace)

    def field(self, message: Message, item: Field) -> None:
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

    def value(self, message: Message, item: Field, start: int) -> None:
        if item.message_type is not None:
            self.message(message, item, start)
        elif item.repeated:
            getattr(message, item.name).append(self.scalar(item))
        else:
            setattr(message, item.name, self.scalar(item))

    def message(self, parent: Message, item: Field, start: int) -> Message:
        """A message in braces. The name of its field is at `start`; `Source` gets the line of that."""
        brace = self.start
        close = self.opening_brace(item)
        if len(self.open) > MAX_DEPTH:
            self.fail(f"more than {MAX_DEPTH} messages inside one another")
        child = getattr(parent, item.name)
        if item.repeated:
            child = child.add()
        else:
            child.SetInParent()
        self.open.append(Open(child, brace, start))
        self.body(child, close)
        self.check_required(child)
        self.open.pop()
        self.close_message()
        if isinstance(child, (LayerParameter, V1LayerParameter)):
            self.source.add(child, self.line(start))
        return child

    def opening_brace(self, item: Field) -> str:
        """Moves behind the brace that begins a message. Returns the brace that ends it."""
        if self.token not in CLOSING:
            self.fail_at_value(item, "a message in { }")
        return CLOSING[self.advance()]

    def close_message(self) -> None:
        """Moves behind the brace that ends a message."""
        self.advance()

    # Scalars

    def scalar(self, item: Field) -> Any:
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

    def integer(self, item: Field, low: int, high: int) -> int:
        sign = self.sign()
        value = _to_integer(sign, self.token)
        if value is None or not low <= value <= high or (sign and low == 0):
            self.fail_at_value(item, f"a whole number from {low} to {high}", sign)
        self.advance()
        return value

    def number(self, item: Field) -> float:
        sign = self.sign()
        text = self.token.lower()
        if text not in _NOT_FINITE and not _FLOAT.fullmatch(text):
            self.fail_at_value(item, "a number", sign)
        self.advance()
        return float(sign + _NOT_FINITE.get(text, text.rstrip("f")))

    def bool(self, item: Field) -> bool:
        value = _BOOLS.get(self.token, _to_integer("", self.token))
        if value not in (0, 1):
            self.fail_at_value(item, "true or false")
        self.advance()
        return value == 1

    def enum(self, item: Field, enum_type: EnumDescriptor) -> int:
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
                else forks.of_value(unquoted) or did_you_mean(unquoted[:_SHOWN].upper(), names)
            )
            self.fail_at_value(item, f"one of {expected}", sign, hint)
        self.advance()
        return value

    def string(self, item: Field) -> str | bytes:
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
        layers = [named_part(item.message) for item in self.open if isinstance(item.message, _LAYERS)]
        layer = label(layers[-1]) if layers and layers[-1].name else ""
        raise PrototxtError(message, Place(self.source.name, line, layer))

    def fail_at_token(self, expected: str, sign: str = "", hint: str = "") -> NoReturn:
        if self.token in ("'", '"'):
            self.fail("this string has no closing quote on its line")
        self.fail(f"expected {expected}, got {sign}{self.seen()}{hint}")

    def fail_at_value(self, item: Field, expected: str, sign: str = "", hint: str = "") -> NoReturn:
        self.fail_at_token(f'{expected} for "{item.name}"', sign, self.hint_for_old_form(item) or hint)

    def fail_at_field(self, message: Message, close: str) -> NoReturn:
        offset = self.open[-1].brace
        if self.kind == "end":
            self.fail(f'the "{self.text[offset]}" here is never closed', offset)
        if self.token in ("}", ">") and not close:
            self.fail(f'there is no open "{{" or "<" for this "{self.token}"')
        end = f' or "{close}" to close the "{self.text[offset]}" of line {self.line(offset)}' if close else ""
        self.fail_at_token(f"a field of {message.DESCRIPTOR.name}{end}")

    def fail_at_unknown_field(self, message: Message) -> NoReturn:
        old, new = fields_of(V1LayerParameter.DESCRIPTOR), fields_of(LayerParameter.DESCRIPTOR)
        if self.ancestors_with(self.token):
            hint = f' (is a "}}" missing for the "{{" of line {self.line(self.open[-1].brace)}?)'
        elif isinstance(message, SolverParameter) and self.token in fields_of(NetParameter.DESCRIPTOR):
            hint = " (this looks like a net, not a solver; a solver names its net in the field net)"
        elif isinstance(message, NetParameter) and self.token in fields_of(SolverParameter.DESCRIPTOR):
            hint = " (this looks like a solver, not a net; its field net names the net)"
        elif isinstance(message, LayerParameter) and self.token in old:
            hint = ' (it belongs to the old "layers"; a "layer" has param { lr_mult decay_mult share_mode })'
        elif isinstance(message, V1LayerParameter) and self.token in new:
            hint = ' (it belongs to "layer", not to the old "layers")'
        else:
            self.check_layer_type()
            hint = forks.of_field(message.DESCRIPTOR.name, self.token)
            hint = hint or did_you_mean(self.token[:_SHOWN], fields_of(message.DESCRIPTOR))
            if quote_is_missing(self.text, self.start):
                hint = " (is a quote missing before it?)"
        self.fail(f'{message.DESCRIPTOR.name} has no field "{self.token[:_SHOWN]}"{hint}')

    def check_layer_type(self) -> None:
        """Raises an error if the field here is in a layer of an unknown type, which is then the cause."""
        around = [i for i, item in enumerate(self.open) if isinstance(item.message, LayerParameter)]
        if not around:
            return
        depth = around[-1]
        layer = LayerParameter()
        for name in ("name", "type"):
            read = getattr(self.open[depth].message, name)
            setattr(layer, name, read or self.string_ahead(name, len(self.open) - 1 - depth))
        if layer.type and (problem := why_no_layer_type(layer.type)):
            raise PrototxtError(problem, Place(self.source.name, self.line(self.open[depth].start), label(layer)))

    def string_ahead(self, field: str, depth: int) -> str:
        """The string that a field will have that comes later in a message, `depth` messages outside of this one."""
        at, before = self.end, ["", ""]
        for _ in range(_LOOK_AHEAD):
            kind, start, at = token_from(self.text, at)
            token = self.text[start:at]
            if depth == 0 and kind == "string" and before == [field, ":"]:
                return token[1:-1]
            depth += (token in CLOSING) - (token in CLOSING.values())
            if kind == "end" or depth < 0:
                break
            before = [before[1], token]
        return ""

    def ancestors_with(self, name: str) -> int:
        """How many of the outer messages are left if the inner ones without a field of this name are; 0 if none has it."""
        outer = [name in fields_of(item.message.DESCRIPTOR) for item in self.open[:-1]]
        return len(outer) - outer[::-1].index(True) if True in outer else 0

    def hint_for_old_form(self, item: Field) -> str:
        """A hint for a value that has the form of `layers` in `layer`, or of `layer` in `layers`."""
        message = self.open[-1].message
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
