"""Softmax: y = exp(x) / sum of exp(x) along an axis   (softmax_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob. `softmax_param.axis`: default 1, may be negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..device import array_module
from ..layer import Blobs, Layer, register


@register("Softmax")
class Softmax(Layer):
    exact_bottoms = 1
    exact_tops = 1

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.axis = bottom[0].axis(self.param.softmax_param.axis)
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        softmax(bottom[0].data_in, self.axis, out=top[0].data_out)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """dx = y * (dy - sum of dy * y)"""
        if not propagate_down[0]:
            return
        y, dy = top[0].data_in, top[0].diff_in
        total = (dy * y).sum(axis=self.axis, keepdims=True)
        dx = bottom[0].diff_out
        array_module(y).subtract(dy, total, out=dx)
        dx *= y


def softmax(x: Any, axis: int, out: Any) -> None:
    """Writes the softmax of `x` along `axis` to `out`, which may be `x`. Less its maximum, no x overflows in exp."""
    if x.size:
        xp = array_module(x)
        xp.subtract(x, x.max(axis=axis, keepdims=True), out=out)
        xp.exp(out, out=out)
        out /= out.sum(axis=axis, keepdims=True)
