"""ReLU: `y = max(x, 0) + negative_slope * min(x, 0)`   (relu_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

`relu_param`:
- `negative_slope` (default 0): the slope for negative x.
- `engine` (default DEFAULT): ignored.

Differences from Caffe: in place with a negative `negative_slope` the gradient is right.
"""

from __future__ import annotations

from ...device import elementwise
from ...layer import Blobs, register
from ._neuron import Neuron


@register("ReLU")
class ReLU(Neuron):
    reads_only_signs = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.slope = self.param.relu_param.negative_slope
        self.reads_bottoms = self.slope < 0  # else y > 0 exactly where x > 0
        self.reads_tops = self.keeps_signs = not self.reads_bottoms

    def values(self, x, y):
        relu(x, slope=self.slope, out=y)

    def gradient(self, x, y, dy, dx):
        relu_gradient(x if self.reads_bottoms else y, dy, slope=self.slope, out=dx)


@elementwise
def relu(x, *, slope):
    return x if x > 0 else slope * x


@elementwise
def relu_gradient(x, dy, *, slope):
    return dy if x > 0 else slope * dy
