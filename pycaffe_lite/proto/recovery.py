"""Reads a prototxt with errors to its end: all errors, and what can be read beside them.

After an error the parser goes on at the next field, or behind the block of the field. What was skipped leaves marks in the
`Source`, so that the linter does not report its consequences: layers with an error, and the words of the skipped text, which
may be names of blobs.

Braces that do not match would give false errors up to the end of the file. So the braces of the whole text are counted: if
some are missing, a field of an outer message closes the inner ones; if there are too many, fields behind a message that has
such fields belong to it. After a string without a closing quote, which may hide braces, nothing is said about braces.
"""

from __future__ import annotations

import re
from contextlib import suppress

from google.protobuf.message import Message

from ..errors import Place, PrototxtError, did_you_mean
from . import forks
from .caffe_pb2 import LayerParameter, V1LayerParameter
from .prototxt import Parser, decoded
from .schema import Field, fields_of
from .source import Source
from .tokens import CLOSING, count_unclosed, end_of_line, quote_is_missing, token_from

MAX_ERRORS = 100  # in one file

_LAYERS = (LayerParameter, V1LayerParameter)
_WORD = re.compile(r"[^\s\"']+")
_NEVER_NESTED = ("layer", "layers")  # inside of a message they show that its brace is missing


def parse_all(text: str | bytes, message: Message, name: str = "") -> tuple[Source, list[PrototxtError]]:
    """Reads prototxt text into an empty message, like `parse`, and returns up to `MAX_ERRORS` errors.

    Raises PrototxtError only if this is no text.
    """
    collector = Collector(decoded(text, name), name)
    with suppress(_TooMany):  # what was read until then stays
        collector.parse(message)
    return collector.source, collector.errors


class _TooMany(Exception):
    pass


