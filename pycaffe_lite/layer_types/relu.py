"""ReLU: `y = max(x, 0) + negative_slope * min(x, 0)`   (relu_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

`relu_param`:
- `negative_slope` (default 0): the slope where x is negative.
- `engine` (default DEFAULT): ignored.

Differences from Caffe: in place with a `negative_slope` below 0 the gradient is right.
"""

from __future__ import annotations

from ..device import kernel, prange
from ..layer import Blobs, register
from ._neuron import Neuron


@register("ReLU")
class ReLU(Neuron):
    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.slope = self.param.relu_param.negative_slope
        self.reads_input = self.slope < 0  # otherwise y is positive where x is

    def values(self, x, y):
        relu_forward(x, x.dtype.type(self.slope), y)

    def gradient(self, x, y, dy, dx):
        relu_backward(x, dy, x.dtype.type(self.slope), dx)


@kernel
def relu_forward(x, slope, y):
    for i in prange(x.size):
        y[i] = x[i] if x[i] > 0 else slope * x[i]


@kernel
def relu_backward(x, dy, slope, dx):
    for i in prange(x.size):
        dx[i] = dy[i] if x[i] > 0 else slope * dy[i]
