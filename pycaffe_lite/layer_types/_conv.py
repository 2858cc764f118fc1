"""Shared base of Convolution and Deconvolution: parameters, geometry, and the three products (Caffe's base_conv_layer.cpp).

Seen from a convolution there is an *image* side (`channels` planes) and a *window* side (`outputs` planes):
    windows = W . im2col(image)         W: outputs x (channels / group * kernel positions)
Convolution goes from image to windows, Deconvolution from windows to image.

The work is cut into chunks of images where there are enough of them, else each image is cut along the rows of its matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..device import chunk, kernel, num_threads, prange
from ..device.blas import gemm
from ..errors import NetError
from ..layer import Blobs, Layer
from ..ops.im2col import col2im, im2col
from ..ops.scratch import scratch

MAX_IM2COL = 2**31 - 1


@kernel
def to_windows(image, weights, windows, geometry, group, direct, col, chunks):
    """windows = W . im2col(image), a chunk of images at a time. Shapes: image N x C x pixels, windows N x O x Q,
    weights O x K, col chunks x (group * K * Q)."""
    count = image.shape[0]
    outputs, q = windows.shape[1:]
    k = weights.shape[1]
    o = outputs // group
    image, weights, windows = image.reshape(count, -1), weights.reshape(-1), windows.reshape(count, -1)
    for c in prange(chunks):
        low, high = chunk(c, chunks, count)
        for n in range(low, high):
            columns = image[n] if direct else col[c]
            if not direct:
                im2col(image[n], geometry, 0, group * k, columns)
            for g in range(group):
                gemm(
                    False, False, o, q, k, 1, weights[g * o * k :], k, columns[g * k * q :], q, 0, windows[n, g * o * q :], q
                )


@kernel
def to_windows_split(image, weights, windows, geometry, group, direct, col, chunks):
    """The same for few images: threads share the rows of each image's columns, then the rows of its result."""
    count = image.shape[0]
    outputs, q = windows.shape[1:]
    k = weights.shape[1]
    o = outputs // group
    image, weights, windows = image.reshape(count, -1), weights.reshape(-1), windows.reshape(count, -1)
    for n in range(count):
        columns = image[n] if direct else col[0]
        if not direct:
            for c in prange(chunks):
                low, high = chunk(c, chunks, group * k)
                im2col(image[n], geometry, low, high, columns)
        for c in prange(chunks):
            for g in range(group):
                low, high = chunk(c, chunks, o)
                start = g * o + low
                gemm(False, False, high - low, q, k, 1, weights[start * k :], k, columns[g * k * q :], q, 0,
                     windows[n, start * q :], q)  # fmt: skip


@kernel
def to_image(windows, weights, image, geometry, group, direct, col, chunks):
    """image = col2im(W' . windows), a chunk of images at a time."""
    count, channels = image.shape[:2]
    outputs, q = windows.shape[1:]
    k = weights.shape[1]
    o = outputs // group
    image, weights, windows = image.reshape(count, -1), weights.reshape(-1), windows.reshape(count, -1)
    for c in prange(chunks):
        low, high = chunk(c, chunks, count)
        for n in range(low, high):
            columns = image[n] if direct else col[c]
            for g in range(group):
                gemm(
                    True, False, k, q, o, 1, weights[g * o * k :], k, windows[n, g * o * q :], q, 0, columns[g * k * q :], q
                )
            if not direct:
                col2im(columns, geometry, 0, channels, image[n])


@kernel
def to_image_split(windows, weights, image, geometry, group, direct, col, chunks):
    """The same for few images: threads share the rows of the columns, then the channels of the image."""
    count, channels = image.shape[:2]
    outputs, q = windows.shape[1:]
    k = weights.shape[1]
    o = outputs // group
    image, weights, windows = image.reshape(count, -1), weights.reshape(-1), windows.reshape(count, -1)
    for n in range(count):
        columns = image[n] if direct else col[0]
        for c in prange(chunks):
            low, high = chunk(c, chunks, k)
            for g in range(group):
                gemm(True, False, high - low, q, o, 1, weights[g * o * k + low :], k, windows[n, g * o * q :], q, 0,
                     columns[(g * k + low) * q :], q)  # fmt: skip
        if not direct:
            for c in prange(chunks):
                low, high = chunk(c, chunks, channels)
                col2im(columns, geometry, low, high, image[n])


@kernel
def to_weights(windows, image, sums, geometry, group, direct, col, chunks):
    """sums[chunk] = the chunk's images' sum of windows . im2col(image)', the gradient of the weights (chunks x O x K)."""
    count = image.shape[0]
    outputs, q = windows.shape[1:]
    k = sums.shape[2]
    o = outputs // group
    image, windows, sums = image.reshape(count, -1), windows.reshape(count, -1), sums.reshape(chunks, -1)
    for c in prange(chunks):
        low, high = chunk(c, chunks, count)
        for n in range(low, high):
            columns = image[n] if direct else col[c]
            if not direct:
                im2col(image[n], geometry, 0, group * k, columns)
            keep = 0 if n == low else 1
            for g in range(group):
                gemm(
                    False,
                    True,
                    o,
                    k,
                    q,
                    1,
                    windows[n, g * o * q :],
                    q,
                    columns[g * k * q :],
                    q,
                    keep,
                    sums[c, g * o * k :],
                    k,
                )


