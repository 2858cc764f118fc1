"""Every syntax error of a prototxt, not only the first, and whether it is a net or a solver."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from ..errors import CaffeError, PrototxtError, one_line
from ..proto import Source
from ..proto.caffe_pb2 import NetParameter, SolverParameter
from ..proto.prototxt import parse, read, read_bytes, token_from

MAX_ERRORS = 100  # of one file
MAX_READ_AGAIN = 10_000_000  # characters in all, to find the errors behind the first
KIND_SHOWS_IN = 1 << 20  # characters from the start: whether a file is a net or a solver

_LINE = re.compile(r"(.+?):(\d+)(?:: |$)", re.DOTALL)
_PLACE = re.compile(r"(.+?)(?::(\d+))?: ", re.DOTALL)

M = TypeVar("M", NetParameter, SolverParameter)


@dataclass
class Findings:
    """What is wrong, each once, in the order of discovery."""

    errors: dict[str, None] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)

    def error(self, error: CaffeError | str) -> None:
        self.errors.setdefault(one_line(str(error)))

    def warning(self, message: CaffeError | str) -> None:
        self.warnings.setdefault(one_line(str(message)))

    def lines(self) -> list[str]:
        """`error: ...` and `warning: ...`, by file and line."""
        found = [("error", text) for text in self.errors] + [("warning", text) for text in self.warnings]
        files: dict[str, int] = {}
        keys = []
        for _, text in found:
            match = _PLACE.match(text)
            file, line = (match[1], int(match[2] or 0)) if match else ("", 0)
            keys.append((files.setdefault(file, len(files)), line))
        order = sorted(range(len(found)), key=lambda i: keys[i])
        return [f"{found[i][0]}: {found[i][1]}" for i in order]


class Field(NamedTuple):
    """A field of the outermost message, and its first and last line, from 1."""

    name: str
    first: int
    last: int


def read_text(path: str | os.PathLike) -> str:
    """The text of a prototxt file. Raises PrototxtError for one that cannot be read, or has no end."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise PrototxtError("expected a regular file", str(path))
    return read_bytes(path).decode("utf-8-sig", "surrogateescape")


def top_level(text: str) -> tuple[list[Field], bool]:
    """The fields of the outermost message, and whether braces match: where they do not, nobody can tell what it is."""
    fields: list[Field] = []
    depth = before = end = 0
    line, name, kind = 1, "", ""
    while kind != "end":
        kind, start, end = token_from(text, end)
        token = text[start:end]
        line += text.count("\n", before, start)
        before = start
        if token in ('"', "'"):  # it is not closed on its line
            end = text.find("\n", start) % (len(text) + 1)  # go on behind the line, or at the end
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
    """Whether more of the outermost names are those of a solver than those of a net."""
    names = [one.name for one in top_level(text[:KIND_SHOWS_IN])[0]]
    net, solver = (sum(name in kind.DESCRIPTOR.fields_by_name for name in names) for kind in (NetParameter, SolverParameter))
    return solver > net


def line_of(text: str, name: str) -> int:
    """The line of a field of the outermost message, 0 if it is not there."""
    return next((one.first for one in top_level(text)[0] if one.name == name), 0)


def parse_file(path: str, message: M, findings: Findings) -> Source | None:
    """Reads a prototxt file into `message`. None: it has errors, which `findings` holds then.

    After an error the rest is read without the layer, or the line, that it is in.
    """
    try:
        return read(path, message)
    except PrototxtError as error:
        findings.error(error)
        place = _LINE.match(error.where)
        if not os.path.isfile(path) or place is None:
            return None
        text = _without(read_text(path), int(place[2]))
    for _ in range(min(MAX_ERRORS, MAX_READ_AGAIN // (len(text or "") + 1))):
        if text is None:
            break
        try:
            parse(text, type(message)(), path)
            break
        except PrototxtError as error:
            findings.error(error)
            place = _LINE.match(error.where)
            text = _without(text, int(place[2])) if place else None
    return None


def _without(text: str, line: int) -> str | None:
    """The text with the outermost field that `line` belongs to left blank, or None where that changes nothing."""
    fields, balanced = top_level(text)
    if not balanced:
        return None
    first, last = next(((one.first, one.last) for one in fields if one.first <= line <= one.last), (line, line))
    lines = text.split("\n")
    if not any(one.strip() for one in lines[first - 1 : last]):
        return None
    return "\n".join("" if first <= number <= last else one for number, one in enumerate(lines, 1))
