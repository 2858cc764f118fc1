"""ELU: `y = x` where x > 0, else `alpha * (exp(x) - 1)`   (elu_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

Clevert, Unterthiner and Hochreiter, Fast and accurate deep network learning by exponential linear units, 2015.

`elu_param`:
- `alpha` (default 1): y approaches -alpha for very negative x.

Differences from Caffe: in place with a negative `alpha` the gradient is right.
"""

from __future__ import annotations

import numpy as np

from ...device import elementwise
from ...layer import Blobs, register
from ._neuron import Neuron


@register("ELU")
class ELU(Neuron):
    reads_tops = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.alpha = self.param.elu_param.alpha
        self.reads_bottoms = self.alpha < 0  # else y > 0 exactly where x > 0

    def values(self, x, y):
        elu(x, alpha=self.alpha, out=y)

    def gradient(self, x, y, dy, dx):
        elu_gradient(x if self.reads_bottoms else y, y, dy, alpha=self.alpha, out=dx)


@elementwise(numpy=True)
def elu(x, *, alpha, zero=0, one=1):
    return np.maximum(x, zero) + alpha * (np.exp(np.minimum(x, zero)) - one)


@elementwise
def elu_gradient(x, y, dy, *, alpha):
    return dy if x > 0 else dy * (alpha + y)
