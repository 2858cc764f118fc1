"""LRN: `y = x / s^beta`, where s tells how strong the neighbours are   (lrn_layer.cpp).

    ACROSS_CHANNELS   s = k + alpha / n   * the sum of x^2 over the n channels around this one
    WITHIN_CHANNEL    s = 1 + alpha / n^2 * the sum of x^2 over the n x n pixels around this one

bottom[0], top[0]: `N x C x H x W`, may be the same blob. Beyond the ends there are zeros.

Krizhevsky, Sutskever and Hinton, ImageNet classification with deep convolutional neural networks, 2012.

`lrn_param`:
- `local_size` (default 5): n, an odd number.
- `alpha` (default 1): factor on the sum.
- `beta` (default 0.75): the power.
- `norm_region` (default ACROSS_CHANNELS): which neighbours, see above.
- `k` (default 1): of ACROSS_CHANNELS only.
- `engine` (default DEFAULT): ignored.

Differences from Caffe: works in place; Caffe's gradient is wrong there.

Inside: the kernels see `items x rows x columns`, N x C x (H W) or (N C) x H x W, and go through it in tiles: all rows of as
many columns as stay in the cache, or of all columns where they are neighbours. Sums over neighbours run along with the
window, in float64, so that nothing of a large value is left behind when it leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..device import chunk, function, kernel, num_threads, prange
from ..errors import NetError
from ..layer import Blobs, Layer, register
from ..proto.caffe_pb2 import LRNParameter

TILE = 64  # columns: with 256 channels, what a tile needs takes 128 KB in float32


@function
def add_row(row, sign, running):
    for i in range(row.size):
        running[i] += sign * row[i]


@function
def neighbours(values, half, square, running, sums):
    """sums[r, c] = the sum of `values` over rows r - half ... r + half and, if `square`, over as many columns, too."""
    rows, columns = values.shape
    running[:] = 0
    for r in range(min(half, rows)):
        add_row(values[r], 1, running)
    for r in range(rows):
        if r + half < rows:
            add_row(values[r + half], 1, running)
        if r > half:
            add_row(values[r - half - 1], -1, running)
        if not square:
            sums[r] = running
            continue
        total = running[:half].sum()
        for i in range(columns):
            if i + half < columns:
                total += running[i + half]
            if i > half:
                total -= running[i - half - 1]
            sums[r, i] = total


@function
def strengths(x, item, left, right, half, square, alpha, k, running, memory):
    """s of one tile, rows x columns, and a buffer of that shape; both lie in `memory`."""
    rows, columns = x.shape[1], right - left
    buffer, s = memory[0, : rows * columns].reshape(rows, columns), memory[1, : rows * columns].reshape(rows, columns)
    for r in range(rows):
        row, squares = x[item, r, left:right], buffer[r]
        for i in range(columns):
            squares[i] = row[i] * row[i]
    neighbours(buffer, half, square, running[:columns], s)
    for r in range(rows):
        row = s[r]
        for i in range(columns):
            row[i] = k + alpha * row[i]
    return s, buffer


@function
def factors(s, beta, out):
    """out = s^-beta. Square roots, which make the usual 0.75, are vector instructions; powers are not."""
    one = s.dtype.type(1)
    if beta == 0.75:
        for i in range(s.size):
            root = np.sqrt(s[i])
            out[i] = one / (root * np.sqrt(root))
    else:
        for i in range(s.size):
            out[i] = s[i] ** -beta


@kernel
def lrn_forward(x, y, half, square, alpha, beta, k, tile, chunks):
    items, rows, columns = x.shape
    tiles = (columns + tile - 1) // tile
    for c in prange(chunks):
        first, last = chunk(c, chunks, items * tiles)
        memory, running = np.empty((2, rows * tile), x.dtype), np.empty(tile)
        for task in range(first, last):
            item, left = task // tiles, task % tiles * tile
            right = min(left + tile, columns)
            s, buffer = strengths(x, item, left, right, half, square, alpha, k, running, memory)
            for r in range(rows):
                row, out, factor = x[item, r, left:right], y[item, r, left:right], buffer[r]
                factors(s[r], beta, factor)
                for i in range(row.size):
                    out[i] = row[i] * factor[i]


@kernel
def lrn_backward(x, dy, dx, half, square, alpha, beta, k, tile, chunks):
    """dx = dy s^-beta - 2 alpha beta x * the sum over neighbours of dy x s^(-beta - 1)"""
    items, rows, columns = x.shape
    tiles = (columns + tile - 1) // tile
    twice = x.dtype.type(2) * alpha * beta
    for c in prange(chunks):
        first, last = chunk(c, chunks, items * tiles)
        memory, running = np.empty((2, rows * tile), x.dtype), np.empty(tile)
        for task in range(first, last):
            item, left = task // tiles, task % tiles * tile
            right = min(left + tile, columns)
            s, buffer = strengths(x, item, left, right, half, square, alpha, k, running, memory)
            for r in range(rows):
                row, above, out, factor = x[item, r, left:right], dy[item, r, left:right], dx[item, r, left:right], buffer[r]
                factors(s[r], beta, factor)
                for i in range(row.size):
                    direct = above[i] * factor[i]
                    factor[i] = direct * row[i] / s[r, i]
                    out[i] = direct
            neighbours(buffer, half, square, running[: right - left], s)
            for r in range(rows):
                row, out = x[item, r, left:right], dx[item, r, left:right]
                for i in range(row.size):
                    out[i] -= twice * row[i] * s[r, i]


@register("LRN")
class LRN(Layer):
    exact_bottoms = 1
    exact_tops = 1

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.lrn_param
        if param.local_size % 2 == 0:
            raise NetError(f"local_size is odd, received {param.local_size}")
        self.within = param.norm_region == LRNParameter.WITHIN_CHANNEL
        alpha, k = param.alpha / param.local_size ** (2 if self.within else 1), 1 if self.within else param.k
        alpha, beta, k = map(self.dtype.type, (alpha, param.beta, k))
        self.setting = param.local_size // 2, self.within, alpha, beta, k

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        if bottom[0].num_axes != 4:
            raise NetError(f"expected 4 axes (N x C x H x W), received {bottom[0]}")
        top[0].reshape_like(bottom[0])
        images, channels, height, width = bottom[0].shape
        self.view = (images * channels, height, width) if self.within else (images, channels, height * width)
        self.tile = max(width, 1) if self.within else TILE

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x = bottom[0].data_in.reshape(self.view)
        if top[0] is bottom[0]:
            self.kept = x = x.copy()
        if x.size:
            lrn_forward(x, top[0].data_out.reshape(self.view), *self.setting, self.tile, num_threads())

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0] or not bottom[0].count:
            return
        x = self.kept if top[0] is bottom[0] else bottom[0].data_in.reshape(self.view)
        dy, dx = top[0].diff_in.reshape(self.view), bottom[0].diff_out.reshape(self.view)
        lrn_backward(x, dy, dx, *self.setting, self.tile, num_threads())
