"""TanH: `y = tanh(x)`   (tanh_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

`tanh_param`:
- `engine` (default DEFAULT): ignored.
"""

from __future__ import annotations

from ..device import array_module, kernel, prange
from ..layer import register
from ._neuron import Neuron


@register("TanH")
class TanH(Neuron):
    def values(self, x, y):
        array_module(x).tanh(x, out=y)  # NumPy's runs in vectors, which a compiled loop over libm's does not

    def gradient(self, x, y, dy, dx):
        tanh_backward(y, dy, dx)


@kernel
def tanh_backward(y, dy, dx):
    one = y.dtype.type(1)
    for i in prange(y.size):
        dx[i] = dy[i] * (one - y[i] * y[i])
