"""Filter: keeps the items of a batch whose selector is not 0   (filter_layer.cpp).

bottom: any number of blobs `N x ...`, and at the end the selector, `N` (`x 1 ...`), which gets no gradient.
top: for each of the blobs one `K x ...`. K is the number of kept items, perhaps 0, and changes with every forward. When the
net is built, K is N.

The gradient of an item that is not kept is 0.

Differences from Caffe: backward also works if no item is kept; Caffe divides by zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, Layer, register


@register("Filter")
class Filter(Layer):
    min_bottoms = 2
    min_tops = 1
    reads_bottoms = False
    reads_tops = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        if len(top) != len(bottom) - 1:
            raise NetError(f"expected a top for each bottom but the selector, {len(bottom) - 1}, received {len(top)}")
        self.is_built = False

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        *blobs, selector = bottom
        if not selector.num_axes or selector.count != selector.shape[0]:
            raise NetError(f"expected a selector N (x 1 ...), received {selector}")
        for blob in blobs:
            if blob.shape[:1] != selector.shape[:1]:
                raise NetError(f"expected as many items as the selector has, {selector.count}, received {blob}")
        selected = selector.data_in.reshape(-1)
        (self.kept,) = array_module(selected).nonzero(selected)
        items = self.kept.size if self.is_built else selector.count
        self.is_built = True
        for blob, out in zip(blobs, top, strict=True):
            out.reshape(items, *blob.shape[1:])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        for blob, out in zip(bottom, top):
            out.data_out[: self.kept.size] = blob.data_in[self.kept]

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[-1]:
            raise NetError("a selector has no gradient: the last bottom cannot be propagated to")
        for blob, out, propagate in zip(bottom, top, propagate_down):
            if propagate:
                dx = blob.diff_out
                dx.fill(0)
                dx[self.kept] = out.diff_in[: self.kept.size]
