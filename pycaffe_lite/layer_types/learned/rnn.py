"""RNN: a recurrent net with tanh   (rnn_layer.cpp, recurrent_layer.cpp).

    h = tanh(x W_x' + b_h + x_static W_s' + (cont h) W_h')
    o = tanh(h W_o' + b_o)

bottom[0]: x, `T x N x ...`, T time steps of N independent streams. T stays as it was at set-up, N may change.
bottom[1]: cont, `T x N`, 0 where a stream starts anew: the state before that step is multiplied by it. It has no gradient.
bottom[2], optional: x_static, `N x ...`, an input that is the same in all steps.
bottom, with `expose_hidden`: h before the first step, `1 x N x D`, as the last bottom. Its gradient is 0.
top[0]: o of each step, `T x N x D`, D = `num_output`.
top[1], with `expose_hidden`: h after the last step, `1 x N x D`, which passes no gradient.
Parameters: W_x, `D x inputs`; b_h, `D`; with a static input W_s, `D x its inputs`; W_h, `D x D`; W_o, `D x D`; b_o, `D`.

The next forward starts with the state after the last step; the gradient does not pass from one forward to another.

`recurrent_param`: as in LSTM.

Differences from Caffe: no net is unrolled, and `debug_info` logs states and gradients, not all layers of such a net.
"""

from __future__ import annotations

from typing import Any

from ...blob import Blob
from ...device import array_module
from ...layer import Blobs, register
from ...ops.matmul import matmul
from ._recurrent import Arrays, Recurrent


@register("RNN")
class RNN(Recurrent):
    def setup(self, bottom: Blobs, top: Blobs) -> None:
        super().setup(bottom, top)
        param = self.param.recurrent_param
        self.w_o = self.add_param((self.num_output, self.num_output), param.weight_filler)
        self.b_o = self.add_param((self.num_output,), param.bias_filler)
        self._output = self.new_blob()  # a later layer in place may overwrite the top itself

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
