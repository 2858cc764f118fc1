"""Bias: `y = x + b`, where b covers some axes of x and is the same along the others   (bias_layer.cpp).

bottom[0], top[0]: x and y, any shape, may be the same blob.
bottom[1], optional: b, with the shape of the axes of x from `axis` on.
Parameter, if there is no bottom[1]: b, with the shape of `num_axes` axes of x from `axis` on.

`bias_param`:
- `axis` (default 1): the first axis of x that b covers, may be negative.
- `num_axes` (default 1): how many axes a learned b covers. -1: all from `axis` on; 0: b is a scalar.
- `filler` (default 0): the first values of a learned b.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...blob import Blob
from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, Layer, register


@register("Bias")
class Bias(Layer):
    keeps_coordinates = True
    min_bottoms = 1
    max_bottoms = 2
    exact_tops = 1
    can_overwrite = True
    reads_bottoms = False
    reads_tops = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.bias_param
        if len(bottom) == 1:
            self.add_param(covered_shape(bottom[0], param.axis, param.num_axes), param.filler)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.axes = covered_axes(bottom[0], self.param.bias_param.axis, self._bias(bottom))
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = bottom[0].data_in.reshape(self.axes), top[0].data_out.reshape(self.axes)
        array_module(x).add(x, self._bias(bottom).data_in.reshape(1, -1, 1), out=y)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        dy = top[0].diff_in
        if len(bottom) == 1 and self.param_propagate_down[0]:
            bias_diff = self.blobs[0].diff_inout.reshape(-1)
            bias_diff += dy.reshape(self.axes).sum(axis=(0, 2))
        elif len(bottom) == 2 and propagate_down[1]:
            dy.reshape(self.axes).sum(axis=(0, 2), out=bottom[1].diff_out.reshape(-1))
        if propagate_down[0] and bottom[0] is not top[0]:
            bottom[0].diff_out[...] = dy

    def _bias(self, bottom: Blobs) -> Blob:
        return bottom[1] if len(bottom) == 2 else self.blobs[0]


def covered_shape(x: Blob, axis: int, num_axes: int) -> tuple[int, ...]:
    """The dimensions of `num_axes` axes of `x` from `axis` on (-1: all)."""
    start = x.axis(axis)
    if not -1 <= num_axes <= x.num_axes - start:
        raise NetError(f"expected num_axes from -1 to {x.num_axes - start} for axis {axis} of {x}, received {num_axes}")
    return x.shape[start:] if num_axes == -1 else x.shape[start : start + num_axes]


def covered_axes(x: Blob, axis: int, operand: Blob) -> tuple[int, int, int]:
    """The shape of `x` as three axes: those before the axes that `operand` covers, the covered axes, those after them."""
    start = x.axis(axis) if operand.num_axes else 0
    end = start + operand.num_axes
    if x.shape[start:end] != operand.shape:
        raise NetError(f"expected a blob with the dimensions of {x} from axis {start} on, received {operand}")
    return x.count_from(0, start), operand.count, x.count_from(end)
