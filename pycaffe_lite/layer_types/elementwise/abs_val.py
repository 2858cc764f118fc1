"""AbsVal: `y = |x|`, with a gradient of 0 at 0   (absval_layer.cpp).

bottom[0]: any shape.   top[0]: the same shape, another blob.
"""

from __future__ import annotations

import numpy as np

from ...device import elementwise
from ...errors import NetError
from ...layer import Blobs, register
from ._neuron import Neuron


@register("AbsVal")
class AbsVal(Neuron):
    reads_bottoms = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        if top[0] is bottom[0]:
            raise NetError("an AbsVal cannot work in place: give its top a name of its own")

    def values(self, x, y):
        absolute(x, out=y)

    def gradient(self, x, y, dy, dx):
        absolute_gradient(x, dy, out=dx)


@elementwise
def absolute(x):
    return np.abs(x)


@elementwise
def absolute_gradient(x, dy):
    return dy * np.sign(x)
