"""Compiled kernels on disk: Numba's cache, in a folder of our own.

The folder's name has a digest of all source of the kernel. Numba's own key covers only the file of the kernel, and misses an
edit in a function that the kernel calls. No file has to stay between two accesses, so any number of processes may share it.
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

VARIABLES = "PYCAFFE_LITE_CACHE_DIR", "NUMBA_CACHE_DIR"  # the first one that is set gives the folder
_COMPILER_NAMES = "compiler.py", "expressions.py", "kernels.py"  # these say how kernels are compiled
_COMPILER_FILES = [Path(__file__).with_name(name) for name in _COMPILER_NAMES]


def root() -> Path:
    """The folder of compiled kernels: one of `VARIABLES`, else the user's cache folder."""
    folder = next(filter(None, map(os.environ.get, VARIABLES)), None)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder or os.path.join(home, "pycaffe_lite")) / "kernels"


def digest(body: Callable) -> str:
    """A digest of a kernel's file, the files of the functions that it calls, and the versions of the libraries."""
    files = set(map(str, _COMPILER_FILES))
    pending, visited = [body], set()
    while pending:
        code = pending.pop()
        visited.add(code)
        files.add(code.__code__.co_filename)
        called = (code.__globals__.get(name) for name in code.__code__.co_names)
        functions = (getattr(value, "py_func", value) for value in called)
        pending += [f for f in functions if isinstance(f, types.FunctionType) and f not in visited]
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__} {scipy.__version__} {sys.version}".encode())
    for file in sorted(files):
        digest.update(Path(file).read_bytes())
    digest.update(repr((body.__code__.co_varnames, body.__code__.co_code)).encode())  # a loop may be made from an expression
    return digest.hexdigest()[:16]


class _Locator(_CacheLocator):
    """Gives Numba the folder, which may be read-only, and the function's line, which distinguishes functions of one name."""

    def __init__(self, body: Callable, folder: Path):
        self._py_file, self._line, self._folder = body.__code__.co_filename, body.__code__.co_firstlineno, folder

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return ""  # the folder's name has the digest

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Files(CompileResultCacheImpl):
    """Gives Numba's cache our folder. The constructor of the base class, which looks for a folder itself, is not called."""

    def __init__(self, body: Callable, folder: Path):
        self._lineno = body.__code__.co_firstlineno
        self._locator = _Locator(body, folder)
        name = f"{Path(inspect.getfile(body)).stem}.{body.__qualname__}"
        self._filename_base = self.get_filename_base(name, getattr(sys, "abiflags", ""))


class Cache(FunctionCache):
    """The cache of one kernel, parallel or serial. The kernel also runs if the disk is full or a file is damaged."""

    def __init__(self, body: Callable, parallel: bool):
        folder = root() / ("parallel" if parallel else "serial") / digest(body)  # Numba's key is the same for both
        self._impl_class: Any = functools.partial(_Files, folder=folder)
        super().__init__(body)

    def holds(self, signature: Any, target_context: Any) -> bool:
        """Whether the cache has code for a signature; does not load it."""
        try:
            name = self._cache_file._load_index().get(self._index_key(signature, target_context.codegen()))
        except Exception:  # see `load_overload`
            return False
        return name is not None and os.path.exists(self._cache_file._data_path(name))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # unpickling a damaged file may raise anything
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def cache_of(body: Callable, parallel: bool) -> Cache | None:
    """The cache of a kernel. None for a function without a file, such as one that was typed in."""
    try:
        return Cache(body, parallel)
    except OSError:
        return None
