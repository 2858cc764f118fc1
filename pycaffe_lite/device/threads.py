"""Starts the threads that kernels run on, without a trace in the rest of the process."""

from __future__ import annotations

import functools
import multiprocessing
import os

import numba

SPINS = "GOMP_SPINCOUNT"


@functools.cache
def start_threads() -> None:
    """Starts Numba's threads, once. Nets do so when they are built, and kernels before they first run.

    Threads that wait for the next kernel are to give the core away after a microsecond. OpenMP's own default spins for
    milliseconds, and training takes ten times as long as soon as another program wants a core. OpenMP reads the setting as
    it is loaded, and has done so already where somebody else uses it; it is not for the programs that this one starts.

    Numba asks `multiprocessing` for its start method then, and who asks for it settles it: a program that chooses one later
    (`set_start_method("spawn")`) would fail. So what was open before is left open.
    """
    is_open = multiprocessing.get_start_method(allow_none=True) is None
    is_given = SPINS in os.environ
    os.environ.setdefault(SPINS, "1000")
    try:
        numba.get_num_threads()
    finally:
        if not is_given:
            del os.environ[SPINS]
    if is_open:
        multiprocessing.set_start_method(None, force=True)
