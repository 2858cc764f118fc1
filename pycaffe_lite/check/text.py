"""Reads a prototxt with all its errors, the lines of its fields, and whether it is a net or a solver."""

from __future__ import annotations

import os
from typing import NamedTuple, TypeVar

from ..errors import PrototxtError
from ..proto import Source
from ..proto.caffe_pb2 import NetParameter, SolverParameter
from ..proto.prototxt import read_bytes
from ..proto.recovery import parse_all
from ..proto.tokens import CLOSING, end_of_line, token_from
from .findings import Findings

KIND_SHOWS_IN = 1 << 20  # characters from the start that show whether a file is a net or a solver

M = TypeVar("M", NetParameter, SolverParameter)


class Field(NamedTuple):
    """A field of the outermost message, with its line, counted from 1."""

    name: str
    line: int


def read_text(path: str) -> str:
    """The text of a prototxt file, of any kind. Raises PrototxtError if the file cannot be read or has no end."""
    return _read(path).decode("utf-8-sig", "surrogateescape")


def _read(path: str) -> bytes:
    if os.path.exists(path) and not os.path.isfile(path):
        raise PrototxtError("expected a regular file", path)
    return read_bytes(path)


def top_level(text: str) -> list[Field]:
    """The fields of the outermost message. They end where more braces are closed than opened."""
    fields: list[Field] = []
    depth = before = end = 0
    line, name, kind = 1, "", ""
    while kind != "end" and depth >= 0:
        kind, start, end = token_from(text, end)
        token = text[start:end]
        line += text.count("\n", before, start)
        before = start
        if token in ('"', "'"):  # the string is not closed on its line
            end = end_of_line(text, start)
        if name and token in (":", *CLOSING):
            fields.append(Field(name, line))
        name = token if kind == "name" and depth == 0 else ""
        depth += (token in CLOSING) - (token in CLOSING.values())
    return fields


def is_solver(text: str) -> bool:
    """Whether more of the outermost fields belong to a solver than to a net."""
    names = [item.name for item in top_level(text[:KIND_SHOWS_IN])]
    net, solver = (sum(name in kind.DESCRIPTOR.fields_by_name for name in names) for kind in (NetParameter, SolverParameter))
    return solver > net


def line_of(text: str, name: str) -> int:
    """The line of a field of the outermost message, 0 if it is missing."""
    return next((item.line for item in top_level(text) if item.name == name), 0)


def parse_file(path: str, message: M, findings: Findings) -> Source | None:
    """Reads what can be read of a prototxt file into `message`; all errors are in `findings`. None if it is no text."""
    try:
        source, errors = parse_all(_read(path), message, path)
    except PrototxtError as error:
        findings.error(error)
        return None
    for problem in errors:
        findings.error(problem)
    return source
