"""Working memory of kernels: one growing buffer a thread, so that layers that run one after the other use the same pages."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..device import aligned_zeros

_buffers = threading.local()


def scratch(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of any contents, valid until this thread asks for the next one."""
    dtype = np.dtype(dtype)
    count = math.prod(shape)
    buffer = getattr(_buffers, "bytes", None)
    if buffer is None or buffer.size < count * dtype.itemsize:
        buffer = _buffers.bytes = aligned_zeros(count * dtype.itemsize, np.uint8)
    return buffer[: count * dtype.itemsize].view(dtype).reshape(shape)


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
