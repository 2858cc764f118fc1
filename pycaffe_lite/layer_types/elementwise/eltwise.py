"""Eltwise: the sum, the product or the maximum of blobs, element by element   (eltwise_layer.cpp).

    SUM    y = coeff[0] a + coeff[1] b + ...
    PROD   y = a b ...
    MAX    y = max(a, b, ...)

bottom: two or more blobs a, b, ... of one shape.   top[0]: that shape; may be the same blob as bottom[0].

The gradient of MAX goes to the bottom with the largest value; if values are equal, bottom 1 comes first, then bottom 0, then
the others in order.

`eltwise_param`:
- `operation` (default SUM): SUM, PROD or MAX.
- `coeff` (default 1): for SUM, a factor for each bottom.
- `stable_prod_grad` (default true): for PROD, backward multiplies the other bottoms; false divides y by the bottom, which
  fails at 0.

Differences from Caffe: may work in place; Caffe's results are wrong there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...blob import Blob
from ...device import array_module, elementwise
from ...errors import NetError
from ...layer import Blobs, Layer, register
from ...proto.caffe_pb2 import EltwiseParameter


@register("Eltwise")
class Eltwise(Layer):
    keeps_coordinates = True
    min_bottoms = 2
    exact_tops = 1
    can_overwrite = True

    @property
    def reads_bottoms(self) -> bool:
        return self.operation == EltwiseParameter.PROD

    @property
    def reads_tops(self) -> bool:
        return self.operation == EltwiseParameter.PROD and not self.param.eltwise_param.stable_prod_grad

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.eltwise_param
        self.operation = param.operation
        if param.coeff and self.operation == EltwiseParameter.PROD:
            raise NetError("coeff is for SUM, not for PROD")
        if param.coeff and len(param.coeff) != len(bottom):
            raise NetError(f"expected a coeff for each of the {len(bottom)} bottoms, received {len(param.coeff)}")
        self.coeff = list(param.coeff) or [1.0] * len(bottom)
        self.winner = Blob(dtype=np.int32)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        for blob in bottom[1:]:
            if blob.shape != bottom[0].shape:
                raise NetError(f"expected bottoms of one shape, received {bottom[0]} and {blob}")
        top[0].reshape_like(bottom[0])
        if self.operation == EltwiseParameter.MAX:
            self.winner.reshape(bottom[0].count)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x = [blob.data_in.reshape(-1) for blob in bottom]
        y = top[0].data_out.reshape(-1)
        if self.operation == EltwiseParameter.SUM:
            weighted_sum(x[0], x[1], alpha=self.coeff[0], beta=self.coeff[1], out=y)
            for other, coeff in zip(x[2:], self.coeff[2:], strict=True):
                weighted_sum(y, other, alpha=1, beta=coeff, out=y)
        elif self.operation == EltwiseParameter.PROD:
            array_module(y).multiply(x[0], x[1], out=y)
            for other in x[2:]:
                y *= other
        else:
            winner = self.winner.data_out
            first_max(x[0], x[1], out=(y, winner))
            for i, other in enumerate(x[2:], start=2):
                next_max(other, y, winner, index=i, out=(y, winner))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        dy = top[0].diff_in.reshape(-1)
        for i in reversed(range(len(bottom))):  # reversed, because in place the gradient of bottom 0 overwrites dy
            if propagate_down[i]:
                self._gradient(i, top[0], bottom, dy, bottom[i].diff_out.reshape(-1))

    def _gradient(self, i: int, top: Blob, bottom: Blobs, dy: Any, dx: Any) -> None:
        """Writes the gradient of bottom i."""
        xp = array_module(dy)
        if self.operation == EltwiseParameter.SUM:
            scaled(dy, alpha=self.coeff[i], out=dx)
        elif self.operation == EltwiseParameter.MAX:
            winners_only(dy, self.winner.data_in, index=i, out=dx)
        elif self.param.eltwise_param.stable_prod_grad:
            first, *others = (blob.data_in.reshape(-1) for j, blob in enumerate(bottom) if j != i)
            xp.multiply(dy, first, out=dx)
            for other in others:
                dx *= other
        else:
            xp.multiply(dy, top.data_in.reshape(-1), out=dx)
            dx /= bottom[i].data_in.reshape(-1)


@elementwise
def weighted_sum(a, b, *, alpha, beta):
    return alpha * a + beta * b


@elementwise
def scaled(x, *, alpha):
    return alpha * x


@elementwise
def first_max(a, b, *, zero=0, one=1):
    """The larger of two values, and the index of its bottom."""
    return (a, zero) if a > b else (b, one)


@elementwise
def next_max(x, y, winner, *, index):
    """The larger of x and the maximum so far, and the index of its bottom."""
    return (x, index) if x > y else (y, winner)


@elementwise
def winners_only(dy, winner, *, index, zero=0):
    return dy if winner == index else zero
