"""ContrastiveLoss: pulls similar pairs together, pushes others apart up to a margin   (contrastive_loss_layer.cpp).

    loss = sum of d^2 (similar) or max(margin - d, 0)^2 (not similar), over 2 N,   d = |a - b|

bottom[0], bottom[1]: `N x C` (`x 1 x 1`) features a and b.   bottom[2]: `N` labels; a nonzero integer part means similar.
top[0]: scalar.

Hadsell, Chopra and LeCun, Dimensionality reduction by learning an invariant mapping, 2006.

`contrastive_loss_param`:
- `margin` (default 1): pairs that are not similar have no loss from this distance on.
- `legacy_version` (default false): uses `max(margin - d^2, 0)` for these pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, register
from ._loss import Loss

EPSILON = 1e-4  # keeps the gradient finite where a = b


@register("ContrastiveLoss")
class ContrastiveLoss(Loss):
    exact_bottoms = 3

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.margin = self.param.contrastive_loss_param.margin
        self.legacy = self.param.contrastive_loss_param.legacy_version
        self.difference = self.new_blob()

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        a, b, labels = bottom
        if a.channels != b.channels or any(blob.height * blob.width != 1 for blob in (a, b)):
            raise NetError(f"expected two bottoms of the same shape N x C (x 1 x 1), received {a} and {b}")
        if labels.count != a.shape[0]:
            raise NetError(f"expected {a.shape[0]} labels, one for each pair, received {labels}")
        self.difference.reshape(a.shape[0], a.channels)
        self.pairs = max(a.shape[0], 1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        difference = self.difference.data_out
        a, b = (blob.data_in.reshape(difference.shape) for blob in bottom[:2])
        xp = array_module(a)
        xp.subtract(a, b, out=difference)
        square, _, gap, similar = self._pairs(bottom, difference)
        losses = xp.where(similar, square, gap if self.legacy else gap * gap)
        top[0].data_out[...] = losses.sum(dtype=np.float64) / (2 * self.pairs)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        difference = self.difference.data_in
        xp = array_module(difference)
        _, distance, gap, similar = self._pairs(bottom, difference)
        pull = xp.where(similar, 1, -xp.sign(gap) if self.legacy else -gap / (distance + EPSILON))
        pull = (pull * (float(top[0].diff_in) / self.pairs)).reshape(-1, 1)
        for blob, propagate, sign in zip(bottom[:2], propagate_down[:2], (1, -1), strict=True):
            if propagate:
                xp.multiply(difference, sign * pull, out=blob.diff_out.reshape(difference.shape))

    def _pairs(self, bottom: Blobs, difference):
        """For each pair: d^2, d, how far it is inside the margin (at least 0), and whether it is similar."""
        xp = array_module(difference)
        square = xp.einsum("nc,nc->n", difference, difference)
        distance = xp.sqrt(square)
        gap = xp.maximum(self.margin - (square if self.legacy else distance), 0)
        return square, distance, gap, xp.trunc(bottom[2].data_in.reshape(-1)) != 0

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 2
