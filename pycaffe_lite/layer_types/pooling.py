"""Pooling: the maximum, the mean or a random draw of each window of a plane   (pooling_layer.cpp).

    H' = ceil((H + 2 pad - kernel_size) / stride) + 1   (floor with FLOOR)

bottom[0]: `N x C x H x W`.   top[0]: `N x C x H' x W'`.
top[1], optional, for MAX only: where in its plane (h W + w) each maximum stands.

Where there is padding, a last window that would start beyond the image and its padding below is dropped.

- MAX clips windows to the image; of equal values the first in row order wins.
- AVE divides by the window's size after clipping to the padded image, so padding counts as zeros.
- STOCHASTIC (Zeiler and Fergus, 2013) draws in TRAIN an element of the window with a chance in proportion to its value,
  and takes in TEST the mean weighted by the values: sum x^2 / sum x. Values are not negative; no padding.

`pooling_param`: sizes are in pixels.
- `pool` (default MAX): MAX, AVE or STOCHASTIC.
- `pad` (default 0): the border on each side, smaller than the window.
- `pad_h` (default 0), `pad_w` (default 0): in place of `pad`.
- `kernel_size` (required): the side of the window; or `kernel_h` and `kernel_w`, or `global_pooling`.
- `kernel_h`, `kernel_w` (default `kernel_size`): in its place.
- `stride` (default 1): the distance of neighbouring windows.
- `stride_h`, `stride_w` (default `stride`): in its place.
- `engine` (default DEFAULT): ignored.
- `global_pooling` (default false): one window as large as the plane; with no kernel size, pad 0 and stride 1.
- `round_mode` (default CEIL): CEIL or FLOOR, for H' and W'.

Differences from Caffe: STOCHASTIC runs on the CPU, too. A window that lies outside of the image (a stride larger than the
window, without padding) gives 0, or with MAX the lowest float, and passes no gradient; Caffe divides by zero or writes out
of bounds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..device import function, inlined, kernel, prange
from ..errors import NetError
from ..layer import Blobs, Layer, register
from ..proto.caffe_pb2 import TRAIN, PoolingParameter


@function
def window(out, stride, pad, kernel, size):
    """The range of pixels of one axis that output position `out` sees, clipped to the image."""
    start = out * stride - pad
    return max(start, 0), min(start + kernel, size)


@function
def whole_range(size, out, kernel, stride, pad):
    """The range of output positions of one axis whose windows lie within the image."""
    first = min(out, (pad + stride - 1) // stride)
    return first, max(first, min(out, (size + pad - kernel) // stride + 1))


@inlined
def max_whole(x, y, mask, plane, first, last, low, high, kernel, stride, pad_h, pad_w):
    """Rows `first`..`last`, columns `low`..`high` of one plane, whose square windows lie within the image.

    `kernel` and `stride` are constants where this is called, so that nothing is left of the loops over a window. What stands
    inside of a loop is unsigned: Numba takes a signed index for a count from the end where it is negative, and tests it.
    """
    lowest, width = x.dtype.type(-np.finfo(x.dtype).max), np.uintp(x.shape[2])
    for i in range(np.uintp(first), np.uintp(last)):
        for j in range(np.uintp(low), np.uintp(high)):
            top, left = i * np.uintp(stride) - np.uintp(pad_h), j * np.uintp(stride) - np.uintp(pad_w)
            best, at = lowest, np.int64(-1)
            for k in range(kernel):
                for l in range(kernel):  # noqa: E741
                    h, w = top + np.uintp(k), left + np.uintp(l)
                    if x[plane, h, w] > best:
                        best, at = x[plane, h, w], np.int64(h * width + w)
            y[plane, i, j], mask[plane, i, j] = best, at


@function
def max_others(x, y, mask, plane, first, last, low, high, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w):
    """What is not in rows `first`..`last`, columns `low`..`high` of one plane; windows of any kind."""
    height, width = x.shape[1:]
    for i in range(y.shape[1]):
        top, bottom = window(i, stride_h, pad_h, kernel_h, height)
        j = 0
        while j < y.shape[2]:
            if first <= i < last and j == low < high:
                j = high
                continue
            left, right = window(j, stride_w, pad_w, kernel_w, width)
            best, at = x.dtype.type(-np.finfo(x.dtype).max), np.int64(-1)
            for h in range(np.uintp(top), np.uintp(bottom)):
                for w in range(np.uintp(left), np.uintp(right)):
                    if x[plane, h, w] > best:
                        best, at = x[plane, h, w], np.int64(h * np.uintp(width) + w)
            y[plane, i, j], mask[plane, i, j] = best, at
            j += 1


@function
def max_plane(x, y, mask, plane, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w):
    """One plane. The usual windows have code of their own, but for those on the rim."""
    first, last = whole_range(x.shape[1], y.shape[1], kernel_h, stride_h, pad_h)
    low, high = whole_range(x.shape[2], y.shape[2], kernel_w, stride_w, pad_w)
    square = kernel_h == kernel_w and stride_h == stride_w
    if square and kernel_h == 2 and stride_h == 2:
        max_whole(x, y, mask, plane, first, last, low, high, 2, 2, pad_h, pad_w)
    elif square and kernel_h == 3 and stride_h == 2:
        max_whole(x, y, mask, plane, first, last, low, high, 3, 2, pad_h, pad_w)
    elif square and kernel_h == 3 and stride_h == 1:
        max_whole(x, y, mask, plane, first, last, low, high, 3, 1, pad_h, pad_w)
    else:
        last = first
    if (last - first) * (high - low) < y.shape[1] * y.shape[2]:
        max_others(x, y, mask, plane, first, last, low, high, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w)


@kernel
def max_forward(x, y, mask, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w):
    """x: planes x H x W, y and mask: planes x H' x W'"""
    for plane in prange(x.shape[0]):
        max_plane(x, y, mask, np.int64(plane), kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w)


@kernel
def max_backward(dy, mask, dx):
    planes, height, width = dx.shape
    size = dy.shape[1] * dy.shape[2]
    dy, mask, dx = dy.reshape(planes, size), mask.reshape(planes, size), dx.reshape(planes, height * width)
    for plane in prange(planes):
        for i in range(height * width):
            dx[plane, i] = 0
        for i in range(size):
            at = int(mask[plane, i])
            if 0 <= at < height * width:  # a mask that is a top can be overwritten
                dx[plane, at] += dy[plane, i]


@function
def padded_size(out, stride, pad, kernel, size):
    """The number of pixels of one axis in a window clipped to the padded image."""
    start = out * stride - pad
    return min(start + kernel, size + pad) - start


@kernel
def ave_forward(x, y, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w):
    planes, height, width = x.shape
    out_h, out_w = y.shape[1:]
    for plane in prange(planes):
        for i in range(out_h):
            top, bottom = window(i, stride_h, pad_h, kernel_h, height)
            rows = padded_size(i, stride_h, pad_h, kernel_h, height)
            for j in range(out_w):
                left, right = window(j, stride_w, pad_w, kernel_w, width)
                size = rows * padded_size(j, stride_w, pad_w, kernel_w, width)
                total = x.dtype.type(0)
                for h in range(np.uintp(top), np.uintp(bottom)):
                    for w in range(np.uintp(left), np.uintp(right)):
                        total += x[plane, h, w]
                y[plane, i, j] = total / size if size > 0 else 0


@kernel
def ave_backward(dy, dx, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w):
    planes, height, width = dx.shape
    out_h, out_w = dy.shape[1:]
    for plane in prange(planes):
        dx[plane] = 0
        for i in range(out_h):
            top, bottom = window(i, stride_h, pad_h, kernel_h, height)
            rows = padded_size(i, stride_h, pad_h, kernel_h, height)
            for j in range(out_w):
                left, right = window(j, stride_w, pad_w, kernel_w, width)
                size = rows * padded_size(j, stride_w, pad_w, kernel_w, width)
                share = dy[plane, i, j] / size if size > 0 else dx.dtype.type(0)
                for h in range(np.uintp(top), np.uintp(bottom)):
                    for w in range(np.uintp(left), np.uintp(right)):
                        dx[plane, h, w] += share


@kernel
def draw_forward(x, y, chance, mask, kernel_h, kernel_w, stride_h, stride_w):
    """The element at which the running sum passes `chance` (uniform in [0, 1)) times the sum of the window."""
    planes, height, width = x.shape
    out_h, out_w = y.shape[1:]
    for plane in prange(planes):
        for i in range(out_h):
            top, bottom = window(i, stride_h, 0, kernel_h, height)
            for j in range(out_w):
                left, right = window(j, stride_w, 0, kernel_w, width)
                total = x.dtype.type(0)
                for h in range(top, bottom):
                    for w in range(left, right):
                        total += x[plane, h, w]
                threshold, running, at = chance[plane, i, j] * total, x.dtype.type(0), -1
                for h in range(top, bottom):
                    for w in range(left, right):
                        if at < 0 or running < threshold:
                            at = h * width + w
                            running += x[plane, h, w]
                y[plane, i, j] = x[plane, at // width, at % width] if at >= 0 else 0
                mask[plane, i, j] = at


@kernel
def weighted_forward(x, y, kernel_h, kernel_w, stride_h, stride_w):
    """sum x^2 / sum x of each window, 0 where the sum is."""
    planes, height, width = x.shape
    out_h, out_w = y.shape[1:]
    for plane in prange(planes):
        for i in range(out_h):
            top, bottom = window(i, stride_h, 0, kernel_h, height)
            for j in range(out_w):
                left, right = window(j, stride_w, 0, kernel_w, width)
                total = x.dtype.type(0)
                squares = x.dtype.type(0)
                for h in range(top, bottom):
                    for w in range(left, right):
                        total += x[plane, h, w]
                        squares += x[plane, h, w] * x[plane, h, w]
                y[plane, i, j] = squares / total if total > 0 else 0


@register("Pooling")
class Pooling(Layer):
    exact_bottoms = 1
    min_tops = 1
    max_tops = 2

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.pooling_param
        self.method = param.pool
        self.mask = np.empty((0, 0, 0), np.int32)
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
        windows = (*self.kernel, *self.stride)
        if self.method == PoolingParameter.MAX:
            max_forward(x, y, self._mask(top), *windows, *self.pad)
        elif self.method == PoolingParameter.AVE:
            ave_forward(x, y, *windows, *self.pad)
        elif self.phase == TRAIN:
            draw_forward(x, y, self.rng.random(y.shape, np.float32), self._mask(top), *windows)
        else:
            weighted_forward(x, y, *windows)

    def _mask(self, top: Blobs):
        """Where each winner stands: in the second top, or else in memory of the layer's own."""
        if len(top) > 1:
            return top[1].data_inout.reshape(self.planes[1])
        if self.mask.shape != self.planes[1]:
            self.mask = np.empty(self.planes[1], np.int32)
        return self.mask

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0] or not bottom[0].count:
            return
        dy, dx = top[0].diff_in.reshape(self.planes[1]), bottom[0].diff_out.reshape(self.planes[0])
        if self.method == PoolingParameter.AVE:
            ave_backward(dy, dx, *self.kernel, *self.stride, *self.pad)
        else:
            max_backward(dy, self._mask(top), dx)
