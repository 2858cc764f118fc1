"""Puts names that Python and NumPy have removed back, for scripts that run under `pycaffe_lite run`.

Names that still exist are not changed. Modules that are not loaded yet get their names when they are loaded.
"""

from __future__ import annotations

import sys
from collections import namedtuple
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


_MODULES = {
    "collections": _collections,
    "inspect": _inspect,
    "numpy": _numpy,
    "time": lambda module: _rename(module, _TIME),
    "unittest": lambda module: _rename(module.TestCase, _TEST_CASE),
}


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
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _MODULES[fullname](module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
