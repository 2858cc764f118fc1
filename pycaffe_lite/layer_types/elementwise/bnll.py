"""BNLL: `y = log(1 + exp(x))`, the binomial normal log likelihood   (bnll_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

In place the gradient uses y for x, as in Caffe, so that models which were trained in this way train on unchanged.
"""

from __future__ import annotations

import numpy as np

from ...device import elementwise
from ...layer import register
from ._neuron import Neuron

LARGEST_EXPONENT = 50  # from here on the gradient is dy


@register("BNLL")
class BNLL(Neuron):
    reads_bottoms = True
    stays_in_place = True

    def values(self, x, y):
        bnll(x, out=y)

    def gradient(self, x, y, dy, dx):
        bnll_gradient(x, dy, out=dx)


@elementwise(numpy=True)
def bnll(x, *, zero=0):
    """max(x, 0) + log(1 + exp(-|x|)), which cannot overflow."""
    return np.maximum(x, zero) + np.log1p(np.exp(-np.abs(x)))


@elementwise(numpy=True)
def bnll_gradient(x, dy, *, largest=LARGEST_EXPONENT, one=1):
    slope = np.exp(np.minimum(x, largest))
    return dy * (slope / (slope + one))
