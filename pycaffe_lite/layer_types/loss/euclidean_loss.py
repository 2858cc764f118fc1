"""EuclideanLoss: `loss = sum of (a - b)^2 / (2 N)`   (euclidean_loss_layer.cpp).

bottom[0], bottom[1]: a and b, `N x ...` with equal counts; their other axes may differ. Both get gradients.
top[0]: scalar.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, register
from ._loss import Loss


@register("EuclideanLoss")
class EuclideanLoss(Loss):
    reads_bottoms = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.difference = self.new_blob()

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        if bottom[0].count != bottom[1].count:
            raise NetError(f"expected two bottoms of equal counts, received {bottom[0]} and {bottom[1]}")
        self.difference.reshape(bottom[0].count)
        self.pairs = max(bottom[0].shape[0], 1)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        a, b, difference = bottom[0].data_in.reshape(-1), bottom[1].data_in.reshape(-1), self.difference.data_out
        xp = array_module(a)
        xp.subtract(a, b, out=difference)
        top[0].data_out[...] = xp.dot(difference, difference) / (2 * self.pairs)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        difference = self.difference.data_in
        weight = float(top[0].diff_in) / self.pairs
        for blob, propagate, factor in zip(bottom, propagate_down, (weight, -weight), strict=True):
            if propagate:
                array_module(difference).multiply(difference, factor, out=blob.diff_out.reshape(-1))

    def allow_force_backward(self, bottom_index: int) -> bool:
        return True
