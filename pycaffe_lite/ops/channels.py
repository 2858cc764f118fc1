"""One number for each position along the middle axis: scales, shifts and slopes of channels.

Arrays are n x c x inner, and there are c numbers.
"""

from __future__ import annotations

import numpy as np

from ..device import THREADS, block_sums, cuda_kernel, gpu, kernel, operation, prange

STRIP = 256  # columns that are summed at a time


@operation
def affine(x, scale, shift, y):
    """y = x * scale + shift"""
    affine_rows(x, scale, shift, y)


@operation
def affine_gradients(x, dy, products, sums):
    """products = the sums of x * dy, sums = the sums of dy, over n and inner."""
    sum_products(x, dy, products, sums)


@operation
def sloped(x, values, slope, out):
    """out = values where x > 0, else slope * values"""
    sloped_rows(x, values, slope, out)


# ---- the host -----------------------------------------------------------------------------------------------------


@kernel
def affine_rows(x, scale, shift, y):
    """y = x * scale + shift; x and y are n x s x inner."""
    n, s, inner = x.shape
    if inner == 1:
        x, y = x.reshape(n, s), y.reshape(n, s)
        for row in prange(n):
            for i in range(s):
                y[row, i] = x[row, i] * scale[i] + shift[i]
    else:
        x, y = x.reshape(n * s, inner), y.reshape(n * s, inner)
        for row in prange(n * s):
            a, b = scale[row % s], shift[row % s]
            for i in range(inner):
                y[row, i] = x[row, i] * a + b


@kernel
def sum_products(x, dy, products, sums):
    """The sums of x * dy and of dy for each s."""
    n, s, inner = x.shape
    if inner == 1:
        x, dy = x.reshape(n, s), dy.reshape(n, s)
        for strip in prange((s + STRIP - 1) // STRIP):
            low, high = np.uintp(strip * STRIP), np.uintp(min((strip + 1) * STRIP, s))
            products[low:high] = 0
            sums[low:high] = 0
            for row in range(n):
                for i in range(low, high):
                    products[i] += x[row, i] * dy[row, i]
                    sums[i] += dy[row, i]
    else:
        for j in prange(s):
            product, total = x.dtype.type(0), x.dtype.type(0)
            for row in range(n):
                for i in range(inner):
                    product += x[row, j, i] * dy[row, j, i]
                    total += dy[row, j, i]
            products[j], sums[j] = product, total


@kernel
def sloped_rows(x, values, slope, out):
    """out = values where x > 0, else slope * values; all n x c x inner, and a slope for each c."""
    n, c, inner = x.shape
    if inner == 1:
        x, values, out = x.reshape(n, c), values.reshape(n, c), out.reshape(n, c)
        for row in prange(n):
            for i in range(c):
                out[row, i] = values[row, i] if x[row, i] > 0 else slope[i] * values[row, i]
    else:
        x, values, out = x.reshape(n * c, inner), values.reshape(n * c, inner), out.reshape(n * c, inner)
        for row in prange(n * c):
            a = slope[row % c]
            for i in range(inner):
                out[row, i] = values[row, i] if x[row, i] > 0 else a * values[row, i]


# ---- CUDA ---------------------------------------------------------------------------------------------------------


@affine.body("cuda")
def _affine(x, scale, shift, y):
    cuda_affine.of_items(x.size, x.reshape(-1), scale, shift, x.shape[2], y.reshape(-1))


@cuda_kernel
def cuda_affine(x, scale, shift, inner, y):
    """y = x * scale + shift, all flat; `inner` elements in a row have one c"""
    for i in range(gpu.grid(1), x.size, gpu.gridsize(1)):
        c = i // inner % scale.size
        y[i] = x[i] * scale[c] + shift[c]


@affine_gradients.body("cuda")
def _affine_gradients(x, dy, products, sums):
    cuda_sum_products.of_blocks(sums.size, x, dy, products, sums)


@cuda_kernel
def cuda_sum_products(x, dy, products, sums):
    """A block for each c."""
    j, thread = gpu.blockIdx.x, gpu.threadIdx.x
    n, _, inner = x.shape
    product, total = x.dtype.type(0), x.dtype.type(0)
    for k in range(thread, n * inner, THREADS):
        row, i = k // inner, k % inner
        product += x[row, j, i] * dy[row, j, i]
        total += dy[row, j, i]
    shared = gpu.shared.array((2, THREADS), x.dtype)
    shared[0, thread], shared[1, thread] = product, total
    block_sums(shared)
    if thread == 0:
        products[j], sums[j] = shared[0, 0], shared[1, 0]


@sloped.body("cuda")
def _sloped(x, values, slope, out):
    cuda_sloped.of_items(x.size, x.reshape(-1), values.reshape(-1), slope, x.shape[2], out.reshape(-1))


@cuda_kernel
def cuda_sloped(x, values, slope, inner, out):
    """out = values where x > 0, else slope * values, all flat"""
    for i in range(gpu.grid(1), x.size, gpu.gridsize(1)):
        out[i] = values[i] if x[i] > 0 else slope[i // inner % slope.size] * values[i]