class Collector(Parser):
    """A parser that collects errors."""

    def __init__(self, text: str, name: str):
        super().__init__(text, name)
        self.errors: list[PrototxtError] = []
        self.faults = 0  # errors, and what follows from them
        self.faults_before = [0]  # the faults before each open message
        self.left: int | None = None  # while braces are missing: the number of outer messages that stay open
        self.closed: tuple[int, Message] | None = None  # the message closed last, and the number of messages around it
        self.unclosed = count_unclosed(text)
        self.strays = 0  # closing braces to come whose messages are closed already
        self.unsure = False  # braces may have been skipped

    # ---- hooks of the parser ------------------------------------------------------------------------------------------

    def at_end_of(self, close: str) -> bool:
        return self.left is not None or super().at_end_of(close)

    def opening_brace(self, item: Field) -> str:
        try:
            return super().opening_brace(item)
        except PrototxtError as error:
            if self.unclosed >= 0 or not self.is_field():
                raise
            self.note_brace(error)
            self.unclosed += 1
            return "}"

    def close_message(self) -> None:
        if self.left is None:
            super().close_message()
        elif self.left == len(self.open):
            self.left = None

    def message(self, parent: Message, item: Field, start: int) -> Message:
        faults, depth = self.faults, len(self.faults_before)
        self.faults_before.append(faults)
        try:
            child = super().message(parent, item, start)
        finally:
            del self.faults_before[depth:]
        self.closed = len(self.open), child
        if self.faults > faults and isinstance(child, _LAYERS):
            self.source.doubt(child)
        return child

    def check_required(self, message: Message) -> None:
        if self.faults > self.faults_before[-1]:
            return  # the field may be what could not be read
        try:
            super().check_required(message)
        except PrototxtError as error:
            self.note(error)

    def recover(self, error: PrototxtError, start: int, close: str) -> None:
        if self.faults > 2 * MAX_ERRORS:
            raise _TooMany
        at_start = self.start == start
        if self.kind == "end":
            self.note_brace(error)
            self.leave(0)
        elif at_start and self.token in CLOSING.values():
            self.wrong_brace(error, close)
        elif at_start and self.kind == "name" and self.token not in fields_of(self.open[-1].message.DESCRIPTOR):
            self.unknown_field(error)
        elif at_start and self.token in CLOSING and self.unclosed > 0:  # one too many
            self.note_brace(error)
            self.unclosed -= 1
            self.skip_token()
        else:
            self.note(error)
            self.skip_field(start)

    def check_layer_type(self) -> None:
        if quote_is_missing(self.text, self.start):
            return  # the type may be what was read with the wrong quotes
        try:
            super().check_layer_type()
        except PrototxtError as error:
            if self.may_belong_to_another_type():
                raise
            self.note(error)  # and then the field itself

    def may_belong_to_another_type(self) -> bool:
        """Whether the unknown field here may be one of the unknown type of its layer, and not a misspelt one."""
        message, stem = self.open[-1].message.DESCRIPTOR, self.token.removesuffix("_param")
        stems = [name.removesuffix("_param") for name in fields_of(message)]
        return bool(forks.of_field(message.name, self.token)) or not did_you_mean(stem, stems)

    # ---- errors ---------------------------------------------------------------------------------------------------------

    def note(self, error: PrototxtError) -> None:
        self.faults += 1
        self.source.faults += 1
        self.source.faults_outside += not any(isinstance(item.message, _LAYERS) for item in self.open)
        if str(error) not in map(str, self.errors):
            self.errors.append(error)
        if len(self.errors) >= MAX_ERRORS:
            raise _TooMany

    def note_brace(self, error: PrototxtError) -> None:
        """Reports an error about braces, unless an earlier one explains it."""
        if self.unsure:
            self.faults += 1
        else:
            self.note(error)

    def leave(self, left: int) -> None:
        """Closes the inner messages, whose braces are missing."""
        if left < len(self.open):
            self.left = left
        if left == 0:
            self.unsure = True  # the end of the text closes all

    def wrong_brace(self, error: PrototxtError, close: str) -> None:
        if close:  # of the other kind
            self.note(error)
            self.leave(len(self.open) - 1)
        elif self.strays:
            self.strays -= 1
        else:
            self.note_brace(error)
        self.advance()

    def unknown_field(self, error: PrototxtError) -> None:
        depth, left = len(self.open), self.ancestors_with(self.token)
        if left and (self.unclosed > 0 or self.token in _NEVER_NESTED):
            self.note_brace(error)
            if self.unclosed > 0:
                self.unclosed -= depth - left
            else:
                self.strays += depth - left
            self.leave(left)
            return
        owner = self.closed[1] if self.closed and self.closed[0] == depth else None
        if (self.unclosed < 0 or self.strays) and owner is not None and self.token in fields_of(owner.DESCRIPTOR):
            self.closed_too_early(error, owner)
        else:
            self.note(error)
        self.skip_field(self.start)

    def closed_too_early(self, error: PrototxtError, owner: Message) -> None:
        self.faults += 1
        if isinstance(owner, _LAYERS):
            self.source.doubt(owner)
        if not self.strays:
            self.note(PrototxtError(f'{error.message} (is there a "}}" too many before it?)', error.where))
            self.strays = 1
            self.unclosed += 1

    # ---- skipping -------------------------------------------------------------------------------------------------------

    def skip_field(self, start: int) -> None:
        """Moves from the start of a field behind it, or to where the next one seems to begin."""
        self.end = start
        self.advance()
        first, before = True, ""
        while self.kind != "end" and self.token not in CLOSING.values():
            if self.token in CLOSING:
                self.skip_block()
                break
            if self.token == "[":
                self.skip_list()
                break
            if self.token in (",", ";"):
                break
            if not first and (self.is_field() or (before != ":" and self.begins_line())):
                return
            first, before = False, self.token
            self.skip_token()
        if self.token in (",", ";"):
            self.advance()

    def skip_block(self) -> None:
        """Moves behind the brace that closes the one here."""
        brace, depth = self.start, 0
        while self.kind != "end":
            depth += (self.token in CLOSING) - (self.token in CLOSING.values())
            self.skip_token()
            if depth == 0:
                return
        where = Place(self.source.name, self.line(brace))
        self.note_brace(PrototxtError(f'the "{self.text[brace]}" here is never closed', where))
        self.leave(0)

    def skip_list(self) -> None:
        """Moves behind the bracket that closes the one here, or to where it should have been."""
        depth = 0
        while self.kind != "end":
            closes = self.token in ("]", *CLOSING.values())
            if depth == 1 and ((closes and self.token != "]") or self.is_field()):
                return
            depth += (self.token in ("[", *CLOSING)) - closes
            self.skip_token()
            if depth == 0:
                return

    def skip_token(self) -> None:
        """Moves on by a token, or by the rest of a line that begins with a string without a closing quote."""
        if self.token in ('"', "'"):
            self.unsure = True
            self.skip_line()
        else:
            self.source.skipped.add(self.token[1:-1] if self.kind == "string" else self.token)
        self.advance()

    def skip_line(self) -> None:
        """Moves to the end of a line with an odd number of quotes. Any word and any string in it may be a name."""
        begin, self.end = self.begin_of_line(), end_of_line(self.text, self.start)
        self.source.skipped.update(_WORD.findall(self.text, begin, self.end))
        at, kind = begin, ""
        while at < self.start:
            kind, start, at = token_from(self.text, at)
            if kind == "string":
                self.source.skipped.add(self.text[start + 1 : at - 1])

    def is_field(self) -> bool:
        """Whether the token is a name with a colon or a brace behind it."""
        if self.kind != "name":
            return False
        _, start, end = token_from(self.text, self.end)
        return self.text[start:end] in (":", *CLOSING)

    def begins_line(self) -> bool:
        """Whether the token is a name that is the first on its line."""
        return self.kind == "name" and not self.text[self.begin_of_line() : self.start].strip()

    def begin_of_line(self) -> int:
        return self.text.rfind("\n", 0, self.start) + 1
