"""AbsVal: `y = |x|`, with a gradient of 0 at 0   (absval_layer.cpp).

bottom[0]: any shape.   top[0]: the same shape, another blob.
"""

from __future__ import annotations

from ..device import array_module
from ..errors import NetError
from ..layer import Blobs, register
from ._neuron import Neuron


@register("AbsVal")
class AbsVal(Neuron):
    reads_input = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        if top[0] is bottom[0]:
            raise NetError("an AbsVal cannot work in place: give its top a name of its own")

    def values(self, x, y):
        array_module(x).abs(x, out=y)

    def gradient(self, x, y, dy, dx):
        xp = array_module(x)
        xp.multiply(dy, xp.sign(x), out=dx)
