"""Working memory of kernels: one growing buffer a thread, so that layers that run one after the other use the same pages."""

from __future__ import annotations

import math
import threading
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
