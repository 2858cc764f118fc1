"""Exp: `y = base ^ (shift + scale * x)`   (exp_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

`exp_param`:
- `base` (default -1): positive, or -1 for e.
- `scale` (default 1): factor on x.
- `shift` (default 0): added to scale * x.
"""

from __future__ import annotations

import math

from ..device import array_module
from ..errors import NetError
from ..layer import Blobs, register
from ._neuron import Neuron


@register("Exp")
class Exp(Neuron):
    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.exp_param
        log_base = log_of_base(param.base)
        self.scale, self.shift = log_base * param.scale, log_base * param.shift

    def values(self, x, y):
        xp = array_module(x)
        xp.multiply(x, self.scale, out=y)
        y += self.shift
        xp.exp(y, out=y)

    def gradient(self, x, y, dy, dx):
        array_module(y).multiply(dy, y, out=dx)
        dx *= self.scale


def log_of_base(base: float) -> float:
    """The natural logarithm of the `base` of Exp and Log, where -1 stands for e."""
    if base == -1:
        return 1.0
    if not 0 < base < math.inf:
        raise NetError(f"expected a positive base, or -1 for e, received {base:g}")
    return math.log(base)
