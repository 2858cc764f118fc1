"""HingeLoss: how far scores are on the wrong side of a margin of 1   (hinge_loss_layer.cpp).

    h = max(0, 1 - s x),   s = 1 for the label and -1 for all other classes
    loss = the sum of h (L1) or of h^2 (L2), over N

bottom[0]: `N x C x ...` scores x; all axes but the first count as classes.   bottom[1]: `N` labels from 0 on.
top[0]: scalar.

`hinge_loss_param`:
- `norm` (default L1): L1 or L2.

Differences from Caffe: a label out of range is an error; Caffe writes outside of the scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...device import array_module
from ...layer import Blobs, register
from ...proto.caffe_pb2 import HingeLossParameter
from ._loss import ItemLoss, class_labels, refuse_gradient_of_labels


@register("HingeLoss")
class HingeLoss(ItemLoss):
    def forward(self, bottom: Blobs, top: Blobs) -> None:
        _, hinge = self._hinge(bottom)
        if self.param.hinge_loss_param.norm == HingeLossParameter.L2:
            hinge *= hinge
        top[0].data_out[...] = hinge.sum(dtype=np.float64) / max(self.items, 1)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """The gradient is -s where h > 0 (L1), or -2 s h (L2), over N."""
        refuse_gradient_of_labels(propagate_down)
        if not propagate_down[0]:
            return
        side, hinge = self._hinge(bottom)
        xp = array_module(hinge)
        pull = 2 * hinge if self.param.hinge_loss_param.norm == HingeLossParameter.L2 else xp.sign(hinge)
        weight = float(top[0].diff_in) / max(self.items, 1)
        xp.multiply(pull, side * -weight, out=bottom[0].diff_out.reshape(hinge.shape))

    def _hinge(self, bottom: Blobs):
        """s and h, items x classes"""
        x = bottom[0].data_in.reshape(self.items, self.classes)
        labels, _ = class_labels(bottom[1].data_in.reshape(-1, 1), self.classes, None)
        xp = array_module(x)
        side = xp.where(labels == xp.arange(self.classes), x.dtype.type(1), x.dtype.type(-1))
        return side, xp.maximum(1 - side * x, 0)
