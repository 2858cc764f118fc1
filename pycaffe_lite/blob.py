"""Blob: an N-dimensional array with a gradient, both mirrored between host and device (Caffe's blob.cpp).

Caffe's legacy axes are `num x channels x height x width`. A blob may have any number of axes up to 32; with none it is a
scalar of shape `()`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .device import MemoryPart, SyncedMemory, current, host_memory
from .errors import NetError

MAX_AXES = 32
MAX_COUNT = 2**31 - 1  # Caffe counts elements in an int


class Blob:
    """`Blob(2, 3)` or `Blob((2, 3))`: zeros of that shape; `Blob()` is a scalar."""

    def __init__(self, *shape: int | Sequence[int], dtype: Any = np.float32):
        self.dtype = np.dtype(dtype)
        self._shape: tuple[int, ...] = ()
        self._count = 1
        self._data: SyncedMemory | MemoryPart = SyncedMemory(1, self.dtype)
        self._diff: SyncedMemory | MemoryPart = SyncedMemory(1, self.dtype)
        self.is_borrowing = False  # whether values or gradient lie in memory that another blob brought
        self.reshape(*shape)

    # ---- shape ----------------------------------------------------------------------------------------------------

    def reshape(self, *shape: int | Sequence[int]) -> None:
        """Sets the shape. The memory and its values are kept as long as the new shape fits into the memory."""
        dims = shape[0] if len(shape) == 1 and not isinstance(shape[0], (int, np.integer)) else shape
        wanted = tuple(map(int, dims))  # type: ignore[arg-type]
        if wanted == self._shape:
            return
        if len(wanted) > MAX_AXES:
            raise NetError(f"a blob has at most {MAX_AXES} axes, received {len(wanted)}")
        if any(dim < 0 for dim in wanted):
            raise NetError(f"a blob's dimensions are not negative, received {shape_text(wanted)}")
        count = math.prod(wanted)
        if math.prod(filter(None, wanted)) > MAX_COUNT:  # NumPy limits the product of the other dimensions even if one is 0
            raise NetError(f"a blob has at most {MAX_COUNT} elements, received {shape_text(wanted)}")
        host_memory.require(count * self.dtype.itemsize, f"a blob of {sizes_text(wanted)}")
        self._shape, self._count = wanted, count
        if count > self._data.size:
            self._data = SyncedMemory(count, self.dtype)
        if count > self._diff.size:
            self._diff = SyncedMemory(count, self.dtype)

    def reshape_like(self, other: Blob) -> None:
        self.reshape(other.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def count(self) -> int:
        """The number of elements."""
        return self._count

    @property
    def num_axes(self) -> int:
        return len(self._shape)

    def axis(self, index: int, name: str = "axis") -> int:
        """Returns `index` as an axis from the front; a negative index counts from the end. Errors call it `name`."""
        if not -self.num_axes <= index < self.num_axes:
            raise NetError(f"{name} {index} is out of range for a blob of shape {shape_text(self._shape)}")
        return index % self.num_axes

    def count_from(self, start: int, end: int | None = None) -> int:
        """The product of the dimensions from axis `start` up to `end` (not included)."""
        return math.prod(self._shape[start:end])

    def legacy_shape(self, index: int) -> int:
        """Dimension `index` of a blob with at most four axes, seen as four axes; missing axes count as 1."""
        if self.num_axes > 4:
            raise NetError(f"num, channels, height and width need at most 4 axes, this blob is {shape_text(self._shape)}")
        return self._shape[index] if index < self.num_axes else 1

    @property
    def num(self) -> int:
        return self.legacy_shape(0)

    @property
    def channels(self) -> int:
        return self.legacy_shape(1)

    @property
    def height(self) -> int:
        return self.legacy_shape(2)

    @property
    def width(self) -> int:
        return self.legacy_shape(3)

    # ---- memory ---------------------------------------------------------------------------------------------------

    @property
    def data(self) -> np.ndarray:
        """The values as a host array that aliases the blob's memory; writing to it writes to the blob."""
        return self._shaped(self._data.on_host())

    @property
    def diff(self) -> np.ndarray:
        """The gradient as a host array that aliases the blob's memory."""
        return self._shaped(self._diff.on_host())

    @property
    def host_out(self) -> np.ndarray:
        """The values as a host array that the caller will overwrite completely: nothing is downloaded first."""
        return self._shaped(self._data.on_host(read=False))

    @property
    def host_diff_out(self) -> np.ndarray:
        """The gradient as a host array that the caller will overwrite completely."""
        return self._shaped(self._diff.on_host(read=False))

    # `np.from_dlpack(blob)` and `torch.from_dlpack(blob)` are the values, in the same memory.

    def __dlpack__(self, **options: Any) -> Any:
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()

    # Layers say how they will use an array, so that only the needed bytes move between host and device.

    @property
    def data_in(self) -> Any:
        """The values on the current device, to read."""
        return self._shaped(self._data.on(current(), write=False))

    @property
    def data_out(self) -> Any:
        """The values on the current device; the caller overwrites all of them."""
        return self._shaped(self._data.on(current(), read=False))

    @property
    def data_inout(self) -> Any:
        """The values on the current device, to read and write."""
        return self._shaped(self._data.on(current()))

    @property
    def diff_in(self) -> Any:
        """The gradient on the current device, to read."""
        return self._shaped(self._diff.on(current(), write=False))

    @property
    def diff_out(self) -> Any:
        """The gradient on the current device; the caller overwrites all of it."""
        return self._shaped(self._diff.on(current(), read=False))

    @property
    def diff_inout(self) -> Any:
        """The gradient on the current device, to read and write; layers add to the gradients of parameters."""
        return self._shaped(self._diff.on(current()))

    def _shaped(self, flat: Any) -> Any:
        return (flat if flat.size == self._count else flat[: self._count]).reshape(self._shape)

    def share_data(self, other: Blob) -> None:
        """Makes this blob use the memory of `other`'s values. The counts must be equal, the shapes need not."""
        self._check_count(other)
        self._data, self.is_borrowing = other._data, True

    def share_diff(self, other: Blob) -> None:
        """Makes this blob use the memory of `other`'s gradient."""
        self._check_count(other)
        self._diff, self.is_borrowing = other._diff, True

    def use_memory(self, data: MemoryPart, diff: MemoryPart) -> None:
        """Keeps values and gradient in this memory, whose size is the blob's count. The caller copies the values."""
        self._data, self._diff, self.is_borrowing = data, diff, False

    def move_memory(self, other: Blob) -> None:
        """Gives the memory of this blob to `other`, of the same shape, and takes new memory of zeros."""
        self._check_count(other)
        other._data, other._diff = self._data, self._diff
        self._data, self._diff = SyncedMemory(self._count, self.dtype), SyncedMemory(self._count, self.dtype)

    def shares_memory(self, other: Blob) -> bool:
        """Whether both blobs use the same memory for their values or for their gradients."""
        return self._data is other._data or self._diff is other._diff

    def uses_memory(self, data: MemoryPart, diff: MemoryPart) -> bool:
        """Whether values and gradient are in this memory and fill it."""
        return self._data is data and self._diff is diff and self._count == data.size

    def _check_count(self, other: Blob) -> None:
        if self._count != other._count:
            raise NetError(f"memory can be shared by equal counts, not by {self} and {other}")

    def __str__(self) -> str:
        return shape_text(self._shape)

    def __repr__(self) -> str:
        return f"<Blob {self}>"


def shape_text(shape: Sequence[int]) -> str:
    """A shape as errors and logs show it: `64 x 1 x 28 x 28 (50176)`."""
    return f"{' x '.join(map(str, shape)) or 'scalar'} ({math.prod(shape)})"


def sizes_text(sizes: Sequence[int]) -> str:
    """Sizes as errors show them, such as `3 x 224 x 224`."""
    return " x ".join(map(str, sizes))
