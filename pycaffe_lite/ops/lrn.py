"""Local response normalisation: divides each value by a power of the strength of its neighbours (Caffe's lrn_layer.cpp).

    y = x s^-beta,   s = k + alpha * the sum of x^2 over the neighbours

x, y: N x C x H x W. Neighbours are the same pixel in the channels around a value, or the pixels around it in its own plane.

The kernels see `items x rows x columns`, which is N x C x (H W) or (N C) x H x W, and work in tiles of all rows. A tile has
as many columns as fit the cache, or all columns if neighbours lie along them. Sums over neighbours are updated from window
to window, in float64, so that a large value leaves no rounding error behind.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..device import array_module, chunk, cuda_function, cuda_kernel, function, gpu, kernel, num_threads, operation, prange

TILE = 64  # columns: with 256 channels, a tile needs 128 KB in float32


class Strength(NamedTuple):
    """The parameters of s: `half` neighbours on each side along the channels, or if `within` along both axes of a plane."""

    half: int
    within: bool
    alpha: float
    beta: float
    k: float


@operation
def lrn(x, y, strength: Strength):
    """y = x s^-beta"""
    if x.size:
        view, setting = _view(x, strength)
        lrn_forward(x.reshape(view), y.reshape(view), *setting)


@operation
def lrn_gradient(x, dy, dx, strength: Strength):
    """dx = dy s^-beta - 2 alpha beta x * the sum over neighbours of dy x s^(-beta - 1)"""
    if x.size:
        view, setting = _view(x, strength)
        lrn_backward(x.reshape(view), dy.reshape(view), dx.reshape(view), *setting)


# ---- the host -----------------------------------------------------------------------------------------------------


def _view(x: Any, strength: Strength) -> tuple[tuple[int, int, int], tuple]:
    """The shape that the kernels see, and their other arguments."""
    images, channels, height, width = x.shape
    half, within, *numbers = strength
    view = (images * channels, height, width) if within else (images, channels, height * width)
    tile = width if within else TILE
    return view, (half, within, *map(x.dtype.type, numbers), tile, num_threads())


@function
def add_row(row, sign, running):
    """running += sign * row"""
    for i in range(row.size):
        running[i] += sign * row[i]


@function
def copy_row(row, target):
    """Copies in a loop: Numba's `target[:] = row` also handles unequal shapes, which takes a second to compile."""
    for i in range(row.size):
        target[i] = row[i]


@function
def neighbours(values, half, square, running, sums):
    """sums[r, c] = the sum of `values` over rows r - half ... r + half and, if `square`, over as many columns around c."""
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
            copy_row(running, sums[r])
            continue
        total = 0.0
        for i in range(min(half, columns)):
            total += running[i]
        for i in range(columns):
            if i + half < columns:
                total += running[i + half]
            if i > half:
                total -= running[i - half - 1]
            sums[r, i] = total


@function
def strengths(x, item, left, right, half, square, alpha, k, running, memory):
    """s of one tile, rows x columns, and a buffer of the same shape; both lie in `memory`."""
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
    """out = s^-beta. The usual power of 0.75 is computed with square roots, which are vector instructions."""
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


# ---- CUDA ---------------------------------------------------------------------------------------------------------


@lrn.body("cuda")
def _lrn(x, y, strength: Strength):
    if x.size:
        view, setting = _view(x, strength)
        cuda_lrn.of_items(x.size, x.reshape(view), y.reshape(view), *setting[:5])


@cuda_kernel
def cuda_lrn(x, y, half, square, alpha, beta, k):
    """y = x s^-beta"""
    _, rows, columns = x.shape
    for n in range(gpu.grid(1), x.size, gpu.gridsize(1)):
        item, r, c = n // (rows * columns), n // columns % rows, n % columns
        y[item, r, c] = x[item, r, c] * (k + alpha * sum_around(x, item, r, c, half, square)) ** -beta


@lrn_gradient.body("cuda")
def _lrn_gradient(x, dy, dx, strength: Strength):
    if x.size:
        view, setting = _view(x, strength)
        x, dy, dx = x.reshape(view), dy.reshape(view), dx.reshape(view)
        ratio = array_module(x).empty_like(x)
        cuda_lrn_ratio.of_items(x.size, x, dy, dx, ratio, *setting[:5])
        cuda_lrn_gradient.of_items(x.size, x, ratio, dx, *setting[:4])


@cuda_kernel
def cuda_lrn_ratio(x, dy, dx, ratio, half, square, alpha, beta, k):
    """dx = dy s^-beta, ratio = dx x / s"""
    _, rows, columns = x.shape
    for n in range(gpu.grid(1), x.size, gpu.gridsize(1)):
        item, r, c = n // (rows * columns), n // columns % rows, n % columns
        s = k + alpha * sum_around(x, item, r, c, half, square)
        direct = dy[item, r, c] * s**-beta
        dx[item, r, c], ratio[item, r, c] = direct, direct * x[item, r, c] / s


@cuda_kernel
def cuda_lrn_gradient(x, ratio, dx, half, square, alpha, beta):
    """dx -= 2 alpha beta x * the sum of the ratios of the neighbours"""
    _, rows, columns = x.shape
    twice = x.dtype.type(2) * alpha * beta
    for n in range(gpu.grid(1), x.size, gpu.gridsize(1)):
        item, r, c = n // (rows * columns), n // columns % rows, n % columns
        total = x.dtype.type(0)
        for row in range(max(0, r - half), min(rows, r + half + 1)):
            for column in range(max(0, c - half) if square else c, min(columns, c + half + 1) if square else c + 1):
                total += ratio[item, row, column]
        dx[item, r, c] -= twice * x[item, r, c] * total


@cuda_function
def sum_around(x, item, r, c, half, square):
    """The sum of the squares of the neighbours of an element, and its own."""
    total = x.dtype.type(0)
    for row in range(max(0, r - half), min(x.shape[1], r + half + 1)):
        for column in range(max(0, c - half) if square else c, min(x.shape[2], c + half + 1) if square else c + 1):
            total += x[item, row, column] * x[item, row, column]
    return total
