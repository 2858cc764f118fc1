"""LSTM: long short-term memory, Hochreiter and Schmidhuber 1997, in the form of Caffe's lstm_layer.cpp.

    i, f, o, g = sigmoid, sigmoid, sigmoid, tanh of x W_x' + b + x_static W_s' + (cont h) W_h'
    c = cont f c + i g
    h = o tanh(c)

bottom, top: see `_recurrent.py`; top[0] is h, the exposed states are h and c.
Parameters: W_x 4D x inputs, b 4D, with a static input W_s 4D x its inputs, W_h 4D x D; rows in the order i, f, o, g.
"""

from __future__ import annotations

from typing import Any

from ..blob import Blob
from ..layer import register
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