@kernel
def to_weights_split(windows, image, sums, geometry, group, direct, col, chunks):
    """The same for few images, into one sum: threads share the rows of the columns, then the rows of the gradient."""
    count = image.shape[0]
    outputs, q = windows.shape[1:]
    k = sums.shape[2]
    o = outputs // group
    image, windows, sums = image.reshape(count, -1), windows.reshape(count, -1), sums.reshape(-1)
    for n in range(count):
        columns = image[n] if direct else col[0]
        if not direct:
            for c in prange(chunks):
                low, high = chunk(c, chunks, group * k)
                im2col(image[n], geometry, low, high, columns)
        keep = 0 if n == 0 else 1
        for c in prange(chunks):
            low, high = chunk(c, chunks, o)
            for g in range(group):
                start = g * o + low
                gemm(False, True, high - low, k, q, 1, windows[n, start * q :], q, columns[g * k * q :], q, keep,
                     sums[start * k :], k)  # fmt: skip


@kernel
def add_bias(y, bias):
    """y[n, o, :] += bias[o]"""
    count, outputs, size = y.shape
    for row in prange(count * outputs):
        n, o = divmod(np.int64(row), outputs)  # a prange index is unsigned, and mixed with signed ones a float
        for i in range(size):
            y[n, o, i] += bias[o]


@kernel
def add_chunks(sums, total):
    """total += the sum over the first axis of `sums`, in its order."""
    chunks, size = sums.shape
    for i in prange(size):
        value = sums[0, i]
        for c in range(1, chunks):
            value += sums[c, i]
        total[i] += value


@kernel
def bias_gradient(dy, sums):
    """sums[o] += the sum of dy[:, o, :]"""
    count, outputs, size = dy.shape
    for o in prange(outputs):
        value = sums[o] * 0
        for n in range(count):
            for i in range(size):
                value += dy[n, o, i]
        sums[o] += value


