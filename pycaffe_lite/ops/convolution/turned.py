"""Convolution to few outputs, with pixels laid out as rows: BLAS multiplies a tall matrix by a narrow one faster than a flat
matrix by a wide one; with 32 outputs it gains a half.

Each line of the image is transposed to pixels x channels. For each window, a row holds the part of the line that the window
sees: `kernel width * channels` values, contiguous in memory. With a vertical stride of 1 the lines of the kernel, its taps,
read the same rows, shifted by whole lines, so each tap is one product:
    sums += rows[from line tap * dilation on] . weights[tap]
The result is transposed back. A task is a strip of window lines that fits the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...device import chunk, function, kernel, num_threads, prange
from ...device.blas import gemm
from ...ops.scratch import scratches

MAX_OUTPUTS, MIN_DEPTH, MIN_WINDOWS = 32, 32, 128  # bounds of outputs, values in a row and windows where it is faster
MIN_REUSE = 256  # products for each value, since transposing a value takes as long as some tens of products
STRIP = 2**16  # approximate number of values in the rows of a task


class Turned:
    """The forward product for a geometry of two axes, rows (in, out, kernel, stride, pad, dilation), without groups."""

    def __init__(self, axes: list[tuple[int, ...]], channels: int, outputs: int):
        self.axes, self.channels, self.outputs = axes, channels, outputs
        self.geometry = np.array(axes, np.int64)

    @staticmethod
    def is_faster(axes: list[tuple[int, ...]], channels: int, outputs: int) -> bool:
        """Whether this is faster for a convolution of `channels` planes to `outputs` planes."""
        if len(axes) != 2 or any(stride > 1 for _, _, _, stride, _, _ in axes):
            return False
        (_, out_h, kernel_h, *_), (_, out_w, kernel_w, *_) = axes
        return (
            outputs <= MAX_OUTPUTS
            and channels * kernel_w >= MIN_DEPTH
            and out_h * out_w >= MIN_WINDOWS
            and kernel_h * kernel_w * outputs >= MIN_REUSE
        )

    def to_windows(self, image: Any, weights: Any, bias: Any, windows: Any) -> None:
        """windows = weights * image + bias. image: N x C x pixels, weights: O x C x kernel, bias: O or None,
        windows: N x O x windows."""
        bias = np.empty(0, image.dtype) if bias is None else bias
        outputs, channels = self.outputs, self.channels
        (_, out_h, kernel_h, _, _, dilation), (width, out_w, kernel_w, _, pad, _) = self.axes
        depth, halo = kernel_w * channels, dilation * (kernel_h - 1)
        lines = min(out_h, max(1, halo, STRIP // (out_w * depth) - halo))
        chunks = min(num_threads(), image.shape[0] * -(-out_h // lines))
        taps, pixels, rows, sums = scratches(
            [
                (kernel_h, depth, outputs),
                (chunks, (width + 2 * pad) * channels),
                (chunks, (lines + halo) * out_w * depth),
                (chunks, lines * out_w * outputs),
            ],
            image.dtype,
        )
        weights = weights.reshape(outputs, channels, kernel_h, kernel_w)
        taps.reshape(kernel_h, kernel_w, channels, outputs)[...] = weights.transpose(2, 3, 1, 0)
        convolve_turned(image, taps, bias, windows, self.geometry, lines, pixels, rows, sums, chunks)


@function
def turn_line(planes, at, width, pad, pixels):
    """Writes planes[:, at : at + width] as pixels x channels between the padding, which is zero already."""
    channels = planes.shape[0]
    for strip in range(0, channels, 8):
        for x in range(width):
            base = np.uintp((pad + x) * channels)
            for c in range(np.uintp(strip), np.uintp(min(strip + 8, channels))):
                pixels[base + c] = planes[c, np.uintp(at + x)]


@function
def lay_rows(pixels, channels, kernel_w, dilation, out_w, rows):
    """Lays out one row for each of the `out_w` windows of a line: the pixels that the window sees."""
    to = np.uintp(0)
    for x in range(out_w):
        for j in range(kernel_w):
            at = np.uintp((x + j * dilation) * channels)
            for c in range(np.uintp(channels)):
                rows[to + c] = pixels[at + c]
            to += np.uintp(channels)


@function
def turn_back(sums, first, count, bias, planes):
    """planes[o, first + i] = sums[i, o] + bias[o]"""
    outputs = planes.shape[0]
    for strip in range(0, count, 8):
        for o in range(outputs):
            add = bias[o] if bias.size else planes.dtype.type(0)
            for i in range(np.uintp(strip), np.uintp(min(strip + 8, count))):
                planes[o, np.uintp(first) + i] = sums[i * np.uintp(outputs) + np.uintp(o)] + add


@kernel
def convolve_turned(image, taps, bias, windows, geometry, lines, pixels, rows, sums, chunks):
    """See the head of this file. taps: kernel height x depth x O; pixels, rows and sums have a buffer for each chunk."""
    height, out_h, kernel_h, _, pad_h, dilation_h = geometry[0]
    width, out_w, kernel_w, _, pad_w, dilation_w = geometry[1]
    channels, depth, outputs = image.shape[1], taps.shape[1], taps.shape[2]
    strips = (out_h + lines - 1) // lines
    for c in prange(chunks):
        pixels[c] = 0
        low, high = chunk(c, chunks, image.shape[0] * strips)
        for task in range(low, high):
            n, strip = divmod(task, strips)
            first = strip * lines
            count = min(lines, out_h - first)
            for line in range(count + dilation_h * (kernel_h - 1)):
                at, to = first - pad_h + line, line * out_w * depth
                if 0 <= at < height:
                    turn_line(image[n], at * width, width, pad_w, pixels[c])
                    lay_rows(pixels[c], channels, kernel_w, dilation_w, out_w, rows[c, to:])
                else:
                    rows[c, to : to + out_w * depth] = 0
            for tap in range(kernel_h):
                keep = 1 if tap else 0
                gemm(False, False, count * out_w, outputs, depth, 1, rows[c, tap * dilation_h * out_w * depth :], depth,
                     taps[tap], outputs, keep, sums[c], outputs)  # fmt: skip
            turn_back(sums[c], first * out_w, count * out_w, bias, windows[n])
