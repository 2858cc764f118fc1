"""Clip: `y = min(max(x, min), max)`; the gradient passes within the bounds, bounds included   (clip_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

`clip_param`:
- `min` (required): the lower bound.
- `max` (required): the upper bound.

Differences from Caffe: in place the gradient is that of x, 0 outside of the bounds; in Caffe it passes everywhere. A missing
`clip_param` is an error; Caffe clips to 0.
"""

from __future__ import annotations

import numpy as np

from ...device import elementwise
from ...errors import NetError
from ...layer import Blobs, register
from ._neuron import Neuron


@register("Clip")
class Clip(Neuron):
    reads_bottoms = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        if not self.param.HasField("clip_param"):
            raise NetError("expected clip_param with min and max, received none")
        self.min, self.max = self.param.clip_param.min, self.param.clip_param.max

    def values(self, x, y):
        clip(x, low=self.min, high=self.max, out=y)

    def gradient(self, x, y, dy, dx):
        clip_gradient(x, dy, low=self.min, high=self.max, out=dx)


@elementwise(numpy=True)
def clip(x, *, low, high):
    return np.maximum(np.minimum(x, high), low)


@elementwise
def clip_gradient(x, dy, *, low, high, zero=0):
    return dy if low <= x <= high else dy * zero
