"""Pooling over the windows of planes: the maximum, the mean or a random draw (Caffe's pooling_layer.cpp).

x: planes x H x W, y: planes x H' x W'. A window is clipped to the image. A window outside the image gives the lowest float
for the maximum, else 0, and passes no gradient. A mean divides by the size of the window clipped to the padded image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..device import array_module, cuda_function, cuda_kernel, function, gpu, inlined, kernel, operation, prange
from .scratch import scratch


class Window(NamedTuple):
    """The windows of a plane: kernel, stride and padding, in pixels."""

    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int


@operation
def max_pool(x, y, mask, window: Window):
    """y = the maximum of each window; mask = its index in the plane (the first of equal values), or -1 if there is none.

    `mask` may be None if it is not needed.
    """
    max_forward(x, y, scratch(y.shape, np.int32) if mask is None else mask, *window)


@operation
def max_pool_gradient(dy, mask, dx):
    """dx = each dy, added at the index in the mask. Indices outside the plane are ignored."""
    max_backward(dy, mask, dx)


@operation
def average_pool(x, y, window: Window):
    """y = the mean of each window."""
    ave_forward(x, y, *window)


@operation
def average_pool_gradient(dy, dx, window: Window):
    """dx = the sum of each pixel's shares of the windows that see it."""
    ave_backward(dy, dx, *window)


@operation
def draw_pool(x, y, mask, chance, window: Window):
    """y = the element at which the running sum of the window passes `chance` (uniform in [0, 1)) times the window's sum.

    mask = its index, as in `max_pool`. Values are not negative, and there is no padding.
    """
    draw_forward(x, y, chance, mask, *window[:4])


@operation
def weighted_pool(x, y, window: Window):
    """y = sum x^2 / sum x of each window, 0 where the sum is 0. There is no padding."""
    weighted_forward(x, y, *window[:4])


# ---- the host -----------------------------------------------------------------------------------------------------


@function
def clipped(out, stride, pad, kernel, size):
    """The range of pixels of one axis that output position `out` sees, clipped to the image."""
    start = out * stride - pad
    return max(start, 0), min(start + kernel, size)


