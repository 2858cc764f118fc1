"""Starts the threads that kernels run on, without a trace in the rest of the process."""

from __future__ import annotations

import functools
import multiprocessing

import numba


@functools.cache
def start_threads() -> None:
    """Starts Numba's threads, once. Nets do so when they are built.

    Numba asks `multiprocessing` for its start method then, and who asks for it settles it: a program that chooses one later
    (`set_start_method("spawn")`) would fail. So what was open before is left open.
    """
    is_open = multiprocessing.get_start_method(allow_none=True) is None
    numba.get_num_threads()
    if is_open:
        multiprocessing.set_start_method(None, force=True)
