"""SigmoidCrossEntropyLoss: a logistic loss for each element   (sigmoid_cross_entropy_loss_layer.cpp).

    loss = the sum of -(t log(p) + (1 - t) log(1 - p)), divided as `normalization` says,   p = 1 / (1 + exp(-x))

bottom[0]: `N x ...` scores x.   bottom[1]: as many targets t from 0 to 1, which get no gradient.   top[0]: scalar.

The integer part of a target is compared with `ignore_label` of `loss_param`. `normalization` is BATCH_SIZE by default; FULL
and VALID count elements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, register
from ...proto.caffe_pb2 import LossParameter
from ._loss import NormalizedLoss, refuse_gradient_of_labels


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(NormalizedLoss):
    default_normalization = LossParameter.BATCH_SIZE

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        if bottom[0].count != bottom[1].count:
            raise NetError(f"expected as many targets as scores, received {bottom[1]} for {bottom[0]}")

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, targets = (blob.data_in.reshape(-1) for blob in bottom)
        xp = array_module(x)
        losses = xp.log1p(xp.exp(-abs(x)))  # plus max(x, 0) this is log(1 + exp(x)), without overflow
        losses += xp.maximum(x, 0) - x * targets
        counted = self._counted(targets)
        total = xp.where(counted, losses, 0).sum(dtype=np.float64)
        top[0].data_out[...] = total / self._divisor(bottom, counted)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """The gradient is (p - t) / divisor, and 0 where the target is ignored."""
        refuse_gradient_of_labels(propagate_down, "targets")
        if not propagate_down[0]:
            return
        x, targets = (blob.data_in.reshape(-1) for blob in bottom)
        counted = self._counted(targets)
        weight = float(top[0].diff_in) / self._divisor(bottom, counted)
        dx = bottom[0].diff_out.reshape(-1)
        array_module(x).tanh(x / 2, out=dx)  # p = tanh(x / 2) / 2 + 1 / 2
        dx /= 2
        dx += x.dtype.type(0.5) - targets
        dx *= x.dtype.type(weight)
        array_module(x).copyto(dx, 0, where=~counted)

    def _counted(self, targets):
        xp = array_module(targets)
        return xp.ones(targets.shape, bool) if self.ignore_label is None else xp.trunc(targets) != self.ignore_label

    def _divisor(self, bottom: Blobs, counted) -> float:
        return self.divisor(bottom[0].count, int(counted.sum()), bottom[0].shape[0])
