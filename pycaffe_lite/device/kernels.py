"""Kernels: the compiled loops from which the host's bodies of operations are built.

    @kernel
    def add_bias(y, bias):                  # compiled by Numba, `prange` runs on all threads
        for row in prange(y.shape[0]):
            for i in range(y.shape[1]):
                y[row, i] += bias[i]

Kernels are module-level functions, since Numba caches no closures. They check nothing and trust their callers to have
checked the shapes.

A partial sum belongs to a chunk of the work, never to a thread, so that scheduling cannot change its bits: loop over
`prange(chunks)` and take `chunk(i, chunks, n)`.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from .compiler import compile_function, compile_kernel
from .threads import start_threads

__all__ = ["KERNELS", "Kernel", "chunk", "function", "inlined", "kernel", "num_threads", "prange"]

_parallel_lock = threading.RLock()  # Numba's workqueue layer aborts the process if two threads run parallel kernels at once
_forked = False


def _after_fork() -> None:
    """Numba's OpenMP layer kills a forked child at its first parallel kernel, so a child runs serial kernels."""
    global _forked, _parallel_lock
    _forked = True
    _parallel_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def num_threads() -> int:
    """How many threads a parallel kernel runs on (NUMBA_NUM_THREADS, else the number of cores)."""
    start_threads()
    return int(numba.get_num_threads())


def function(body: Callable) -> Callable:
    """Compiles a function that kernels call."""
    return compile_function(body)


def inlined(body: Callable) -> Callable:
    """Compiles a short function that is copied into its callers: for innermost loops, where a call is too slow."""
    return compile_function(body, inline=True)


@function
def chunk(i, chunks, n):
    """The half-open range of chunk `i` when `n` items are cut into `chunks` even parts."""
    i = np.int64(i)  # a prange index is unsigned, and an unsigned and a signed integer together give a float
    return i * n // chunks, (i + 1) * n // chunks


class Kernel:
    """A loop of the host; see the head of this file."""

    __name__: str

    def __init__(self, host_body: Callable, made_by: tuple | None = None):
        functools.update_wrapper(self, host_body)
        self.host_body = host_body
        self.made_by = made_by  # for the loop of an expression: the operation's name and its `updated`
        KERNELS.append(self)

    @functools.cached_property
    def _parallel(self) -> Any:
        start_threads()
        return compile_kernel(self.host_body, parallel=True)

    @functools.cached_property
    def serial(self) -> Any:
        """The host's body, compiled to run on the calling thread alone."""
        return compile_kernel(self.host_body, parallel=False)

    def __call__(self, *args: Any) -> Any:
        if _needed is not None and _noting_thread == threading.get_ident():
            return self._note(args)
        if _forked or _is_small(args):
            return self.serial(*args)
        with _parallel_lock:
            return self._parallel(*args)

    def dispatcher(self, parallel: bool) -> Any:
        """Numba's dispatcher, which compiles the host's body."""
        return self._parallel if parallel else self.serial

    def _note(self, args: tuple) -> None:
        parallel = not _is_small(args)
        call = Needed(self, parallel, self.dispatcher(parallel).signature_of(args))
        if _needed is not None and call not in _needed:
            _needed.append(call)


KERNELS: list[Kernel] = []


class Needed(NamedTuple):
    """A kernel, whether it runs on all threads, and Numba's types of its arguments."""

    kernel: Kernel
    parallel: bool
    signature: tuple


_needed: list[Needed] | None = None  # by the thread that notes them
_noting_thread = 0


@contextmanager
def needed() -> Iterator[list[Needed]]:
    """Lists each kernel that the block calls in this thread, once. No kernel runs, so the results are meaningless."""
    global _needed, _noting_thread
    before, _needed, _noting_thread = _needed, [], threading.get_ident()
    try:
        yield _needed
    finally:
        _needed = before


SMALL = 4096  # elements of all arrays: below this, waking the other threads costs more than it gains


def _is_small(args: tuple) -> bool:
    elements = 0
    for arg in args:
        if isinstance(arg, np.ndarray):
            elements += arg.size
            if elements >= SMALL:
                return False
    return True


def kernel(body: Callable) -> Kernel:
    """Makes a kernel from its host body, a function with at least one `prange` loop."""
    return Kernel(body)
