"""Kernels: one name with a body for each device.

    @kernel
    def relu_forward(x, slope, y):          # the host's body: compiled by Numba, `prange` runs on all threads
        for i in prange(x.size):
            y[i] = max(x[i], 0) + slope * min(x[i], 0)

The first argument is an array and picks the body. Bodies are module-level functions (Numba caches no closures) and trust
their callers: shapes are checked before, nothing is checked inside.

A sum that is split belongs to a chunk of the work, never to a thread, so that scheduling cannot change its bits: loop over
`prange(chunks)` and take `chunk(i, chunks, n)`.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# Threads that wait for the next kernel give the core away after a microsecond. OpenMP's own default spins for milliseconds,
# and training takes ten times as long as soon as another program wants a core. (No effect if OpenMP is loaded already.)
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import llvmlite.binding as llvm
import numba
import numpy as np
import scipy
from numba import prange
from numba.core.caching import FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.registry import cpu_target

from ..errors import DeviceError
from .memory import current

__all__ = ["KERNELS", "Kernel", "chunk", "function", "inlined", "kernel", "num_threads", "prange"]

# Sums may be reordered (that is what vectors need); NaN and infinity keep their meaning, so a diverged net shows as one.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}


class _OwnCopies(JITCodeLibrary):
    """Compiled code whose copies of the functions that it calls are its own.

    Numba compiles a function (the body of a `prange` loop, too), copies it into its caller, and optimises it there again,
    which may reorder its sums once more. By name the copy is the same function: in the process that compiled both, the first
    one runs; in a process that loads the caller from disk, the copy does, and gives other bits.
    """

    def _optimize_final_module(self) -> None:
        modules = [library._get_module_for_linking() for library in self._linking_libraries]
        copied = {function.name for module in modules for function in module.functions if not function.is_declaration}
        for function in self._final_module.functions:
            if function.name in copied and not function.is_declaration:
                function.linkage = llvm.Linkage.internal
        super()._optimize_final_module()


cpu_target.target_context.codegen()._library_class = _OwnCopies

_parallel_lock = threading.RLock()  # two threads inside parallel kernels abort the process under Numba's workqueue layer
_cache_lock = threading.Lock()  # Numba has one setting for the folder of its cache
_forked = False


def _after_fork() -> None:
    """Numba's OpenMP layer kills a forked child at its first parallel kernel: children run serial ones."""
    global _forked, _parallel_lock, _cache_lock
    _forked = True
    _parallel_lock, _cache_lock = threading.RLock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def num_threads() -> int:
    """How many threads a parallel kernel runs on (NUMBA_NUM_THREADS, else the number of cores)."""
    return int(numba.get_num_threads())


def function(body: Callable) -> Callable:
    """Compiles a function that kernels call."""
    return numba.njit(body, **_OPTIONS)


def inlined(body: Callable) -> Callable:
    """Compiles a function whose few lines are copied into its callers: for innermost loops, where a call costs more."""
    return numba.njit(body, inline="always", **_OPTIONS)


@function
def chunk(i, chunks, n):
    """The half-open range of chunk `i` when `n` items are cut into `chunks` even parts."""
    i = np.int64(i)  # a prange index is unsigned, and mixed with signed ones a float
    return i * n // chunks, (i + 1) * n // chunks


def _cache_root() -> Path:
    """Where compiled kernels are kept: NUMBA_CACHE_DIR, else the user's cache folder."""
    base = os.environ.get("NUMBA_CACHE_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "pycaffe_lite"
    )
    return Path(base) / "kernels"


def _key(body: Callable) -> str:
    """A digest of all source that a kernel is made of: its own file, and those of the functions that it calls.

    Numba's own key looks at the file of the kernel alone and misses an edit in a function that it calls.
    """
    files = {__file__}  # which says how they are compiled
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
        with suppress(OSError):  # a kernel from an interactive session has no file, and Numba keeps none of those
            digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:16]


class _Cache(FunctionCache):
    """Numba's cache of one function; a disk that is full is no reason not to run it."""

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def _compile(body: Callable, parallel: bool) -> Callable:
    dispatcher: Any = numba.njit(body, parallel=parallel, **_OPTIONS)
    config: Any = numba.config
    folder = _cache_root() / ("parallel" if parallel else "serial") / _key(body)  # Numba's key does not tell them apart
    with _cache_lock:
        before = config.CACHE_DIR
        try:
            folder.mkdir(parents=True, exist_ok=True)
            config.CACHE_DIR = str(folder)
            dispatcher._cache = _Cache(body)
        except (OSError, RuntimeError):
            pass  # no place to keep compiled code (a read-only home, say): compile in every process
        finally:
            config.CACHE_DIR = before
    return dispatcher


class Kernel:
    """An operation with one body for each device; see the head of this file."""

    __name__: str

    def __init__(self, host_body: Callable):
        functools.update_wrapper(self, host_body)
        self.host_body = host_body
        self.bodies: dict[str, Callable] = {}  # of other devices, by name
        KERNELS.append(self)

    def body(self, device: str) -> Callable[[Callable], Callable]:
        """Decorator: registers the body for the arrays of another device. It takes the parameters of the host's body."""

        def add(body: Callable) -> Callable:
            if inspect.signature(body) != inspect.signature(self.host_body):
                expected, received = inspect.signature(self.host_body), inspect.signature(body)
                raise TypeError(f"the body of {self.__name__} for {device} takes {received}, the host's takes {expected}")
            self.bodies[device] = body
            return body

        return add

    @functools.cached_property
    def _parallel(self) -> Callable:
        return _compile(self.host_body, parallel=True)

    @functools.cached_property
    def serial(self) -> Callable:
        """The host's body on the calling thread alone."""
        return _compile(self.host_body, parallel=False)

    def __call__(self, *args: Any) -> Any:
        if not isinstance(args[0], np.ndarray):
            return self._body_of(current().name)(*args)
        if _forked or _is_small(args):
            return self.serial(*args)
        with _parallel_lock:
            return self._parallel(*args)

    def _body_of(self, device: str) -> Callable:
        if device not in self.bodies:
            raise DeviceError(f"the kernel {self.__name__} has no body for the device {device}")
        return self.bodies[device]


KERNELS: list[Kernel] = []
SMALL = 4096  # elements of all arrays: less is not worth waking the other threads


def _is_small(args: tuple) -> bool:
    elements = 0
    for arg in args:
        if isinstance(arg, np.ndarray):
            elements += arg.size
            if elements >= SMALL:
                return False
    return True


def kernel(body: Callable) -> Kernel:
    """Makes a kernel of its host body, a function with at least one `prange` loop."""
    return Kernel(body)
