"""Base of RNN and LSTM (Caffe's recurrent_layer.cpp), and the unit that LSTM and LSTMUnit share (lstm_unit_layer.cpp).

Bottoms, tops and the state between two forward passes: see `lstm.py`.

Caffe unrolls a net of elementary layers. Here one product for all steps computes everything that does not depend on the
state: x W_x' + b, and the gradients of parameters and inputs. The rest is computed step by step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ... import glog
from ...blob import Blob, shape_text
from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, Layer
from ...ops.matmul import matmul
from ...proto.caffe_pb2 import LayerParameter

Arrays = Sequence[Any]


class Recurrent(Layer):
    """A recurrent layer. Each step computes a new state from the state before and `sums`, x W_x' + b + h W_h'.

    A trail is a state over time, T + 1 x N x D, from before the first step to after the last. Parameters: W_x, b, the
    weights of the static input if there is one, W_h; then those of the type itself.
    """

    states: ClassVar[tuple[str, ...]] = ("h",)  # h, on which the sums of the next step depend, comes first
    gates: ClassVar[int] = 1  # sums for each output
    param_field = "recurrent_param"
    reads_tops = False

    def step(self, t: int, sums: Any, cont: Any, trails: Arrays) -> None:
        """Fills `trails` at t + 1. It may overwrite `sums`, N x gates D, with values for `step_back`."""
        raise NotImplementedError

    def step_back(self, t: int, sums: Any, trails: Arrays, diffs: Arrays, dsums: Any) -> None:
        """Fills `dsums` and, in `diffs` at t, the gradients of all states but h, from the gradients at t + 1."""
        raise NotImplementedError

    def output(self, h: Any, top: Blob) -> None:
        """Fills the top, T x N x D, from the h after each step."""
        raise NotImplementedError

    def output_back(self, h: Any, top: Blob, dh: Any) -> None:
        """Fills the gradient of the h after each step."""
        raise NotImplementedError

    def __init__(self, param: LayerParameter):
        super().__init__(param)
        self.exposed = len(self.states) if param.recurrent_param.expose_hidden else 0
        self.min_bottoms, self.max_bottoms = 2 + self.exposed, 3 + self.exposed
        self.exact_tops = 1 + self.exposed

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 1

    def save_state(self) -> dict[str, Any]:
        states = {} if self.exposed else dict(zip(self.states, (blob.data.copy() for blob in self._state), strict=True))
        return {**super().save_state(), **states}

    def load_state(self, state: dict[str, Any]) -> None:
        for name, blob in zip(self.states, self._state, strict=True):
            if not self.exposed:
                if np.shape(state[name]) != blob.shape:
                    raise ValueError(f"expected {name} to be {shape_text(blob.shape)}")
                blob.data[...] = state[name]
        super().load_state(state)

    # ---- shapes -----------------------------------------------------------------------------------------------------

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.recurrent_param
        if not param.num_output:
            raise NetError("expected recurrent_param.num_output to be at least 1, received 0")
        self.num_output, rows = param.num_output, self.gates * param.num_output
        self.has_static = len(bottom) > 2 + self.exposed
        self.inputs = self._input_counts(bottom)
        self.steps = bottom[0].shape[0] if bottom[0].num_axes else 0
        self._check(bottom)
        self.add_param((rows, self.inputs[0]), param.weight_filler)
        self.add_param((rows,), param.bias_filler)
        for inputs in self.inputs[1:]:
            self.add_param((rows, inputs), param.weight_filler)
        self.w_h = self.add_param((rows, self.num_output), param.weight_filler)
        self._state = [self.new_blob() for _ in self.states]
        self._trails = [self.new_blob() for _ in self.states]
        self._sums = self.new_blob()

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self._check(bottom)
        streams = bottom[0].shape[1]
        top[0].reshape(self.steps, streams, self.num_output)
        for blob in (*self._state, *top[1:]):
            blob.reshape(1, streams, self.num_output)
        for blob in self._trails:
            blob.reshape(self.steps + 1, streams, self.num_output)
        self._sums.reshape(self.steps, streams, self.gates * self.num_output)

    def _check(self, bottom: Blobs) -> None:
        x, cont = bottom[:2]
        if x.num_axes < 3 or not x.shape[0]:
            raise NetError(f"expected bottom 0 to be time steps x streams x ..., received {x}")
        if x.shape[0] != self.steps:
            raise NetError(f"the layer was set up for {self.steps} time steps, received {x.shape[0]}")
        if cont.shape != x.shape[:2]:
            raise NetError(f"expected cont to be {shape_text(x.shape[:2])}, time steps x streams, received {cont}")
        if self.has_static and (bottom[2].num_axes < 2 or bottom[2].shape[0] != x.shape[1]):
            raise NetError(f"expected a static input of {x.shape[1]} streams x ..., received {bottom[2]}")
        for expected, received in zip(self.inputs, self._input_counts(bottom), strict=True):
            if received != expected:
                raise NetError(f"the weights take {expected} inputs, received {received}")
        state = (1, x.shape[1], self.num_output)
        for name, blob in zip(self.states, bottom[len(bottom) - self.exposed :]):
            if blob.shape != state:
                raise NetError(f"expected the state {name} to be {shape_text(state)}, received {blob}")

    def _input_counts(self, bottom: Blobs) -> list[int]:
        """The number of inputs in x for each step and stream, and that of the static input."""
        return [bottom[0].count_from(2), *([bottom[2].count_from(1)] if self.has_static else [])]

    # ---- forward ----------------------------------------------------------------------------------------------------

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        cont, sums, w_h = bottom[1].data_in, self._sums.data_out, self.w_h.data_in
        trails = [blob.data_out for blob in self._trails]
        starts = bottom[len(bottom) - self.exposed :] if self.exposed else self._state
        for trail, start in zip(trails, starts, strict=True):
            trail[0] = start.data_in[0]
        self._sum_inputs(bottom, sums)
        for t in range(self.steps):
            matmul(trails[0][t] * cont[t][:, None], w_h, sums[t], trans_b=True, beta=1)
            self.step(t, sums[t], cont[t], trails)
        self.output(trails[0][1:], top[0])
        for trail, end in zip(trails, top[1:] if self.exposed else self._state, strict=True):
            end.data_out[0] = trail[-1]
        if self.param.recurrent_param.debug_info:
            for name, trail in zip(self.states, trails, strict=True):
                self._debug(f"Forward] Layer {self.param.name}, {name} data", trail[1:])

    def _sum_inputs(self, bottom: Blobs, sums: Any) -> None:
        """The part of the sums that does not depend on the state."""
        sums[...] = self.blobs[1].data_in
        if self.has_static:
            static = array_module(sums).empty_like(sums[0])
            matmul(self._rows(bottom[2].data_in, 1), self.blobs[2].data_in, static, trans_b=True)
            sums += static
        matmul(self._rows(bottom[0].data_in), self.blobs[0].data_in, self._rows(sums), trans_b=True, beta=1)

    # ---- backward ---------------------------------------------------------------------------------------------------

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[1]:
            raise NetError("cont has no gradient; give propagate_down: false for it")
        cont, sums, dsums, w_h = bottom[1].data_in, self._sums.data_in, self._sums.diff_out, self.w_h.data_in
        trails = [blob.data_in for blob in self._trails]
        diffs = [blob.diff_out for blob in self._trails]
        for diff in diffs:
            diff[-1] = 0
        dh = diffs[0]
        self.output_back(trails[0][1:], top[0], dh[1:])
        through = array_module(dh).empty_like(dh[0])
        for t in reversed(range(self.steps)):
            self.step_back(t, sums[t], trails, diffs, dsums[t])
            if t:
                matmul(dsums[t], w_h, through)
                dh[t] += through * cont[t][:, None]
        dstatic = dsums.sum(axis=0) if self.has_static else None
        self._parameters_back(bottom, self._rows(dsums), dstatic, trails[0][:-1] * cont[:, :, None])
        self._inputs_back(bottom, propagate_down, self._rows(dsums), dstatic)
        if self.param.recurrent_param.debug_info:
            self._debug(f"Backward] Layer {self.param.name}, sums diff", dsums)

    def _parameters_back(self, bottom: Blobs, dsums: Any, dstatic: Any, h: Any) -> None:
        self.add_gradient(0, dsums, self._rows(bottom[0].data_in))
        if self.param_propagate_down[1]:
            db = self.blobs[1].diff_inout
            db += dsums.sum(axis=0)
        if self.has_static:
            self.add_gradient(2, dstatic, self._rows(bottom[2].data_in, 1))
        self.add_gradient(2 + self.has_static, dsums, self._rows(h))

    def _inputs_back(self, bottom: Blobs, propagate_down: Sequence[bool], dsums: Any, dstatic: Any) -> None:
        if propagate_down[0]:
            matmul(dsums, self.blobs[0].data_in, self._rows(bottom[0].diff_out))
        if self.has_static and propagate_down[2]:
            matmul(dstatic, self.blobs[2].data_in, self._rows(bottom[2].diff_out, 1))
        for i in range(len(bottom) - self.exposed, len(bottom)):
            if propagate_down[i]:
                bottom[i].diff_out[...] = 0

    # ---- help -------------------------------------------------------------------------------------------------------

    def add_gradient(self, index: int, dy: Any, x: Any) -> None:
        """Adds the gradient of parameter `index`, W in y = x W', for matrices with an item in each row."""
        if self.param_propagate_down[index]:
            matmul(dy, x, self.blobs[index].diff_inout, trans_a=True, beta=1)

    def _rows(self, array: Any, axes: int = 2) -> Any:
        """`array` as a matrix with a row for each item of the first `axes`."""
        return array.reshape(math.prod(array.shape[:axes]), math.prod(array.shape[axes:]))

    def _debug(self, name: str, steps: Any) -> None:
        """Logs the mean absolute value of each step; Caffe logs all layers of its unrolled net."""
        for t, values in enumerate(steps):
            glog.info(f"    [{name} after step {t}: {float(abs(values).mean()) if values.size else 0:g}")

    def multiply_adds(self, bottom: Blobs, top: Blobs) -> int:
        """Weights count once for each step of each stream, those of the static input once for each stream."""
        steps, streams = bottom[0].shape[:2]
        static = 2 if self.has_static else None
        matrices = ((i, blob) for i, blob in enumerate(self.blobs) if blob.num_axes == 2)
        return sum(blob.count * streams * (1 if i == static else steps) for i, blob in matrices)


