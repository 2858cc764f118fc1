"""Compiled kernels on disk: Numba's cache, in a folder that is handed to it.

A folder holds the kernels of one digest of all that they are made of; Numba's own key looks at the file of the kernel alone,
and misses an edit in a function that it calls. No file is needed twice: any number of processes may read and write.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
import numpy as np
import scipy
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

VARIABLES = "PYCAFFE_LITE_CACHE_DIR", "NUMBA_CACHE_DIR"  # the first that is set names the folder
_HOW_FILES = "compiler.py", "expressions.py", "kernels.py"  # which say how kernels are compiled
_HOW = [Path(__file__).with_name(name) for name in _HOW_FILES]


def root() -> Path:
    """Where compiled kernels are kept: see `VARIABLES`, else the user's cache folder."""
    given = next(filter(None, map(os.environ.get, VARIABLES)), None)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(given or os.path.join(home, "pycaffe_lite")) / "kernels"


def digest(body: Callable) -> str:
    """Of all source that a kernel is made of: its own file, those of the functions that it calls, and the libraries."""
    files = set(map(str, _HOW))
    todo, seen = [body], set()
    while todo:
        code = todo.pop()
        seen.add(code)
        files.add(code.__code__.co_filename)
        called = (code.__globals__.get(name) for name in code.__code__.co_names)
        functions = (getattr(value, "py_func", value) for value in called)
        todo += [f for f in functions if isinstance(f, types.FunctionType) and f not in seen]
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__} {scipy.__version__} {sys.version}".encode())
    for file in sorted(files):
        digest.update(Path(file).read_bytes())
    digest.update(repr((body.__code__.co_varnames, body.__code__.co_code)).encode())  # a loop may be made of an expression
    return digest.hexdigest()[:16]


class _Locator(_CacheLocator):
    """The folder, which may be one that can only be read, and the line of the function, which tells namesakes apart."""

    def __init__(self, body: Callable, folder: Path):
        self._py_file, self._line, self._folder = body.__code__.co_filename, body.__code__.co_firstlineno, folder

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return ""  # the folder is the stamp

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Files(CompileResultCacheImpl):
    """Numba's class of this name looks for the folder in Numba's own settings, so it is not asked."""

    def __init__(self, body: Callable, folder: Path):
        self._lineno = body.__code__.co_firstlineno
        self._locator = _Locator(body, folder)
        name = f"{Path(inspect.getfile(body)).stem}.{body.__qualname__}"
        self._filename_base = self.get_filename_base(name, getattr(sys, "abiflags", ""))


class Cache(FunctionCache):
    """The cache of one kernel, parallel or not. A full disk or a damaged file is no reason not to run it."""

    def __init__(self, body: Callable, parallel: bool):
        folder = root() / ("parallel" if parallel else "serial") / digest(body)  # Numba's key does not tell them apart
        self._impl_class: Any = functools.partial(_Files, folder=folder)
        super().__init__(body)

    def holds(self, signature: Any, target_context: Any) -> bool:
        """Whether there is code for a signature, without loading it."""
        try:
            name = self._cache_file._load_index().get(self._index_key(signature, target_context.codegen()))
        except Exception:  # see `load_overload`
            return False
        return name is not None and os.path.exists(self._cache_file._data_path(name))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever unpickling a damaged file comes to
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def cache_of(body: Callable, parallel: bool) -> Cache | None:
    """None for a function that was typed in: nothing tells one version of it from the next."""
    try:
        return Cache(body, parallel)
    except OSError:
        return None