class ConvBase(Layer):
    """What the two have in common. `transposed` says on which side the bottom is."""

    min_bottoms = 1
    min_tops = 1
    equal_bottoms_tops = True
    transposed = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.convolution_param
        self.axis = bottom[0].axis(param.axis)
        axes = bottom[0].num_axes - self.axis - 1
        self.kernel = spatial(param, "kernel_size", axes)
        self.stride = spatial(param, "stride", axes, 1)
        self.pad = spatial(param, "pad", axes, 0)
        self.dilation = spatial(param, "dilation", axes, 1)
        for name, values in (("kernel_size", self.kernel), ("stride", self.stride), ("dilation", self.dilation)):
            if any(value < 1 for value in values):
                raise NetError(f"{name} is at least 1, received {' x '.join(map(str, values))}")
        self.bottom_channels = bottom[0].shape[self.axis]
        self.num_output, self.group = param.num_output, param.group
        if self.num_output < 1:
            raise NetError(f"num_output is at least 1, received {self.num_output}")
        if self.group < 1 or self.bottom_channels % self.group or self.num_output % self.group:
            raise NetError(
                f"group divides the number of input channels and num_output: "
                f"received group {self.group}, {self.bottom_channels} channels, num_output {self.num_output}"
            )
        image, windows = self._sides(self.bottom_channels, self.num_output)
        self.add_param((windows, image // self.group, *self.kernel), param.weight_filler)
        if param.bias_term:
            self.add_param((self.num_output,), param.bias_filler)

    def _sides(self, bottom, top):
        """What belongs to the bottom and to the top, in the order image side, window side."""
        return (top, bottom) if self.transposed else (bottom, top)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        for i, blob in enumerate(bottom):
            if blob.num_axes != self.axis + 1 + len(self.kernel):
                raise NetError(f"the number of axes was {self.axis + 1 + len(self.kernel)} at set-up and is now {blob}")
            if blob.shape[self.axis] != self.bottom_channels:
                raise NetError(f"expected {self.bottom_channels} channels in bottom {i}, received {blob}")
            if blob.shape != bottom[0].shape:
                raise NetError(f"all bottoms have one shape: bottom 0 is {bottom[0]}, bottom {i} is {blob}")
        in_shape = bottom[0].shape[self.axis + 1 :]
        out_shape = tuple(
            self._output_size(*row) for row in zip(in_shape, self.kernel, self.stride, self.pad, self.dilation)
        )
        if any(size < 1 for size in out_shape):
            raise NetError(
                f"the kernel does not fit: input {_by(in_shape)}, kernel_size {_by(self.kernel)}, pad {_by(self.pad)}, "
                f"stride {_by(self.stride)}, dilation {_by(self.dilation)} give an output of {_by(out_shape)}"
            )
        for blob in top:
            blob.reshape(*bottom[0].shape[: self.axis], self.num_output, *out_shape)
        image, windows = self._sides(in_shape, out_shape)
        self.geometry = _geometry(image, windows, self.kernel, self.stride, self.pad, self.dilation)
        self.images = bottom[0].count_from(0, self.axis)
        self.image_size, self.window_size = math.prod(image), math.prod(windows)
        # where every window is one pixel, in order, the image is its own columns
        self.direct = all(k == s == 1 and p == 0 for k, s, p in zip(self.kernel, self.stride, self.pad))

    def _output_size(self, size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
        extent = dilation * (kernel - 1) + 1
        if self.transposed:
            return stride * (size - 1) + extent - 2 * pad
        return (size + 2 * pad - extent) // stride + 1

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        for x, y in zip(bottom, top):
            image, windows = self._sides(x.data_in, y.data_out)
            self._run(to_image if self.transposed else to_windows, image, windows)
            if len(self.blobs) > 1 and y.count:
                add_bias(y.data_inout.reshape(self.images, self.num_output, -1), self.blobs[1].data_in)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for y, x, wanted in zip(top, bottom, propagate_down):
            if len(self.blobs) > 1 and self.param_propagate_down[1] and y.count:
                bias_gradient(y.diff_in.reshape(self.images, self.num_output, -1), self.blobs[1].diff_inout)
            if self.param_propagate_down[0]:
                self._weight_gradient(*self._sides(x.data_in, y.diff_in))
            if wanted:
                image, windows = self._sides(x.diff_out, y.diff_in)
                self._run(to_windows if self.transposed else to_image, image, windows)

    def _run(self, product, image, windows) -> None:
        """Runs `to_windows` or `to_image` with the layer's weights."""
        if not image.size:
            return
        image, windows = self._planes(image, windows)
        weights = self.blobs[0].data_in.reshape(windows.shape[1], -1)
        chunks, split, col = self._plan(image, weights)
        if product is to_windows:
            (to_windows_split if split else to_windows)(
                image, weights, windows, self.geometry, self.group, self.direct, col, chunks
            )
        else:
            (to_image_split if split else to_image)(
                windows, weights, image, self.geometry, self.group, self.direct, col, chunks
            )

    def _weight_gradient(self, image, windows) -> None:
        if not image.size:
            return
        image, windows = self._planes(image, windows)
        weights = self.blobs[0].diff_inout.reshape(windows.shape[1], -1)
        chunks, split, col = self._plan(image, weights, extra=weights.size)
        count = 1 if split else chunks
        sums = col.reshape(-1)[-count * weights.size :].reshape(count, *weights.shape)
        col = col.reshape(-1)[: col.size - count * weights.size].reshape(count, -1)
        (to_weights_split if split else to_weights)(
            windows, image, sums, self.geometry, self.group, self.direct, col, chunks
        )
        add_chunks(sums.reshape(count, -1), weights.reshape(-1))

    def _planes(self, image, windows):
        return image.reshape(self.images, -1, self.image_size), windows.reshape(self.images, -1, self.window_size)

    def _plan(self, image, weights, extra: int = 0):
        """How to cut the work: the number of chunks, whether images are split, and the columns' scratch."""
        threads = num_threads()
        split = self.images < threads
        columns = 0 if self.direct else self.group * weights.shape[1] * self.window_size
        if columns > MAX_IM2COL:
            raise NetError(f"the columns of one image have {columns} elements, more than {MAX_IM2COL}")
        col = scratch((1 if split else threads, columns + extra), image.dtype)
        return threads, split, col


def spatial(param, name: str, axes: int, default: int | None = None) -> tuple[int, ...]:
    """One value for each spatial axis from the repeated field `name` or, for two axes, its `_h` and `_w` forms."""
    stem = name.removesuffix("_size")
    if name != "dilation" and (param.HasField(f"{stem}_h") or param.HasField(f"{stem}_w")):
        if axes != 2:
            raise NetError(f"{stem}_h and {stem}_w are for 2 spatial axes, the bottom has {axes}; use {name}")
        if getattr(param, name):
            raise NetError(f"give either {name} or {stem}_h and {stem}_w, not both")
        return getattr(param, f"{stem}_h"), getattr(param, f"{stem}_w")
    values = tuple(getattr(param, name))
    if not values and default is not None:
        values = (default,)
    if len(values) not in (1, axes) or not values:
        raise NetError(f"{name} is given once or once for each of {axes} spatial axes, received {len(values)} values")
    return values * axes if len(values) == 1 else values


def _geometry(image, windows, kernel, stride, pad, dilation) -> np.ndarray:
    """See `ops.im2col`; a single spatial axis is padded with one of size 1, for which there is fast code."""
    rows = list(zip(image, windows, kernel, stride, pad, dilation))
    if len(rows) < 2:
        rows = [(1, 1, 1, 1, 0, 1)] * (2 - len(rows)) + rows
    return np.array(rows, np.int64).reshape(len(rows), 6)


def _by(values: Sequence[int]) -> str:
    return " x ".join(map(str, values))
