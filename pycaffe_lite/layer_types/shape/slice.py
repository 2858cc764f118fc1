"""Slice: cuts a blob into pieces along an axis   (slice_layer.cpp).

bottom[0]: any shape.   top: the pieces, in order.

A single piece shares its memory with the bottom.

`slice_param`:
- `axis` (default 1): the axis that is cut, may be negative.
- `slice_point` (default equal pieces): the first index of each piece except the first piece.
- `slice_dim` (default 1): the old name of `axis`. Not with `axis`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from ...blob import Blob
from ...errors import NetError
from ...layer import Blobs, Layer, register


@register("Slice")
class Slice(Layer):
    exact_bottoms = 1
    min_tops = 1
    reads_bottoms = False
    reads_tops = False

    @property
    def is_view(self) -> bool:  # type: ignore[override]
        return len(self.param.top) == 1

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.slice_param
        if param.HasField("axis") and param.HasField("slice_dim"):
            raise NetError("expected either axis or slice_dim, received both")
        self.points = list(param.slice_point)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.slice_param
        by_old_name = param.HasField("slice_dim")
        self.axis = bottom[0].axis(param.slice_dim, "slice_dim") if by_old_name else bottom[0].axis(param.axis)
        self.bounds = self._bounds(bottom[0], len(top))
        shape = list(bottom[0].shape)
        for blob, (start, end) in zip(top, self.bounds, strict=True):
            shape[self.axis] = end - start
            blob.reshape(shape)
        if len(top) == 1:
            top[0].share_data(bottom[0])
            top[0].share_diff(bottom[0])

    def _bounds(self, bottom: Blob, tops: int) -> list[tuple[int, int]]:
        """The first index and the end of each piece."""
        size = bottom.shape[self.axis]
        if not self.points:
            if size % tops:
                raise NetError(f"axis {self.axis} of {bottom} cannot be cut into {tops} equal pieces; give slice_point")
            step = size // tops
            return [(i * step, (i + 1) * step) for i in range(tops)]
        if len(self.points) != tops - 1:
            raise NetError(f"expected {tops - 1} slice_point for {tops} tops, received {len(self.points)}")
        starts = [0, *self.points]
        if any(a >= b for a, b in pairwise(starts)) or starts[-1] > size or tops > size:
            raise NetError(f"expected slice_point to increase from 1 to at most {size}, received {self.points}")
        return list(pairwise([*starts, size]))

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        if len(top) > 1:
            for blob, piece in zip(top, self._pieces(bottom[0].data_in), strict=True):
                blob.data_out[...] = piece

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if len(top) > 1 and propagate_down[0]:
            for blob, piece in zip(top, self._pieces(bottom[0].diff_out), strict=True):
                piece[...] = blob.diff_in

    def _pieces(self, array: Any) -> Iterator[Any]:
        """Views of the pieces of an array that has the bottom's shape."""
        for start, end in self.bounds:
            yield array[(slice(None),) * self.axis + (slice(start, end),)]
