"""Tile: repeats a blob along an axis   (tile_layer.cpp).

bottom[0]: any shape.   top[0]: the same with `tiles` times the size at `axis`.

`tile_param`:
- `axis` (default 1): the axis, may be negative.
- `tiles` (required): how many copies.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import NetError
from ...layer import Blobs, Layer, register


@register("Tile")
class Tile(Layer):
    exact_bottoms = 1
    exact_tops = 1
    reads_bottoms = False
    reads_tops = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.tiles = self.param.tile_param.tiles
        if self.tiles < 1:
            raise NetError(f"tiles is at least 1, received {self.tiles}")

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        axis = bottom[0].axis(self.param.tile_param.axis)
        shape = list(bottom[0].shape)
        shape[axis] *= self.tiles
        top[0].reshape(shape)
        self.outer, self.inner = bottom[0].count_from(0, axis), bottom[0].count_from(axis)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x = bottom[0].data_in.reshape(self.outer, 1, self.inner)
        top[0].data_out.reshape(self.outer, self.tiles, self.inner)[...] = x

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            dy = top[0].diff_in.reshape(self.outer, self.tiles, self.inner)
            dy.sum(axis=1, out=bottom[0].diff_out.reshape(self.outer, self.inner))
