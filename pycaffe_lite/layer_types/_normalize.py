"""Shared base of BatchNorm and MVN: y = (x - mean) * scale, where groups of planes have one mean and one scale.

The bottom is seen as A x B planes of S values; a group is all planes along one of the first two axes. A plane's statistics
are taken while it is in the cache, first its mean, then the squares of what deviates from it. Those of groups are made of
them in float64 (Chan, Golub and LeVeque, Algorithms for computing the sample variance, 1983). Where planes have one value
and the groups of BatchNorm are columns of a matrix, each kernel has a fellow that sums columns.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..device import Kernel, array_module, kernel, prange
from ..errors import NetError
from ..layer import Blobs, Layer


@kernel
def plane_statistics(x, mean, variance):
    """The mean and variance of each row of `x`. The sum of the deviations, 0 but for rounding, corrects both."""
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
def plane_normalize_in_place(x, mean, scale, kept):
    """The same on `x` itself, with a copy of what was there in `kept`."""
    planes, size = x.shape
    for p in prange(planes):
        for i in range(size):
            kept[p, i] = x[p, i]
            x[p, i] = (x[p, i] - mean[p]) * scale[p]


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
def column_normalize_in_place(x, mean, scale, kept):
    rows, columns = x.shape
    for row in prange(rows):
        for i in range(columns):
            kept[row, i] = x[row, i]
            x[row, i] = (x[row, i] - mean[i]) * scale[i]


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
    statistics: Kernel
    normalize: Kernel
    normalize_in_place: Kernel
    products: Kernel
    gradient: Kernel


PLANES = Kernels(plane_statistics, plane_normalize, plane_normalize_in_place, plane_products, plane_gradient)
COLUMNS = Kernels(column_statistics, column_normalize, column_normalize_in_place, column_products, column_gradient)


class Normalization(Layer):
    """A type sets `view`, the shape (A, B, S), and `axis`, 0 or 1, the axis along which planes make a group.

    Statistics are those of groups, A x B x 1 with a 1 in place of `axis`, in float64. The top may be the bottom.
    """

    exact_bottoms = 1
    exact_tops = 1
    view: tuple[int, int, int]
    axis: int

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.kept = self.new_blob()
        self.each = np.empty(0), np.empty(0)

    @property
    def by_columns(self) -> bool:
        """Whether groups are columns."""
        return self.view[2] == 1 and self.axis == 0

    @property
    def kernels(self) -> Kernels:
        return COLUMNS if self.by_columns else PLANES

    def statistics(self, x: Any) -> tuple[Any, Any]:
        """Mean and (biased) variance of each group."""
        mean, variance = self._new_values(x), self._new_values(x)
        self.kernels.statistics(self._matrix(x), mean.reshape(-1), variance.reshape(-1))
        if self.by_columns:
            return mean, variance
        group_mean = self._of_groups(mean)
        return group_mean, self._of_groups(variance + (mean - group_mean) ** 2)

    def normalize(self, bottom: Blobs, top: Blobs, mean: Any, scale: Any, keep: bool) -> None:
        """Writes the top. `keep`: `gradient` will be asked for, which needs the bottom's values even if overwritten here."""
        self.mean, self.scale = mean, scale
        self.each = self._each(mean), self._each(scale)
        if keep and top[0] is bottom[0]:
            self.kept.reshape_like(bottom[0])
            kept = self._matrix(self.kept.data_out)
            self.kernels.normalize_in_place(self._matrix(top[0].data_out), *self.each, kept)
        else:
            self.kernels.normalize(self._matrix(bottom[0].data_in), *self.each, self._matrix(top[0].data_out))

    def scaled(self, x: Any, mean: Any, scale: Any, y: Any) -> None:
        """Writes y = (x - mean) * scale."""
        self.kernels.normalize(self._matrix(x), self._each(mean), self._each(scale), self._matrix(y))

    def gradient(self, top: Blobs, bottom: Blobs, of_scale: bool = True) -> None:
        """Writes dx = scale * (dy - mean of dy - y * mean of dy * y); without `of_scale`, not the last term."""
        x = self._matrix((self.kept if top[0] is bottom[0] else bottom[0]).data_in)
        dy, dx = self._matrix(top[0].diff_in), self._matrix(bottom[0].diff_out)
        mean, scale = self.each
        if mean.size != math.prod(self._shape()):
            raise NetError("backward needs a forward of the same shape before it")
        shift, slope = self._new_values(x), self._new_values(x)
        self.kernels.products(dy, x, mean, shift.reshape(-1), slope.reshape(-1))
        shift = self._each(self._of_groups(shift))
        slope = self._each(self._of_groups(slope) * self.scale * of_scale)
        self.kernels.gradient(dy, x, mean, scale, shift, slope, dx)

    def _of_groups(self, values: Any) -> Any:
        """The means along `axis`."""
        return values if self.by_columns else values.mean(axis=self.axis, keepdims=True)

    def _matrix(self, array: Any) -> Any:
        """Planes as rows, or A x B where groups are columns."""
        a, b, s = self.view
        return array.reshape(a, b) if self.by_columns else array.reshape(a * b, s)

    def _shape(self) -> tuple[int, int, int]:
        """That of an array with a value for each row of the matrix, or for each column."""
        return (1 if self.by_columns else self.view[0]), self.view[1], 1

    def _new_values(self, like: Any) -> Any:
        return array_module(like).empty(self._shape())

    def _each(self, values: Any) -> Any:
        """The values of groups, one for each row of the matrix, or for each column."""
        if not self.by_columns:
            values = array_module(values).broadcast_to(values, self._shape())
        return values.astype(self.dtype).reshape(-1)
