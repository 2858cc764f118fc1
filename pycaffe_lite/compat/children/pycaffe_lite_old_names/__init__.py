"""Puts names that Python and libraries have removed back, for scripts that run under `pycaffe_lite run`.

Names that still exist are not changed. Modules that are not loaded yet get their names when they are loaded.
"""

from __future__ import annotations

import importlib
import itertools
import math
import os
import sys
import warnings
from collections import namedtuple
from contextlib import nullcontext
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

# ---- the tables: a removed name, and what it is today --------------------------------------------------------------

_TIME = {"clock": "perf_counter"}
_NUMPY = {
    "Inf": "inf",
    "Infinity": "inf",
    "NaN": "nan",
    "alltrue": "all",
    "complex_": "complex128",
    "cumproduct": "cumprod",
    "float_": "float64",
    "infty": "inf",
    "product": "prod",
    "round_": "round",
    "row_stack": "vstack",
    "sometrue": "any",
    "string_": "bytes_",
    "trapz": "trapezoid",
    "unicode_": "str_",
}
_BUILTINS = {"bool": bool, "complex": complex, "float": float, "int": int, "long": int}  # the old np.int etc.
_BUILTINS |= {"object": object, "str": str, "unicode": str}
_PILLOW = {"ANTIALIAS": "LANCZOS", "CUBIC": "BICUBIC", "LINEAR": "BILINEAR", "fromstring": "frombytes"}
_ITERTOOLS = {"ifilter": filter, "ifilterfalse": itertools.filterfalse, "imap": map, "izip": zip}
_ITERTOOLS |= {"izip_longest": itertools.zip_longest}
_STRING = {"letters": "ascii_letters", "lowercase": "ascii_lowercase", "uppercase": "ascii_uppercase"}
_STRING_METHODS = ("find", "lower", "lstrip", "maketrans", "replace", "rstrip", "split", "strip", "upper", "zfill")
_TYPES: dict[str, Any] = {
    "BooleanType": bool,
    "DictType": dict,
    "FloatType": float,
    "IntType": int,
    "ListType": list,
    "LongType": int,
}
_TYPES |= {"StringType": str, "StringTypes": (str, bytes), "TupleType": tuple, "UnicodeType": str}
_URLLIB = {  # the modules of urllib in which names are today
    **dict.fromkeys(("quote", "quote_plus", "unquote", "unquote_plus", "urlencode"), "urllib.parse"),
    **dict.fromkeys(("pathname2url", "url2pathname", "urlcleanup", "urlopen", "urlretrieve"), "urllib.request"),
}
_TEST_CASE = {
    "assertAlmostEquals": "assertAlmostEqual",
    "assertEquals": "assertEqual",
    "assertItemsEqual": "assertCountEqual",
    "assertNotAlmostEquals": "assertNotAlmostEqual",
    "assertNotEquals": "assertNotEqual",
    "assertNotRegexpMatches": "assertNotRegex",
    "assertRaisesRegexp": "assertRaisesRegex",
    "assertRegexpMatches": "assertRegex",
    "assert_": "assertTrue",
    "failIf": "assertFalse",
    "failUnless": "assertTrue",
}

_ArgSpec = namedtuple("_ArgSpec", "args varargs keywords defaults")  # the result of inspect.getargspec


def _add(owner: Any, names: dict[str, Any]) -> None:
    for name, value in names.items():
        if name not in vars(owner):
            setattr(owner, name, value)


def _rename(owner: Any, names: dict[str, str]) -> None:
    _add(owner, {old: getattr(owner, new) for old, new in names.items() if hasattr(owner, new)})


# ---- the modules ---------------------------------------------------------------------------------------------------


def _collections(module: Any) -> None:
    from collections import abc

    _add(module, {name: getattr(abc, name) for name in abc.__all__})


def _inspect(module: Any) -> None:
    _add(module, {"getargspec": lambda function: _ArgSpec(*module.getfullargspec(function)[:4])})


def _numpy(module: Any) -> None:
    _rename(module, _NUMPY)
    _add(module, _BUILTINS)
    _add(module, {"asscalar": lambda array: array.item(), "in1d": lambda *a, **k: module.isin(*a, **k).ravel()})
    present = module.fromstring

    def fromstring(string: Any, dtype: Any = float, count: int = -1, *, sep: str = "", **like: Any) -> Any:
        """NumPy's function, but without `sep` the string is bytes. Since 2.3 NumPy's reads text only."""
        return present(string, dtype, count, sep=sep, **like) if sep else module.frombuffer(string, dtype, count).copy()

    module.fromstring = fromstring
    if not hasattr(module.ndarray, "tostring"):
        _add_to_ndarray(module.ndarray)


