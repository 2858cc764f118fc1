"""AbsVal: `y = |x|`, with a gradient of 0 at 0   (absval_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

Differences from Caffe: works in place, which Caffe refuses.
"""

from __future__ import annotations

from ..device import array_module
from ..layer import register
from ._neuron import Neuron


@register("AbsVal")
class AbsVal(Neuron):
    reads_input = True

    def values(self, x, y):
        array_module(x).abs(x, out=y)

    def gradient(self, x, y, dy, dx):
        xp = array_module(x)
        xp.multiply(dy, xp.sign(x), out=dx)
