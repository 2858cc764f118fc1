"""Shared base of BatchNorm and MVN: y = (x - mean) * scale, where groups of planes have one mean and one scale.

The bottom is seen as A x B planes of S values; a group is all planes along one of the first two axes. A plane's statistics
are taken while it is in the cache, first its mean, then the squares of what deviates from it. Those of groups are made of
them in float64 (Chan, Golub and LeVeque, Algorithms for computing the sample variance, 1983). Planes of one value go
through array code instead: their groups are columns of a matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import array_module, kernel, prange
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

    def statistics(self, x: Any) -> tuple[Any, Any]:
        """Mean and (biased) variance of each group."""
        x = x.reshape(self.view)
        if self.view[2] == 1:
            mean = self._of_groups(x)
            return mean, self._of_groups((x - mean.astype(x.dtype)) ** 2)
        xp = array_module(x)
        mean, variance = xp.empty((*self.view[:2], 1)), xp.empty((*self.view[:2], 1))
        plane_statistics(self._planes(x), mean.reshape(-1), variance.reshape(-1))
        group_mean = self._of_groups(mean)
        return group_mean, self._of_groups(variance + (mean - group_mean) ** 2)

    def normalize(self, bottom: Blobs, top: Blobs, mean: Any, scale: Any, keep: bool) -> None:
        """Writes the top. `keep`: `gradient` will be asked for, which needs the bottom's values even if overwritten here."""
        self.mean, self.scale = mean, scale
        x, y = bottom[0].data_in.reshape(self.view), top[0].data_out.reshape(self.view)
        if not keep or top[0] is not bottom[0]:
            self.scaled(x, mean, scale, y)
            return
        self.kept.reshape_like(bottom[0])
        kept = self.kept.data_out.reshape(self.view)
        if self.view[2] == 1:
            kept[...] = x
            self.scaled(x, mean, scale, y)
        else:
            plane_normalize_in_place(self._planes(y), self._each_plane(mean), self._each_plane(scale), self._planes(kept))

    def scaled(self, x: Any, mean: Any, scale: Any, y: Any) -> None:
        """Writes y = (x - mean) * scale."""
        if self.view[2] == 1:
            array_module(x).subtract(x, mean.astype(x.dtype), out=y)
            y *= scale.astype(x.dtype)
        else:
            plane_normalize(self._planes(x), self._each_plane(mean), self._each_plane(scale), self._planes(y))

    def gradient(self, top: Blobs, bottom: Blobs, of_scale: bool = True) -> None:
        """Writes dx = scale * (dy - mean of dy - y * mean of dy * y); without `of_scale`, not the last term."""
        x = (self.kept if top[0] is bottom[0] else bottom[0]).data_in.reshape(self.view)
        dy, dx = top[0].diff_in.reshape(self.view), bottom[0].diff_out.reshape(self.view)
        xp = array_module(x)
        if self.view[2] == 1:
            y = (x - self.mean.astype(x.dtype)) * (self.scale * of_scale).astype(x.dtype)
            y *= self._of_groups(dy * y).astype(x.dtype)
            y += self._of_groups(dy).astype(x.dtype)
            xp.subtract(dy, y, out=dx)
            dx *= self.scale.astype(x.dtype)
            return
        shift, slope = xp.empty((*self.view[:2], 1)), xp.empty((*self.view[:2], 1))
        mean, scale = self._each_plane(self.mean), self._each_plane(self.scale)
        plane_products(self._planes(dy), self._planes(x), mean, shift.reshape(-1), slope.reshape(-1))
        shift = self._each_plane(self._of_groups(shift))
        slope = self._each_plane(self._of_groups(slope) * self.scale * of_scale)
        plane_gradient(self._planes(dy), self._planes(x), mean, scale, shift, slope, self._planes(dx))

    def _of_groups(self, values: Any) -> Any:
        """The means along `axis`."""
        return values.mean(axis=self.axis, keepdims=True, dtype=np.float64)

    def _planes(self, array: Any) -> Any:
        return array.reshape(self.view[0] * self.view[1], self.view[2])

    def _each_plane(self, values: Any) -> Any:
        """The values of groups, one for each of their planes."""
        return array_module(values).broadcast_to(values, (*self.view[:2], 1)).astype(self.dtype).reshape(-1)
