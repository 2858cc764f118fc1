"""Dropout: `y = 0` with probability `dropout_ratio`, else `x / (1 - dropout_ratio)`; in TEST `y = x`   (dropout_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014.

`dropout_param`:
- `dropout_ratio` (default 0.5): the probability of a 0; at least 0 and less than 1.

Differences from Caffe: a ratio of 1 is an error; Caffe checks it only in debug builds, and gives NaN.
"""

from __future__ import annotations

import numpy as np

from ...errors import NetError
from ...layer import Blobs, register
from ...ops.dropout import drop
from ...proto.caffe_pb2 import TRAIN
from ._neuron import Neuron


@register("Dropout")
class Dropout(Neuron):
    keeps_signs = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.ratio = self.param.dropout_param.dropout_ratio
        if not 0 <= self.ratio < 1:
            raise NetError(f"expected 0 <= dropout_ratio < 1, received {self.ratio:g}")
        self.key = np.uint64(0)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        if self.phase == TRAIN:
            self.key = self.rng.integers(2**64, dtype=np.uint64)
        elif top[0] is bottom[0]:
            return
        super().forward(bottom, top)

    def values(self, x, y):
        if self.phase == TRAIN:
            drop(x, y, self.key, self.ratio, 1 / (1 - self.ratio))
        else:
            y[...] = x

    def gradient(self, x, y, dy, dx):
        self.values(dy, dx)
