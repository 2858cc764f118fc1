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

from ..device import Kernel, kernel, operation, prange


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
