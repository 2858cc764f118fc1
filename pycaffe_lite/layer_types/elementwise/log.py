"""Log: `y = logarithm of (shift + scale * x) to a base`   (log_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

`log_param`:
- `base` (default -1): positive and not 1, or -1 for e.
- `scale` (default 1): factor on x.
- `shift` (default 0): added to scale * x.

Differences from Caffe: in place the gradient is right; Caffe uses y for x.
"""

from __future__ import annotations

import numpy as np

from ...device import elementwise
from ...errors import NetError
from ...layer import Blobs, register
from ._neuron import Neuron
from .exp import log_of_base


@register("Log")
class Log(Neuron):
    reads_bottoms = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.log_param
        self.log_base = log_of_base(param.base)
        if self.log_base == 0:
            raise NetError("there is no logarithm to the base 1")
        self.scale, self.shift = param.scale, param.shift

    def values(self, x, y):
        logarithm(x, scale=self.scale, shift=self.shift, log_base=self.log_base, out=y)

    def gradient(self, x, y, dy, dx):
        logarithm_gradient(x, dy, scale=self.scale, shift=self.shift, factor=self.scale / self.log_base, out=dx)


@elementwise(numpy=True)
def logarithm(x, *, scale, shift, log_base):
    return np.log(x * scale + shift) / log_base


@elementwise
def logarithm_gradient(x, dy, *, scale, shift, factor):
    return dy / (x * scale + shift) * factor
