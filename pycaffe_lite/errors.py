"""The errors that a user can meet. Each says where it is, what was expected, what was received, and the nearest right name.

A `CaffeError` is a `RuntimeError`, because pycaffe raises that and old scripts catch it. The code that finds a fault says
what is wrong. The code that knows its place (the net knows file, line and layer) fills in `where` as the error passes
through it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

MAX_SHOWN = 4000  # characters of an error message
MAX_NAME = 200  # longer names are not compared with others, because that takes too long


class Place(str):
    """Where a fault is: a text such as `net.prototxt:41: layer "ip2" (InnerProduct)`, with its parts as attributes.

    file: the file name as the user wrote it. line: counted from 1, or 0 if unknown. layer: its name and type.
    """

    file: str
    line: int
    layer: str

    def __new__(cls, file: str = "", line: int = 0, layer: str = "") -> Place:
        in_file = f"{file}:{line}" if file and line else f"line {line}" if line else file
        place = super().__new__(cls, ": ".join(filter(None, (in_file, layer))))
        place.file, place.line, place.layer = file, line, layer
        return place

    @classmethod
    def of(cls, where: str) -> Place:
        """`where` as a Place; a plain text is taken as the name of a file."""
        return where if isinstance(where, Place) else cls(where)

    def __getnewargs__(self) -> tuple[str, int, str]:  # type: ignore[override]
        return self.file, self.line, self.layer


class CaffeError(RuntimeError):
    """Base of all errors of this package.

    where: the place of the fault, empty if unknown. field: the name of the message field with the wrong value, such as
    `base_lr`; empty if the error is not about a field.
    """

    def __init__(self, message: str, where: str = "", field: str = ""):
        super().__init__(message)
        self.message = message
        self.where: str = Place.of(where)
        self.field = field

    def __str__(self) -> str:
        return one_line(f"{self.where}: {self.message}" if self.where else self.message)


class PrototxtError(CaffeError):
    """Text that is not a valid message of the schema: wrong syntax, an unknown field, a value out of range."""


class NetError(CaffeError):
    """A net that cannot be built or run: an unknown layer type, a missing bottom, wrong shapes, too little memory."""


class ModelFileError(CaffeError):
    """A weights, mean or solver state file that is damaged or belongs to another net."""


class DataError(CaffeError):
    """A database, HDF5 file or image that is missing, empty, damaged or of the wrong kind."""


class DataMissing(DataError):
    """Data that are absent or in use by another process. The prototxt may still be right."""


class SolverError(CaffeError):
    """A solver file that asks for something impossible, or a training run that cannot go on."""


class DeviceError(CaffeError):
    """A device that is missing, or an operation that has no body for it."""


def one_line(text: str) -> str:
    """The text, shortened if it is long, with escapes for unprintable characters such as line breaks in names."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN // 2]} ... {text[-MAX_SHOWN // 2 :]}"


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """` (did you mean "ip1"?)` with the candidate nearest to `name`, or an empty string if none is near."""
    near = nearest(name, candidates)
    return f' (did you mean "{near}"?)' if near else ""


def nearest(name: str, candidates: Iterable[str]) -> str:
    """The candidate nearest to `name`, or an empty string if none is near."""
    if len(name) > MAX_NAME:
        return ""
    options = list(candidates)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if not near:
        lower = {option.lower(): option for option in options}
        near = [lower[name.lower()]] if name.lower() in lower else []
    return near[0] if near else ""


@contextmanager
def located(where: str) -> Iterator[None]:
    """Fills in `where` on a `CaffeError` without a place, and turns a `MemoryError` into a `NetError`."""
    try:
        yield
    except CaffeError as error:
        error.where = error.where or Place.of(where)
        raise
    except MemoryError as error:
        raise NetError(f"there is not enough memory ({error})", where) from error
