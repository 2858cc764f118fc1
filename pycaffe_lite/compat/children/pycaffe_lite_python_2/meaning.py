"""What Python 2 had under other names, or with other results. Only converted code sees it: its `__builtins__` are BUILTINS.

Nothing of this changes what other code in the process gets, since `import` is one of the builtins.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import importlib.util
import io
import itertools
import math
import operator
import pickle
import sys
from collections.abc import Callable
from fractions import Fraction
from numbers import Integral
from types import ModuleType
from typing import Any

# ---- division ------------------------------------------------------------------------------------------------------


def divide(a: Any, b: Any) -> Any:
    """`a / b`: of integers, and of arrays of integers, the integer below."""
    if isinstance(b, Divisor):  # in an operator that was called for `/=`
        b = b.value
    return a // b if _is_integer(a) and _is_integer(b) else a / b


class Divisor:
    """The right side of `a /= b`. The left side does not know this class, so that it is asked, and sees both sides."""

    def __init__(self, value: Any):
        self.value = value

    def __array_ufunc__(self, ufunc: Any, method: str, a: Any, *others: Any, **out: Any) -> Any:
        """NumPy calls this if the left side is an array or a number of NumPy."""
        return self.__rtruediv__(a)

    def __rtruediv__(self, a: Any) -> Any:
        floors = _is_integer(a) and _is_integer(self.value)
        return operator.ifloordiv(a, self.value) if floors else operator.itruediv(a, self.value)


def _is_integer(x: Any) -> bool:
    if isinstance(x, list | tuple):  # beside an array
        return all(map(_is_integer, x))
    return isinstance(x, Integral) or getattr(getattr(x, "dtype", None), "kind", None) in ("b", "i", "u")


# ---- builtins ------------------------------------------------------------------------------------------------------


def _map(function: Callable | None, *sequences: Any) -> list:
    """Shorter sequences are filled with None; without a function the elements are kept, as tuples if there are several."""
    if len(sequences) == 1:
        return list(sequences[0]) if function is None else [function(item) for item in sequences[0]]
    rows = itertools.zip_longest(*sequences)
    return list(rows) if function is None else [function(*row) for row in rows]


def _filter(function: Callable | None, sequence: Any) -> Any:
    """A str gives a str, a tuple a tuple, everything else a list."""
    kept = filter(function, sequence)
    if isinstance(sequence, str):
        return "".join(kept)
    return tuple(kept) if isinstance(sequence, tuple) else list(kept)


def _sorted(items: Any, cmp: Callable | None = None, key: Callable | None = None, reverse: bool = False) -> list:
    if cmp is None:
        return sorted(items, key=key, reverse=reverse)
    by = functools.cmp_to_key(cmp)
    return sorted(items, key=(lambda item: by(key(item))) if key else by, reverse=reverse)


def _round(number: Any, ndigits: int = 0) -> Any:
    """A float, and halves are rounded away from zero. Arrays and other numbers know themselves how they are rounded."""
    if not isinstance(number, float | Integral):
        return round(number, ndigits)
    if not math.isfinite(number):
        return float(number)
    unit = Fraction(10) ** -ndigits
    steps = math.floor(abs(Fraction(number)) / unit + Fraction(1, 2))
    return math.copysign(float(steps * unit), number)


def _execfile(filename: str, globals: dict | None = None, locals: dict | None = None) -> None:
    """Runs a file in the names of the caller."""
    from .conversion import code_of
    from .evidence import why_python_2

    with open(filename, "rb") as file:
        source = file.read()
    code = code_of(source, filename) if why_python_2(source) else compile(source, filename, "exec", dont_inherit=True)
    exec(code, *_names(globals, locals))


def _exec(source: Any, globals: dict | None = None, locals: Any = None) -> None:
    """Runs a text in Python 2, in the names of the caller."""
    from .conversion import code_of

    exec(code_of(source.encode(), "<string>") if isinstance(source, str) else source, *_names(globals, locals))


def _eval(source: Any, globals: dict | None = None, locals: Any = None) -> Any:
    """The value of an expression in Python 2, in the names of the caller."""
    from .conversion import code_of_expression

    return eval(code_of_expression(source) if isinstance(source, str) else source, *_names(globals, locals))


def _names(globals: dict | None, locals: Any) -> tuple[dict, Any]:
    """Two dicts of names for a text to run in: by default those of the function that called a function of this file."""
    if globals is None:
        caller = sys._getframe(2)
        return caller.f_globals, caller.f_locals
    globals.setdefault("__builtins__", BUILTINS)  # as `exec` does
    return globals, globals if locals is None else locals


class _Text(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, str)

    def __call__(cls, value: Any = "", *encoding: Any, **named: Any) -> str:
        return str(value, *encoding, **named) if isinstance(value, bytes | bytearray) else str(value)


class _Unicode(metaclass=_Text):
    """`unicode(x, "utf-8")` takes texts too, and is a type for `isinstance`."""


class _File(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, io.IOBase)

    def __call__(cls, *args: Any, **named: Any) -> Any:
        return _open(*args, **named)


class _AnyFile(metaclass=_File):
    """`file(name)` opens a file, and is a type for `isinstance`."""


class _TextFile(io.TextIOWrapper):
    """A file that was opened without "b", which was right for bytes too: it takes both, and gives bytes that are no text."""

    def write(self, content: Any) -> int:
        if not isinstance(content, bytes):
            return super().write(content)
        self.flush()
        self.buffer.write(content)
        return len(content)

    def read(self, size: int = -1) -> Any:  # type: ignore[override]
        at_start = self.seekable() and self.tell() == 0
        try:
            return super().read(size)
        except UnicodeDecodeError:
            if not at_start:
                raise
            self.buffer.seek(0)  # type: ignore[attr-defined]
            return self.buffer.read(size)


def _open(name: Any, mode: str = "r", buffering: int = -1, **new: Any) -> Any:
    """Opens a file. Arguments that are new in Python 3 give its file."""
    mode = mode.replace("U", "") or "r"
    if new or "b" in mode:
        return open(name, mode, buffering, **new)
    content = open(name, f"{mode}b", buffering if buffering > 1 else -1)  # noqa: SIM115  the caller closes it
    file = _TextFile(content, encoding="utf-8", line_buffering=buffering in (0, 1))
    file.mode = mode  # type: ignore[misc]
    return file


def _range(*bounds: Any) -> list:
    return list(range(*bounds))


# ---- modules -------------------------------------------------------------------------------------------------------

# Where modules are today. "" stands for those in _SPECIAL.
MODULES = {
    **dict.fromkeys(("StringIO", "cPickle", "cStringIO", "urllib2"), ""),
    "BaseHTTPServer": "http.server",
    "CGIHTTPServer": "http.server",
    "ConfigParser": "configparser",
    "Cookie": "http.cookies",
    "HTMLParser": "html.parser",
    "Image": "PIL.Image",
    "ImageDraw": "PIL.ImageDraw",
    "ImageFont": "PIL.ImageFont",
    "Queue": "queue",
    "SimpleHTTPServer": "http.server",
    "SocketServer": "socketserver",
    "Tkinter": "tkinter",
    "UserDict": "collections",
    "UserList": "collections",
    "UserString": "collections",
    "__builtin__": "",
    "anydbm": "dbm",
    "commands": "subprocess",
    "cookielib": "http.cookiejar",
    "copy_reg": "copyreg",
    "exceptions": "builtins",
    "htmlentitydefs": "html.entities",
    "httplib": "http.client",
    "md5": "",
    "robotparser": "urllib.robotparser",
    "thread": "_thread",
    "tkFileDialog": "tkinter.filedialog",
    "tkFont": "tkinter.font",
    "tkMessageBox": "tkinter.messagebox",
    "ttk": "tkinter.ttk",
    "urlparse": "urllib.parse",
    "xmlrpclib": "xmlrpc.client",
}


class StringIO(io.BytesIO):
    """Holds bytes or text, whichever it is given: Python 2 had one type for both. Text is what was written as text."""

    def __init__(self, content: str | bytes = b""):
        self._is_text = isinstance(content, str)
        super().__init__(content.encode() if isinstance(content, str) else content)

    def write(self, content: Any) -> int:
        self._is_text = isinstance(content, str)
        return super().write(content.encode() if isinstance(content, str) else content)

    def _given(self, content: bytes) -> Any:
        return content.decode() if self._is_text else content

    def getvalue(self) -> Any:
        return self._given(super().getvalue())

    def read(self, size: int | None = -1) -> Any:
        return self._given(super().read(size))

    def readline(self, size: int | None = -1) -> Any:
        return self._given(super().readline(size))

    def readlines(self, hint: int | None = -1) -> list:
        return [self._given(line) for line in super().readlines(hint)]

    def __next__(self) -> Any:
        return self._given(super().__next__())


def _module(name: str, *bases: str, **own: Any) -> ModuleType:
    """A module with the names of others, and its own."""
    module = ModuleType(name)
    for base in bases:
        vars(module).update({key: value for key, value in vars(importlib.import_module(base)).items() if key[:2] != "__"})
    vars(module).update(own)
    return module


def _pickle() -> ModuleType:
    """Pickles that Python 2 wrote hold arrays and texts as bytes: as Latin-1 both become what they were."""
    latin = {name: functools.partial(getattr(pickle, name), encoding="latin1") for name in ("loads", "Unpickler")}

    def load(file: Any) -> Any:
        return pickle.load(_bytes_of(file), encoding="latin1")

    def dump(obj: Any, file: Any, protocol: int | None = None) -> None:
        pickle.dump(obj, _bytes_of(file), protocol)

    return _module("pickle", "pickle", **latin | {"dump": dump, "load": load})


def _bytes_of(file: Any) -> Any:
    """The file of bytes beneath one that was opened as text."""
    return file.buffer if isinstance(file, io.TextIOWrapper) else file


# Modules that exist and gave other results, and those that are in no one place today.
_SPECIAL: dict[str, Callable[[], ModuleType]] = {
    "StringIO": lambda: _module("StringIO", StringIO=StringIO),
    "__builtin__": lambda: _module("__builtin__", **BUILTINS),
    "cPickle": _pickle,
    "cStringIO": lambda: _module("cStringIO", StringIO=StringIO),
    "math": lambda: _module("math", "math", floor=lambda x: float(math.floor(x)), ceil=lambda x: float(math.ceil(x))),
    "md5": lambda: _module("md5", new=importlib.import_module("hashlib").md5, md5=importlib.import_module("hashlib").md5),
    "pickle": _pickle,
    "urllib2": lambda: _module("urllib2", "urllib.parse", "urllib.error", "urllib.request"),
}


@functools.cache
def _special(name: str) -> ModuleType:
    return _SPECIAL[name]()


def _import(name: str, globals: dict | None = None, locals: dict | None = None, fromlist: Any = (), level: int = 0) -> Any:
    """`import` of Python 2: looks beside the module in its package first, and knows modules by their old names."""
    if level:
        return __import__(name, globals, locals, fromlist, level)
    if _is_beside(name, globals or {}):
        return __import__(name, globals, locals, fromlist, 1)
    if name in _SPECIAL and (name not in MODULES or not _exists(name)):
        return _special(name)
    if name in MODULES and not _exists(name):
        return importlib.import_module(MODULES[name])
    return __import__(name, globals, locals, fromlist)


def _is_beside(name: str, globals: dict) -> bool:
    package = globals.get("__package__")
    if not package or "absolute_import" in globals:  # which `from __future__ import absolute_import` sets
        return False
    return importlib.util.find_spec(f"{package}.{name.partition('.')[0]}") is not None


def _exists(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


BUILTINS: dict[str, Any] = {
    **vars(builtins),
    "StandardError": Exception,
    "__divide__": divide,
    "__divisor__": Divisor,
    "__import__": _import,
    "apply": lambda function, args=(), named=None: function(*args, **(named or {})),
    "basestring": (str, bytes),
    "buffer": memoryview,
    "cmp": lambda a, b: (a > b) - (a < b),
    "eval": _eval,
    "exec": _exec,
    "execfile": _execfile,
    "file": _AnyFile,
    "filter": _filter,
    "input": lambda prompt="": ast.literal_eval(input(prompt)),
    "intern": sys.intern,
    "long": int,
    "map": _map,
    "open": _open,
    "range": _range,
    "raw_input": input,
    "reduce": functools.reduce,
    "reload": importlib.reload,
    "round": _round,
    "sorted": _sorted,
    "unichr": chr,
    "unicode": _Unicode,
    "xrange": range,
    "zip": lambda *sequences: list(zip(*sequences)),
}