# ---- the LSTM's unit ------------------------------------------------------------------------------------------------


def quarters(gates: Any) -> list[Any]:
    """The gates i, f, o and the candidate g of N x 4D, as views N x D."""
    d = gates.shape[1] // 4
    return [gates[:, k * d : (k + 1) * d] for k in range(4)]


def lstm_unit(gates: Any, c_before: Any, cont: Any, c: Any, h: Any) -> None:
    """One step: turns the sums `gates` in place into i, cont f, o and g, and fills c = cont f c_before + i g, h = o tanh(c).

    i, f and o are sigmoids (computed as tanh(x / 2) / 2 + 1 / 2, which cannot overflow), g is a tanh.
    """
    xp = array_module(gates)
    i, f, o, g = quarters(gates)
    sigmoids = gates[:, : 3 * g.shape[1]]
    sigmoids *= 0.5
    xp.tanh(gates, out=gates)
    sigmoids *= 0.5
    sigmoids += 0.5
    f *= cont[:, None]
    xp.multiply(f, c_before, out=c)
    c += i * g
    xp.tanh(c, out=h)
    h *= o


def lstm_unit_backward(gates: Any, c_before: Any, c: Any, dc: Any, dh: Any, dgates: Any, dc_before: Any) -> None:
    """Fills `dgates`, the gradient of the sums, and `dc_before`. As in Caffe, cont f counts as the sigmoid of its sum."""
    i, f, o, g = quarters(gates)
    di, df, do, dg = quarters(dgates)
    tanh_c = array_module(c).tanh(c)
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    di[...] = dc * g * i * (1 - i)
    df[...] = dc * c_before * f * (1 - f)
    do[...] = dh * tanh_c * o * (1 - o)
    dg[...] = dc * i * (1 - g * g)
    dc_before[...] = dc * f
