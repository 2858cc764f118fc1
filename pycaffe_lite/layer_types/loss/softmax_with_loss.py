"""SoftmaxWithLoss: `loss = the mean of -log(softmax(x)[label])`   (softmax_loss_layer.cpp).

bottom[0]: `N x C x ...` scores x.
bottom[1]: `N x ...` labels from 0 to C - 1, one for each prediction, in any shape of that count.   top[0]: scalar.

All fields of `loss_param` are used; `normalization` is VALID by default. Inside the logarithm probabilities are at least the
smallest normal float32.

`softmax_param`: as in Softmax.

Differences from Caffe: a label out of range is an error; Caffe reads outside of the scores. A second top is an error; Caffe
allows it and then fails over its loss weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, register
from ...ops.softmax import softmax
from ._loss import NormalizedLoss, check_label_count, class_labels, refuse_gradient_of_labels, three_axes

SMALLEST = float(np.finfo(np.float32).tiny)  # the least probability inside the logarithm


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(NormalizedLoss):
    exact_tops = None
    min_tops = 1
    max_tops = 2

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        if len(top) > 1:  # Caffe allows two tops, but then fails over their loss weights
            raise NetError("expected 1 top, received 2: for the probabilities, put a Softmax layer on the same bottom")
        self.prob = self.new_blob()

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        axis = bottom[0].axis(self.param.softmax_param.axis)
        check_label_count(bottom[1], bottom[0], axis)
        self.prob.reshape(three_axes(bottom[0], axis))

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        outer, classes, inner = self.prob.shape
        prob = self.prob.data_out
        softmax(bottom[0].data_in.reshape(prob.shape), prob, 1)
        labels, counted = class_labels(bottom[1].data_in.reshape(outer, 1, inner), classes, self.ignore_label)
        xp = array_module(prob)
        losses = xp.log(xp.maximum(xp.take_along_axis(prob, labels, 1), SMALLEST))
        total = -xp.where(counted, losses, 0).sum(dtype=np.float64)
        top[0].data_out[...] = total / self.divisor(outer * inner, int(counted.sum()), outer)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """The gradient is (softmax(x) - one at the label) / divisor, and 0 where the label is ignored."""
        refuse_gradient_of_labels(propagate_down)
        if not propagate_down[0]:
            return
        prob = self.prob.data_in
        outer, classes, inner = prob.shape
        xp = array_module(prob)
        labels, counted = class_labels(bottom[1].data_in.reshape(outer, 1, inner), classes, self.ignore_label)
        weight = float(top[0].diff_in) / self.divisor(outer * inner, int(counted.sum()), outer)
        dx = bottom[0].diff_out.reshape(prob.shape)
        xp.subtract(prob, labels == xp.arange(classes).reshape(1, classes, 1), out=dx)
        dx *= prob.dtype.type(weight)
        xp.copyto(dx, 0, where=~counted)
