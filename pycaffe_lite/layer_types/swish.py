"""Swish: `y = x * sigmoid(beta * x)`   (swish_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

Ramachandran, Zoph and Le, Searching for activation functions, 2017.

`swish_param`:
- `beta` (default 1): factor on x inside of the sigmoid.
"""

from __future__ import annotations

from ..device import array_module, kernel, prange
from ..layer import Blobs, register
from ._neuron import Neuron


@register("Swish")
class Swish(Neuron):
    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.beta = self.param.swish_param.beta
        self.sigmoid = self.new_blob()

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.sigmoid.reshape(bottom[0].count)

    def values(self, x, y):
        xp = array_module(x)
        sigmoid = self.sigmoid.data_out
        xp.multiply(x, self.beta / 2, out=sigmoid)
        xp.tanh(sigmoid, out=sigmoid)
        sigmoid *= 0.5
        sigmoid += 0.5
        xp.multiply(x, sigmoid, out=y)

    def gradient(self, x, y, dy, dx):
        swish_backward(self.sigmoid.data_in, y, dy, y.dtype.type(self.beta), dx)


@kernel
def swish_backward(sigmoid, y, dy, beta, dx):
    one = y.dtype.type(1)
    for i in prange(y.size):
        dx[i] = dy[i] * (beta * y[i] + sigmoid[i] * (one - beta * y[i]))
