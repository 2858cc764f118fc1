"""Normalisation: y = (x - mean) * scale, where a group of planes shares one mean and one scale.

x: A x B planes of S values. Planes along `axis`, 0 or 1, make a group: with 0 there are B groups, with 1 there are A. Means
and scales of groups are A x B x 1 with a 1 in place of `axis`, in float64.

The host computes a plane's statistics while it is in the cache: first its mean, then the squared deviations from it. It
combines them to those of groups in float64 (Chan, Golub and LeVeque, Algorithms for computing the sample variance, 1983).
If planes have one value and `axis` is 0, groups are the columns of a matrix, and a second set of kernels sums columns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..device import THREADS, Kernel, array_module, block_sums, cuda_function, cuda_kernel, gpu, kernel, operation, prange


@operation
def group_statistics(x, axis: int):
    """The mean and the (biased) variance of each group."""
    layout = Layout(x.shape, axis)
    mean, variance = np.empty(layout.shape), np.empty(layout.shape)
    layout.kernels.statistics(layout.matrix(x), mean.reshape(-1), variance.reshape(-1))
    if layout.by_columns:
        return mean, variance
    group_mean = layout.of_groups(mean)
    return group_mean, layout.of_groups(variance + (mean - group_mean) ** 2)


@operation
def normalize(x, mean, scale, y, axis: int):
    """y = (x - mean) * scale"""
    layout = Layout(x.shape, axis)
    mean, scale = layout.expanded(mean, x.dtype), layout.expanded(scale, x.dtype)
    layout.kernels.normalize(layout.matrix(x), mean, scale, layout.matrix(y))


@operation
def normalize_gradient(x, dy, mean, scale, dx, axis: int, of_scale: bool):
    """dx = scale * (dy - mean of dy - y * mean of dy * y), means over groups; without `of_scale`, the last term is left out.

    `mean` and `scale` are those of the last `normalize` of x.
    """
    layout = Layout(x.shape, axis)
    x, dy, dx = map(layout.matrix, (x, dy, dx))
    each_mean, each_scale = layout.expanded(mean, x.dtype), layout.expanded(scale, x.dtype)
    shift, slope = np.empty(layout.shape), np.empty(layout.shape)
    layout.kernels.products(dy, x, each_mean, shift.reshape(-1), slope.reshape(-1))
    shift = layout.expanded(layout.of_groups(shift), x.dtype)
    slope = layout.expanded(layout.of_groups(slope) * scale * of_scale, x.dtype)
    layout.kernels.gradient(dy, x, each_mean, each_scale, shift, slope, dx)


# ---- the host -----------------------------------------------------------------------------------------------------


@kernel
def plane_statistics(x, mean, variance):
    """The mean and variance of each row of `x`. The sum of deviations, nonzero only by rounding, corrects both."""
    planes, size = x.shape
    for p in prange(planes):
        total = x.dtype.type(0)
        for i in range(size):
            total += x[p, i]
        about = x.dtype.type(total / size)
        deviation, square = x.dtype.type(0), x.dtype.type(0)
        for i in range(size):
            d = x[p, i] - about
            deviation += d
            square += d * d
        shift = deviation / size
        mean[p] = about + shift
        variance[p] = max(square / size - shift * shift, 0)


@kernel
def plane_normalize(x, mean, scale, y):
    planes, size = x.shape
    for p in prange(planes):
        for i in range(size):
            y[p, i] = (x[p, i] - mean[p]) * scale[p]


@kernel
def plane_products(dy, x, mean, totals, products):
    """The means of dy and of dy * (x - mean) for each row."""
    planes, size = x.shape
    for p in prange(planes):
        total, product = x.dtype.type(0), x.dtype.type(0)
        for i in range(size):
            total += dy[p, i]
            product += dy[p, i] * (x[p, i] - mean[p])
        totals[p], products[p] = total / size, product / size


@kernel
def plane_gradient(dy, x, mean, scale, shift, slope, dx):
    """dx = scale * (dy - shift - slope * y), with y = (x - mean) * scale"""
    planes, size = x.shape
    for p in prange(planes):
        for i in range(size):
            dx[p, i] = scale[p] * (dy[p, i] - shift[p] - slope[p] * ((x[p, i] - mean[p]) * scale[p]))


STRIP = 256  # columns that are summed at a time


@kernel
def column_statistics(x, mean, variance):
    """The mean and variance of each column of `x`."""
    rows, columns = x.shape
    for strip in prange((columns + STRIP - 1) // STRIP):
        low, high = np.uintp(strip * STRIP), np.uintp(min((strip + 1) * STRIP, columns))
        mean[low:high] = 0
        variance[low:high] = 0
        for row in range(rows):
            for i in range(low, high):
                mean[i] += x[row, i] / rows
        for row in range(rows):
            for i in range(low, high):
                variance[i] += (x[row, i] - mean[i]) ** 2 / rows


@kernel
def column_normalize(x, mean, scale, y):
    rows, columns = x.shape
    for row in prange(rows):
        for i in range(columns):
            y[row, i] = (x[row, i] - mean[i]) * scale[i]


@kernel
def column_products(dy, x, mean, totals, products):
    """The means of dy and of dy * (x - mean) for each column."""
    rows, columns = x.shape
    for strip in prange((columns + STRIP - 1) // STRIP):
        low, high = np.uintp(strip * STRIP), np.uintp(min((strip + 1) * STRIP, columns))
        totals[low:high] = 0
        products[low:high] = 0
        for row in range(rows):
            for i in range(low, high):
                totals[i] += dy[row, i] / rows
                products[i] += dy[row, i] * (x[row, i] - mean[i]) / rows


@kernel
def column_gradient(dy, x, mean, scale, shift, slope, dx):
    rows, columns = x.shape
    for row in prange(rows):
        for i in range(columns):
            dx[row, i] = scale[i] * (dy[row, i] - shift[i] - slope[i] * ((x[row, i] - mean[i]) * scale[i]))


class Kernels(NamedTuple):
    """One set of kernels: for planes, or for columns."""

    statistics: Kernel
    normalize: Kernel
    products: Kernel
    gradient: Kernel


PLANES = Kernels(plane_statistics, plane_normalize, plane_products, plane_gradient)
COLUMNS = Kernels(column_statistics, column_normalize, column_products, column_gradient)


class Layout:
    """How the kernels see A x B x S: rows are planes, or if groups are columns, the matrix is A x B."""

    def __init__(self, shape: tuple[int, int, int], axis: int):
        a, b, size = shape
        self.axis = axis
        self.by_columns = size == 1 and axis == 0
        self.kernels = COLUMNS if self.by_columns else PLANES
        self.shape = (1 if self.by_columns else a), b, 1  # of an array with one value for each row, or for each column
        self._matrix = (a, b) if self.by_columns else (a * b, size)

    def matrix(self, array: Any) -> Any:
        """A x B x S as the kernels see it."""
        return array.reshape(self._matrix)

    def of_groups(self, values: Any) -> Any:
        """Takes a value for each plane and returns the means over groups."""
        return values if self.by_columns else values.mean(axis=self.axis, keepdims=True)

    def expanded(self, values: Any, dtype: Any) -> Any:
        """Takes a value for each group and returns one for each row of the matrix, or for each column."""
        return np.broadcast_to(values, self.shape).astype(dtype).reshape(-1)


# ---- CUDA ---------------------------------------------------------------------------------------------------------


@group_statistics.body("cuda")
def _group_statistics(x, axis: int):
    a, b, _ = x.shape
    mean = array_module(x).empty((1, b, 1) if axis == 0 else (a, 1, 1), "float64")
    variance = array_module(x).empty(mean.shape, "float64")
    cuda_statistics.of_blocks(mean.size, x, axis, mean.reshape(-1), variance.reshape(-1))
    return mean, variance


@cuda_kernel
def cuda_statistics(x, axis, mean, variance):
    """A block for each group. The sum of deviations, nonzero only by rounding, corrects both."""
    group, thread = gpu.blockIdx.x, gpu.threadIdx.x
    shared = gpu.shared.array((2, THREADS), np.float64)
    planes, size = x.shape[axis], x.shape[2]
    total = x.dtype.type(0)
    for n in range(thread, planes * size, THREADS):
        total += value_of(x, axis, group, n // size, n % size)
    shared[0, thread], shared[1, thread] = total, 0
    block_sums(shared)
    about = x.dtype.type(shared[0, 0] / (planes * size))
    gpu.syncthreads()  # all have read the sum
    deviation, square = x.dtype.type(0), x.dtype.type(0)
    for n in range(thread, planes * size, THREADS):
        d = value_of(x, axis, group, n // size, n % size) - about
        deviation += d
        square += d * d
    shared[0, thread], shared[1, thread] = deviation, square
    block_sums(shared)
    if thread == 0:
        shift = shared[0, 0] / (planes * size)
        mean[group] = about + shift
        variance[group] = max(shared[1, 0] / (planes * size) - shift * shift, 0)


@cuda_function
def value_of(x, axis, group, plane, i):
    """Element i of a plane of a group."""
    return x[plane, group, i] if axis == 0 else x[group, plane, i]


@normalize.body("cuda")
def _normalize(x, mean, scale, y, axis: int):
    numbers = (values.astype(x.dtype).reshape(-1) for values in (mean, scale))
    cuda_normalize.of_items(x.size, x, axis, *numbers, y)


@cuda_kernel
def cuda_normalize(x, axis, mean, scale, y):
    """y = (x - mean) * scale, with a number for each group"""
    _, b, size = x.shape
    for n in range(gpu.grid(1), x.size, gpu.gridsize(1)):
        i, j, k = n // (b * size), n // size % b, n % size
        group = j if axis == 0 else i
        y[i, j, k] = (x[i, j, k] - mean[group]) * scale[group]


@normalize_gradient.body("cuda")
def _normalize_gradient(x, dy, mean, scale, dx, axis: int, of_scale: bool):
    xp = array_module(x)
    mean, scale = (values.astype(x.dtype).reshape(-1) for values in (mean, scale))
    shift, slope = xp.empty(mean.shape, x.dtype), xp.empty(mean.shape, x.dtype)
    cuda_products.of_blocks(mean.size, x, dy, axis, mean, scale, of_scale, shift, slope)
    cuda_normalize_gradient.of_items(x.size, x, dy, axis, mean, scale, shift, slope, dx)


@cuda_kernel
def cuda_products(x, dy, axis, mean, scale, of_scale, shift, slope):
    """For each group the mean of dy, and of dy * (x - mean), times scale."""
    group, thread = gpu.blockIdx.x, gpu.threadIdx.x
    shared = gpu.shared.array((2, THREADS), np.float64)
    planes, size = x.shape[axis], x.shape[2]
    total, product = x.dtype.type(0), x.dtype.type(0)
    for n in range(thread, planes * size, THREADS):
        above = value_of(dy, axis, group, n // size, n % size)
        total += above
        product += above * (value_of(x, axis, group, n // size, n % size) - mean[group])
    shared[0, thread], shared[1, thread] = total, product
    block_sums(shared)
    if thread == 0:
        shift[group] = shared[0, 0] / (planes * size)
        slope[group] = shared[1, 0] / (planes * size) * scale[group] if of_scale else 0


@cuda_kernel
def cuda_normalize_gradient(x, dy, axis, mean, scale, shift, slope, dx):
    """dx = scale * (dy - shift - slope * y), with a number for each group"""
    _, b, size = x.shape
    for n in range(gpu.grid(1), x.size, gpu.gridsize(1)):
        i, j, k = n // (b * size), n // size % b, n % size
        group = j if axis == 0 else i
        y = (x[i, j, k] - mean[group]) * scale[group]
        dx[i, j, k] = scale[group] * (dy[i, j, k] - shift[group] - slope[group] * y)
