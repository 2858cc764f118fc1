"""RNN: a recurrent net with tanh (Caffe's rnn_layer.cpp).

    h = tanh(x W_x' + b_h + x_static W_s' + (cont h) W_h')
    o = tanh(h W_o' + b_o)

bottom, top: see `_recurrent.py`; top[0] is o, the exposed state is h.
Parameters: W_x D x inputs, b_h D, with a static input W_s D x its inputs, W_h D x D, W_o D x D, b_o D.
"""

from __future__ import annotations

from typing import Any

from ..blob import Blob
from ..device import array_module
from ..layer import Blobs, register
from ..ops.matmul import matmul
from ._recurrent import Arrays, Recurrent


@register("RNN")
class RNN(Recurrent):
    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        param = self.param.recurrent_param
        self.w_o = self.add_param((self.num_output, self.num_output), param.weight_filler)
        self.b_o = self.add_param((self.num_output,), param.bias_filler)
        self._output = self.new_blob()  # the top itself may be overwritten, by a layer in place

    def step(self, t: int, sums: Any, cont: Any, trails: Arrays) -> None:
        array_module(sums).tanh(sums, out=trails[0][t + 1])

    def step_back(self, t: int, sums: Any, trails: Arrays, diffs: Arrays, dsums: Any) -> None:
        h, dh = trails[0][t + 1], diffs[0][t + 1]
        dsums[...] = dh * (1 - h * h)

    def output(self, h: Any, top: Blob) -> None:
        self._output.reshape_like(top)
        o = self._output.data_out
        o[...] = self.b_o.data_in
        matmul(self._rows(h), self.w_o.data_in, self._rows(o), trans_b=True, beta=1)
        array_module(o).tanh(o, out=o)
        top.data_out[...] = o

    def output_back(self, h: Any, top: Blob, dh: Any) -> None:
        o = self._output.data_in
        dsums = self._rows(top.diff_in * (1 - o * o))
        self.add_gradient(len(self.blobs) - 2, dsums, self._rows(h))
        if self.param_propagate_down[-1]:
            db = self.b_o.diff_inout
            db += dsums.sum(axis=0)
        matmul(dsums, self.w_o.data_in, self._rows(dh))
