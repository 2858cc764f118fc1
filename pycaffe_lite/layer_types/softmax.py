"""Softmax: `y = exp(x) / sum of exp(x)` along an axis   (softmax_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

`softmax_param`:
- `engine` (default DEFAULT): ignored.
- `axis` (default 1): the axis of the classes, may be negative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..device import array_module, function, kernel, prange
from ..layer import Blobs, Layer, register

STRIP = 512


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
        y, dy, dx = top[0].data_in, top[0].diff_in, bottom[0].diff_out
        view = _view(y, self.axis)
        if view[2] == 1:
            total = (dy * y).sum(axis=self.axis, keepdims=True)
            array_module(y).subtract(dy, total, out=dx)
            dx *= y
        elif y.size:
            gradient(y.reshape(view), dy.reshape(view), dx.reshape(view))


def softmax(x: Any, axis: int, out: Any) -> None:
    """Writes the softmax of `x` along `axis` to `out`, which may be `x`. Less its maximum, no x overflows in exp."""
    if not x.size:
        return
    xp, view = array_module(x), _view(x, axis)
    if view[2] == 1:  # array code is good at sums over neighbours
        xp.subtract(x, x.max(axis=axis, keepdims=True), out=out)
        xp.exp(out, out=out)
        out /= out.sum(axis=axis, keepdims=True)
    else:
        less_maximum(x.reshape(view), out.reshape(view))
        xp.exp(out, out=out)  # in vectors, which a kernel's would not be
        over_sum(out.reshape(view))


def _view(x: Any, axis: int) -> tuple[int, int, int]:
    """The shape as (before, along, behind `axis`)."""
    return math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])


@function
def strip(task, inner):
    """An item and a range of the positions behind the axis: a task is as much as stays in the cache."""
    strips = (inner + STRIP - 1) // STRIP
    item, part = divmod(np.int64(task), strips)
    return item, np.uintp(part * STRIP), np.uintp(min((part + 1) * STRIP, inner))


@kernel
def less_maximum(x, y):
    """y = x - the maximum of x along the middle axis"""
    items, count, inner = x.shape
    for task in prange(items * ((inner + STRIP - 1) // STRIP)):
        item, low, high = strip(task, inner)
        largest = x[item, 0, low:high].copy()
        for c in range(1, count):
            for i in range(low, high):
                largest[i - low] = max(largest[i - low], x[item, c, i])
        for c in range(count):
            for i in range(low, high):
                y[item, c, i] = x[item, c, i] - largest[i - low]


@kernel
def over_sum(y):
    """y /= the sum of y along the middle axis"""
    items, count, inner = y.shape
    for task in prange(items * ((inner + STRIP - 1) // STRIP)):
        item, low, high = strip(task, inner)
        total = np.zeros(high - low, y.dtype)
        for c in range(count):
            for i in range(low, high):
                total[i - low] += y[item, c, i]
        for c in range(count):
            for i in range(low, high):
                y[item, c, i] /= total[i - low]


@kernel
def gradient(y, dy, dx):
    """dx = y * (dy - the sum of dy * y along the middle axis)"""
    items, count, inner = y.shape
    for task in prange(items * ((inner + STRIP - 1) // STRIP)):
        item, low, high = strip(task, inner)
        total = np.zeros(high - low, y.dtype)
        for c in range(count):
            for i in range(low, high):
                total[i - low] += dy[item, c, i] * y[item, c, i]
        for c in range(count):
            for i in range(low, high):
                dx[item, c, i] = (dy[item, c, i] - total[i - low]) * y[item, c, i]
