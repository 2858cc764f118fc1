"""Swish: `y = x * sigmoid(beta * x)`   (swish_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

Ramachandran, Zoph and Le, Searching for activation functions, 2017.

`swish_param`:
- `beta` (default 1): factor on x inside of the sigmoid.
"""

from __future__ import annotations

import numpy as np

from ...device import elementwise
from ...layer import Blobs, register
from ._neuron import Neuron


@register("Swish")
class Swish(Neuron):
    reads_tops = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.beta = self.param.swish_param.beta
        self.sigmoid = self.new_blob()

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.sigmoid.reshape(bottom[0].count)

    def values(self, x, y):
        swish(x, beta=self.beta, out=(y, self.sigmoid.data_out))

    def gradient(self, x, y, dy, dx):
        swish_gradient(self.sigmoid.data_in, y, dy, beta=self.beta, out=dx)


@elementwise(numpy=True)
def swish(x, *, beta, half=0.5):
    """The result, and the sigmoid of beta * x for the gradient."""
    sigmoid = np.tanh(x * (beta * half)) * half + half
    return x * sigmoid, sigmoid


@elementwise
def swish_gradient(sigmoid, y, dy, *, beta, one=1):
    return dy * (beta * y + sigmoid * (one - beta * y))
