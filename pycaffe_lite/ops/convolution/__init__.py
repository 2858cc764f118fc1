"""Convolution: the three products from which both Convolution and Deconvolution are computed.

`geometry` has a row `(in, out, kernel, stride, pad, dilation)` for each spatial axis; `in` is the size of the image, `out`
the number of windows. The host has three algorithms and uses each where it is fastest: `depthwise` works plane by plane,
`turned` lays pixels out as rows for few outputs, and `columns` does everything else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...device import kernel, operation, prange
from ..im2col import Geometry
from . import columns_cuda
from .columns import Columns, with_two_axes
from .depthwise import depthwise_for
from .turned import Turned


@operation
def convolve(x, weights, bias, y, geometry, group):
    """y[o] = bias[o] + the weighted sum over a window of all input channels in the group of o.

    x: N x C x pixels, weights: O x (C / group) x kernel, bias: O or None, y: N x O x windows.
    """
    if x.size:
        _plan(geometry, group, weights.shape[:2], x.shape[0]).to_windows(x, weights, bias, y)
    elif y.size:  # windows of an image without pixels see nothing but padding
        y[...] = 0 if bias is None else bias[:, np.newaxis]


@operation
def convolve_transposed(x, weights, bias, y, geometry, group):
    """The gradient of `convolve` with respect to its image: adds each x times the weights to a window of y.

    x: N x O x windows, weights: O x (C / group) x kernel, y: N x C x pixels, bias: C or None; it is added to y.
    """
    if y.size:
        _plan(geometry, group, weights.shape[:2], y.shape[0]).to_image(x, weights, y)
        if bias is not None:
            add_bias(y, bias)


@operation
def convolve_weight_gradient(x, dy, dweights, geometry, group):
    """dweights += the gradient of `convolve` with respect to its weights. x: N x C x pixels, dy: N x O x windows."""
    if x.size:
        _plan(geometry, group, dweights.shape[:2], x.shape[0]).to_weights(dy, x, dweights)


@operation
def bias_gradient(dy, dbias):
    """dbias[o] += the sum of dy[:, o, :]. dy: N x O x windows."""
    if dy.size:
        add_sums(dy, dbias)


# ---- the host -----------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """The algorithm for each product."""

    to_windows: Callable[[Any, Any, Any, Any], None]
    to_image: Callable[[Any, Any, Any], None]
    to_weights: Callable[[Any, Any, Any], None]


@functools.lru_cache(maxsize=1024)
def _plan(geometry: Geometry, group: int, sizes: tuple[int, int], images: int) -> Plan:
    """Chooses the algorithms. `sizes`: outputs and channels of a group."""
    outputs, channels = sizes
    axes = with_two_axes(geometry)
    if outputs == group > 1 and channels == 1 and len(axes) == 2 and (planes := depthwise_for(tuple(axes))):
        return Plan(planes.to_windows, planes.to_image, planes.to_weights)
    columns = Columns(axes, group, outputs, channels, images)
    turned = Turned(axes, channels, outputs) if group == 1 and Turned.is_faster(axes, channels, outputs) else columns
    return Plan(turned.to_windows, columns.to_image, columns.to_weights)


@kernel
def add_bias(y, bias):
    """y[n, o, :] += bias[o]"""
    count, outputs, size = y.shape
    for row in prange(count * outputs):
        n, o = divmod(np.int64(row), outputs)
        for i in range(size):
            y[n, o, i] += bias[o]


@kernel
def add_sums(dy, sums):
    """sums[o] += the sum of dy[:, o, :]"""
    count, outputs, size = dy.shape
    for o in prange(outputs):
        value = sums[o] * 0
        for n in range(count):
            for i in range(size):
                value += dy[n, o, i]
        sums[o] += value


# ---- CUDA ---------------------------------------------------------------------------------------------------------


@convolve.body("cuda")
def _convolve(x, weights, bias, y, geometry, group):
    if x.size:
        columns_cuda.to_windows(x, weights, y, geometry, group)
    else:
        y.fill(0)
    if bias is not None:
        y += bias[:, None]


@convolve_transposed.body("cuda")
def _convolve_transposed(x, weights, bias, y, geometry, group):
    if y.size:
        columns_cuda.to_image(x, weights, y, geometry, group)
        if bias is not None:
            y += bias[:, None]


@convolve_weight_gradient.body("cuda")
def _convolve_weight_gradient(x, dy, dweights, geometry, group):
    if x.size:
        columns_cuda.to_weights(dy, x, dweights, geometry, group)


@bias_gradient.body("cuda")
def _bias_gradient(dy, dbias):
    dbias += dy.sum(axis=(0, 2))
