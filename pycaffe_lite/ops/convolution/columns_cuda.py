"""Convolution on a GPU by way of columns and one matrix product for each group and piece of the batch.

With columns of N x G x K x windows, where K are the elements of a window in a group's channels:

    windows[n, g] = W[g] . columns[n, g]

Columns of a whole batch may be large, so they are laid out for as many images at a time as fit into `MAX_BYTES`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ...device import array_module, current
from ..im2col import Geometry, add_up_windows, lay_out_windows

MAX_BYTES = 2**28  # of columns


def to_windows(x: Any, weights: Any, y: Any, geometry: Geometry, group: int) -> None:
    """y[n] = W . columns of x[n]. x: N x C x pixels, y: N x O x windows."""
    grouped = _weights(weights, group)
    for images, columns in _pieces(x, geometry, group):
        lay_out_windows(x[images], columns, geometry)
        windows = _windows(y[images], group)
        for g in range(group):
            current().matmul(grouped[g], columns[:, g], windows[:, g])


def to_image(x: Any, weights: Any, y: Any, geometry: Geometry, group: int) -> None:
    """y[n] = the sum of the columns W' . x[n]. x: N x O x windows, y: N x C x pixels."""
    grouped = _weights(weights, group)
    for images, columns in _pieces(y, geometry, group):
        windows = _windows(x[images], group)
        for g in range(group):
            current().matmul(grouped[g], windows[:, g], columns[:, g], trans_a=True)
        add_up_windows(columns, y[images], geometry)


def to_weights(dy: Any, x: Any, dweights: Any, geometry: Geometry, group: int) -> None:
    """dW += the sum over n of dy[n] . (columns of x[n])'. x: N x C x pixels, dy: N x O x windows."""
    sums = _weights(dweights, group)
    for images, columns in _pieces(x, geometry, group):
        lay_out_windows(x[images], columns, geometry)
        windows = _windows(dy[images], group)
        products = array_module(x).empty((columns.shape[0], *sums.shape[1:]), x.dtype)
        for g in range(group):
            current().matmul(windows[:, g], columns[:, g], products, trans_b=True)
            sums[g] += products.sum(axis=0)


def _pieces(images: Any, geometry: Geometry, group: int) -> Iterator[tuple[slice, Any]]:
    """Slices of a batch N x C x pixels, and uninitialised columns for each: images x G x K x windows."""
    count, channels, _ = images.shape
    windows, positions = (math.prod(row[i] for row in geometry) for i in (1, 2))
    depth = channels // group * positions
    step = max(1, MAX_BYTES // max(1, group * depth * windows * images.dtype.itemsize))
    room = array_module(images).empty((min(step, count), group, depth, windows), images.dtype)
    for start in range(0, count, step):
        size = min(step, count - start)
        yield slice(start, start + size), room[:size]


def _weights(weights: Any, group: int) -> Any:
    """Weights, or their gradient, as G x outputs x K."""
    return weights.reshape(group, weights.shape[0] // group, -1)


def _windows(windows: Any, group: int) -> Any:
    """N x (G outputs) x windows as N x G x outputs x windows."""
    count, outputs, size = windows.shape
    return windows.reshape(count, group, outputs // group, size)
