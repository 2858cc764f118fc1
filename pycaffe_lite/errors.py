"""The errors a user can meet. Each says where, what was expected, what came, and the nearest right name.

A `CaffeError` is a `RuntimeError`, because that is what pycaffe raises and old scripts catch. Code that finds a fault says
what is wrong; the code that knows where the fault stands (the net knows file, line and layer) fills in `where` on the way
out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

MAX_SHOWN = 4000  # characters of an error
MAX_NAME = 200  # characters of a name that is looked for among others: that takes time


class Place(str):
    """Where a fault is: a text such as `net.prototxt:41: layer "ip2" (InnerProduct)`, and the parts that it is made of.

    file: the name of the file, as the user wrote it. line: from 1, or 0 where it is not known. layer: its name and type.
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
        """A place that is perhaps a text without parts: that is taken for the name of a file."""
        return where if isinstance(where, Place) else cls(where)

    def __getnewargs__(self) -> tuple[str, int, str]:  # type: ignore[override]
        return self.file, self.line, self.layer


class CaffeError(RuntimeError):
    """Base of all errors of this package.

    where: the place of what is wrong, empty where it is not known. field: the name of the field of a message, such as
    `base_lr`, that has a value which is wrong; empty where the error is about something else.
    """

    def __init__(self, message: str, where: str = "", field: str = ""):
        super().__init__(message)
        self.message = message
        self.where: str = Place.of(where)
        self.field = field

    def __str__(self) -> str:
        return one_line(f"{self.where}: {self.message}" if self.where else self.message)


class PrototxtError(CaffeError):
    """Text that is no valid message of the schema: wrong syntax, an unknown field, a value out of range."""


class NetError(CaffeError):
    """A net that cannot be built or run: an unknown layer type, a missing bottom, shapes that do not fit."""


class ModelFileError(CaffeError):
    """A weights, mean or solver state file that is damaged or belongs to another net."""


class DataError(CaffeError):
    """A database, HDF5 file or image that is missing, empty, damaged or of the wrong kind."""


class DataMissing(DataError):
    """Data that are not there, or that another process uses: nothing that makes a prototxt wrong."""


class SolverError(CaffeError):
    """A solver file that asks for something impossible, or a training run that cannot go on."""


class DeviceError(CaffeError):
    """A device that is not there, or a kernel that has no body for it."""


def one_line(text: str) -> str:
    """The text, cut if it is long, with escapes for what does not print, as line breaks in names of a file."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN // 2]} ... {text[-MAX_SHOWN // 2 :]}"


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """` (did you mean "ip1"?)` with the candidate nearest to `name`, or an empty string where none is near."""
    if len(name) > MAX_NAME:
        return ""
    options = list(candidates)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if not near:
        lower = {option.lower(): option for option in options}
        near = [lower[name.lower()]] if name.lower() in lower else []
    return f' (did you mean "{near[0]}"?)' if near else ""


@contextmanager
def located(where: str) -> Iterator[None]:
    """Fills in `where` on a `CaffeError` that does not know its place yet, and makes one of a lack of memory."""
    try:
        yield
    except CaffeError as error:
        error.where = error.where or Place.of(where)
        raise
    except MemoryError as error:
        raise CaffeError(f"there is not enough memory ({error})", where) from error
