"""Softmax along an axis, and its gradient (Caffe's softmax_layer.cpp)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..device import function, kernel, operation, prange

STRIP = 512


@operation
def softmax(x, y, axis: int):
    """y = exp(x) / the sum of exp(x) along `axis`; y may be x. The maximum is subtracted first, so exp does not overflow."""
    if not x.size:
        return
    view = _view(x, axis)
    if view[2] == 1:  # NumPy is fast at sums over contiguous values
        np.subtract(x, x.max(axis=axis, keepdims=True), out=y)
        np.exp(y, out=y)
        y /= y.sum(axis=axis, keepdims=True)
    else:
        less_maximum(x.reshape(view), y.reshape(view))
        np.exp(y, out=y)  # NumPy has vector code for exp, a kernel has not
        over_sum(y.reshape(view))


@operation
def softmax_gradient(y, dy, dx, axis: int):
    """dx = y * (dy - the sum of dy * y along `axis`)"""
    if not y.size:
        return
    view = _view(y, axis)
    if view[2] == 1:
        np.subtract(dy, (dy * y).sum(axis=axis, keepdims=True), out=dx)
        dx *= y
    else:
        gradient(y.reshape(view), dy.reshape(view), dx.reshape(view))


# ---- the host -----------------------------------------------------------------------------------------------------


def _view(x: Any, axis: int) -> tuple[int, int, int]:
    """The shape as (before, along, behind `axis`)."""
    return math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])


@function
def strip(task, inner):
    """The item of a task and its range of positions behind the axis. What a task needs fits the cache."""
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
