"""Working memory of kernels: one growing buffer a thread, so that layers that run one after the other use the same pages.

The buffers of all threads are given back when there is no net any more that is open.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..device import aligned_zeros


class _Buffer:
    """The bytes of one thread."""

    def __init__(self) -> None:
        self.bytes = aligned_zeros(0, np.uint8)


_of_thread = threading.local()
_lock = threading.RLock()  # reentrant: the collection of garbage may end a net at any time
_buffers: list[weakref.ref[_Buffer]] = []  # of all threads
_open_nets: set[int] = set()  # their ids


def open_net(net: object) -> None:
    """Counts a net as one that may run, until `close_net` or its end as an object."""
    _open_nets.add(id(net))
    weakref.finalize(net, _close, id(net)).atexit = False


def close_net(net: object) -> None:
    """Counts a net no longer. It can run all the same: buffers come back when they are asked for."""
    _close(id(net))


def _close(net: int) -> None:
    """Gives all buffers back if this was the last net. Arrays that somebody still has keep theirs."""
    _open_nets.discard(net)
    if _open_nets:
        return
    with _lock:
        for reference in _buffers:
            if buffer := reference():
                buffer.bytes = aligned_zeros(0, np.uint8)


def _new_buffer() -> _Buffer:
    buffer = _of_thread.buffer = _Buffer()
    with _lock:
        _buffers[:] = [*(reference for reference in _buffers if reference()), weakref.ref(buffer)]
    return buffer


def scratch(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of any contents, valid until this thread asks for the next one."""
    dtype = np.dtype(dtype)
    count = math.prod(shape)
    buffer = getattr(_of_thread, "buffer", None) or _new_buffer()
    bytes_ = buffer.bytes
    if bytes_.size < count * dtype.itemsize:
        bytes_ = buffer.bytes = aligned_zeros(count * dtype.itemsize, np.uint8)
    return bytes_[: count * dtype.itemsize].view(dtype).reshape(shape)


def scratches(shapes: Sequence[tuple[int, ...]], dtype: Any) -> list[np.ndarray]:
    """Several arrays of any contents, each on a 64-byte boundary, valid until this thread asks for the next ones."""
    dtype = np.dtype(dtype)
    line = 64 // dtype.itemsize
    sizes = [-(-math.prod(shape) // line) * line for shape in shapes]
    flat, start, arrays = scratch((sum(sizes),), dtype), 0, []
    for shape, size in zip(shapes, sizes):
        arrays.append(flat[start : start + math.prod(shape)].reshape(shape))
        start += size
    return arrays
