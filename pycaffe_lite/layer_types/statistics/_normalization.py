"""Shared base of BatchNorm and MVN: y = (x - mean) * scale, where a group of planes shares one mean and one scale."""

from __future__ import annotations

from typing import Any

from ...errors import NetError
from ...layer import Blobs, Layer
from ...ops.normalization import normalize, normalize_gradient


class Normalization(Layer):
    """A subclass sets `view`, the shape A x B x S, and `axis`, 0 or 1. Planes along `axis` make a group.

    Statistics of groups are A x B x 1 with a 1 in place of `axis`, in float64.
    """

    exact_bottoms = 1
    exact_tops = 1
    keeps_coordinates = True
    can_overwrite = True
    reads_tops = False
    view: tuple[int, int, int]
    axis: int
    mean: Any = None  # of the last forward, like `scale`
    scale: Any = None

    def normalize(self, bottom: Blobs, top: Blobs, mean: Any, scale: Any) -> None:
        """Writes the top."""
        self.mean, self.scale = mean, scale
        x, y = bottom[0].data_in.reshape(self.view), top[0].data_out.reshape(self.view)
        normalize(x, mean, scale, y, self.axis)

    def gradient(self, top: Blobs, bottom: Blobs, of_scale: bool = True) -> None:
        """Writes dx = scale * (dy - mean of dy - y * mean of dy * y); without `of_scale`, the last term is left out."""
        groups = tuple(1 if axis == self.axis else size for axis, size in enumerate((*self.view[:2], 1)))
        if self.mean is None or self.mean.shape != groups:
            raise NetError("backward needs a forward of the same shape before it")
        x = bottom[0].data_in.reshape(self.view)
        dy, dx = top[0].diff_in.reshape(self.view), bottom[0].diff_out.reshape(self.view)
        normalize_gradient(x, dy, self.mean, self.scale, dx, self.axis, of_scale)
