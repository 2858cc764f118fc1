"""LSTMUnit: one step of an LSTM, from the sums of its gates   (lstm_unit_layer.cpp).

    i, f, o, g = sigmoid, sigmoid, sigmoid, tanh of the quarters of the sums
    c = cont f c + i g
    h = o tanh(c)

bottom[0]: c before the step, `1 x N x D`.   bottom[1]: the sums, `1 x N x 4D`, in the order i, f, o, g.
bottom[2]: cont, `1 x N`, which has no gradient.   top[0]: c after the step, `1 x N x D`.   top[1]: h, `1 x N x D`.

As in Caffe, the gradient treats cont f as the sigmoid f.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...blob import shape_text
from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, Layer, register
from ._recurrent import lstm_unit, lstm_unit_backward


@register("LSTMUnit")
class LSTMUnit(Layer):
    exact_bottoms = 3
    exact_tops = 2

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 2

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self._gates = self.new_blob()

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        c, sums, cont = bottom
        if c.num_axes != 3 or c.shape[0] != 1:
            raise NetError(f"expected bottom 0 to be 1 x streams x outputs, received {c}")
        _, streams, outputs = c.shape
        for i, blob, expected in ((1, sums, (1, streams, 4 * outputs)), (2, cont, (1, streams))):
            if blob.shape != expected:
                raise NetError(f"expected bottom {i} to be {shape_text(expected)}, received {blob}")
        for blob in top:
            blob.reshape(c.shape)
        self._gates.reshape(sums.shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        gates = self._gates.data_out
        gates[...] = bottom[1].data_in
        lstm_unit(gates[0], bottom[0].data_in[0], bottom[2].data_in[0], top[0].data_out[0], top[1].data_out[0])

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[2]:
            raise NetError("cont has no gradient; give propagate_down: false for it")
        empty_like = array_module(top[0].diff_in).empty_like
        dc, dgates = (
            blob.diff_out if propagate else empty_like(blob.data_in) for blob, propagate in zip(bottom[:2], propagate_down)
        )
        c_before, c, dc_after, dh = bottom[0].data_in[0], top[0].data_in[0], top[0].diff_in[0], top[1].diff_in[0]
        lstm_unit_backward(self._gates.data_in[0], c_before, c, dc_after, dh, dgates[0], dc[0])
