"""Accuracy: the share of items whose label is among the `top_k` best scores   (accuracy_layer.cpp).

bottom[0]: `N x C x ...` scores.   bottom[1]: labels from 0 to C - 1, one for each prediction.
top[0]: scalar.   top[1], optional: `C`, the accuracy of each class, 0 for a class that does not occur.

An item is right if fewer than `top_k` other classes score at least as high as its own, so a tie counts against it. There is
no gradient. If all labels are ignored the accuracy is 0.

`accuracy_param`:
- `top_k` (default 1): how many of the best scores count, at most C.
- `axis` (default 1): the axis of the classes, may be negative.
- `ignore_label` (default none): items with this label do not count.

Differences from Caffe: a label out of range is an error; Caffe reads outside of the scores.
"""

from __future__ import annotations

import numpy as np

from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, Layer, register
from ._loss import check_label_count, class_labels, three_axes


@register("Accuracy")
class Accuracy(Layer):
    is_result = True
    exact_bottoms = 2
    min_tops = 1
    max_tops = 2

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.accuracy_param
        self.top_k = param.top_k
        self.ignore_label = param.ignore_label if param.HasField("ignore_label") else None

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        axis = bottom[0].axis(self.param.accuracy_param.axis)
        self.axes = three_axes(bottom[0], axis)
        check_label_count(bottom[1], bottom[0], axis)
        if self.top_k > self.axes[1]:
            raise NetError(f"expected top_k to be at most the number of classes, {self.axes[1]}, received {self.top_k}")
        top[0].reshape(())
        if len(top) > 1:
            top[1].reshape(self.axes[1])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        outer, classes, inner = self.axes
        scores = bottom[0].data_in.reshape(self.axes)
        xp = array_module(scores)
        labels, counted = class_labels(bottom[1].data_in.reshape(outer, 1, inner), classes, self.ignore_label)
        better_or_equal = (scores >= xp.take_along_axis(scores, labels, 1)).sum(axis=1, keepdims=True) - 1
        right = (better_or_equal < self.top_k) & counted
        top[0].data_out[...] = right.sum() / max(int(counted.sum()), 1)
        if len(top) > 1:
            of_class = xp.bincount(labels[counted], minlength=classes)
            right_of_class = xp.bincount(labels[right], minlength=classes)
            top[1].data_out[...] = right_of_class / xp.maximum(of_class, 1).astype(np.float64)
