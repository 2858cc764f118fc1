"""Starts the threads on which kernels run, and changes nothing else in the process."""

from __future__ import annotations

import functools
import multiprocessing
import os

import numba

SPINS = "GOMP_SPINCOUNT"


@functools.cache
def start_threads() -> None:
    """Starts Numba's threads, once. Nets call it when they are built, and kernels before they first run.

    A thread that waits for the next kernel should give its core away after a microsecond. By default OpenMP spins for
    milliseconds, which makes training ten times slower as soon as another program wants a core. OpenMP reads this variable
    when it is loaded, so it has no effect where OpenMP is loaded already. Programs that this one starts must not inherit it.

    Numba then asks `multiprocessing` for its start method, and asking fixes it: if the program chooses one later
    (`set_start_method("spawn")`), that fails. So a start method that was not fixed before is left unfixed.
    """
    was_unfixed = multiprocessing.get_start_method(allow_none=True) is None
    was_set = SPINS in os.environ
    os.environ.setdefault(SPINS, "1000")
    try:
        numba.get_num_threads()
    finally:
        if not was_set:
            del os.environ[SPINS]
    if was_unfixed:
        multiprocessing.set_start_method(None, force=True)
