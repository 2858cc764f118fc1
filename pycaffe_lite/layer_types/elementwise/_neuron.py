"""Base of the elementwise layers: one bottom, one top of the same shape, which may be the same blob (neuron_layer.cpp).

    @register("Log")
    class Log(Neuron):
        reads_bottoms = True

        def values(self, x, y): ...
        def gradient(self, x, y, dy, dx): ...

All arrays are flat. In place, `y` is `x` and `dx` is `dy`: a body reads an element before it writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...layer import Blobs, Layer


class Neuron(Layer):
    """A subclass implements `values` and `gradient`, and says whether the gradient reads `x` and `y`."""

    exact_bottoms = 1
    exact_tops = 1
    keeps_coordinates = True
    can_overwrite = True
    reads_bottoms = False
    reads_tops = False

    def values(self, x: Any, y: Any) -> None:
        """Writes the top's values `y`."""
        raise NotImplementedError

    def gradient(self, x: Any, y: Any, dy: Any, dx: Any) -> None:
        """Writes the bottom's gradient `dx`."""
        raise NotImplementedError

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        self.values(bottom[0].data_in.reshape(-1), top[0].data_out.reshape(-1))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            x, y, dy = bottom[0].data_in, top[0].data_in, top[0].diff_in
            self.gradient(x.reshape(-1), y.reshape(-1), dy.reshape(-1), bottom[0].diff_out.reshape(-1))
