"""Depthwise convolution, one plane and its kernel at a time, without columns. It is for convolutions whose groups have one
channel and one output each.

*Phases.* A plane is padded and split by the remainders of its row and column numbers modulo the strides. This gives
stride_h x stride_w phases, each of `rows` x `pitch` pixels. A kernel position then reads one phase, pixel after pixel from
some offset on, in the order of the windows, whatever stride, padding and dilation are. Windows are laid out in rows of
`pitch` elements too; the last few elements of such a row are no windows. With `tap` for a kernel position and flat arrays,
    windows[q] = sum over taps of weight * phase of the tap[q + offset of the tap]
The gradients have the same form: long loops without conditions. `front` is the largest offset. For the gradient of the
image, the windows have `front` zeros before and after them.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...device import chunk, function, kernel, num_threads, prange
from ...ops.im2col import inside
from ...ops.scratch import scratches

# Limits for the memory of phases: elements, and times the size of image and windows. Beyond them columns are faster.
MAX_PHASES, MAX_PADDING = 2**22, 4
BLOCK = 2048  # elements that are summed at a time, so that they stay in the L1 cache


@function
def split_phases(image, geometry, rows, pitch, size, phases):
    """Copies a plane to its phases, whose other elements are zero already."""
    height, _, _, stride_h, pad_h, _ = geometry[0]
    width, _, _, stride_w, pad_w, _ = geometry[1]
    for a in range(stride_h):
        top, bottom = inside(a - pad_h, height, rows, stride_h)
        for b in range(stride_w):
            left, right = inside(b - pad_w, width, pitch, stride_w)
            for row in range(top, bottom):
                at = (a - pad_h + row * stride_h) * width + b - pad_w + left * stride_w
                to = (a * stride_w + b) * size + row * pitch + left
                if stride_w == 1:
                    for i in range(np.uintp(right - left)):
                        phases[np.uintp(to) + i] = image[np.uintp(at) + i]
                else:
                    for i in range(np.uintp(right - left)):
                        phases[np.uintp(to) + i] = image[np.uintp(at) + i * np.uintp(stride_w)]


@function
def join_phases(phases, geometry, rows, pitch, size, image):
    """The inverse of `split_phases`; pixels that no window sees become 0."""
    height, _, _, stride_h, pad_h, _ = geometry[0]
    width, _, _, stride_w, pad_w, _ = geometry[1]
    image[:] = 0
    for a in range(stride_h):
        top, bottom = inside(a - pad_h, height, rows, stride_h)
        for row in range(top, bottom):
            for b in range(stride_w):
                left, right = inside(b - pad_w, width, pitch, stride_w)
                to = (a - pad_h + row * stride_h) * width + b - pad_w + left * stride_w
                at = (a * stride_w + b) * size + row * pitch + left
                if stride_w == 1:
                    for i in range(np.uintp(right - left)):
                        image[np.uintp(to) + i] = phases[np.uintp(at) + i]
                else:
                    for i in range(np.uintp(right - left)):
                        image[np.uintp(to) + i * np.uintp(stride_w)] = phases[np.uintp(at) + i]


@function
def add_products(source, starts, weights, first, last, sums):
    """sums[q] = the sum of weights[t] * source[starts[t] + q] over t from `first` to `last`."""
    for low in range(0, sums.size, BLOCK):
        block = sums[low : low + BLOCK]
        block[:] = 0
        t = first
        while t < last - 2:  # three taps at a time, so that the sums are read and written less often
            a, b, c = source[starts[t] + low :], source[starts[t + 1] + low :], source[starts[t + 2] + low :]
            u, v, w = weights[t], weights[t + 1], weights[t + 2]
            for q in range(block.size):
                block[q] += u * a[q] + v * b[q] + w * c[q]
            t += 3
        while t < last:
            a, u = source[starts[t] + low :], weights[t]
            for q in range(block.size):
                block[q] += u * a[q]
            t += 1


@function
def add_correlations(source, starts, values, sums):
    """sums[t] += the sum of values[q] * source[starts[t] + q]"""
    t = 0
    while t < starts.size - 2:
        a, b, c = source[starts[t] :], source[starts[t + 1] :], source[starts[t + 2] :]
        u, v, w = sums[t], sums[t + 1], sums[t + 2]
        for q in range(values.size):
            u += values[q] * a[q]
            v += values[q] * b[q]
            w += values[q] * c[q]
        sums[t], sums[t + 1], sums[t + 2] = u, v, w
        t += 3
    while t < starts.size:
        a, u = source[starts[t] :], sums[t]
        for q in range(values.size):
            u += values[q] * a[q]
        sums[t] = u
        t += 1


@function
def space_out(windows, pitch, target):
    """Copies the rows of windows to rows of `pitch` elements."""
    rows, columns = windows.shape
    for i in range(rows):
        to = target[i * pitch :]
        for j in range(columns):
            to[j] = windows[i, j]


@kernel
def planes_to_windows(image, weights, bias, windows, geometry, size, pitch, starts, phases, sums):
    """image: N x C x pixels, weights: C x taps, bias: C or empty, windows: N x C x H' x W'; `phases` and `sums` have a row
    for each chunk."""
    channels, chunks = image.shape[1], phases.shape[0]
    rows, columns = windows.shape[2:]
    for c in prange(chunks):
        low, high = chunk(c, chunks, image.shape[0] * channels)
        phases[c] = 0
        for plane in range(low, high):
            n, channel = plane // channels, plane % channels
            split_phases(image[n, channel], geometry, size // pitch, pitch, size, phases[c])
            add_products(phases[c], starts, weights[channel], 0, starts.size, sums[c, : rows * pitch])
            shift = bias[channel] if bias.size else bias.dtype.type(0)
            y = windows[n, channel]
            for i in range(rows):
                row = sums[c, i * pitch : (i + 1) * pitch]
                for j in range(columns):
                    y[i, j] = row[j] + shift


@kernel
def windows_to_planes(windows, weights, image, geometry, size, pitch, starts, first, front, phases, spaced):
    """The gradient of `planes_to_windows` with respect to `image`. Taps first[p] to first[p + 1] read phase p. `starts` are
    the starts of the taps in `spaced`, which has `front` zeros before the windows."""
    channels, chunks = image.shape[1], phases.shape[0]
    for c in prange(chunks):
        low, high = chunk(c, chunks, image.shape[0] * channels)
        spaced[c] = 0
        for plane in range(low, high):
            n, channel = plane // channels, plane % channels
            space_out(windows[n, channel], pitch, spaced[c, front:])
            for p in range(first.size - 1):
                phase = phases[c, p * size : (p + 1) * size]
                add_products(spaced[c], starts, weights[channel], first[p], first[p + 1], phase)
            join_phases(phases[c], geometry, size // pitch, pitch, size, image[n, channel])


@kernel
def planes_to_weights(windows, image, sums, geometry, size, pitch, starts, phases, spaced):
    """sums[channel, tap] = the gradient of the weights. Each channel belongs to one chunk."""
    count, channels, chunks = image.shape[0], image.shape[1], phases.shape[0]
    for c in prange(chunks):
        low, high = chunk(c, chunks, channels)
        phases[c], spaced[c] = 0, 0
        for channel in range(low, high):
            sums[channel] = 0
            for n in range(count):
                split_phases(image[n, channel], geometry, size // pitch, pitch, size, phases[c])
                space_out(windows[n, channel], pitch, spaced[c])
                add_correlations(phases[c], starts, spaced[c, : windows.shape[2] * pitch], sums[channel])


Axes = tuple[tuple[int, ...], ...]  # the geometry of two axes: rows (in, out, kernel, stride, pad, dilation)


def depthwise_for(axes: Axes) -> Depthwise | None:
    """The products for these axes, or None if phases would need too much memory."""
    (height, out_h, kernel_h, stride_h, _, dilation_h), (width, out_w, kernel_w, stride_w, _, dilation_w) = axes
    rows, pitch = out_h + (kernel_h - 1) * dilation_h // stride_h + 1, out_w + (kernel_w - 1) * dilation_w // stride_w
    needed = rows * pitch * stride_h * stride_w
    return _plan(axes) if needed <= min(MAX_PHASES, MAX_PADDING * (height * width + out_h * out_w)) else None


def padded(size: int) -> int:
    """`size` rounded up so that rows of different chunks share no cache line."""
    return -(-size // 32) * 32


class Depthwise:
    """The three products of a depthwise convolution. It computes the arguments of its kernels once."""

    def __init__(self, axes: Axes):
        (_, out_h, kernel_h, stride_h, _, dilation_h), (_, out_w, kernel_w, stride_w, _, dilation_w) = axes
        below, right = (kernel_h - 1) * dilation_h // stride_h, (kernel_w - 1) * dilation_w // stride_w
        self.windows = out_h, out_w
        pitch = out_w + right
        self.spaced = out_h * pitch
        self.front = below * pitch + right
        self.size = (out_h + below + 1) * pitch  # of a phase; the extra row is for the ends of the last rows of `pitch`
        self.phases = stride_h * stride_w
        self.layout = np.array(axes, np.int64), self.size, pitch
        h, w = np.meshgrid(np.arange(kernel_h) * dilation_h, np.arange(kernel_w) * dilation_w, indexing="ij")
        phase = (h % stride_h * stride_w + w % stride_w).reshape(-1)
        offset = (h // stride_h * pitch + w // stride_w).reshape(-1)
        self.order = np.argsort(phase, kind="stable")  # the kernel position of each tap
        phase, offset = phase[self.order], offset[self.order]
        self.starts, self.mirrored = phase * self.size + offset, self.front - offset
        self.first = np.searchsorted(phase, np.arange(self.phases + 1))

    def to_windows(self, image: Any, weights: Any, bias: Any, windows: Any) -> None:
        """windows = W . image + bias. image: N x C x pixels, windows: N x C x windows, weights: C x ..., bias: C or None."""
        chunks = min(num_threads(), image.shape[0] * image.shape[1])
        phases, sums = scratches([(chunks, padded(self.phases * self.size)), (chunks, padded(self.spaced))], image.dtype)
        bias = np.empty(0, image.dtype) if bias is None else bias
        planes_to_windows(image, self._sorted(weights), bias, self._rows(windows), *self.layout, self.starts, phases, sums)

    def to_image(self, windows: Any, weights: Any, image: Any) -> None:
        """image = W' . windows"""
        chunks = min(num_threads(), image.shape[0] * image.shape[1])
        shapes = [(chunks, padded(self.phases * self.size)), (chunks, padded(self.front + self.size))]
        phases, spaced = scratches(shapes, image.dtype)
        layout = *self.layout, self.mirrored, self.first, self.front
        windows_to_planes(self._rows(windows), self._sorted(weights), image, *layout, phases, spaced)

    def to_weights(self, windows: Any, image: Any, weights: Any) -> None:
        """weights += windows . image"""
        channels = image.shape[1]
        chunks = min(num_threads(), channels)
        shapes = [
            (chunks, padded(self.phases * self.size)),
            (chunks, padded(self.spaced)),
            (channels, self.order.size),
        ]
        phases, spaced, sums = scratches(shapes, image.dtype)
        planes_to_weights(self._rows(windows), image, sums, *self.layout, self.starts, phases, spaced)
        weights.reshape(channels, -1)[:, self.order] += sums

    def _sorted(self, weights: Any) -> Any:
        return weights.reshape(weights.shape[0], -1)[:, self.order.tolist()].copy()  # a list indexes arrays of any device

    def _rows(self, windows: Any) -> Any:
        return windows.reshape(*windows.shape[:2], *self.windows)


_plan = functools.lru_cache(maxsize=256)(Depthwise)
