"""Sigmoid: `y = 1 / (1 + exp(-x))`, computed as tanh(x / 2) / 2 + 1 / 2, which cannot overflow   (sigmoid_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

`sigmoid_param`:
- `engine` (default DEFAULT): ignored.
"""

from __future__ import annotations

from ..device import array_module, kernel, prange
from ..layer import register
from ._neuron import Neuron


@register("Sigmoid")
class Sigmoid(Neuron):
    def values(self, x, y):
        xp = array_module(x)
        xp.multiply(x, 0.5, out=y)
        xp.tanh(y, out=y)  # NumPy's runs in vectors, which a compiled loop over libm's does not
        y *= 0.5
        y += 0.5

    def gradient(self, x, y, dy, dx):
        sigmoid_backward(y, dy, dx)


@kernel
def sigmoid_backward(y, dy, dx):
    one = y.dtype.type(1)
    for i in prange(y.size):
        dx[i] = dy[i] * y[i] * (one - y[i])
