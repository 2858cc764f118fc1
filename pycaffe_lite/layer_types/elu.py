"""ELU: `y = x` where x > 0, else `alpha * (exp(x) - 1)`   (elu_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

Clevert, Unterthiner and Hochreiter, Fast and accurate deep network learning by exponential linear units, 2015.

`elu_param`:
- `alpha` (default 1): the limit, negated, for very negative x.

Differences from Caffe: in place with a negative `alpha` the gradient is right.
"""

from __future__ import annotations

from ..device import array_module, kernel, prange
from ..layer import Blobs, register
from ._neuron import Neuron


@register("ELU")
class ELU(Neuron):
    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.alpha = self.param.elu_param.alpha
        self.reads_input = self.alpha < 0  # otherwise y is positive where x is

    def values(self, x, y):
        xp = array_module(x)
        below = xp.minimum(x, 0)
        xp.exp(below, out=below)  # NumPy's runs in vectors, which a compiled loop over libm's does not
        below -= 1
        below *= self.alpha
        xp.maximum(x, 0, out=y)
        y += below

    def gradient(self, x, y, dy, dx):
        elu_backward(x, y, dy, x.dtype.type(self.alpha), dx)


@kernel
def elu_backward(x, y, dy, alpha, dx):
    for i in prange(x.size):
        dx[i] = dy[i] if x[i] > 0 else dy[i] * (alpha + y[i])
