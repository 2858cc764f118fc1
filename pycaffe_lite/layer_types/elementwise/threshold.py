"""Threshold: `y = 1` where x > threshold, else 0   (threshold_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

There is no gradient.

`threshold_param`:
- `threshold` (default 0): the bound; y is 0 at the bound.
"""

from __future__ import annotations

from ...device import elementwise
from ...errors import NetError
from ...layer import register
from ._neuron import Neuron


@register("Threshold")
class Threshold(Neuron):
    def values(self, x, y):
        above(x, threshold=self.param.threshold_param.threshold, out=y)

    def gradient(self, x, y, dy, dx):
        raise NetError("this layer type has no gradient")


@elementwise
def above(x, *, threshold, zero=0, one=1):
    return one if x > threshold else zero
