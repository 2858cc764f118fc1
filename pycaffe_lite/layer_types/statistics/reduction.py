"""Reduction: `y = coeff * the sum over an axis and all axes after it`   (reduction_layer.cpp).

bottom[0]: any shape.   top[0]: the axes before `axis`; a scalar for axis 0.

`reduction_param`:
- `operation` (default SUM): SUM, ASUM (of absolute values), SUMSQ (of squares) or MEAN. The mean of no values is 0.
- `axis` (default 0): sums over this axis and all after it; may be negative.
- `coeff` (default 1): factor on the result.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...device import array_module
from ...layer import Blobs, Layer, register
from ...proto.caffe_pb2 import ReductionParameter


@register("Reduction")
class Reduction(Layer):
    exact_bottoms = 1
    exact_tops = 1
    reads_tops = False

    @property
    def reads_bottoms(self) -> bool:
        return self.operation in (ReductionParameter.ASUM, ReductionParameter.SUMSQ)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.operation = self.param.reduction_param.operation

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        axis = bottom[0].axis(self.param.reduction_param.axis)
        self.outer, self.inner = bottom[0].count_from(0, axis), bottom[0].count_from(axis)
        top[0].reshape(bottom[0].shape[:axis])
        is_mean = self.operation == ReductionParameter.MEAN
        self.coeff = self.param.reduction_param.coeff / (max(self.inner, 1) if is_mean else 1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = bottom[0].data_in.reshape(self.outer, self.inner), top[0].data_out.reshape(-1)
        if self.operation == ReductionParameter.ASUM:
            x = array_module(x).abs(x)
        elif self.operation == ReductionParameter.SUMSQ:
            x = x * x
        x.sum(axis=1, out=y)
        y *= self.coeff

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        x, dx = (array.reshape(self.outer, self.inner) for array in (bottom[0].data_in, bottom[0].diff_out))
        dy = top[0].diff_in.reshape(-1, 1) * self.coeff
        if self.operation == ReductionParameter.ASUM:
            array_module(x).multiply(dy, array_module(x).sign(x), out=dx)
        elif self.operation == ReductionParameter.SUMSQ:
            array_module(x).multiply(2 * dy, x, out=dx)
        else:
            dx[...] = dy
