"""Finds all syntax errors of a prototxt, the lines of its fields, and whether it is a net or a solver."""

from __future__ import annotations

import os
from typing import NamedTuple, TypeVar

from ..errors import Place, PrototxtError
from ..proto import Source
from ..proto.caffe_pb2 import NetParameter, SolverParameter
from ..proto.prototxt import parse, read, read_bytes, token_from
from .findings import Findings

MAX_ERRORS = 100  # in one file
MAX_READ_AGAIN = 10_000_000  # characters to parse again, in all, to find the errors after the first
KIND_SHOWS_IN = 1 << 20  # characters from the start that show whether a file is a net or a solver

M = TypeVar("M", NetParameter, SolverParameter)


class Field(NamedTuple):
    """A field of the outermost message, with its first and last line, counted from 1."""

    name: str
    first: int
    last: int


def read_text(path: str | os.PathLike) -> str:
    """The text of a prototxt file. Raises PrototxtError if the file cannot be read or has no end."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise PrototxtError("expected a regular file", str(path))
    return read_bytes(path).decode("utf-8-sig", "surrogateescape")


def top_level(text: str) -> tuple[list[Field], bool]:
    """The fields of the outermost message, and whether the braces match. If not, fields cannot be told apart."""
    fields: list[Field] = []
    depth = before = end = 0
    line, name, kind = 1, "", ""
    while kind != "end":
        kind, start, end = token_from(text, end)
        token = text[start:end]
        line += text.count("\n", before, start)
        before = start
        if token in ('"', "'"):  # the string is not closed on its line
            end = text.find("\n", start) % (len(text) + 1)  # continue on the next line, or at the end
        if name and token in (":", "{", "<"):
            fields.append(Field(name, line, line))
        name = token if kind == "name" and depth == 0 else ""
        if token in ("{", "<"):
            depth += 1
        elif token in ("}", ">"):
            depth -= 1
            if depth < 0:
                return fields, False
            if depth == 0 and fields:
                fields[-1] = fields[-1]._replace(last=line)
    return fields, depth == 0


def is_solver(text: str) -> bool:
    """Whether more of the outermost fields belong to a solver than to a net."""
    names = [item.name for item in top_level(text[:KIND_SHOWS_IN])[0]]
    net, solver = (sum(name in kind.DESCRIPTOR.fields_by_name for name in names) for kind in (NetParameter, SolverParameter))
    return solver > net


def line_of(text: str, name: str) -> int:
    """The line of a field of the outermost message, 0 if it is missing."""
    return next((item.first for item in top_level(text)[0] if item.name == name), 0)


def parse_file(path: str, message: M, findings: Findings) -> Source | None:
    """Reads a prototxt file into `message`. Returns None if there are errors, which are in `findings`.

    After an error the text is parsed again without the layer or line that contains it.
    """
    try:
        return read(path, message)
    except PrototxtError as error:
        findings.error(error)
        if not os.path.isfile(path):
            return None
        text = _without(read_text(path), error)
    for _ in range(min(MAX_ERRORS, MAX_READ_AGAIN // (len(text or "") + 1))):
        if text is None:
            break
        try:
            parse(text, type(message)(), path)
            break
        except PrototxtError as error:
            findings.error(error)
            text = _without(text, error)
    return None


def _without(text: str, error: PrototxtError) -> str | None:
    """The text with the outermost field around an error left blank, or None if that changes nothing."""
    line = Place.of(error.where).line
    fields, balanced = top_level(text)
    if not balanced or not line:
        return None
    first, last = next(((item.first, item.last) for item in fields if item.first <= line <= item.last), (line, line))
    lines = text.split("\n")
    if not any(map(str.strip, lines[first - 1 : last])):
        return None
    return "\n".join("" if first <= number <= last else kept for number, kept in enumerate(lines, 1))
