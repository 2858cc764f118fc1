"""TanH: `y = tanh(x)`   (tanh_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

`tanh_param`:
- `engine` (default DEFAULT): ignored.
"""

from __future__ import annotations

import numpy as np

from ...device import elementwise
from ...layer import register
from ._neuron import Neuron


@register("TanH")
class TanH(Neuron):
    reads_tops = True

    def values(self, x, y):
        tanh(x, out=y)

    def gradient(self, x, y, dy, dx):
        tanh_gradient(y, dy, out=dx)


@elementwise(numpy=True)
def tanh(x):
    return np.tanh(x)


@elementwise
def tanh_gradient(y, dy, *, one=1):
    return dy * (one - y * y)
