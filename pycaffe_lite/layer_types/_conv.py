"""Shared base of Convolution and Deconvolution: parameters, geometry, and the three products (Caffe's base_conv_layer.cpp).

Seen from a convolution there is an *image* side (`channels` planes) and a *window* side (`outputs` planes):
    windows = W . im2col(image)         W: outputs x (channels / group * kernel positions)
Convolution goes from image to windows, Deconvolution from windows to image.

The work is cut into chunks of images where there are enough of them, else each image is cut along the rows of its matrices.

*Taps.* With a vertical stride of 1 the rows of a kernel see the same lines of the image, a line apart. Then the columns need
be laid out for a kernel of one row only (kernel height times fewer), and each row of the kernel, a tap, is a product with
the columns from its own line on:
    windows = sum over taps of W[tap] . columns[from line tap * dilation]
Without taps the whole kernel is the only one.

Names in the kernels: N images, G groups, T taps; for each group O outputs and K = channels / group * kernel positions of a
tap; Q windows. Columns have G K rows of `width` elements, of which a tap reads Q, from `tap * shift` on.
    image N x C x pixels, windows N x (G O) x Q, weights T x (G O) x K, col chunks x (G K width)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..device import chunk, function, kernel, num_threads, prange
from ..device.blas import gemm
from ..errors import NetError
from ..layer import Blobs, Layer
from ..ops.im2col import col2im, im2col
from ..ops.scratch import scratches
from . import _turned
from ._depthwise import depthwise

MAX_IM2COL = 2**31 - 1

# Taps are used where their products are at least so deep (K), their result, to which all taps add, stays in the cache (O Q),
# and laying out the weights anew is little beside the work (N Q for each output).
TAP_MIN_DEPTH, TAP_MAX_RESULT, TAP_MIN_WINDOWS = 32, 2**18, 16


@function
def weigh(columns, weights, bias, group, low, high, width, shift, windows):
    """Rows `low`..`high` of each group of one image's windows = W . columns + bias."""
    taps, outputs, k = weights.shape
    o, q = outputs // group, windows.shape[1]
    weights = weights.reshape(-1)
    for g in range(group):
        first = g * o + low
        for row in range(first, first + high - low if bias.size else first):
            windows[row] = bias[row]
        for tap in range(taps):
            keep = 1 if bias.size or tap else 0
            gemm(False, False, high - low, q, k, 1, weights[(tap * outputs + first) * k :], k,
                 columns[g * k * width + tap * shift :], width, keep, windows[first:], q)  # fmt: skip


@function
def spread(windows, weights, group, low, high, width, shift, columns):
    """Rows `low`..`high` of each group of one image's columns = W' . windows; what several taps write is summed."""
    taps, outputs, k = weights.shape
    o, q = outputs // group, windows.shape[1]
    weights = weights.reshape(-1)
    for g in range(group):
        first = g * k + low
        if taps > 1:
            columns[first * width : (first + high - low) * width] = 0
        for tap in range(taps):
            keep = 1 if taps > 1 else 0
            gemm(True, False, high - low, q, o, 1, weights[(tap * outputs + g * o) * k + low :], k,
                 windows[g * o :], q, keep, columns[first * width + tap * shift :], width)  # fmt: skip


@function
def correlate(columns, windows, group, low, high, width, shift, keep, sums):
    """Rows `low`..`high` of each group of `sums` (T x (G K) x O) = columns . windows' (+ sums, if `keep` is 1)."""
    taps, rows, o = sums.shape
    k, q = rows // group, windows.shape[1]
    sums = sums.reshape(-1)
    for g in range(group):
        first = g * k + low
        for tap in range(taps):
            gemm(False, True, high - low, o, q, 1, columns[first * width + tap * shift :], width,
                 windows[g * o :], q, keep, sums[(tap * rows + first) * o :], o)  # fmt: skip


@kernel
def to_windows(image, weights, bias, windows, geometry, group, direct, width, shift, col, chunks):
    """windows = W . im2col(image) + bias (none: an empty array), a chunk of images at a time."""
    count, o, rows = image.shape[0], weights.shape[1] // group, group * weights.shape[2]
    image = image.reshape(count, -1)
    for c in prange(chunks):
        low, high = chunk(c, chunks, count)
        for n in range(low, high):
            if not direct:
                im2col(image[n], geometry, 0, rows, col[c])
            weigh(image[n] if direct else col[c], weights, bias, group, 0, o, width, shift, windows[n])


@kernel
def to_windows_split(image, weights, bias, windows, geometry, group, direct, width, shift, col, chunks):
    """The same for few images: threads share the rows of each image's columns, then the rows of its result."""
    count, o, rows = image.shape[0], weights.shape[1] // group, group * weights.shape[2]
    image = image.reshape(count, -1)
    for n in range(count):
        if not direct:
            for c in prange(chunks):
                low, high = chunk(c, chunks, rows)
                im2col(image[n], geometry, low, high, col[0])
        for c in prange(chunks):
            low, high = chunk(c, chunks, o)
            weigh(image[n] if direct else col[0], weights, bias, group, low, high, width, shift, windows[n])


