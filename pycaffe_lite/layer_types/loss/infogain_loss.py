"""InfogainLoss: SoftmaxWithLoss with a weight for each pair of label and class   (infogain_loss_layer.cpp).

    loss = the mean of -(sum over classes c of H[label, c] log(p[c])),   p = softmax(x)

bottom[0]: `N x C x ...` scores x.   bottom[1]: labels from 0 to C - 1, one for each prediction.
bottom[2], or the file `source`: H, `C x C` values, which get no gradient. With the identity this is SoftmaxWithLoss.
top[0]: scalar.   top[1], optional: p; both tops then need a `loss_weight`.

Inside the logarithm probabilities are at least 1e-20. `ignore_label` and `normalization` (default VALID) of `loss_param` are
used; `normalize` is refused, as in Caffe.

`infogain_loss_param`:
- `source` (default none): a binaryproto with H; by default H is bottom[2].
- `axis` (default 1): the axis of the classes, may be negative.

Differences from Caffe: a label out of range is an error; Caffe reads outside of H.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, register
from ...ops.softmax import softmax
from ...proto.caffe_pb2 import LayerParameter
from ...proto.model_file import decode_blob, read_message
from ._loss import SMALLEST_PROBABILITY, NormalizedLoss, check_label_count, class_labels, three_axes


@register("InfogainLoss")
class InfogainLoss(NormalizedLoss):
    exact_bottoms = None
    min_bottoms = 2
    max_bottoms = 3
    exact_tops = None
    min_tops = 1
    max_tops = 2

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        if self.param.loss_param.HasField("normalize"):
            raise NetError("this layer type never had loss_param.normalize: use normalization")
        if len(top) > 1 and not self.param.loss_weight:
            raise NetError("with 2 tops, the loss and the probabilities, a loss_weight is needed for each")
        self.prob = self.new_blob()
        self.matrix = self.new_blob() if len(bottom) < 3 else bottom[2]
        if len(bottom) < 3:
            source = self.param.infogain_loss_param.source
            if not source:
                raise NetError("the matrix H is needed, as a third bottom or as a file, infogain_loss_param.source")
            values = decode_blob(read_message(source, "BlobProto")).data
            self.matrix.reshape(values.size)
            self.matrix.data[...] = values

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        super().reshape(bottom, top)
        axis = bottom[0].axis(self.param.infogain_loss_param.axis)
        check_label_count(bottom[1], bottom[0], axis)
        self.prob.reshape(three_axes(bottom[0], axis))
        classes = self.prob.shape[1]
        if self.matrix.count != classes**2:
            raise NetError(f"expected a matrix H of {classes} x {classes}, received {self.matrix}")
        if len(top) > 1:
            top[1].reshape_like(bottom[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        prob = self.prob.data_out
        softmax(bottom[0].data_in.reshape(prob.shape), prob, 1)
        rows, counted = self._rows(bottom)
        xp = array_module(prob)
        losses = rows * xp.log(xp.maximum(prob, SMALLEST_PROBABILITY)) * counted
        top[0].data_out[...] = -losses.sum(dtype=np.float64) / self._divisor(counted)
        if len(top) > 1:
            top[1].data_out[...] = prob.reshape(top[1].shape)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """The gradient is (p * (sum of H's row) - H's row) / divisor, and 0 where the label is ignored."""
        if any(propagate_down[1:]):
            raise NetError("labels and the matrix H have no gradient: bottoms 1 and 2 cannot be propagated to")
        if not propagate_down[0]:
            return
        prob = self.prob.data_in
        rows, counted = self._rows(bottom)
        weight = float(top[0].diff_in) / self._divisor(counted)
        dx = bottom[0].diff_out.reshape(prob.shape)
        array_module(prob).multiply(prob, rows.sum(axis=1, keepdims=True), out=dx)
        dx -= rows
        dx *= counted * prob.dtype.type(weight)

    def _rows(self, bottom: Blobs):
        """The row of H for each prediction, in the shape of `prob`, and which predictions count (with class axis 1)."""
        outer, classes, inner = self.prob.shape
        labels, counted = class_labels(bottom[1].data_in.reshape(outer, inner), classes, self.ignore_label)
        rows = self.matrix.data_in.reshape(classes, classes)[labels]
        return rows.swapaxes(1, 2), counted.reshape(outer, 1, inner)

    def _divisor(self, counted) -> float:
        outer, _, inner = self.prob.shape
        return self.divisor(outer * inner, int(counted.sum()), outer)

    @classmethod
    def files_for_setup(cls, param: LayerParameter) -> Iterable[tuple[str, str]]:
        source = param.infogain_loss_param.source
        return [("source", source)] if source and len(param.bottom) < 3 else []
