"""BatchReindex: `y[i] = x[index[i]]`; selects, reorders or repeats items of a batch   (batch_reindex_layer.cpp).

bottom[0]: `N x ...`.   bottom[1]: `M` indices from 0 to N - 1, which get no gradient.   top[0]: `M x ...`.

If an item is repeated, its gradients add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...blob import Blob
from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, Layer, register
from ...ops.rows import add_rows, row_indices


@register("BatchReindex")
class BatchReindex(Layer):
    exact_bottoms = 2
    exact_tops = 1
    reads_tops = False

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        x, indices = bottom
        if not x.num_axes or indices.num_axes != 1:
            raise NetError(f"expected bottoms N x ... and M, received {x} and {indices}")
        self.columns = x.count_from(1)
        top[0].reshape(*indices.shape, *x.shape[1:])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x = bottom[0].data_in
        array_module(x).take(x, self._indices(bottom), axis=0, out=top[0].data_out)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[1]:
            raise NetError("indices have no gradient: bottom 1 cannot be propagated to")
        if propagate_down[0]:
            dx = bottom[0].diff_out
            dx.fill(0)
            add_rows(self._matrix(top[0], top[0].diff_in), self._indices(bottom), self._matrix(bottom[0], dx))

    def _indices(self, bottom: Blobs) -> Any:
        return row_indices(bottom[1].data_in, bottom[0].shape[0])

    def _matrix(self, blob: Blob, array: Any) -> Any:
        return array.reshape(blob.shape[0], self.columns)
