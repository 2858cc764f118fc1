"""Lays the windows of an image out as columns, and adds columns up to an image (Caffe's im2col.cpp). With columns, a
convolution is a matrix product.

`geometry` describes each spatial axis by one row `(in, out, kernel, stride, pad, dilation)`. Kernels take it as
`for_kernels(geometry)`, so that each is compiled for one number of axes only. An image is a flat array of `channels` planes
of `in` pixels; `col` is a flat matrix of `channels * kernel positions` rows and `out` positions columns. The functions fill
rows `first` to `last` (not included), so that several threads can share one image. A row is a channel and a kernel
position; col2im needs whole channels.

Indices of the inner loops are unsigned. Numba tests whether a signed index is negative, to count it from the end, and that
test keeps a loop from being vectorised.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..device import cuda_function, cuda_kernel, current, function, gpu, inlined, kernel, operation, prange

Geometry = tuple[tuple[int, ...], ...]

unsigned = np.uintp


def for_kernels(geometry: Sequence[Sequence[int]]) -> np.ndarray:
    """`geometry` as an array: 2 x 6 for two axes, else flat. Numba compiles for the number of dimensions, not the sizes."""
    array = np.array(geometry, np.int64)
    return array if len(geometry) == 2 else array.reshape(-1)


@operation
def lay_out_windows(images: Any, columns: Any, geometry: Geometry) -> None:
    """columns[n, c] = the windows of images[n, c]. images: N x C x pixels, columns: N x C x (positions windows)."""
    positions = math.prod(row[2] for row in geometry)
    im2col_forward(images, for_kernels(geometry), positions, columns)


@operation
def add_up_windows(columns: Any, images: Any, geometry: Geometry) -> None:
    """The gradient of `lay_out_windows`: adds each element of a window to its pixel."""
    im2col_backward(columns, for_kernels(geometry), images)


@function
def im2col(image, geometry, first, last, col):
    """Rows `first`..`last` of the columns of one image; padding reads as zero."""
    if geometry.ndim == 2:
        _im2col_2d(image, geometry, first, last, col)
    else:
        _im2col_nd(image, geometry.reshape(-1, 6), first, last, col)


@function
def col2im(col, geometry, first, last, image):
    """Sums the columns of channels `first`..`last` into their pixels."""
    if geometry.ndim == 2:
        _col2im_2d(col, geometry, first, last, image)
    else:
        _col2im_nd(col, geometry.reshape(-1, 6), first, last, image)


@function
def inside(offset, size, count, stride):
    """The range of output positions whose input position `offset + position * stride` lies within `size`."""
    if stride == 1:  # avoids the slow divisions
        low, high = -offset, size - offset
    else:
        low, high = -(offset // stride), (size - 1 - offset) // stride + 1
    low = min(max(low, 0), count)
    return low, min(max(low, high), count)


@inlined
def _copy_8(source, at, target, to):
    """Loads 8 elements, then stores them. The compiler cannot do that itself, since the arrays might overlap."""
    at, to = unsigned(at), unsigned(to)
    a, b, c, d = source[at], source[at + unsigned(1)], source[at + unsigned(2)], source[at + unsigned(3)]
    at += unsigned(4)
    e, f, g, h = source[at], source[at + unsigned(1)], source[at + unsigned(2)], source[at + unsigned(3)]
    target[to], target[to + unsigned(1)], target[to + unsigned(2)], target[to + unsigned(3)] = a, b, c, d
    to += unsigned(4)
    target[to], target[to + unsigned(1)], target[to + unsigned(2)], target[to + unsigned(3)] = e, f, g, h


@inlined
def _add_8(source, at, target, to):
    """target[to : to + 8] += source[at : at + 8]"""
    at, to = unsigned(at), unsigned(to)
    a = target[to] + source[at]
    b = target[to + unsigned(1)] + source[at + unsigned(1)]
    c = target[to + unsigned(2)] + source[at + unsigned(2)]
    d = target[to + unsigned(3)] + source[at + unsigned(3)]
    e = target[to + unsigned(4)] + source[at + unsigned(4)]
    f = target[to + unsigned(5)] + source[at + unsigned(5)]
    g = target[to + unsigned(6)] + source[at + unsigned(6)]
    h = target[to + unsigned(7)] + source[at + unsigned(7)]
    target[to], target[to + unsigned(1)], target[to + unsigned(2)], target[to + unsigned(3)] = a, b, c, d
    to += unsigned(4)
    target[to], target[to + unsigned(1)], target[to + unsigned(2)], target[to + unsigned(3)] = e, f, g, h


@function
def _im2col_2d(image, geometry, first, last, col):
    height, out_h, kernel_h, stride_h, pad_h, dilation_h = geometry[0]
    width, out_w, kernel_w, stride_w, pad_w, dilation_w = geometry[1]
    for row in range(first, last):
        channel, position = divmod(row, kernel_h * kernel_w)
        i, j = divmod(position, kernel_w)
        offset_h, offset_w = i * dilation_h - pad_h, j * dilation_w - pad_w
        top, bottom = inside(offset_h, height, out_h, stride_h)
        left, right = inside(offset_w, width, out_w, stride_w)
        to = row * out_h * out_w
        count = right - left
        if bottom - top < out_h or count < out_w:
            for x in range(unsigned(to), unsigned(to + out_h * out_w)):
                col[x] = 0
        at = (channel * height + offset_h + top * stride_h) * width + offset_w + left * stride_w
        to += top * out_w + left
        for _ in range(top, bottom):
            if stride_w > 1:
                for x in range(count):
                    col[unsigned(to + x)] = image[unsigned(at + x * stride_w)]
            elif count < 8:
                for x in range(count):
                    col[unsigned(to + x)] = image[unsigned(at + x)]
            else:
                for x in range(0, count - 8, 8):
                    _copy_8(image, at + x, col, to + x)
                _copy_8(image, at + count - 8, col, to + count - 8)  # overlaps the previous copy
            at += stride_h * width
            to += out_w


@function
def _col2im_2d(col, geometry, first, last, image):
    height, out_h, kernel_h, stride_h, pad_h, dilation_h = geometry[0]
    width, out_w, kernel_w, stride_w, pad_w, dilation_w = geometry[1]
    for channel in range(first, last):
        for x in range(unsigned(channel * height * width), unsigned((channel + 1) * height * width)):
            image[x] = 0
        for position in range(kernel_h * kernel_w):
            i, j = divmod(position, kernel_w)
            offset_h, offset_w = i * dilation_h - pad_h, j * dilation_w - pad_w
            top, bottom = inside(offset_h, height, out_h, stride_h)
            left, right = inside(offset_w, width, out_w, stride_w)
            count = right - left
            at = ((channel * kernel_h * kernel_w + position) * out_h + top) * out_w + left
            to = (channel * height + offset_h + top * stride_h) * width + offset_w + left * stride_w
            for _ in range(top, bottom):
                if stride_w > 1:
                    for x in range(count):
                        image[unsigned(to + x * stride_w)] += col[unsigned(at + x)]
                else:
                    for x in range(0, count - 7, 8):
                        _add_8(col, at + x, image, to + x)
                    for x in range(count & ~7, count):
                        image[unsigned(to + x)] += col[unsigned(at + x)]
                at += out_w
                to += stride_h * width


@function
def _pixel(geometry, position, window):
    """The pixel (within a plane) under kernel position `position` of output `window`, or -1 in the padding."""
    pixel, stride = 0, 1
    for axis in range(geometry.shape[0] - 1, -1, -1):
        size, out, kernel, step, pad, dilation = geometry[axis]
        at = (window % out) * step - pad + (position % kernel) * dilation
        if at < 0 or at >= size:
            return -1
        pixel += at * stride
        stride *= size
        window //= out
        position //= kernel
    return pixel


@function
def _products(geometry):
    """The numbers of pixels, windows and kernel positions of a plane."""
    pixels, windows, positions = 1, 1, 1
    for axis in range(geometry.shape[0]):
        pixels *= geometry[axis, 0]
        windows *= geometry[axis, 1]
        positions *= geometry[axis, 2]
    return pixels, windows, positions


@function
def _im2col_nd(image, geometry, first, last, col):
    pixels, windows, positions = _products(geometry)
    for row in range(first, last):
        channel, position = divmod(row, positions)
        for window in range(windows):
            pixel = _pixel(geometry, position, window)
            col[row * windows + window] = image[channel * pixels + pixel] if pixel >= 0 else 0


@function
def _col2im_nd(col, geometry, first, last, image):
    pixels, windows, positions = _products(geometry)
    for channel in range(first, last):
        for i in range(channel * pixels, (channel + 1) * pixels):
            image[i] = 0
        for position in range(positions):
            row = channel * positions + position
            for window in range(windows):
                pixel = _pixel(geometry, position, window)
                if pixel >= 0:
                    image[channel * pixels + pixel] += col[row * windows + window]


@kernel
def im2col_forward(images, geometry, rows, columns):
    """images: N x C x pixels, columns: N x C x (`rows` kernel positions * windows)"""
    count, channels = columns.shape[:2]
    images, columns = images.reshape(count, -1), columns.reshape(count, -1)
    for plane in prange(count * channels):
        n, c = divmod(np.int64(plane), channels)
        im2col(images[n], geometry, c * rows, (c + 1) * rows, columns[n])


@kernel
def im2col_backward(columns, geometry, images):
    count, channels = columns.shape[:2]
    images, columns = images.reshape(count, -1), columns.reshape(count, -1)
    for plane in prange(count * channels):
        n, c = divmod(np.int64(plane), channels)
        col2im(columns[n], geometry, c, c + 1, images[n])


# ---- CUDA ---------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _on_device(device: Any, geometry: Geometry) -> Any:
    """`geometry` as an array of a device, with a row for each axis."""
    rows = np.array(geometry, np.int64).reshape(-1, 6)
    array = device.empty(rows.size, rows.dtype)
    device.upload(rows.reshape(-1), array)
    return array.reshape(rows.shape)


@lay_out_windows.body("cuda")
def _lay_out_windows(images: Any, columns: Any, geometry: Geometry) -> None:
    pixels, windows, positions = (math.prod(row[i] for row in geometry) for i in range(3))
    shapes = (-1, pixels), (-1, positions, windows)
    arrays = images.reshape(shapes[0]), columns.reshape(shapes[1])
    cuda_im2col.of_items(columns.size, *arrays, _on_device(current(), geometry))


@cuda_kernel
def cuda_im2col(images, columns, geometry):
    """images: planes x pixels, columns: planes x positions x windows"""
    _, positions, windows = columns.shape
    for n in range(gpu.grid(1), columns.size, gpu.gridsize(1)):
        plane, position, window = n // (positions * windows), n // windows % positions, n % windows
        pixel = _pixel(geometry, position, window)
        columns[plane, position, window] = images[plane, pixel] if pixel >= 0 else images.dtype.type(0)


@add_up_windows.body("cuda")
def _add_up_windows(columns: Any, images: Any, geometry: Geometry) -> None:
    pixels, windows, positions = (math.prod(row[i] for row in geometry) for i in range(3))
    arrays = columns.reshape(-1, positions, windows), images.reshape(-1, pixels)
    cuda_col2im.of_items(images.size, *arrays, _on_device(current(), geometry))


@cuda_kernel
def cuda_col2im(columns, images, geometry):
    """columns: planes x positions x windows, images: planes x pixels"""
    pixels = images.shape[1]
    for n in range(gpu.grid(1), images.size, gpu.gridsize(1)):
        plane, pixel = n // pixels, n % pixels
        total = images.dtype.type(0)
        for position in range(columns.shape[1]):
            window = _window(geometry, position, pixel)
            if window >= 0:
                total += columns[plane, position, window]
        images[plane, pixel] = total


@cuda_function
def _window(geometry, position, pixel):
    """The output window that has `pixel` (within a plane) under this kernel position, or -1."""
    window, stride = 0, 1
    for axis in range(geometry.shape[0] - 1, -1, -1):
        size, out, kernel, step, pad, dilation = geometry[axis]
        at = pixel % size + pad - position % kernel * dilation
        if at < 0 or at % step or at // step >= out:
            return -1
        window += at // step * stride
        stride *= out
        pixel //= size
        position //= kernel
    return window
