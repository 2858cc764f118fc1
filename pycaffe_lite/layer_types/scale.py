"""Scale: `y = x * s (+ b)`, where s and b cover some axes of x and are the same along the others   (scale_layer.cpp).

bottom[0], top[0]: x and y, any shape, may be the same blob.
bottom[1], optional: s, whose shape is that of the axes of x from `axis` on.
Parameters: s, if there is no bottom[1], with the shape of `num_axes` axes of x from `axis` on; b, with `bias_term`, of the
same shape.

`scale_param`:
- `axis` (default 1): the first axis of x that s covers, may be negative.
- `num_axes` (default 1): how many axes a learned s covers. -1: all that follow; 0: s is a scalar.
- `filler` (default 1): the first values of a learned s.
- `bias_term` (default false): adds b.
- `bias_filler` (default 0): the first values of b.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..blob import Blob
from ..device import array_module, kernel, prange
from ..layer import Blobs, Layer, register
from ..ops.copies import room_for
from ..proto.caffe_pb2 import FillerParameter
from .bias import covered_axes, covered_shape

STRIP = 256  # columns that are summed at a time


@register("Scale")
class Scale(Layer):
    min_bottoms = 1
    max_bottoms = 2
    exact_tops = 1
    _kept: Any = None

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.scale_param
        if len(bottom) == 1:
            filler = param.filler if param.HasField("filler") else FillerParameter(value=1)
            self.add_param(covered_shape(bottom[0], param.axis, param.num_axes), filler)
        if param.bias_term:
            self.add_param(self._scale(bottom).shape, param.bias_filler)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        operands = [*bottom[1:], *self.blobs]  # s, and b if there is one
        for operand in operands:
            self.axes = covered_axes(bottom[0], self.param.scale_param.axis, operand)
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x = bottom[0].data_in.reshape(self.axes)
        scale = self._scale(bottom).data_in.reshape(-1)
        shift = self.blobs[-1].data_in.reshape(-1) if self.param.scale_param.bias_term else array_module(x).zeros_like(scale)
        y = top[0].data_out.reshape(self.axes)
        if bottom[0] is top[0]:
            self._kept = room_for(x, self._kept)
            affine_in_place(y, scale, shift, self._kept)
        else:
            affine(x, scale, shift, y)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        x = bottom[0].data_in.reshape(self.axes) if self._kept is None else self._kept
        dy, xp = top[0].diff_in.reshape(self.axes), array_module(x)
        by_bottom, by_bias = len(bottom) == 2, self.param.scale_param.bias_term and self.param_propagate_down[-1]
        wants_scale = propagate_down[1] if by_bottom else self.param_propagate_down[0]
        if wants_scale or by_bias:
            products, sums = xp.empty((2, self.axes[1]), x.dtype)
            scale_gradients(x, dy, products, sums)
            if by_bias:
                bias_diff = self.blobs[-1].diff_inout.reshape(-1)
                bias_diff += sums
            if wants_scale and by_bottom:
                bottom[1].diff_out.reshape(-1)[...] = products
            elif wants_scale:
                scale_diff = self.blobs[0].diff_inout.reshape(-1)
                scale_diff += products
        if propagate_down[0]:
            scale = self._scale(bottom).data_in.reshape(-1)
            affine(dy, scale, xp.zeros_like(scale), bottom[0].diff_out.reshape(self.axes))
        elif wants_scale and not self.param.propagate_down and bottom[0] is not top[0] and self.axes[::2] != (1, 1):
            # Caffe multiplies here, unless s covers all of x, and scripts see it. Not under `propagate_down: false`: a Split
            # below would add it up.
            xp.multiply(x, dy, out=bottom[0].diff_out.reshape(self.axes))

    def _scale(self, bottom: Blobs) -> Blob:
        return bottom[1] if len(bottom) == 2 else self.blobs[0]


@kernel
def affine(x, scale, shift, y):
    """y = x * scale + shift; x and y are n x s x inner, and there is a scale and a shift for each s."""
    n, s, inner = x.shape
    if inner == 1:
        x, y = x.reshape(n, s), y.reshape(n, s)
        for row in prange(n):
            for i in range(s):
                y[row, i] = x[row, i] * scale[i] + shift[i]
    else:
        x, y = x.reshape(n * s, inner), y.reshape(n * s, inner)
        for row in prange(n * s):
            a, b = scale[row % s], shift[row % s]
            for i in range(inner):
                y[row, i] = x[row, i] * a + b


@kernel
def affine_in_place(x, scale, shift, kept):
    """The same on `x` itself, with a copy of what was there in `kept`."""
    n, s, inner = x.shape
    if inner == 1:
        x, kept = x.reshape(n, s), kept.reshape(n, s)
        for row in prange(n):
            for i in range(s):
                kept[row, i] = x[row, i]
                x[row, i] = x[row, i] * scale[i] + shift[i]
    else:
        x, kept = x.reshape(n * s, inner), kept.reshape(n * s, inner)
        for row in prange(n * s):
            a, b = scale[row % s], shift[row % s]
            for i in range(inner):
                kept[row, i] = x[row, i]
                x[row, i] = x[row, i] * a + b


@kernel
def scale_gradients(x, dy, products, sums):
    """The sums of x * dy and of dy for each s."""
    n, s, inner = x.shape
    if inner == 1:
        x, dy = x.reshape(n, s), dy.reshape(n, s)
        for strip in prange((s + STRIP - 1) // STRIP):
            low, high = np.uintp(strip * STRIP), np.uintp(min((strip + 1) * STRIP, s))
            products[low:high] = 0
            sums[low:high] = 0
            for row in range(n):
                for i in range(low, high):
                    products[i] += x[row, i] * dy[row, i]
                    sums[i] += dy[row, i]
    else:
        for j in prange(s):
            product, total = x.dtype.type(0), x.dtype.type(0)
            for row in range(n):
                for i in range(inner):
                    product += x[row, j, i] * dy[row, j, i]
                    total += dy[row, j, i]
            products[j], sums[j] = product, total
