"""Scale: y = x * s (+ b), where s and b cover some axes of x and are the same along the others   (scale_layer.cpp).

bottom[0], top[0]: x and y, any shape, may be the same blob.
bottom[1], optional: s, whose shape is that of the axes of x from `axis` on.
Parameters: s, if there is no bottom[1], with the shape of `num_axes` axes of x from `axis` on; b, with `bias_term`, of the
same shape.
`scale_param`: `axis` (default 1, may be negative), `num_axes` (default 1; -1: all that follow; 0: a scalar), `filler`
(default 1), `bias_term` (default false), `bias_filler` (default 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..blob import Blob
from ..device import array_module, kernel, prange
from ..layer import Blobs, Layer, register
from ..proto.caffe_pb2 import FillerParameter
from .bias import covered_axes, covered_shape


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
        self._kept = x.copy() if bottom[0] is top[0] else None
        scale = self._scale(bottom).data_in.reshape(-1)
        shift = self.blobs[-1].data_in.reshape(-1) if self.param.scale_param.bias_term else array_module(x).zeros_like(scale)
        affine(x, scale, shift, top[0].data_out.reshape(self.axes))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        x = bottom[0].data_in.reshape(self.axes) if self._kept is None else self._kept
        dy, xp = top[0].diff_in.reshape(self.axes), array_module(x)
        if self.param.scale_param.bias_term and self.param_propagate_down[-1]:
            bias_diff = self.blobs[-1].diff_inout.reshape(-1)
            bias_diff += dy.sum(axis=(0, 2))
        by_bottom = len(bottom) == 2
        wants_scale = propagate_down[1] if by_bottom else self.param_propagate_down[0]
        if wants_scale:
            gradient = xp.einsum("nsx,nsx->s", x, dy)
            scale_diff = (bottom[1].diff_out if by_bottom else self.blobs[0].diff_inout).reshape(-1)
            scale_diff[...] = gradient if by_bottom else scale_diff + gradient
        if propagate_down[0]:
            scale = self._scale(bottom).data_in.reshape(-1)
            affine(dy, scale, xp.zeros_like(scale), bottom[0].diff_out.reshape(self.axes))
        elif wants_scale and not self.param.propagate_down and bottom[0] is not top[0]:
            # Caffe multiplies here, and scripts see it. Not under `propagate_down: false`: a Split below would add it up.
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
