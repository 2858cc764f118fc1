"""BNLL: `y = log(1 + exp(x))`, the binomial normal log likelihood   (bnll_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

In place the gradient takes y for x, as Caffe's does: models that were trained so go on as they began.
"""

from __future__ import annotations

from ..device import array_module
from ..layer import register
from ._neuron import Neuron

LARGEST_EXPONENT = 50  # in the gradient, which is dy from there on


@register("BNLL")
class BNLL(Neuron):
    def values(self, x, y):
        """max(x, 0) + log(1 + exp(-|x|)), which cannot overflow."""
        xp = array_module(x)
        rest = xp.log1p(xp.exp(-xp.abs(x)))
        xp.maximum(x, 0, out=y)
        y += rest

    def gradient(self, x, y, dy, dx):
        xp = array_module(x)
        slope = xp.exp(xp.minimum(x, LARGEST_EXPONENT))
        slope /= slope + 1
        xp.multiply(dy, slope, out=dx)
