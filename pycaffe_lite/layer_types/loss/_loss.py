"""Bases of the loss layers (loss_layer.cpp), and reading of labels for losses and Accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ...blob import Blob
from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, Layer
from ...proto.caffe_pb2 import LossParameter

SMALLEST_PROBABILITY = 1e-20  # inside the logarithms of some losses


class Loss(Layer):
    """Computes a scalar to minimise from predictions and labels, which have equal first dimensions.

    bottom[0]: `N x ...` predictions.   bottom[1]: `N x ...` labels, which get no gradient.   top[0]: scalar.
    """

    exact_bottoms: int | None = 2
    exact_tops: int | None = 1
    auto_tops = True
    is_loss = True
    reads_tops = False

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        if not all(blob.num_axes for blob in bottom[:2]) or bottom[0].shape[0] != bottom[1].shape[0]:
            raise NetError(f"expected two bottoms with the same first dimension, received {bottom[0]} and {bottom[1]}")
        top[0].reshape(())

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 1


class ItemLoss(Loss):
    """A loss of `N x C x ...` predictions with a label for each of the N items; all axes but the first count as classes."""

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        self.items, self.classes = bottom[0].shape[0], bottom[0].count_from(1)
        if bottom[1].count != self.items:
            raise NetError(f"expected {self.items} labels, one for each item of {bottom[0]}, received {bottom[1]}")


class NormalizedLoss(Loss):
    """A loss that is divided as `loss_param` says, and that may ignore a label.

    `normalization`: VALID divides by the number of labels that are not ignored, FULL by the number of labels, BATCH_SIZE by
    the size of the batch, NONE by 1. Without it the old `normalize` is read: true is VALID, false is BATCH_SIZE.
    """

    default_normalization: ClassVar[int] = LossParameter.VALID

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.loss_param
        self.ignore_label = param.ignore_label if param.HasField("ignore_label") else None
        if param.HasField("normalization"):
            self.normalization: int = param.normalization
        elif param.HasField("normalize"):
            self.normalization = LossParameter.VALID if param.normalize else LossParameter.BATCH_SIZE
        else:
            self.normalization = self.default_normalization

    def divisor(self, labels: int, valid: int, batch: int) -> float:
        """The divisor of the loss: at least 1, so that a batch of ignored labels has a loss of 0."""
        divisors = {LossParameter.FULL: labels, LossParameter.VALID: valid, LossParameter.BATCH_SIZE: batch}
        return float(max(divisors.get(self.normalization, 1), 1))  # type: ignore[call-overload]


def refuse_gradient_of_labels(propagate_down: Sequence[bool], name: str = "labels") -> None:
    """Raises `NetError` if a gradient is wanted for bottom 1. `name` says what it has."""
    if propagate_down[1]:
        raise NetError(f"{name} have no gradient: bottom 1 cannot be propagated to")


def three_axes(blob: Blob, axis: int) -> tuple[int, int, int]:
    """The shape of `blob` as three axes: those before `axis`, `axis`, those after it."""
    return blob.count_from(0, axis), blob.shape[axis], blob.count_from(axis + 1)


def check_label_count(labels: Blob, scores: Blob, axis: int) -> None:
    """Raises `NetError` unless there is one label for each position of `scores` outside of the class axis."""
    outer, _, inner = three_axes(scores, axis)
    if labels.count != outer * inner:
        raise NetError(
            f"expected {outer * inner} labels, one for each prediction of {scores} along axis {axis}; received {labels}"
        )


def class_labels(labels: Any, classes: int, ignore_label: int | None) -> tuple[Any, Any]:
    """Labels as integers (truncated as in Caffe, not rounded), and a mask of the labels that count.

    An ignored label becomes class 0. Any other label outside 0 ... classes - 1 is an error; Caffe reads out of bounds.
    """
    xp = array_module(labels)
    classes_of = xp.trunc(labels)
    counted = xp.ones(classes_of.shape, bool) if ignore_label is None else classes_of != ignore_label
    wrong = counted & ~((classes_of >= 0) & (classes_of < classes))
    if wrong.any():
        ignored = "" if ignore_label is None else f" (or {ignore_label}, which is ignored)"
        raise NetError(f"expected labels from 0 to {classes - 1}{ignored}, received {float(labels[wrong][0]):g}")
    return xp.where(counted, classes_of, 0).astype(np.intp), counted
