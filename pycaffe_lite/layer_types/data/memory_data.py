"""MemoryData: images and labels from arrays in memory   (memory_data_layer.cpp).

No bottoms.   top[0]: `batch_size x channels x height x width`.
top[1]: the labels, `batch_size` before the first forward and `batch_size x 1 x 1 x 1` after it, as in Caffe.

`Net.set_input_arrays` sets the arrays: contiguous float32, with a multiple of `batch_size` items. Each forward hands out the
next batch, and starts again after the last. `transform_param` has no effect on arrays; it applies to the images of Caffe's
C++ interface.

`memory_data_param`:
- `batch_size` (required): items in a batch.
- `channels`, `height`, `width` (required): the shape of an item.

Differences from Caffe: labels may be given as N values, not only as `N x 1 x 1 x 1`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import glog
from ...blob import shape_text
from ...data.reader import checked_integer, warn_if_data_changed
from ...errors import NetError
from ...layer import Blobs, Layer, register


@register("MemoryData")
class MemoryData(Layer):
    exact_bottoms = 0
    exact_tops = 2

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.memory_data_param
        self.shape = (param.batch_size, param.channels, param.height, param.width)
        if not all(self.shape):
            shape = " x ".join(map(str, self.shape))
            raise NetError(f"memory_data_param: expected batch_size, channels, height and width above 0, received {shape}")
        self._data: np.ndarray = np.empty((0,), np.float32)
        self._labels: np.ndarray = self._data
        self._position = 0
        top[0].reshape(self.shape)
        top[1].reshape(self.shape[:1])

    def set_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Hands out these arrays from now on: items x C x H x W and items (x 1 x 1 x 1), contiguous float32, not copied."""
        items = len(data) if np.ndim(data) else 0
        _check(data, "data", (items, *self.shape[1:]))
        _check(labels, "labels", (items,) if np.ndim(labels) == 1 else (items, 1, 1, 1))
        if not items or items % self.shape[0]:
            raise NetError(f"expected a multiple of the batch size, {self.shape[0]} items, received {items}")
        if self.param.HasField("transform_param"):
            glog.warning("MemoryData does not transform arrays: transform_param has no effect")
        self._data, self._labels, self._position = data, labels.reshape(-1, 1, 1, 1), 0

    def save_state(self) -> dict[str, Any]:
        return {"position": self._position, "items": len(self._data)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores the position only: the script has to set the same arrays before."""
        position, items = checked_integer(state["position"]), checked_integer(state["items"])
        warn_if_data_changed(self.param.name, "items", items, len(self._data))
        self._position = position if position < len(self._data) and items == len(self._data) else 0

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """The tops keep their shape."""

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        if not len(self._data):
            raise NetError("expected arrays before the first forward; give them with Net.set_input_arrays")
        batch = slice(self._position, self._position + self.shape[0])
        self._position = batch.stop % len(self._data)
        for blob, array in zip(top, (self._data, self._labels), strict=True):
            blob.reshape(array[batch].shape)
            blob.host_out[...] = array[batch]


def _check(array: np.ndarray, name: str, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray):
        raise NetError(f"expected {name} in an array, received {type(array).__name__}")
    if array.shape != shape:
        raise NetError(f"expected {name} of shape {shape_text(shape)}, received {shape_text(array.shape)}")
    if array.dtype != np.float32:
        raise NetError(f"expected {name} of float32, received {array.dtype}")
    if not array.flags.c_contiguous:
        raise NetError(f"expected contiguous {name}; use np.ascontiguousarray")
