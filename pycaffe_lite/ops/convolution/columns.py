"""Convolution by way of columns: the three products for any geometry (Caffe's base_conv_layer.cpp).

A convolution has an *image* side (`channels` planes) and a *window* side (`outputs` planes):
    windows = W . im2col(image)         W: outputs x (channels / group * kernel positions)

The threads share the images if there are enough of them; otherwise they share the matrix rows of one image at a time.

*Taps.* With a vertical stride of 1 all rows of a kernel see the same lines of the image, shifted by whole lines. Then the
columns are laid out for a kernel of one row only, which needs kernel height times less memory. Each row of the kernel, a
tap, is multiplied by the columns from its own line on:
    windows = sum over taps of W[tap] . columns[from line tap * dilation]
Without taps the whole kernel counts as one tap.

Names in the kernels: N images, G groups, T taps, Q windows; each group has O outputs and K = channels / group * kernel
positions of a tap. Columns have G K rows of `width` elements; a tap reads Q of them, from `tap * shift` on.
    image N x C x pixels, windows N x (G O) x Q, weights T x (G O) x K, col chunks x (G K width)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...device import chunk, function, kernel, num_threads, prange
from ...device.blas import gemm
from ...errors import NetError
from ..im2col import Geometry, col2im, for_kernels, im2col
from ..scratch import scratches

MAX_IM2COL = 2**31 - 1

# Taps pay off if their products are at least this deep (K), their common result fits the cache (O Q), and rearranging the
# weights is little work beside the products (N Q for each output).
TAP_MIN_DEPTH, TAP_MAX_RESULT, TAP_MIN_WINDOWS = 32, 2**18, 16


class Columns:
    """The three products for one geometry, `rows`, of at least two axes.

    Weights are `outputs x channels x kernel`; `channels` are those of one group.
    """

    def __init__(self, rows: list[tuple[int, ...]], group: int, outputs: int, channels: int, images: int):
        self.group, self.outputs, self.channels, self.images = group, outputs, channels, images
        self.kernel = tuple(row[2] for row in rows)
        # If each window is one pixel, and they are in order, the image is its own column matrix.
        self.direct = all(k == s == 1 and p == 0 for _, _, k, s, p, _ in rows)
        self.taps = self._use_taps(rows)
        shift = rows[0][5] * rows[1][1]
        if self.taps > 1:  # the columns of a kernel with one row
            height, out_h, kernel_h, _, pad_h, dilation_h = rows[0]
            rows = [(height, out_h + (kernel_h - 1) * dilation_h, 1, 1, pad_h, 1), *rows[1:]]
        width = math.prod(row[1] for row in rows)
        self.weights_shape = self.taps, outputs, channels * math.prod(self.kernel) // self.taps
        self.size = 0 if self.direct else group * self.weights_shape[2] * width  # of the columns of one image
        self.layout = for_kernels(rows), group, self.direct, width, shift  # the arguments that all kernels share

    def _use_taps(self, rows: list) -> int:
        """The number of taps; 1 if taps would not be faster."""
        (_, _, kernel_h, stride_h, _, _), (_, _, kernel_w, *_) = rows[:2]
        if len(rows) != 2 or kernel_h == 1 or stride_h > 1:
            return 1
        windows = math.prod(row[1] for row in rows)
        is_faster = (
            self.channels * kernel_w >= TAP_MIN_DEPTH
            and self.outputs // self.group * windows <= TAP_MAX_RESULT
            and self.images * windows >= TAP_MIN_WINDOWS * self.outputs
        )
        return kernel_h if is_faster else 1

    def to_windows(self, image: Any, weights: Any, bias: Any, windows: Any) -> None:
        """windows = W . im2col(image) + bias. image: N x C x pixels, windows: N x O x windows, bias: O or None."""
        bias = np.empty(0, image.dtype) if bias is None else bias
        col, room = self._scratch(image.dtype, self.weights_shape if self.taps > 1 else (0,))
        product = to_windows_split if self._split() else to_windows
        product(image, self._weights(weights, room), bias, windows, *self.layout, col, num_threads())

    def to_image(self, windows: Any, weights: Any, image: Any) -> None:
        """image = col2im(W' . windows)"""
        col, room = self._scratch(image.dtype, self.weights_shape if self.taps > 1 else (0,))
        product = to_image_split if self._split() else to_image
        product(windows, self._weights(weights, room), image, *self.layout, col, num_threads())

    def to_weights(self, windows: Any, image: Any, gradient: Any) -> None:
        """gradient += windows . im2col(image)'"""
        taps, _, k = self.weights_shape
        workers, o = self._workers(), self.outputs // self.group
        col, sums = self._scratch(image.dtype, (workers, taps, self.group * k, o))
        product = to_weights_split if self._split() else to_weights
        product(windows, image, sums, *self.layout, col, num_threads())
        behind = k if taps == 1 else self.kernel[1]
        add_chunks(
            sums.reshape(workers, taps, self.group, k // behind, behind, o),
            gradient.reshape(self.group, o, k // behind, taps, behind),
        )

    def _weights(self, weights: Any, room: Any) -> Any:
        """The weights as T x (G O) x K. With more than one tap they are copied to `room` in that order."""
        if self.taps == 1:
            return weights.reshape(self.weights_shape)
        lines = weights.reshape(self.outputs, self.channels, *self.kernel)
        room.reshape(self.taps, self.outputs, self.channels, -1)[...] = lines.transpose(2, 0, 1, 3)
        return room

    def _split(self) -> bool:
        """Whether all threads share one image at a time, because there are fewer images than threads."""
        return self.images < num_threads()

    def _workers(self) -> int:
        """How many images are worked on at a time."""
        return 1 if self._split() else num_threads()

    def _scratch(self, dtype: Any, *shapes: tuple[int, ...]) -> list[np.ndarray]:
        """Columns for every worker, and arrays of `shapes`."""
        if self.size > MAX_IM2COL:
            raise NetError(f"the columns of one image have {self.size} elements, more than {MAX_IM2COL}")
        return scratches([(self._workers(), self.size), *shapes], dtype)


def with_two_axes(geometry: Geometry) -> list[tuple[int, ...]]:
    """The geometry, with axes of size 1 in front up to two axes: the code for two axes is fast."""
    rows = [tuple(row) for row in geometry]
    return [(1, 1, 1, 1, 0, 1)] * (2 - len(rows)) + rows


@function
def weigh(columns, weights, bias, group, low, high, width, shift, windows):
    """Rows `low`..`high` of each group of one image's windows = W . columns + bias."""
    taps, outputs, k = weights.shape
    o, q = outputs // group, windows.shape[1]
    weights = weights.reshape(-1)
    for g in range(group):
        first = g * o + low
        for row in range(first, first + high - low if bias.size else first):
            windows[row] = bias[row]
        for tap in range(taps):
            keep = 1 if bias.size or tap else 0
            gemm(False, False, high - low, q, k, 1, weights[(tap * outputs + first) * k :], k,
                 columns[g * k * width + tap * shift :], width, keep, windows[first:], q)  # fmt: skip


@function
def spread(windows, weights, group, low, high, width, shift, columns):
    """Rows `low`..`high` of each group of one image's columns = W' . windows, summed over the taps."""
    taps, outputs, k = weights.shape
    o, q = outputs // group, windows.shape[1]
    weights = weights.reshape(-1)
    for g in range(group):
        first = g * k + low
        if taps > 1:
            columns[first * width : (first + high - low) * width] = 0
        for tap in range(taps):
            keep = 1 if taps > 1 else 0
            gemm(True, False, high - low, q, o, 1, weights[(tap * outputs + g * o) * k + low :], k,
                 windows[g * o :], q, keep, columns[first * width + tap * shift :], width)  # fmt: skip


@function
def correlate(columns, windows, group, low, high, width, shift, keep, sums):
    """Rows `low`..`high` of each group of `sums` (T x (G K) x O) = columns . windows' (+ sums, if `keep` is 1)."""
    taps, rows, o = sums.shape
    k, q = rows // group, windows.shape[1]
    sums = sums.reshape(-1)
    for g in range(group):
        first = g * k + low
        for tap in range(taps):
            gemm(False, True, high - low, o, q, 1, columns[first * width + tap * shift :], width,
                 windows[g * o :], q, keep, sums[(tap * rows + first) * o :], o)  # fmt: skip


@kernel
def to_windows(image, weights, bias, windows, geometry, group, direct, width, shift, col, chunks):
    """windows = W . im2col(image) + bias (none: an empty array), a chunk of images at a time."""
    count, o, rows = image.shape[0], weights.shape[1] // group, group * weights.shape[2]
    image = image.reshape(count, -1)
    for c in prange(chunks):
        low, high = chunk(c, chunks, count)
        for n in range(low, high):
            if not direct:
                im2col(image[n], geometry, 0, rows, col[c])
            weigh(image[n] if direct else col[c], weights, bias, group, 0, o, width, shift, windows[n])


@kernel
def to_windows_split(image, weights, bias, windows, geometry, group, direct, width, shift, col, chunks):
    """`to_windows` for few images: threads share the rows of each image's columns, then the rows of its result."""
    count, o, rows = image.shape[0], weights.shape[1] // group, group * weights.shape[2]
    image = image.reshape(count, -1)
    for n in range(count):
        if not direct:
            for c in prange(chunks):
                low, high = chunk(c, chunks, rows)
                im2col(image[n], geometry, low, high, col[0])
        for c in prange(chunks):
            low, high = chunk(c, chunks, o)
            weigh(image[n] if direct else col[0], weights, bias, group, low, high, width, shift, windows[n])


@kernel
def to_image(windows, weights, image, geometry, group, direct, width, shift, col, chunks):
    """image = col2im(W' . windows), a chunk of images at a time."""
    count, channels, k = image.shape[0], image.shape[1], weights.shape[2]
    image = image.reshape(count, -1)
    for c in prange(chunks):
        low, high = chunk(c, chunks, count)
        for n in range(low, high):
            spread(windows[n], weights, group, 0, k, width, shift, image[n] if direct else col[c])
            if not direct:
                col2im(col[c], geometry, 0, channels, image[n])


@kernel
def to_image_split(windows, weights, image, geometry, group, direct, width, shift, col, chunks):
    """`to_image` for few images: threads share the rows of the columns, then the channels of the image."""
    count, channels, k = image.shape[0], image.shape[1], weights.shape[2]
    image = image.reshape(count, -1)
    for n in range(count):
        for c in prange(chunks):
            low, high = chunk(c, chunks, k)
            spread(windows[n], weights, group, low, high, width, shift, image[n] if direct else col[0])
        if not direct:
            for c in prange(chunks):
                low, high = chunk(c, chunks, channels)
                col2im(col[0], geometry, low, high, image[n])


@kernel
def to_weights(windows, image, sums, geometry, group, direct, width, shift, col, chunks):
    """sums[chunk] = the gradient of the weights: im2col(image) . windows' (T x (G K) x O), summed over its images."""
    count, rows = image.shape[0], sums.shape[2]
    image = image.reshape(count, -1)
    for c in prange(chunks):
        low, high = chunk(c, chunks, count)
        for n in range(low, high):
            if not direct:
                im2col(image[n], geometry, 0, rows, col[c])
            keep = 0 if n == low else 1
            correlate(image[n] if direct else col[c], windows[n], group, 0, rows // group, width, shift, keep, sums[c])


@kernel
def to_weights_split(windows, image, sums, geometry, group, direct, width, shift, col, chunks):
    """`to_weights` for few images, with one sum: threads share the rows of the columns, which are rows of the gradient."""
    count, k = image.shape[0], sums.shape[2] // group
    image = image.reshape(count, -1)
    for n in range(count):
        keep = 0 if n == 0 else 1
        for c in prange(chunks):
            low, high = chunk(c, chunks, k)
            if not direct:
                for g in range(group):
                    im2col(image[n], geometry, g * k + low, g * k + high, col[0])
            correlate(image[n] if direct else col[0], windows[n], group, low, high, width, shift, keep, sums[0])


@kernel
def add_chunks(sums, total):
    """total += the sum over the first axis of `sums`, in its order.

    sums: chunks x T x G x A x B x O, total: G x O x A x T x B; A and B are the axes of K before and after the tap.
    """
    chunks, taps, group, before, behind, outputs = sums.shape
    strips = (outputs + 15) // 16
    for task in prange(group * strips):
        g, strip = divmod(np.int64(task), strips)  # a prange index is unsigned, and with a signed integer it gives a float
        for a in range(before):
            for tap in range(taps):
                for b in range(behind):
                    for o in range(16 * strip, min(16 * strip + 16, outputs)):
                        value = sums[0, tap, g, a, b, o]
                        for c in range(1, chunks):
                            value += sums[c, tap, g, a, b, o]
                        total[g, o, a, tap, b] += value
