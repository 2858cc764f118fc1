"""Concat: joins blobs along an axis   (concat_layer.cpp).

bottom: one or more blobs, equal in all dimensions except that of `axis`.   top[0]: the blobs, in order.

A single bottom shares its memory with the top.

`concat_param`:
- `axis` (default 1): the axis along which to join, may be negative.
- `concat_dim` (default 1): the old name of `axis`. Not with `axis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ...blob import Blob
from ...errors import NetError
from ...layer import Blobs, Layer, register
from ...ops.copies import copy_columns


@register("Concat")
class Concat(Layer):
    min_bottoms = 1
    exact_tops = 1
    reads_bottoms = False
    reads_tops = False

    @property
    def is_view(self) -> bool:  # type: ignore[override]
        return len(self.param.bottom) == 1

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.concat_param
        if param.HasField("axis") and param.HasField("concat_dim"):
            raise NetError("expected either axis or concat_dim, received both")

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        param, first = self.param.concat_param, bottom[0]
        by_old_name = param.HasField("concat_dim")
        self.axis = first.axis(param.concat_dim, "concat_dim") if by_old_name else first.axis(param.axis)
        before, behind = first.shape[: self.axis], first.shape[self.axis + 1 :]
        for blob in bottom[1:]:
            if (blob.shape[: self.axis], blob.shape[self.axis + 1 :]) != (before, behind):
                raise NetError(f"expected bottoms that differ in axis {self.axis} only, received {first} and {blob}")
        top[0].reshape(*before, sum(blob.shape[self.axis] for blob in bottom), *behind)
        if len(bottom) == 1:
            top[0].share_data(first)
            top[0].share_diff(first)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        if len(bottom) > 1:
            y = self._matrix(top[0], top[0].data_out)
            for blob, start in zip(bottom, self._starts(bottom)):
                x = self._matrix(blob, blob.data_in)
                copy_columns(x, y, 0, start, x.shape[1])

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if len(bottom) > 1:
            dy = self._matrix(top[0], top[0].diff_in)
            for blob, start, propagate in zip(bottom, self._starts(bottom), propagate_down, strict=True):
                if propagate:
                    dx = self._matrix(blob, blob.diff_out)
                    copy_columns(dy, dx, start, 0, dx.shape[1])

    def _matrix(self, blob: Blob, array: Any) -> Any:
        """An array of the blob as a matrix; a row holds `axis` and the axes after it."""
        return array.reshape(blob.count_from(0, self.axis), blob.count_from(self.axis))

    def _starts(self, bottom: Blobs) -> list[int]:
        """The first column of each bottom in the rows of the top."""
        return [0, *accumulate(blob.count_from(self.axis) for blob in bottom[:-1])]
