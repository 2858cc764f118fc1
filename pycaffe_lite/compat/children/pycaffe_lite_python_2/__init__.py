"""Runs code that was written for Python 2: it is converted in memory when it is loaded, and no file changes.

- `evidence` says why a text is Python 2, and `conversion` makes Python 3 of it: syntax by fissix, and the division.
- `meaning` has what Python 2 had under other names or with other results, for converted code only: builtins and modules.
- `kernel` does the same for the cells of a notebook.

Files that run in Python 3 are left to Python, and so are the standard library and installed packages. This package imports
nothing of pycaffe_lite, because child processes load it without Caffe (see sitecustomize.py).
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

Tell = Callable[[str, str], None]  # is called with a file that is converted, and why
_INSTALLED = tuple(
    os.path.join(os.path.realpath(folder), "")
    for name, folder in sysconfig.get_paths().items()
    if name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_python_run_path = runpy.run_path


class Finder:
    """Finds modules in Python 2. All others are left to the finders behind this one."""

    def __init__(self, tell: Tell | None = None):
        self._tell = tell

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.startswith("pycaffe_lite"):
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is None or type(spec.loader) is not SourceFileLoader or _is_installed(spec.loader.path):
            return None
        why = _why(spec.loader.path)
        if why is None:
            return None
        spec.loader = Loader(fullname, spec.loader.path, why, self._tell)
        return spec


class Loader(SourceFileLoader):
    """Loads a module in Python 2, and writes no bytecode of it, since Python would take that for its own."""

    def __init__(self, fullname: str, path: str, why: str, tell: Tell | None):
        super().__init__(fullname, path)
        self._why, self._tell = why, tell

    def get_code(self, fullname: str) -> CodeType:
        return _convert(self.path, self._why, self._tell)

    def get_source(self, fullname: str) -> str:
        """The text in Python 3."""
        from .conversion import text_of

        return text_of(self.get_data(self.path))

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(_globals())
        super().exec_module(module)


def install(tell: Tell | None = None) -> None:
    """From now on this process converts modules and scripts in Python 2 when it imports them, or runs them with `runpy`."""
    sys.meta_path.insert(0, Finder(tell))

    def run_path(path_name: str, init_globals: dict[str, Any] | None = None, run_name: str | None = None) -> dict[str, Any]:
        """Python's function, which also runs scripts in Python 2. `multiprocessing` loads the main script with it."""
        why = _why_script(path_name)
        if why is None:
            return _python_run_path(path_name, init_globals, run_name or "<run_path>")
        code, name = _convert(path_name, why, tell), run_name or "<run_path>"
        names = {**(init_globals or {}), **_globals()}
        return runpy._run_module_code(  # type: ignore[attr-defined]
            code, names, name, pkg_name=name.rpartition(".")[0], script_name=path_name
        )

    runpy.run_path = run_path


@contextmanager
def imports_python_2(tell: Tell | None = None) -> Iterator[None]:
    """In the block modules in Python 2 are converted when they are imported."""
    finder = Finder(tell)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def globals_of_main(module: str) -> dict[str, Any]:
    """The globals with which `runpy.run_module` has to start a module: for one in Python 2, the names of Python 2."""
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{module}.__main__")
    return _globals() if spec is not None and isinstance(spec.loader, Loader) else {}


def _is_installed(path: str) -> bool:
    real = os.path.realpath(path)
    return real.startswith(_INSTALLED) or bool({"site-packages", "dist-packages"} & set(real.split(os.sep)))


def _why_script(path: str) -> str | None:
    """Why a script is Python 2; None for one that is not, and for all that is no file of text."""
    if not os.path.isfile(path) or path.endswith((".pyc", ".zip", ".pyz")):
        return None
    return _why(path)


def _why(path: str) -> str | None:
    from .evidence import why_python_2

    with open(path, "rb") as file:
        return why_python_2(file.read())


def _convert(path: str, why: str, tell: Tell | None) -> CodeType:
    from .conversion import code_of  # which loads fissix

    with open(path, "rb") as file:
        code = code_of(file.read(), path)
    if tell is not None:
        tell(path, why)
    return code


def _globals() -> dict[str, Any]:
    from .meaning import BUILTINS

    return {"__builtins__": BUILTINS}
