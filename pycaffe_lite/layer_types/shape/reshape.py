"""Reshape: the same values in another shape   (reshape_layer.cpp).

bottom[0]: any shape.   top[0]: the same memory, values and gradient.

`reshape_param`:
- `shape` (default no axes): the dimensions that replace `num_axes` axes from `axis` on. 0 keeps the bottom's dimension at
  the same place, and a single -1 is computed from the count.
- `axis` (default 0): the first axis to replace; a negative one counts from the end, where -1 means after the last axis.
- `num_axes` (default -1): how many axes to replace; -1: all from `axis` on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...blob import Blob, shape_text
from ...errors import NetError
from ...layer import Blobs, Layer, register


@register("Reshape")
class Reshape(Layer):
    exact_bottoms = 1
    exact_tops = 1
    is_view = True
    reads_bottoms = False
    reads_tops = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.dims = list(self.param.reshape_param.shape.dim)
        if self.dims.count(-1) > 1 or min(self.dims, default=0) < -1:
            raise NetError(f"expected dimensions from 0 on and at most one -1, received {self.dims}")
        if top[0] is bottom[0]:
            raise NetError("a Reshape cannot work in place: give its top a name of its own")

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        x = bottom[0]
        start, end = self._replaced(x)
        if any(dim == 0 and start + i >= x.num_axes for i, dim in enumerate(self.dims)):
            raise NetError(f"shape {self.dims} at axis {start} has a 0 where {x} has no dimension to copy")
        new = [x.shape[start + i] if dim == 0 else dim for i, dim in enumerate(self.dims)]
        top[0].reshape(_inferred([*x.shape[:start], *new, *x.shape[end:]], x))
        top[0].share_data(x)
        top[0].share_diff(x)

    def _replaced(self, x: Blob) -> tuple[int, int]:
        """The range of the axes to replace."""
        param = self.param.reshape_param
        start = param.axis if param.axis >= 0 else x.num_axes + 1 + param.axis
        if not 0 <= start <= x.num_axes:
            raise NetError(f"axis {param.axis} is out of range for a blob of shape {x}")
        if not -1 <= param.num_axes <= x.num_axes - start:
            raise NetError(
                f"expected num_axes from -1 to {x.num_axes - start} for axis {param.axis} of {x}, received {param.num_axes}"
            )
        return start, x.num_axes if param.num_axes == -1 else start + param.num_axes

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """The top shares the bottom's memory."""

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """The top's gradient shares the bottom's memory."""


def _inferred(shape: list[int], x: Blob) -> list[int]:
    """`shape` with its -1, if any, replaced so that the count is that of `x`; raises `NetError` if that is impossible."""
    if -1 in shape:
        others = [dim for dim in shape if dim != -1]
        floor = int(0 in others)  # an empty batch has a 0 in both shapes: without it the -1 can be inferred
        count, product = (math.prod(max(dim, floor) for dim in dims) for dims in (x.shape, others))
        if count % product:
            raise NetError(f"{x} has no dimension for the -1 in {' x '.join(map(str, shape))}: {product} is no divisor")
        shape = [count // product if dim == -1 else dim for dim in shape]
    if math.prod(shape) != x.count:
        raise NetError(f"expected a shape of {x.count} elements, as {x} has, received {shape_text(shape)}")
    return shape
