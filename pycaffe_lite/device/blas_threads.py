"""How many threads BLAS may use while a net runs: one.

Kernels call BLAS from threads of their own, and two thread pools on the same cores stall each other. The number of BLAS
threads is a setting of the whole process, and NumPy uses it too. So the holders of the limit are counted: the first holder
sets the limit, and when the last one lets go, BLAS gets back the numbers of threads that it had before.
"""

from __future__ import annotations

import functools
import os
import threading
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.RLock()  # reentrant: a signal or the garbage collector may end a hold while this thread changes another
_holders: dict[int, int] = {}  # the holds in force: the id of each hold, and its thread
_before: list[tuple[Any, int]] = []  # the BLAS libraries and their numbers of threads before the first hold


def serial_blas() -> _Hold:
    """Holds BLAS to one thread for the length of a `with` block. Blocks may nest, and run in several threads at once."""
    return _Hold()


class _Hold:
    """The hold of one `with` block. It ends with the block, or with this object if an interrupt skips the block's end."""

    def __enter__(self) -> None:
        with _lock:
            first = not _holders
            _holders[id(self)] = threading.get_ident()
            if first:
                _limit()

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def __del__(self) -> None:
        self._let_go()

    def _let_go(self) -> None:
        if id(self) not in _holders:
            return
        with _lock:
            _holders.pop(id(self), None)
            if not _holders:
                _restore()


@functools.cache
def _libraries() -> list[Any]:
    import scipy.linalg.cython_blas  # noqa: F401  the BLAS that kernels call has to be loaded to be found

    return ThreadpoolController().select(user_api="blas").lib_controllers


def _limit() -> None:
    if not _before:  # not empty if an interrupt stopped `_restore` half way: then it still has the numbers from before
        _before[:] = [(library, library.num_threads) for library in _libraries()]
    for library, _ in _before:
        _set(library, 1)


def _restore() -> None:
    for library, threads in _before:
        _set(library, threads)
    _before.clear()


def _set(library: Any, threads: int) -> None:
    """Sets a library's number of threads, from any thread.

    From version 3.8 on, threadpoolctl lets only the thread that set the number first change it, and silently ignores other
    threads. The last holder may run in another thread, so the first thread gives this right up at once.
    """
    give_up_right = getattr(library, "clear_controlling_thread", None)
    if give_up_right is not None:
        give_up_right(force=True)
    library.set_num_threads(threads)
    if give_up_right is not None:
        give_up_right(force=True)


def _after_fork() -> None:
    """Ends the holds of threads that only the parent has. The lock was taken before the fork, so no hold is half changed."""
    this_thread = threading.get_ident()
    for hold, thread in list(_holders.items()):
        if thread != this_thread:
            del _holders[hold]
    if not _holders:
        _restore()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)
