"""Flatten: merges several axes into one   (flatten_layer.cpp).

bottom[0]: any shape.   top[0]: the same memory, values and gradient, with the axes from `axis` to `end_axis` as one.

`flatten_param`:
- `axis` (default 1): the first axis to merge, may be negative.
- `end_axis` (default -1): the last axis to merge, may be negative.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import NetError
from ...layer import Blobs, Layer, register


@register("Flatten")
class Flatten(Layer):
    exact_bottoms = 1
    exact_tops = 1
    is_view = True
    reads_bottoms = False
    reads_tops = False

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        param, x = self.param.flatten_param, bottom[0]
        if top[0] is x:
            raise NetError("a Flatten cannot work in place: give its top a name of its own")
        start, end = x.axis(param.axis), x.axis(param.end_axis, "end_axis") + 1
        if start > end:
            raise NetError(f"expected axis before end_axis, received {param.axis} and {param.end_axis} for {x}")
        top[0].reshape(*x.shape[:start], x.count_from(start, end), *x.shape[end:])
        top[0].share_data(x)
        top[0].share_diff(x)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """The top shares the bottom's memory."""

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """The top's gradient shares the bottom's memory."""
