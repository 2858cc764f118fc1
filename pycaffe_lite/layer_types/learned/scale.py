"""Scale: `y = x * s (+ b)`, where s and b cover some axes of x and are the same along the others   (scale_layer.cpp).

bottom[0], top[0]: x and y, any shape, may be the same blob.
bottom[1], optional: s, with the shape of the axes of x from `axis` on.
Parameters: s, if there is no bottom[1], with the shape of `num_axes` axes of x from `axis` on; b, with `bias_term`, in the
same shape.

`scale_param`:
- `axis` (default 1): the first axis of x that s covers, may be negative.
- `num_axes` (default 1): how many axes a learned s covers. -1: all from `axis` on; 0: s is a scalar.
- `filler` (default 1): the first values of a learned s.
- `bias_term` (default false): adds b.
- `bias_filler` (default 0): the first values of b.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...blob import Blob
from ...device import array_module
from ...layer import Blobs, Layer, register
from ...ops.channels import affine, affine_gradients
from ...proto.caffe_pb2 import FillerParameter
from .bias import covered_axes, covered_shape


@register("Scale")
class Scale(Layer):
    keeps_coordinates = True
    min_bottoms = 1
    max_bottoms = 2
    exact_tops = 1
    can_overwrite = True
    reads_tops = False

    @property
    def reads_bottoms(self) -> bool:
        return len(self.param.bottom) == 2 or self.param_propagate_down[0]

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
        affine(x, scale, shift, top[0].data_out.reshape(self.axes))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        x, dy = bottom[0].data_in.reshape(self.axes), top[0].diff_in.reshape(self.axes)
        xp = array_module(x)
        by_bottom, by_bias = len(bottom) == 2, self.param.scale_param.bias_term and self.param_propagate_down[-1]
        wants_scale = propagate_down[1] if by_bottom else self.param_propagate_down[0]
        if wants_scale or by_bias:
            products, sums = xp.empty((2, self.axes[1]), x.dtype)
            affine_gradients(x, dy, products, sums)
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
            # Caffe leaves this product in the bottom's gradient unless s covers all of x, and scripts see it. With
            # `propagate_down: false` it must not be there, because a Split layer below would add it up.
            xp.multiply(x, dy, out=bottom[0].diff_out.reshape(self.axes))

    def _scale(self, bottom: Blobs) -> Blob:
        return bottom[1] if len(bottom) == 2 else self.blobs[0]

    def multiply_adds(self, bottom: Blobs, top: Blobs) -> int:
        return top[0].count
