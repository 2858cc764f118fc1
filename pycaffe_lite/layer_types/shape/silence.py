"""Silence: reads blobs that no other layer reads, so that they are not outputs of the net   (silence_layer.cpp).

bottom: any number of blobs, which get a gradient of 0.   No tops.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...layer import Blobs, Layer, register


@register("Silence")
class Silence(Layer):
    min_bottoms = 1
    exact_tops = 0
    reads_bottoms = False
    reads_tops = False

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """There is nothing to shape."""

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """There is nothing to compute."""

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for blob, propagate in zip(bottom, propagate_down, strict=True):
            if propagate:
                blob.diff_out.fill(0)