@kernel
def to_image(windows, weights, image, geometry, group, direct, width, shift, col, chunks):
    """image = col2im(W' . windows), a chunk of images at a time."""
    count, channels, k = image.shape[0], image.shape[1], weights.shape[2]
    image = image.reshape(count, -1)
    for c in prange(chunks):
        low, high = chunk(c, chunks, count)
        for n in range(low, high):
            spread(windows[n], weights, group, 0, k, width, shift, image[n] if direct else col[c])
            if not direct:
                col2im(col[c], geometry, 0, channels, image[n])


@kernel
def to_image_split(windows, weights, image, geometry, group, direct, width, shift, col, chunks):
    """The same for few images: threads share the rows of the columns, then the channels of the image."""
    count, channels, k = image.shape[0], image.shape[1], weights.shape[2]
    image = image.reshape(count, -1)
    for n in range(count):
        for c in prange(chunks):
            low, high = chunk(c, chunks, k)
            spread(windows[n], weights, group, low, high, width, shift, image[n] if direct else col[0])
        if not direct:
            for c in prange(chunks):
                low, high = chunk(c, chunks, channels)
                col2im(col[0], geometry, low, high, image[n])


@kernel
def to_weights(windows, image, sums, geometry, group, direct, width, shift, col, chunks):
    """sums[chunk] = the chunk's images' sum of im2col(image) . windows' (T x (G K) x O), the gradient of the weights."""
    count, rows = image.shape[0], sums.shape[2]
    image = image.reshape(count, -1)
    for c in prange(chunks):
        low, high = chunk(c, chunks, count)
        for n in range(low, high):
            if not direct:
                im2col(image[n], geometry, 0, rows, col[c])
            keep = 0 if n == low else 1
            correlate(image[n] if direct else col[c], windows[n], group, 0, rows // group, width, shift, keep, sums[c])


@kernel
def to_weights_split(windows, image, sums, geometry, group, direct, width, shift, col, chunks):
    """The same for few images, into one sum: threads share the rows of the columns, which are those of the gradient."""
    count, k = image.shape[0], sums.shape[2] // group
    image = image.reshape(count, -1)
    for n in range(count):
        keep = 0 if n == 0 else 1
        for c in prange(chunks):
            low, high = chunk(c, chunks, k)
            if not direct:
                for g in range(group):
                    im2col(image[n], geometry, g * k + low, g * k + high, col[0])
            correlate(image[n] if direct else col[0], windows[n], group, low, high, width, shift, keep, sums[0])


@kernel
def add_bias(y, bias):
    """y[n, o, :] += bias[o]"""
    count, outputs, size = y.shape
    for row in prange(count * outputs):
        n, o = divmod(np.int64(row), outputs)
        for i in range(size):
            y[n, o, i] += bias[o]


@kernel
def add_chunks(sums, total):
    """total += the sum over the first axis of `sums`, in its order.

    sums: chunks x T x G x A x B x O, total: G x O x A x T x B; A and B are the parts of K before and behind the tap.
    """
    chunks, taps, group, before, behind, outputs = sums.shape
    strips = (outputs + 15) // 16
    for task in prange(group * strips):
        g, strip = divmod(np.int64(task), strips)  # a prange index is unsigned, and mixed with signed ones a float
        for a in range(before):
            for tap in range(taps):
                for b in range(behind):
                    for o in range(16 * strip, min(16 * strip + 16, outputs)):
                        value = sums[0, tap, g, a, b, o]
                        for c in range(1, chunks):
                            value += sums[c, tap, g, a, b, o]
                        total[g, o, a, tap, b] += value


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
        shift = int(self.geometry[0, 5] * self.geometry[1, 1])
        self.depthwise = self._use_depthwise()
        outputs, channels = self.blobs[0].shape[:2]
        turned = self.group == 1 and _turned.pays(self.geometry, channels, outputs)
        self.turned = self.geometry.copy() if turned else None
        self.taps = 1 if self.depthwise else self._use_taps()
        self.weights_shape = self.taps, outputs, self.blobs[0].count // (self.taps * outputs)
        width = math.prod(self.geometry[:, 1].tolist())
        self.columns = 0 if self.direct else self.group * self.weights_shape[2] * width  # of one image
        self.layout = self.geometry, self.group, self.direct, width, shift  # what all kernels want to know of them

    def _output_size(self, size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
        extent = dilation * (kernel - 1) + 1
        if self.transposed:
            return stride * (size - 1) + extent - 2 * pad
        return windows_along(size + 2 * pad - extent, stride)

    def _use_taps(self) -> int:
        """The number of taps; where there are several, `geometry` becomes that of their columns."""
        outputs, channels = self.blobs[0].shape[:2]
        (height, out_h, kernel_h, stride_h, pad_h, dilation_h), (_, _, kernel_w, *_) = self.geometry[:2].tolist()
        if len(self.geometry) != 2 or kernel_h == 1 or stride_h > 1:
            return 1
        pays = (
            channels * kernel_w >= TAP_MIN_DEPTH
            and outputs // self.group * self.window_size <= TAP_MAX_RESULT
            and self.images * self.window_size >= TAP_MIN_WINDOWS * outputs
        )
        if pays:
            self.geometry[0] = height, out_h + (kernel_h - 1) * dilation_h, 1, 1, pad_h, 1
        return kernel_h if pays else 1

    def _use_depthwise(self):
        """The products of planes, if each group has one channel and one output, else None."""
        outputs, channels = self.blobs[0].shape[:2]
        if self.group == 1 or len(self.geometry) != 2 or outputs != self.group or channels > 1:
            return None
        return depthwise(tuple(map(tuple, self.geometry.tolist())))

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        bias = self.blobs[1].data_in if len(self.blobs) > 1 else None
        for x, y in zip(bottom, top):
            if self.transposed:
                self._to_image(y.data_out, x.data_in)
                if bias is not None and y.count:
                    add_bias(y.data_inout.reshape(self.images, self.num_output, -1), bias)
            else:
                self._to_windows(x.data_in, y.data_out, bias)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for y, x, wanted in zip(top, bottom, propagate_down):
            if len(self.blobs) > 1 and self.param_propagate_down[1] and y.count:
                bias_gradient(y.diff_in.reshape(self.images, self.num_output, -1), self.blobs[1].diff_inout)
            if self.param_propagate_down[0]:
                self._weight_gradient(*self._sides(x.data_in, y.diff_in))
            if wanted and self.transposed:
                self._to_windows(y.diff_in, x.diff_out)
            elif wanted:
                self._to_image(x.diff_out, y.diff_in)

    def _to_windows(self, image, windows, bias=None) -> None:
        if not image.size:
            return
        image, windows = self._planes(image, windows)
        if self.depthwise:
            self.depthwise.to_windows(image, self.blobs[0].data_in, bias, windows)
            return
        bias = np.empty(0, image.dtype) if bias is None else bias
        if self.turned is not None:
            _turned.convolve(image, self.blobs[0].data_in, bias, windows, self.turned)
            return
        col, room = self._scratch(image.dtype, self.weights_shape if self.taps > 1 else (0,))
        product = to_windows_split if self._split() else to_windows
        product(image, self._weights(room), bias, windows, *self.layout, col, num_threads())

    def _to_image(self, image, windows) -> None:
        if not image.size:
            return
        image, windows = self._planes(image, windows)
        if self.depthwise:
            self.depthwise.to_image(windows, self.blobs[0].data_in, image)
            return
        col, room = self._scratch(image.dtype, self.weights_shape if self.taps > 1 else (0,))
        product = to_image_split if self._split() else to_image
        product(windows, self._weights(room), image, *self.layout, col, num_threads())

    def _weight_gradient(self, image, windows) -> None:
        if not image.size:
            return
        image, windows = self._planes(image, windows)
        if self.depthwise:
            self.depthwise.to_weights(windows, image, self.blobs[0].diff_inout)
            return
        taps, outputs, k = self.weights_shape
        workers, o = self._workers(), outputs // self.group
        col, sums = self._scratch(image.dtype, (workers, taps, self.group * k, o))
        product = to_weights_split if self._split() else to_weights
        product(windows, image, sums, *self.layout, col, num_threads())
        behind = k if taps == 1 else self.kernel[1]
        add_chunks(
            sums.reshape(workers, taps, self.group, k // behind, behind, o),
            self.blobs[0].diff_inout.reshape(self.group, o, k // behind, taps, behind),
        )

    def _planes(self, image, windows):
        return image.reshape(self.images, -1, self.image_size), windows.reshape(self.images, -1, self.window_size)

    def _weights(self, room):
        """The weights as T x (G O) x K; taps are laid out in `room`."""
        weights = self.blobs[0].data_in
        if self.taps == 1:
            return weights.reshape(self.weights_shape)
        room.reshape(self.taps, *weights.shape[:2], -1)[...] = weights.transpose(2, 0, 1, 3)
        return room

    def _split(self) -> bool:
        """Whether all threads work on one image at a time, because there are fewer images than threads."""
        return self.images < num_threads()

    def _workers(self) -> int:
        """How many images are worked on at a time."""
        return 1 if self._split() else num_threads()

    def _scratch(self, dtype, *shapes: tuple[int, ...]):
        """Columns for every worker, and arrays of `shapes`."""
        if self.columns > MAX_IM2COL:
            raise NetError(f"the columns of one image have {self.columns} elements, more than {MAX_IM2COL}")
        return scratches([(self._workers(), self.columns), *shapes], dtype)


def windows_along(room: int, stride: int) -> int:
    """How many windows there are along an axis that a window can move by `room` pixels.

    As in Caffe, whose division cuts towards 0: a window that sticks out by less than a stride is one, and sees zeros there.
    """
    return int(math.copysign(abs(room) // stride, room)) + 1


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
    if len(values) not in (1, axes):
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
