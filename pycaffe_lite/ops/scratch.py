"""Working memory of kernels: one growing buffer for each thread, so that consecutive layers use the same pages.

When the last open net is closed, the buffers of all threads are freed.
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
    """The buffer of one thread."""

    def __init__(self) -> None:
        self.bytes = aligned_zeros(0, np.uint8)


_thread_state = threading.local()
_lock = threading.RLock()  # reentrant: the garbage collector may end a net at any time
_buffers: list[weakref.ref[_Buffer]] = []  # of all threads
_open_nets: set[int] = set()  # their ids


def open_net(net: object) -> None:
    """Counts a net as open until `close_net`, or until it is garbage."""
    _open_nets.add(id(net))
    weakref.finalize(net, _close, id(net)).atexit = False


def close_net(net: object) -> None:
    """Stops counting a net. It can still run: buffers are made again when they are needed."""
    _close(id(net))


def _close(net: int) -> None:
    """Frees all buffers if this was the last net. Arrays that are still in use keep their memory."""
    _open_nets.discard(net)
    if _open_nets:
        return
    with _lock:
        for reference in _buffers:
            if buffer := reference():
                buffer.bytes = aligned_zeros(0, np.uint8)


def _new_buffer() -> _Buffer:
    buffer = _thread_state.buffer = _Buffer()
    with _lock:
        _buffers[:] = [*(reference for reference in _buffers if reference()), weakref.ref(buffer)]
    return buffer


def scratch(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised array, valid until this thread asks for the next one."""
    dtype = np.dtype(dtype)
    count = math.prod(shape)
    buffer = getattr(_thread_state, "buffer", None) or _new_buffer()
    bytes_ = buffer.bytes
    if bytes_.size < count * dtype.itemsize:
        bytes_ = buffer.bytes = aligned_zeros(count * dtype.itemsize, np.uint8)
    return bytes_[: count * dtype.itemsize].view(dtype).reshape(shape)


def scratches(shapes: Sequence[tuple[int, ...]], dtype: Any) -> list[np.ndarray]:
    """Several uninitialised arrays, each on a 64-byte boundary, valid until this thread asks for the next ones."""
    dtype = np.dtype(dtype)
    line = 64 // dtype.itemsize
    sizes = [-(-math.prod(shape) // line) * line for shape in shapes]
    flat, start, arrays = scratch((sum(sizes),), dtype), 0, []
    for shape, size in zip(shapes, sizes):
        arrays.append(flat[start : start + math.prod(shape)].reshape(shape))
        start += size
    return arrays
