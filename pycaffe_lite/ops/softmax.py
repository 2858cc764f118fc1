"""Softmax along an axis, and its gradient (Caffe's softmax_layer.cpp)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..device import THREADS, block_maximum, block_sums, cuda_kernel, function, gpu, kernel, operation, prange

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


# ---- CUDA ---------------------------------------------------------------------------------------------------------


@softmax.body("cuda")
def _softmax(x, y, axis: int):
    view = _view(x, axis)
    if view[2] == 1:
        cuda_softmax_of_rows.of_blocks(view[0] if x.size else 0, x.reshape(view[:2]), y.reshape(view[:2]))
    else:
        cuda_softmax.of_items(view[0] * view[2] if x.size else 0, x.reshape(view), y.reshape(view))


@cuda_kernel
def cuda_softmax(x, y):
    """A thread for each position outside of the axis."""
    items, count, inner = x.shape
    for n in range(gpu.grid(1), items * inner, gpu.gridsize(1)):
        item, i = n // inner, n % inner
        largest, total = x[item, 0, i], x.dtype.type(0)
        for c in range(1, count):
            largest = max(largest, x[item, c, i])
        for c in range(count):
            y[item, c, i] = np.exp(x[item, c, i] - largest)
            total += y[item, c, i]
        for c in range(count):
            y[item, c, i] /= total


@cuda_kernel
def cuda_softmax_of_rows(x, y):
    """A block for each row."""
    row, thread, count = gpu.blockIdx.x, gpu.threadIdx.x, x.shape[1]
    shared = gpu.shared.array((1, THREADS), x.dtype)
    largest = x[row, 0]
    for c in range(thread, count, THREADS):
        largest = max(largest, x[row, c])
    shared[0, thread] = largest
    largest = block_maximum(shared)
    total = x.dtype.type(0)
    for c in range(thread, count, THREADS):
        y[row, c] = np.exp(x[row, c] - largest)
        total += y[row, c]
    gpu.syncthreads()  # all have read the maximum
    shared[0, thread] = total
    block_sums(shared)
    for c in range(thread, count, THREADS):
        y[row, c] /= shared[0, 0]


@softmax_gradient.body("cuda")
def _softmax_gradient(y, dy, dx, axis: int):
    view = _view(y, axis)
    if view[2] == 1:
        y, dy, dx = (array.reshape(view[:2]) for array in (y, dy, dx))
        cuda_softmax_gradient_of_rows.of_blocks(view[0] if y.size else 0, y, dy, dx)
    else:
        y, dy, dx = (array.reshape(view) for array in (y, dy, dx))
        cuda_softmax_gradient.of_items(view[0] * view[2] if y.size else 0, y, dy, dx)


@cuda_kernel
def cuda_softmax_gradient(y, dy, dx):
    """A thread for each position outside of the axis."""
    items, count, inner = y.shape
    for n in range(gpu.grid(1), items * inner, gpu.gridsize(1)):
        item, i = n // inner, n % inner
        total = y.dtype.type(0)
        for c in range(count):
            total += dy[item, c, i] * y[item, c, i]
        for c in range(count):
            dx[item, c, i] = (dy[item, c, i] - total) * y[item, c, i]


@cuda_kernel
def cuda_softmax_gradient_of_rows(y, dy, dx):
    """A block for each row."""
    row, thread, count = gpu.blockIdx.x, gpu.threadIdx.x, y.shape[1]
    shared = gpu.shared.array((1, THREADS), y.dtype)
    total = y.dtype.type(0)
    for c in range(thread, count, THREADS):
        total += dy[row, c] * y[row, c]
    shared[0, thread] = total
    block_sums(shared)
    for c in range(thread, count, THREADS):
        dx[row, c] = (dy[row, c] - shared[0, 0]) * y[row, c]
