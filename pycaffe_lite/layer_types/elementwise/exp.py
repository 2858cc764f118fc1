"""Exp: `y = base ^ (shift + scale * x)`   (exp_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

`exp_param`:
- `base` (default -1): positive, or -1 for e.
- `scale` (default 1): factor on x.
- `shift` (default 0): added to scale * x.
"""

from __future__ import annotations

import math

import numpy as np

from ...device import elementwise
from ...errors import NetError
from ...layer import Blobs, register
from ._neuron import Neuron


@register("Exp")
class Exp(Neuron):
    reads_tops = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.exp_param
        log_base = log_of_base(param.base)
        self.scale, self.shift = log_base * param.scale, log_base * param.shift

    def values(self, x, y):
        exponential(x, scale=self.scale, shift=self.shift, out=y)

    def gradient(self, x, y, dy, dx):
        exponential_gradient(y, dy, scale=self.scale, out=dx)


@elementwise(numpy=True)
def exponential(x, *, scale, shift):
    return np.exp(x * scale + shift)


@elementwise
def exponential_gradient(y, dy, *, scale):
    return dy * y * scale


def log_of_base(base: float) -> float:
    """The natural logarithm of the `base` of Exp and Log; -1 stands for e."""
    if base == -1:
        return 1.0
    if not 0 < base < math.inf:
        raise NetError(f"expected a positive base, or -1 for e, received {base:g}")
    return math.log(base)
