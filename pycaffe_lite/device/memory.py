"""Memory that is mirrored between the host and a device, as in Caffe's syncedmem.cpp.

The head says where the newest bytes are. Reading on the other side copies them there; writing moves the head. Code that will
overwrite everything asks with `read=False`, so that stale bytes are not copied.
"""

from __future__ import annotations

import enum
import threading
from typing import Any, Protocol

import numpy as np

from . import host_memory


class Device(Protocol):
    """What the rest of the package needs from a device other than the host."""

    name: str
    xp: Any  # its array module, with NumPy's names

    def zeros(self, size: int, dtype: np.dtype) -> Any:
        """A flat array of zeros on the device."""

    def empty(self, size: int, dtype: np.dtype) -> Any:
        """A flat array on the device, of any contents."""

    def upload(self, source: np.ndarray, target: Any) -> None:
        """Copies host to device."""

    def download(self, source: Any, target: np.ndarray) -> None:
        """Copies device to host."""

    def matmul(self, a: Any, b: Any, out: Any, trans_a: bool = False, trans_b: bool = False, *numbers: float) -> None:
        """`out = alpha op(a) op(b) + beta out`; `numbers` are alpha and beta, by default 1 and 0.

        The arrays are matrices, or stacks of equally many: a matrix among stacks is used for each of them.
        """

    def launch(self, kernel: Any, blocks: int, *args: Any) -> None:
        """Starts a `CudaKernel` with so many blocks of `THREADS` threads."""

    def elementwise(self, operation: Any) -> Any:
        """A body of an elementwise operation, built from its expression. It takes lists of arrays, numbers and outputs."""


class _Host:
    name = "cpu"
    xp = np


HOST = _Host()
_state = threading.local()


def current() -> Any:
    """The device on which this thread runs its layers: `HOST`, unless `use` has set another."""
    return getattr(_state, "device", HOST)


def use(device: Any) -> None:
    """Makes this thread run its layers on `device` (or `HOST`)."""
    _state.device = device


def array_module(array: Any) -> Any:
    """The module whose functions work on `array`: numpy for host arrays, else the array's own."""
    return np if isinstance(array, np.ndarray) else current().xp


def aligned_zeros(size: int, dtype: Any = np.float32) -> np.ndarray:
    """A flat host array of zeros on a 64-byte boundary. The system allocates its pages when they are first touched.

    Raises `NetError`.
    """
    dtype = np.dtype(dtype)
    purpose = f"{size * dtype.itemsize} bytes"
    host_memory.require_now(size * dtype.itemsize, purpose)
    try:
        raw = np.zeros(size * dtype.itemsize + 64, np.uint8)
    except MemoryError:
        raise host_memory.error(size * dtype.itemsize, purpose) from None
    start = -raw.ctypes.data % 64
    return raw[start : start + size * dtype.itemsize].view(dtype)


class Head(enum.Enum):
    """Where the newest bytes of a SyncedMemory are."""

    UNINITIALIZED = 0
    AT_HOST = 1
    AT_DEVICE = 2
    SYNCED = 3


class SyncedMemory:
    """`size` elements of `dtype`, allocated (as zeros) on each side when that side first asks for them."""

    __slots__ = ("_device", "_host", "_on_device", "dtype", "head", "size")

    def __init__(self, size: int, dtype: Any = np.float32):
        self.size = size
        self.dtype = np.dtype(dtype)
        self.head = Head.UNINITIALIZED
        self._host: np.ndarray | None = None
        self._device: Any = None
        self._on_device: Any = None

    def on_host(self, read: bool = True, write: bool = True) -> np.ndarray:
        """The flat host array. `read` brings it up to date; `write` marks it as the newest copy."""
        if self._host is None:
            self._host = aligned_zeros(self.size, self.dtype)
            if self.head is Head.UNINITIALIZED:
                self.head = Head.AT_HOST
        if read and self.head is Head.AT_DEVICE:
            self._device.download(self._on_device, self._host)
            self.head = Head.SYNCED
        if write:
            self.head = Head.AT_HOST
        return self._host

    def on(self, device: Any, read: bool = True, write: bool = True) -> Any:
        """The flat array on `device`. `read` brings it up to date; `write` marks it as the newest copy."""
        if device is HOST:
            return self.on_host(read, write)
        if self._device is not device:
            if self._on_device is not None:
                self.on_host(read)  # data on another device moves by way of the host
            needs_zeros = read and self.head is Head.UNINITIALIZED  # in all other cases the array is overwritten at once
            self._on_device, self._device = (device.zeros if needs_zeros else device.empty)(self.size, self.dtype), device
            if self.head is Head.UNINITIALIZED:
                self.head = Head.AT_DEVICE
        if read and self.head is Head.AT_HOST:
            device.upload(self._host, self._on_device)
            self.head = Head.SYNCED
        if write:
            self.head = Head.AT_DEVICE
        return self._on_device


class MemoryPart:
    """A part of a SyncedMemory that is used like a SyncedMemory: `size` elements of `memory` from `start` on.

    It shares the head of the whole memory. Writing one part must keep the other parts, so the whole memory is always read.
    """

    __slots__ = ("_start", "dtype", "memory", "size")

    def __init__(self, memory: SyncedMemory, start: int, size: int):
        self.memory, self._start, self.size = memory, start, size
        self.dtype = memory.dtype

    @property
    def head(self) -> Head:
        """Where the newest bytes are."""
        return self.memory.head

    def on_host(self, read: bool = True, write: bool = True) -> np.ndarray:
        """The flat host array; see `SyncedMemory.on_host`."""
        return self.memory.on_host(True, write)[self._start : self._start + self.size]

    def on(self, device: Any, read: bool = True, write: bool = True) -> Any:
        """The flat array on `device`; see `SyncedMemory.on`."""
        return self.memory.on(device, True, write)[self._start : self._start + self.size]