@function
def inside_range(size, out, kernel, stride, pad):
    """The range of output positions of one axis whose windows lie within the image."""
    first = min(out, (pad + stride - 1) // stride)
    return first, max(first, min(out, (size + pad - kernel) // stride + 1))


@inlined
def max_inside(x, y, mask, plane, first, last, low, high, kernel, stride, pad_h, pad_w):
    """Rows `first`..`last`, columns `low`..`high` of one plane, whose square windows lie within the image.

    Callers pass `kernel` and `stride` as constants, so that the loops over a window are unrolled. Indices in the loops are
    unsigned: Numba tests whether a signed index is negative, to count it from the end.
    """
    lowest, width = x.dtype.type(-np.finfo(x.dtype).max), np.uintp(x.shape[2])
    for i in range(np.uintp(first), np.uintp(last)):
        for j in range(np.uintp(low), np.uintp(high)):
            top, left = i * np.uintp(stride) - np.uintp(pad_h), j * np.uintp(stride) - np.uintp(pad_w)
            best, at = lowest, np.int64(-1)
            for k in range(kernel):
                for l in range(kernel):  # noqa: E741
                    h, w = top + np.uintp(k), left + np.uintp(l)
                    if x[plane, h, w] > best:
                        best, at = x[plane, h, w], np.int64(h * width + w)
            y[plane, i, j], mask[plane, i, j] = best, at


@function
def max_others(x, y, mask, plane, first, last, low, high, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w):
    """The outputs outside rows `first`..`last`, columns `low`..`high` of one plane; windows of any kind."""
    height, width = x.shape[1:]
    for i in range(y.shape[1]):
        top, bottom = clipped(i, stride_h, pad_h, kernel_h, height)
        j = 0
        while j < y.shape[2]:
            if first <= i < last and j == low < high:
                j = high
                continue
            left, right = clipped(j, stride_w, pad_w, kernel_w, width)
            best, at = x.dtype.type(-np.finfo(x.dtype).max), np.int64(-1)
            for h in range(np.uintp(top), np.uintp(bottom)):
                for w in range(np.uintp(left), np.uintp(right)):
                    if x[plane, h, w] > best:
                        best, at = x[plane, h, w], np.int64(h * np.uintp(width) + w)
            y[plane, i, j], mask[plane, i, j] = best, at
            j += 1


@function
def max_plane(x, y, mask, plane, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w):
    """One plane. The usual windows have code of their own, except at the border."""
    first, last = inside_range(x.shape[1], y.shape[1], kernel_h, stride_h, pad_h)
    low, high = inside_range(x.shape[2], y.shape[2], kernel_w, stride_w, pad_w)
    square = kernel_h == kernel_w and stride_h == stride_w
    if square and kernel_h == 2 and stride_h == 2:
        max_inside(x, y, mask, plane, first, last, low, high, 2, 2, pad_h, pad_w)
    elif square and kernel_h == 3 and stride_h == 2:
        max_inside(x, y, mask, plane, first, last, low, high, 3, 2, pad_h, pad_w)
    elif square and kernel_h == 3 and stride_h == 1:
        max_inside(x, y, mask, plane, first, last, low, high, 3, 1, pad_h, pad_w)
    else:
        last = first
    if (last - first) * (high - low) < y.shape[1] * y.shape[2]:
        max_others(x, y, mask, plane, first, last, low, high, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w)


@kernel
def max_forward(x, y, mask, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w):
    """x: planes x H x W, y and mask: planes x H' x W'"""
    for plane in prange(x.shape[0]):
        max_plane(x, y, mask, np.int64(plane), kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w)


@kernel
def max_backward(dy, mask, dx):
    planes, height, width = dx.shape
    size = dy.shape[1] * dy.shape[2]
    dy, mask, dx = dy.reshape(planes, size), mask.reshape(planes, size), dx.reshape(planes, height * width)
    for plane in prange(planes):
        for i in range(height * width):
            dx[plane, i] = 0
        for i in range(size):
            at = int(mask[plane, i])
            if 0 <= at < height * width:  # a mask that is a top may have been overwritten
                dx[plane, at] += dy[plane, i]


@function
def padded_size(out, stride, pad, kernel, size):
    """The number of pixels along one axis in a window clipped to the padded image."""
    start = out * stride - pad
    return min(start + kernel, size + pad) - start


@kernel
def ave_forward(x, y, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w):
    planes, height, width = x.shape
    out_h, out_w = y.shape[1:]
    for plane in prange(planes):
        for i in range(out_h):
            top, bottom = clipped(i, stride_h, pad_h, kernel_h, height)
            rows = padded_size(i, stride_h, pad_h, kernel_h, height)
            for j in range(out_w):
                left, right = clipped(j, stride_w, pad_w, kernel_w, width)
                size = rows * padded_size(j, stride_w, pad_w, kernel_w, width)
                total = x.dtype.type(0)
                for h in range(np.uintp(top), np.uintp(bottom)):
                    for w in range(np.uintp(left), np.uintp(right)):
                        total += x[plane, h, w]
                y[plane, i, j] = total / size if size > 0 else 0


@kernel
def ave_backward(dy, dx, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w):
    planes, height, width = dx.shape
    out_h, out_w = dy.shape[1:]
    for plane in prange(planes):
        dx[plane] = 0
        for i in range(out_h):
            top, bottom = clipped(i, stride_h, pad_h, kernel_h, height)
            rows = padded_size(i, stride_h, pad_h, kernel_h, height)
            for j in range(out_w):
                left, right = clipped(j, stride_w, pad_w, kernel_w, width)
                size = rows * padded_size(j, stride_w, pad_w, kernel_w, width)
                share = dy[plane, i, j] / dy.dtype.type(size) if size > 0 else dy.dtype.type(0)
                for h in range(np.uintp(top), np.uintp(bottom)):
                    row = dx[plane, h]
                    for w in range(np.uintp(left), np.uintp(right)):
                        row[w] += share


@kernel
def draw_forward(x, y, chance, mask, kernel_h, kernel_w, stride_h, stride_w):
    """The element at which the running sum passes `chance` (uniform in [0, 1)) times the sum of the window."""
    planes, height, width = x.shape
    out_h, out_w = y.shape[1:]
    for plane in prange(planes):
        for i in range(out_h):
            top, bottom = clipped(i, stride_h, 0, kernel_h, height)
            for j in range(out_w):
                left, right = clipped(j, stride_w, 0, kernel_w, width)
                total = x.dtype.type(0)
                for h in range(top, bottom):
                    for w in range(left, right):
                        total += x[plane, h, w]
                threshold, running, at = chance[plane, i, j] * total, x.dtype.type(0), -1
                for h in range(top, bottom):
                    for w in range(left, right):
                        if at < 0 or running < threshold:
                            at = h * width + w
                            running += x[plane, h, w]
                y[plane, i, j] = x[plane, at // width, at % width] if at >= 0 else 0
                mask[plane, i, j] = at


@kernel
def weighted_forward(x, y, kernel_h, kernel_w, stride_h, stride_w):
    """sum x^2 / sum x of each window, 0 where the sum is."""
    planes, height, width = x.shape
    out_h, out_w = y.shape[1:]
    for plane in prange(planes):
        for i in range(out_h):
            top, bottom = clipped(i, stride_h, 0, kernel_h, height)
            for j in range(out_w):
                left, right = clipped(j, stride_w, 0, kernel_w, width)
                total = x.dtype.type(0)
                squares = x.dtype.type(0)
                for h in range(top, bottom):
                    for w in range(left, right):
                        total += x[plane, h, w]
                        squares += x[plane, h, w] * x[plane, h, w]
                y[plane, i, j] = squares / total if total > 0 else 0


# ---- CUDA ---------------------------------------------------------------------------------------------------------


@max_pool.body("cuda")
def _max_pool(x, y, mask, window: Window):
    mask = array_module(y).empty(y.shape, "int32") if mask is None else mask
    cuda_max.of_items(y.size, x, y.reshape(-1), mask.reshape(-1), y.shape[1], y.shape[2], *window)


@cuda_kernel
def cuda_max(x, y, mask, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w):
    """A thread for each output; y and mask are flat."""
    _, height, width = x.shape
    for n in range(gpu.grid(1), y.size, gpu.gridsize(1)):
        plane, i, j = n // (out_h * out_w), n // out_w % out_h, n % out_w
        top, bottom = clipped(i, stride_h, pad_h, kernel_h, height)
        left, right = clipped(j, stride_w, pad_w, kernel_w, width)
        best, at = x.dtype.type(-np.finfo(x.dtype).max), -1
        for h in range(top, bottom):
            for w in range(left, right):
                if x[plane, h, w] > best:
                    best, at = x[plane, h, w], h * width + w
        y[n], mask[n] = best, at


@max_pool_gradient.body("cuda")
def _max_pool_gradient(dy, mask, dx):
    planes = dx.shape[0]
    dx.fill(0)
    cuda_max_gradient.of_items(planes, dy.reshape(planes, -1), mask.reshape(planes, -1), dx.reshape(planes, -1))


@cuda_kernel
def cuda_max_gradient(dy, mask, dx):
    """A thread for each plane, since several windows may add to one pixel."""
    planes, windows = dy.shape
    for plane in range(gpu.grid(1), planes, gpu.gridsize(1)):
        for i in range(windows):
            at = int(mask[plane, i])
            if 0 <= at < dx.shape[1]:
                dx[plane, at] += dy[plane, i]


@average_pool.body("cuda")
def _average_pool(x, y, window: Window):
    cuda_average.of_items(y.size, x, y.reshape(-1), y.shape[1], y.shape[2], *window)


@cuda_kernel
def cuda_average(x, y, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w):
    """A thread for each output; y is flat."""
    _, height, width = x.shape
    for n in range(gpu.grid(1), y.size, gpu.gridsize(1)):
        plane, i, j = n // (out_h * out_w), n // out_w % out_h, n % out_w
        top, bottom = clipped(i, stride_h, pad_h, kernel_h, height)
        left, right = clipped(j, stride_w, pad_w, kernel_w, width)
        size = padded_size(i, stride_h, pad_h, kernel_h, height) * padded_size(j, stride_w, pad_w, kernel_w, width)
        total = x.dtype.type(0)
        for h in range(top, bottom):
            for w in range(left, right):
                total += x[plane, h, w]
        y[n] = total / x.dtype.type(size) if size > 0 else x.dtype.type(0)


@average_pool_gradient.body("cuda")
def _average_pool_gradient(dy, dx, window: Window):
    cuda_average_gradient.of_items(dx.size, dy, dx.reshape(-1), dx.shape[1], dx.shape[2], *window)


@cuda_kernel
def cuda_average_gradient(dy, dx, height, width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w):
    """A thread for each pixel adds its shares of the windows that see it; dx is flat."""
    _, out_h, out_w = dy.shape
    for n in range(gpu.grid(1), dx.size, gpu.gridsize(1)):
        plane, h, w = n // (height * width), n // width % height, n % width
        first, last = seen_from(h, out_h, kernel_h, stride_h, pad_h)
        low, high = seen_from(w, out_w, kernel_w, stride_w, pad_w)
        total = dy.dtype.type(0)
        for i in range(first, last):
            rows = padded_size(i, stride_h, pad_h, kernel_h, height)
            for j in range(low, high):
                size = rows * padded_size(j, stride_w, pad_w, kernel_w, width)
                total += dy[plane, i, j] / dy.dtype.type(size)
        dx[n] = total


@cuda_function
def seen_from(pixel, out, kernel, stride, pad):
    """The range of output positions of one axis whose windows contain a pixel."""
    return max(0, (pixel + pad - kernel) // stride + 1), min(out, (pixel + pad) // stride + 1)


@draw_pool.body("cuda")
def _draw_pool(x, y, mask, chance, window: Window):
    places = mask.reshape(-1), chance.reshape(-1)
    cuda_draw.of_items(y.size, x, y.reshape(-1), *places, y.shape[1], y.shape[2], *window[:4])


@cuda_kernel
def cuda_draw(x, y, mask, chance, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w):
    """`draw_forward`, with a thread for each output; y, mask and chance are flat."""
    _, height, width = x.shape
    for n in range(gpu.grid(1), y.size, gpu.gridsize(1)):
        plane, i, j = n // (out_h * out_w), n // out_w % out_h, n % out_w
        top, bottom = clipped(i, stride_h, 0, kernel_h, height)
        left, right = clipped(j, stride_w, 0, kernel_w, width)
        total = x.dtype.type(0)
        for h in range(top, bottom):
            for w in range(left, right):
                total += x[plane, h, w]
        threshold, running, at = chance[n] * total, x.dtype.type(0), -1
        for h in range(top, bottom):
            for w in range(left, right):
                if at < 0 or running < threshold:
                    at = h * width + w
                    running += x[plane, h, w]
        y[n] = x[plane, at // width, at % width] if at >= 0 else x.dtype.type(0)
        mask[n] = at


@weighted_pool.body("cuda")
def _weighted_pool(x, y, window: Window):
    cuda_weighted.of_items(y.size, x, y.reshape(-1), y.shape[1], y.shape[2], *window[:4])


@cuda_kernel
def cuda_weighted(x, y, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w):
    """`weighted_forward`, with a thread for each output; y is flat."""
    _, height, width = x.shape
    for n in range(gpu.grid(1), y.size, gpu.gridsize(1)):
        plane, i, j = n // (out_h * out_w), n // out_w % out_h, n % out_w
        top, bottom = clipped(i, stride_h, 0, kernel_h, height)
        left, right = clipped(j, stride_w, 0, kernel_w, width)
        total, squares = x.dtype.type(0), x.dtype.type(0)
        for h in range(top, bottom):
            for w in range(left, right):
                total += x[plane, h, w]
                squares += x[plane, h, w] * x[plane, h, w]
        y[n] = squares / total if total > 0 else total
