"""LSTM: long short-term memory over sequences   (lstm_layer.cpp, recurrent_layer.cpp).

    i, f, o, g = sigmoid, sigmoid, sigmoid, tanh of x W_x' + b + x_static W_s' + (cont h) W_h'
    c = cont f c + i g
    h = o tanh(c)

bottom[0]: x, `T x N x ...`, T time steps of N independent streams. T stays as it was at set-up, N may change.
bottom[1]: cont, `T x N`, 0 where a stream starts anew: the state before that step is multiplied by it. It has no gradient.
bottom[2], optional: x_static, `N x ...`, an input that is the same in all steps.
bottom, with `expose_hidden`: h and c before the first step, `1 x N x D` each, as the last bottoms. Their gradient is 0.
top[0]: h after each step, `T x N x D`, D = `num_output`.
top[1], top[2], with `expose_hidden`: h and c after the last step, `1 x N x D` each, which pass no gradient.
Parameters: W_x, `4D x inputs`; b, `4D`; with a static input W_s, `4D x its inputs`; W_h, `4D x D`. Rows are in the order
i, f, o, g.

The next forward starts with the state after the last step; the gradient does not pass from one forward to another.

Hochreiter and Schmidhuber, Long short-term memory, 1997.

`recurrent_param`:
- `num_output` (default 0): D, the size of the state. 0 is refused.
- `weight_filler`, `bias_filler` (default 0): the first values.
- `debug_info` (default false): logs the mean absolute value of states and gradients after each step.
- `expose_hidden` (default false): the state is read from the last bottoms and written to the last tops.

Differences from Caffe: no net is unrolled, and `debug_info` logs states and gradients, not all layers of such a net.
"""

from __future__ import annotations

from typing import Any

from ...blob import Blob
from ...layer import register
from ._recurrent import Arrays, Recurrent, lstm_unit, lstm_unit_backward


@register("LSTM")
class LSTM(Recurrent):
    states = ("h", "c")
    gates = 4

    def step(self, t: int, sums: Any, cont: Any, trails: Arrays) -> None:
        h, c = trails
        lstm_unit(sums, c[t], cont, c[t + 1], h[t + 1])

    def step_back(self, t: int, sums: Any, trails: Arrays, diffs: Arrays, dsums: Any) -> None:
        (_, c), (dh, dc) = trails, diffs
        lstm_unit_backward(sums, c[t], c[t + 1], dc[t + 1], dh[t + 1], dsums, dc[t])

    def output(self, h: Any, top: Blob) -> None:
        top.data_out[...] = h

    def output_back(self, h: Any, top: Blob, dh: Any) -> None:
        dh[...] = top.diff_in
