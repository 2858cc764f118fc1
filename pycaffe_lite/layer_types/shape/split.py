"""Split: the same blob for several layers; their gradients add up   (split_layer.cpp).

bottom[0]: any shape.   top: any number of blobs of that shape, in the memory of the bottom, each with its own gradient.

The net inserts these layers where they are needed.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, Layer, register


@register("Split")
class Split(Layer):
    keeps_coordinates = True
    exact_bottoms = 1
    min_tops = 1
    is_view = True
    reads_bottoms = False
    reads_tops = False

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        if any(blob is bottom[0] for blob in top):
            raise NetError("a Split cannot work in place: give each top a name of its own")
        for blob in top:
            blob.reshape_like(bottom[0])
            blob.share_data(bottom[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """The tops share the bottom's memory."""

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        total = bottom[0].diff_out
        if len(top) == 1:
            total[...] = top[0].diff_in
            return
        array_module(total).add(top[0].diff_in, top[1].diff_in, out=total)
        for blob in top[2:]:
            total += blob.diff_in
