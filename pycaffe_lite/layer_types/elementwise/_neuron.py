"""Base of the elementwise layers: one bottom, one top of the same shape, which may be the same blob (neuron_layer.cpp).

    @register("AbsVal")
    class AbsVal(Neuron):
        reads_input = True

        def values(self, x, y): ...
        def gradient(self, x, y, dy, dx): ...

All arrays are flat. In place, `y` is `x` and `dx` is `dy`: a body reads an element before it writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...layer import Blobs, Layer
from ...ops.copies import copied


class Neuron(Layer):
    """A subclass implements `values` and `gradient`.

    `reads_input`: the gradient needs the bottom's values. In place they are overwritten, so a copy is kept.
    (Most of Caffe's layers keep none and compute a wrong gradient there.)
    """

    exact_bottoms = 1
    exact_tops = 1
    keeps_coordinates = True
    reads_input = False
    _kept: Any = None

    def values(self, x: Any, y: Any) -> None:
        """Writes the top's values `y`."""
        raise NotImplementedError

    def gradient(self, x: Any, y: Any, dy: Any, dx: Any) -> None:
        """Writes the bottom's gradient `dx`. `x` are the bottom's values if `reads_input`, else `x` may be `y`."""
        raise NotImplementedError

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x = bottom[0].data_in.reshape(-1)
        if self.reads_input and top[0] is bottom[0]:
            self._kept = copied(x, self._kept)
        self.values(x, top[0].data_out.reshape(-1))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        x = bottom[0].data_in.reshape(-1) if self._kept is None else self._kept
        y, dy = top[0].data_in.reshape(-1), top[0].diff_in.reshape(-1)
        self.gradient(x, y, dy, bottom[0].diff_out.reshape(-1))
