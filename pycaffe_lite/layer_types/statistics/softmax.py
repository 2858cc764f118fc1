"""Softmax: `y = exp(x) / sum of exp(x)` along an axis   (softmax_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

`softmax_param`:
- `engine` (default DEFAULT): ignored.
- `axis` (default 1): the axis of the classes, may be negative.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...layer import Blobs, Layer, register
from ...ops.softmax import softmax, softmax_gradient


@register("Softmax")
class Softmax(Layer):
    exact_bottoms = 1
    exact_tops = 1
    can_overwrite = True
    reads_bottoms = False

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.axis = bottom[0].axis(self.param.softmax_param.axis)
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        softmax(bottom[0].data_in, top[0].data_out, self.axis)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            softmax_gradient(top[0].data_in, top[0].diff_in, bottom[0].diff_out, self.axis)
