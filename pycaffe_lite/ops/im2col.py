"""Windows of an image laid out as columns, and back (Caffe's im2col.cpp); convolution becomes a matrix product.

`geometry` describes each spatial axis by one row `(in, out, kernel, stride, pad, dilation)`. An image is a flat array of
`channels` planes of `in` pixels; `col` is a flat matrix of `channels * kernel positions` rows and `out` positions columns.
The functions fill rows `first` to `last` (not included), so that several threads can share one image; a row is a channel
and a kernel position, and col2im needs whole channels.
"""

from __future__ import annotations

from ..device import function


@function
def im2col(image, geometry, first, last, col):
    """Rows `first`..`last` of the columns of one image; padding reads as zero."""
    if geometry.shape[0] == 2:
        _im2col_2d(image, geometry, first, last, col)
    else:
        _im2col_nd(image, geometry, first, last, col)


@function
def col2im(col, geometry, first, last, image):
    """Adds the columns of channels `first`..`last` up into their pixels, which are zeroed first."""
    if geometry.shape[0] == 2:
        _col2im_2d(col, geometry, first, last, image)
    else:
        _col2im_nd(col, geometry, first, last, image)


@function
def _inside(offset, size, count, stride):
    """The range of output positions whose input position `offset + position * stride` lies within `size`."""
    low = 0 if offset >= 0 else min(count, (-offset + stride - 1) // stride)
    high = 0 if offset >= size else min(count, (size - 1 - offset) // stride + 1)
    return low, max(low, high)


@function
def _im2col_2d(image, geometry, first, last, col):
    height, out_h, kernel_h, stride_h, pad_h, dilation_h = geometry[0]
    width, out_w, kernel_w, stride_w, pad_w, dilation_w = geometry[1]
    for row in range(first, last):
        channel, position = divmod(row, kernel_h * kernel_w)
        offset_h = (position // kernel_w) * dilation_h - pad_h
        offset_w = (position % kernel_w) * dilation_w - pad_w
        low, high = _inside(offset_w, width, out_w, stride_w)
        for y in range(out_h):
            to = (row * out_h + y) * out_w
            line = offset_h + y * stride_h
            if line < 0 or line >= height:
                for x in range(out_w):
                    col[to + x] = 0
                continue
            start = (channel * height + line) * width + offset_w
            for x in range(low):
                col[to + x] = 0
            if stride_w == 1:
                for x in range(low, high):
                    col[to + x] = image[start + x]
            else:
                for x in range(low, high):
                    col[to + x] = image[start + x * stride_w]
            for x in range(high, out_w):
                col[to + x] = 0


@function
def _col2im_2d(col, geometry, first, last, image):
    height, out_h, kernel_h, stride_h, pad_h, dilation_h = geometry[0]
    width, out_w, kernel_w, stride_w, pad_w, dilation_w = geometry[1]
    for channel in range(first, last):
        for i in range(channel * height * width, (channel + 1) * height * width):
            image[i] = 0
        for position in range(kernel_h * kernel_w):
            row = channel * kernel_h * kernel_w + position
            offset_h = (position // kernel_w) * dilation_h - pad_h
            offset_w = (position % kernel_w) * dilation_w - pad_w
            low, high = _inside(offset_w, width, out_w, stride_w)
            for y in range(out_h):
                line = offset_h + y * stride_h
                if line < 0 or line >= height:
                    continue
                at = (row * out_h + y) * out_w
                start = (channel * height + line) * width + offset_w
                if stride_w == 1:
                    for x in range(low, high):
                        image[start + x] += col[at + x]
                else:
                    for x in range(low, high):
                        image[start + x * stride_w] += col[at + x]


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
    """Numbers of pixels, windows and kernel positions of a plane."""
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
