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
import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import prange
from threadpoolctl import ThreadpoolController

from ..errors import DeviceError

__all__ = ["Kernel", "chunk", "function", "kernel", "num_threads", "prange", "serial_blas"]

# Sums may be reordered (that is what vectors need); NaN and infinity keep their meaning, so a diverged net shows as one.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}

_parallel_lock = threading.RLock()  # two threads inside parallel kernels abort the process under Numba's workqueue layer
_forked = False


def _after_fork() -> None:
    """Numba's OpenMP layer kills a forked child at its first parallel kernel: children run serial ones."""
    global _forked, _parallel_lock
    _forked = True
    _parallel_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def num_threads() -> int:
    """How many threads a parallel kernel runs on (NUMBA_NUM_THREADS, else the number of cores)."""
    return int(numba.get_num_threads())


def function(body: Callable) -> Callable:
    """Compiles a function that kernels call."""
    return numba.njit(body, **_OPTIONS)


@function
def chunk(i, chunks, n):
    """The half-open range of chunk `i` when `n` items are cut into `chunks` even parts."""
    i = np.int64(i)  # a prange index is unsigned, and mixed with signed ones a float
    return i * n // chunks, (i + 1) * n // chunks


@functools.cache
def _cache_root() -> Path:
    """A folder for compiled kernels whose name depends on the source of all of them.

    Numba's own key looks at the file of the kernel alone and misses an edit in a function that it calls.
    """
    package = Path(__file__).parent.parent
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__} {sys.version}".encode())
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    base = os.environ.get("NUMBA_CACHE_DIR") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "pycaffe_lite"
    )
    return Path(base) / "kernels" / digest.hexdigest()[:16]


def _compile(body: Callable, parallel: bool) -> Callable:
    dispatcher = numba.njit(body, parallel=parallel, **_OPTIONS)
    before = numba.config.CACHE_DIR
    folder = _cache_root() / ("parallel" if parallel else "serial")  # Numba's key does not tell the two apart
    try:
        folder.mkdir(parents=True, exist_ok=True)
        numba.config.CACHE_DIR = str(folder)
        dispatcher.enable_caching()
    except (OSError, RuntimeError):
        pass  # no place to keep compiled code (a read-only home, say): compile in every process
    finally:
        numba.config.CACHE_DIR = before
    return dispatcher


class Kernel:
    """An operation with one body for each device."""

    def __init__(self, body: Callable):
        functools.update_wrapper(self, body)
        self.host_body = body

    @functools.cached_property
    def _parallel(self) -> Callable:
        return _compile(self.host_body, parallel=True)

    @functools.cached_property
    def serial(self) -> Callable:
        """The host's body on the calling thread alone: for prefetch threads and forked children."""
        return _compile(self.host_body, parallel=False)

    def __call__(self, *args: Any) -> Any:
        if not isinstance(args[0], np.ndarray):
            raise DeviceError(f"the kernel {self.__name__} has no body for arrays of {type(args[0]).__module__}")
        if _forked:
            return self.serial(*args)
        with _parallel_lock:
            return self._parallel(*args)

    __name__: str


def kernel(body: Callable) -> Kernel:
    """Makes a kernel of its host body, a function with at least one `prange` loop."""
    return Kernel(body)


@functools.cache
def _blas_controller() -> ThreadpoolController:
    import scipy.linalg.cython_blas  # noqa: F401  the BLAS that kernels call has to be loaded to be found

    return ThreadpoolController().select(user_api="blas")


def serial_blas() -> AbstractContextManager:
    """Holds BLAS to one thread: kernels call it from threads of their own, and two pools on the same cores stall."""
    return _blas_controller().limit(limits=1)
