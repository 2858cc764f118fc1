"""Sigmoid: `y = 1 / (1 + exp(-x))`, computed as tanh(x / 2) / 2 + 1 / 2, which cannot overflow   (sigmoid_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

`sigmoid_param`:
- `engine` (default DEFAULT): ignored.
"""

from __future__ import annotations

import numpy as np

from ...device import elementwise
from ...layer import register
from ._neuron import Neuron


@register("Sigmoid")
class Sigmoid(Neuron):
    reads_tops = True

    def values(self, x, y):
        sigmoid(x, out=y)

    def gradient(self, x, y, dy, dx):
        sigmoid_gradient(y, dy, out=dx)


@elementwise(numpy=True)
def sigmoid(x, *, half=0.5):
    return np.tanh(x * half) * half + half


@elementwise
def sigmoid_gradient(y, dy, *, one=1):
    return dy * y * (one - y)
