"""MultinomialLogisticLoss: `loss = the mean of -log(p[label])`   (multinomial_logistic_loss_layer.cpp).

bottom[0]: `N x C x ...` probabilities p; all axes but the first count as classes.   bottom[1]: `N` labels from 0 on.
top[0]: scalar.

Probabilities are at least 1e-20. For scores, SoftmaxWithLoss is more exact than Softmax and this layer.

Differences from Caffe: a label out of range is an error; Caffe reads outside of the probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...device import array_module
from ...layer import Blobs, register
from ._loss import SMALLEST_PROBABILITY, ItemLoss, class_labels, refuse_gradient_of_labels


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(ItemLoss):
    def forward(self, bottom: Blobs, top: Blobs) -> None:
        _, prob = self._at_labels(bottom)
        total = -array_module(prob).log(prob).sum(dtype=np.float64)
        top[0].data_out[...] = total / max(self.items, 1)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """The gradient is -1 / (N p) at the label, and 0 elsewhere."""
        refuse_gradient_of_labels(propagate_down)
        if not propagate_down[0]:
            return
        labels, prob = self._at_labels(bottom)
        dx = bottom[0].diff_out.reshape(self.items, self.classes)
        dx[...] = 0
        weight = float(top[0].diff_in) / max(self.items, 1)
        dx[array_module(dx).arange(self.items), labels] = -weight / prob

    def _at_labels(self, bottom: Blobs):
        """The N labels, and their probabilities."""
        x = bottom[0].data_in.reshape(self.items, self.classes)
        labels, _ = class_labels(bottom[1].data_in.reshape(-1), self.classes, None)
        xp = array_module(x)
        return labels, xp.maximum(x[xp.arange(self.items), labels], SMALLEST_PROBABILITY)
