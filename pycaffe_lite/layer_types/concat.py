"""Concat: joins blobs along an axis   (concat_layer.cpp).

bottom: one or more blobs that are equal in all dimensions but that one.   top[0]: the blobs, in order.
`concat_param.axis`: default 1, may be negative (`concat_dim` is its old name). A single bottom is the top's memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..device import array_module
from ..errors import NetError
from ..layer import Blobs, Layer, register


@register("Concat")
class Concat(Layer):
    min_bottoms = 1
    exact_tops = 1

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
            y = top[0].data_out
            array_module(y).concatenate([blob.data_in for blob in bottom], axis=self.axis, out=y)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if len(bottom) == 1:
            return
        dy, end = top[0].diff_in, 0
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            start, end = end, end + blob.shape[self.axis]
            if wanted:
                blob.diff_out[...] = dy[(slice(None),) * self.axis + (slice(start, end),)]
