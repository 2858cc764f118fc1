"""Pooling: the maximum, the mean or a random draw of each window of a plane   (pooling_layer.cpp).

    H' = ceil((H + 2 pad - kernel_size) / stride) + 1   (floor with FLOOR)

bottom[0]: `N x C x H x W`.   top[0]: `N x C x H' x W'`.
top[1], optional, for MAX only: the index (h W + w) of each maximum in its plane.

With padding, a last window that would start after the image is dropped.

- MAX clips windows to the image; of equal values, the first in row order wins.
- AVE divides by the window's size after clipping to the padded image, so padding counts as zeros.
- STOCHASTIC (Zeiler and Fergus, 2013) draws in TRAIN an element of the window with a probability in proportion to its value.
  In TEST it takes the mean weighted by the values: sum x^2 / sum x. Values must not be negative, and there is no padding.

`pooling_param`: sizes are in pixels.
- `pool` (default MAX): MAX, AVE or STOCHASTIC.
- `pad` (default 0): the padding on each side, smaller than the window.
- `pad_h` (default 0), `pad_w` (default 0): replace `pad`.
- `kernel_size` (required): the side of the window; or `kernel_h` and `kernel_w`, or `global_pooling`.
- `kernel_h`, `kernel_w` (default `kernel_size`): replace `kernel_size`.
- `stride` (default 1): the distance between neighbouring windows.
- `stride_h`, `stride_w` (default `stride`): replace `stride`.
- `engine` (default DEFAULT): ignored.
- `global_pooling` (default false): one window as large as the plane; needs pad 0, stride 1 and no kernel size.
- `round_mode` (default CEIL): CEIL or FLOOR, for H' and W'.

Differences from Caffe: STOCHASTIC also runs on the CPU. A window outside of the image (with a stride larger than the window,
without padding) gives 0, or with MAX the lowest float, and passes no gradient; Caffe divides by zero or writes out of
bounds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...blob import Blob
from ...errors import NetError
from ...layer import Blobs, Layer, WindowSizes, register
from ...ops.pooling import (
    Window,
    average_pool,
    average_pool_gradient,
    draw_pool,
    max_pool,
    max_pool_gradient,
    weighted_pool,
)
from ...proto.caffe_pb2 import TRAIN, LayerParameter, PoolingParameter
from ._window import read_window


@register("Pooling")
class Pooling(Layer):
    exact_bottoms = 1
    min_tops = 1
    max_tops = 2
    reads_bottoms = False

    @property
    def reads_tops(self) -> bool:
        return len(self.param.top) > 1  # the mask

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.pooling_param
        self.method = param.pool
        self.mask = Blob(dtype=np.int32)  # the index of each maximum, unless a second top holds it
        self.chance = self.new_blob()
        if len(top) > 1 and self.method != PoolingParameter.MAX:
            raise NetError("only MAX pooling has a second top, the mask")
        self.kernel: tuple[int, ...] = self._pair("kernel_size")
        self.stride = self._pair("stride")
        self.pad = self._pair("pad")
        if param.global_pooling:
            if any(map(param.HasField, ("kernel_size", "kernel_h", "kernel_w"))):
                raise NetError("global_pooling takes the whole plane; leave kernel_size out")
            if self.pad != (0, 0) or self.stride != (1, 1):
                raise NetError("global_pooling needs pad 0 and stride 1")
            return
        if min(self.kernel) < 1:
            raise NetError("kernel_size (or kernel_h and kernel_w) is needed and at least 1")
        if min(self.stride) < 1:
            raise NetError(f"stride is at least 1, received {self.stride[0]} x {self.stride[1]}")
        if self.method == PoolingParameter.STOCHASTIC and self.pad != (0, 0):
            raise NetError("STOCHASTIC pooling takes no pad")
        if any(pad >= size for pad, size in zip(self.pad, self.kernel)):
            raise NetError(f"pad is smaller than the kernel: received pad {self.pad}, kernel {self.kernel}")

    def _pair(self, name: str) -> tuple[int, int]:
        """A field that is given once, or as `_h` and `_w`."""
        param, stem = self.param.pooling_param, name.removesuffix("_size")
        height, width = f"{stem}_h", f"{stem}_w"
        if param.HasField(name) and (param.HasField(height) or param.HasField(width)):
            raise NetError(f"give either {name} or {height} and {width}, not both")
        if param.HasField(height) != param.HasField(width):
            raise NetError(f"{height} and {width} go together")
        if param.HasField(height):
            return getattr(param, height), getattr(param, width)
        return (getattr(param, name),) * 2

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        if bottom[0].num_axes != 4:
            raise NetError(f"expected 4 axes (N x C x H x W), received {bottom[0]}")
        size = bottom[0].shape[2:]
        if self.param.pooling_param.global_pooling:
            self.kernel = size
        out = tuple(self._output_size(*axis) for axis in zip(size, self.kernel, self.stride, self.pad))
        if min(out) < 1:
            raise NetError(
                f"the kernel does not fit: input {size}, kernel {self.kernel}, stride {self.stride}, pad {self.pad}"
            )
        for blob in top:
            blob.reshape(*bottom[0].shape[:2], *out)
        self.planes = (bottom[0].count_from(0, 2), *size), (bottom[0].count_from(0, 2), *out)

    def _output_size(self, size: int, kernel: int, stride: int, pad: int) -> int:
        room = size + 2 * pad - kernel
        floor = self.param.pooling_param.round_mode == PoolingParameter.FLOOR
        out = (room // stride if floor else -(-room // stride)) + 1
        return out - 1 if any(self.pad) and (out - 1) * stride >= size + pad else out

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = bottom[0].data_in.reshape(self.planes[0]), top[0].data_out.reshape(self.planes[1])
        if not y.size:
            return
        window = Window._make((*self.kernel, *self.stride, *self.pad))
        if self.method == PoolingParameter.MAX:
            max_pool(x, y, self._mask(top), window)
        elif self.method == PoolingParameter.AVE:
            average_pool(x, y, window)
        elif self.phase == TRAIN:
            self.chance.reshape(self.planes[1])
            self.chance.host_out[...] = self.rng.random(self.planes[1], np.float32)
            draw_pool(x, y, self._mask(top), self.chance.data_in, window)
        else:
            weighted_pool(x, y, window)

    def _mask(self, top: Blobs):
        """The array for the indices of the maxima, or None if nothing reads them."""
        if len(top) > 1:
            return top[1].data_out.reshape(self.planes[1])
        if not self.needs_backward and self.method == PoolingParameter.MAX:
            return None
        self.mask.reshape(self.planes[1])
        return self.mask.data_out

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0] or not bottom[0].count:
            return
        dy, dx = top[0].diff_in.reshape(self.planes[1]), bottom[0].diff_out.reshape(self.planes[0])
        if self.method == PoolingParameter.AVE:
            average_pool_gradient(dy, dx, Window._make((*self.kernel, *self.stride, *self.pad)))
        else:
            mask = top[1] if len(top) > 1 else self.mask
            max_pool_gradient(dy, mask.data_in.reshape(self.planes[1]), dx)

    @classmethod
    def variant(cls, param: LayerParameter) -> str:
        return PoolingParameter.PoolMethod.Name(param.pooling_param.pool)

    @classmethod
    def window_of(cls, param: LayerParameter) -> WindowSizes | None:
        window = read_window(param.pooling_param)
        return window._replace(kernel=()) if param.pooling_param.global_pooling else window