def _add_to_ndarray(ndarray: Any) -> None:
    """Adds methods to ndarray through its internal dict, because attributes of a C type cannot be set."""
    import ctypes
    import gc

    (names,) = gc.get_referents(vars(ndarray))
    names["tostring"] = vars(ndarray)["tobytes"]
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(ndarray))


def _pillow_image(module: Any) -> None:
    _rename(module, _PILLOW)
    _rename(module.Image, {"tostring": "tobytes"})


def _pillow_draw(module: Any) -> None:
    def textsize(self: Any, text: Any, font: Any = None, *args: Any, **named: Any) -> tuple[int, int]:
        """Width and height of a text from the place where it is drawn."""
        return self.textbbox((0, 0), text, font, None, *args, **named)[2:]

    _add(module.ImageDraw, {"textsize": textsize})


def _pillow_font(module: Any) -> None:
    for font in (module.FreeTypeFont, module.ImageFont):
        _add(font, {"getsize": lambda self, text, *args, **named: self.getbbox(text, *args, **named)[2:]})


def _scipy_misc(module: Any) -> None:
    from . import scipy_misc

    _add(module, {name: getattr(scipy_misc, name) for name in scipy_misc.__all__})


def _scipy_ndimage(module: Any) -> None:
    def imread(*args: Any, **named: Any) -> Any:
        from . import scipy_misc

        return scipy_misc.imread(*args, **named)

    _add(module, {"imread": imread})


def _string(module: Any) -> None:
    _rename(module, _STRING)
    _add(module, {name: getattr(str, name) for name in _STRING_METHODS})
    _add(module, {"atof": float, "atoi": int, "join": lambda words, sep=" ": sep.join(words)})


def _urllib(module: Any) -> None:
    def get(name: str) -> Any:
        """Functions that are in modules of urllib today, which are loaded when one is used."""
        if name not in _URLLIB:
            raise AttributeError(f"module 'urllib' has no attribute '{name}'", name=name, obj=module)
        return getattr(importlib.import_module(_URLLIB[name]), name)

    _add(module, {"__getattr__": get})


def _yaml(module: Any) -> None:
    """`load` without a loader, which could run code, uses the safe one."""
    for name in ("load", "load_all"):
        _default_loader(module, name, getattr(module, name))


def _default_loader(module: Any, name: str, load: Any) -> None:
    setattr(module, name, lambda stream, Loader=module.SafeLoader: load(stream, Loader))


_MODULES = {
    "PIL.Image": _pillow_image,
    "PIL.ImageDraw": _pillow_draw,
    "PIL.ImageFont": _pillow_font,
    "collections": _collections,
    "fractions": lambda module: _add(module, {"gcd": math.gcd}),
    "inspect": _inspect,
    "itertools": lambda module: _add(module, _ITERTOOLS),
    "numpy": _numpy,
    "os": lambda module: _add(module, {"getcwdu": os.getcwd}),
    "scipy.misc": _scipy_misc,
    "scipy.ndimage": _scipy_ndimage,
    "string": _string,
    "sys": lambda module: _add(module, {"maxint": sys.maxsize, "setdefaultencoding": lambda encoding: None}),
    "time": lambda module: _rename(module, _TIME),
    "types": lambda module: _add(module, _TYPES),
    "unittest": lambda module: _rename(module.TestCase, _TEST_CASE),
    "urllib": _urllib,
    "yaml": _yaml,
}
_GONE = {"scipy.misc"}  # modules that some release removes


# ---- putting them back ---------------------------------------------------------------------------------------------


def put_back() -> None:
    """Puts the names into the modules that are loaded, and into other modules when they are loaded."""
    for name, complete in _MODULES.items():
        if name in sys.modules:
            complete(sys.modules[name])
    sys.meta_path.insert(0, _Importer())


class _Importer:
    """Lets Python load a module, then adds the names to it."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname in _MODULES else None
        if spec is None and fullname in _GONE:
            return ModuleSpec(fullname, _Empty())
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with warnings.catch_warnings() if fullname in _GONE else nullcontext():
                if fullname in _GONE:
                    warnings.simplefilter("ignore", DeprecationWarning)  # that it will be removed
                execute(module)
            _MODULES[fullname](module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class _Empty(Loader):
    """Makes a module that has only the names."""

    def create_module(self, spec: ModuleSpec) -> None:
        return None  # Python makes it

    def exec_module(self, module: ModuleType) -> None:
        _MODULES[module.__name__](module)
