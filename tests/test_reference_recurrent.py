"""LSTM, RNN and LSTMUnit beside slow, obvious float64 references that go stream by stream and step by step.

The references compute with complex numbers as well: the imaginary part of f(x + i h) / h is the slope of f, exact to the
last digits, so gradients need no reference of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycaffe_lite import glog
from pycaffe_lite.errors import NetError

from .layer_harness import Rig, parse_layer

SETTINGS = settings(max_examples=25, deadline=None)
TINY = 1e-30

Array = np.ndarray


# ---- references ---------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x: Array, cont: Array, static: Array | None, state: Sequence[Array], params: Sequence[Array]):
    """Returns (h after each step, the last [h, c])."""
    w_x, b, *rest = params
    *w_s, w_h = rest
    steps, streams = cont.shape
    y = np.zeros((steps, streams, w_h.shape[1]), np.result_type(x, *params, *state, *([] if static is None else [static])))
    last = [np.zeros((1, *y.shape[1:]), y.dtype) for _ in range(2)]
    for n in range(streams):
        h, c = state[0][0, n], state[1][0, n]
        for t in range(steps):
            sums = w_x @ x[t, n].ravel() + b + w_h @ (cont[t, n] * h)
            if static is not None:
                sums = sums + w_s[0] @ static[n].ravel()
            i, f, o, g = np.split(sums, 4)
            c = cont[t, n] * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            y[t, n] = h
        last[0][0, n], last[1][0, n] = h, c
    return y, last


def rnn(x: Array, cont: Array, static: Array | None, state: Sequence[Array], params: Sequence[Array]):
    """Returns (o after each step, the last [h])."""
    w_x, b, *w_s, w_h, w_o, b_o = params
    steps, streams = cont.shape
    y = np.zeros((steps, streams, len(b_o)), np.result_type(x, *params, *state, *([] if static is None else [static])))
    last = np.zeros((1, *y.shape[1:]), y.dtype)
    for n in range(streams):
        h = state[0][0, n]
        for t in range(steps):
            sums = w_x @ x[t, n].ravel() + b + w_h @ (cont[t, n] * h)
            if static is not None:
                sums = sums + w_s[0] @ static[n].ravel()
            h = np.tanh(sums)
            y[t, n] = np.tanh(w_o @ h + b_o)
        last[0, n] = h
    return y, [last]


REFERENCES: dict[str, tuple[Callable, int]] = {"LSTM": (lstm, 2), "RNN": (rnn, 1)}  # and the number of states


def slopes(f: Callable[[], Array], weights: Array, arrays: list[Array], index: int) -> Array:
    """The gradient of sum(weights * f()) to `arrays[index]`, which f reads."""
    start = arrays[index]
    gradient = np.zeros(start.shape)
    for at in np.ndindex(start.shape):
        moved = start.astype(complex)
        moved[at] += TINY * 1j
        arrays[index] = moved
        gradient[at] = np.sum(weights * f()).imag / TINY
    arrays[index] = start
    return gradient


# ---- layers -------------------------------------------------------------------------------------------------------


@st.composite
def problems(draw):
    """(steps, streams, shape of x, shape of the static input or None, num_output, with exposed states?)"""
    shape = st.lists(st.integers(1, 3), min_size=1, max_size=2).map(tuple)
    return (
        draw(st.integers(1, 4)),
        draw(st.integers(1, 3)),
        draw(shape),
        draw(st.none() | shape),
        draw(st.integers(1, 3)),
        draw(st.booleans()),
    )


def layer_text(type_: str, num_output: int, exposed: bool = False, settings: str = "") -> str:
    exposed_text = f"expose_hidden: {str(exposed).lower()}"
    return f'type: "{type_}" recurrent_param {{ num_output: {num_output} {exposed_text} {settings} }}'


def make(type_: str, problem, seed: int = 1) -> tuple[Rig, list[Array]]:
    """A rig with random parameters, and its bottoms: x, cont, perhaps static, perhaps states."""
    steps, streams, shape, static, d, exposed = problem
    rng = np.random.default_rng(seed)
    cont = rng.integers(2, size=(steps, streams)).astype(float)
    bottoms = [rng.normal(size=(steps, streams, *shape)), cont]
    bottoms += [rng.normal(size=(streams, *static))] if static is not None else []
    states = REFERENCES[type_][1] if exposed else 0
    bottoms += [rng.normal(size=(1, streams, d)) for _ in range(states)]
    rig = Rig(parse_layer(layer_text(type_, d, exposed)), bottoms, 1 + states)
    for blob in rig.layer.blobs:
        blob.data[...] = rng.normal(size=blob.shape)
    return rig, bottoms


@pytest.mark.parametrize("type_", REFERENCES)
@SETTINGS
@given(problems())
def test_forward_and_backward(type_, problem):
    streams, static, d, exposed = problem[1], problem[3], problem[4], problem[5]
    reference, states = REFERENCES[type_]
    rig, bottoms = make(type_, problem)
    state = bottoms[-states:] if exposed else [np.zeros((1, streams, d))] * states
    params = [blob.data.copy() for blob in rig.layer.blobs]
    rng = np.random.default_rng(2)
    for _ in range(2):  # the second begins with the state of the first
        bottoms[0] = rng.normal(size=bottoms[0].shape)
        rig.write(bottoms)
        tops = rig.forward()
        arrays = [bottoms[0], bottoms[2] if static is not None else None, *params]

        def y(arrays=arrays, state=state):
            return reference(arrays[0], bottoms[1], arrays[1], state, arrays[2:])

        expected, last = y()
        np.testing.assert_allclose(tops[0], expected, 1e-9, 1e-12)
        for got, want in zip(tops[1:], last):
            np.testing.assert_allclose(got, want, 1e-9, 1e-12)
        top_diffs = [rng.normal(size=top.shape) for top in tops]  # those of the states must not count
        asked = [i != 1 for i in range(len(bottoms))]
        gradients = rig.backward(top_diffs, asked)
        wanted = {i: slopes(lambda: y()[0], top_diffs[0], arrays, i) for i, a in enumerate(arrays) if a is not None}
        np.testing.assert_allclose(gradients[0], wanted[0], 1e-8, 1e-10)
        if static is not None:
            np.testing.assert_allclose(gradients[2], wanted[1], 1e-8, 1e-10)
        for i, blob in enumerate(rig.layer.blobs):
            np.testing.assert_allclose(blob.diff, wanted[2 + i], 1e-8, 1e-10, err_msg=f"parameter {i}")
        for gradient in gradients[len(bottoms) - states :] if exposed else []:
            assert not gradient.any()
        if not exposed:
            state = last


@given(st.integers(1, 4), st.integers(1, 3), st.sampled_from([0.0, 0.4, 1.0]))
@settings(max_examples=20, deadline=None)
def test_lstm_unit(streams, d, cont):
    rng = np.random.default_rng(streams)
    c, sums, conts = rng.normal(size=(1, streams, d)), rng.normal(size=(1, streams, 4 * d)), np.full((1, streams), cont)
    rig = Rig(parse_layer('type: "LSTMUnit"'), [c, sums, conts], 2)
    tops = rig.forward()
    top_diffs = [rng.normal(size=top.shape) for top in tops]
    dc, dsums, _ = rig.backward(top_diffs, [True, True, False])
    for n, k in np.ndindex(streams, d):
        i, f, o, g = (sums[0, n, q * d + k] for q in range(4))
        i, f, o, g = sigmoid(i), cont * sigmoid(f), sigmoid(o), np.tanh(g)
        new = f * c[0, n, k] + i * g
        np.testing.assert_allclose([tops[0][0, n, k], tops[1][0, n, k]], [new, o * np.tanh(new)], 1e-9)
        dnew = top_diffs[0][0, n, k] + top_diffs[1][0, n, k] * o * (1 - np.tanh(new) ** 2)
        expected = [
            dnew * g * i * (1 - i),
            dnew * c[0, n, k] * f * (1 - f),  # Caffe's: f is the product with cont
            top_diffs[1][0, n, k] * np.tanh(new) * o * (1 - o),
            dnew * i * (1 - g**2),
        ]
        np.testing.assert_allclose(dsums[0, n, k::d], expected, 1e-9, 1e-15)
        np.testing.assert_allclose(dc[0, n, k], dnew * f, 1e-9)


SMALL = (3, 2, (2,), None, 2, False)


@pytest.mark.parametrize("type_", REFERENCES)
def test_a_layer_in_place_above_does_not_disturb_backward(type_):
    rig, _ = make(type_, SMALL)
    (y,) = rig.forward()
    expected = rig.backward([y], [True, False])[0]
    rig.top[0].data[...] = 0
    np.testing.assert_array_equal(rig.backward([y], [True, False])[0], expected)


@pytest.mark.parametrize("type_", REFERENCES)
def test_parameters_that_do_not_learn_get_no_gradient_and_others_add_up(type_):
    rig, _ = make(type_, (3, 2, (2,), (2,), 2, False))
    (y,) = rig.forward()
    for i in range(len(rig.layer.blobs)):
        rig.layer.param_propagate_down = [k == i for k in range(len(rig.layer.blobs))]
        rig.backward([y], [False] * 3)
        assert [bool(blob.diff.any()) for blob in rig.layer.blobs] == rig.layer.param_propagate_down
        once = rig.layer.blobs[i].diff.copy()
        rig.layer.backward(rig.top, [False] * 3, rig.bottom)
        np.testing.assert_allclose(rig.layer.blobs[i].diff, 2 * once, 1e-12)


@pytest.mark.parametrize("type_", REFERENCES)
def test_streams_may_come_and_go_and_the_first_ones_go_on(type_):
    rig, bottoms = make(type_, (3, 4, (2,), None, 2, False))
    bottoms[1][...] = 1
    rig.write(bottoms)
    rig.forward()
    (expected,) = rig.forward()
    other, _ = make(type_, (3, 4, (2,), None, 2, False))
    other.write(bottoms)
    other.forward()
    other.write([array[:, :2] for array in bottoms])
    np.testing.assert_allclose(other.forward()[0], expected[:, :2], 1e-12)


@pytest.mark.parametrize("type_", REFERENCES)
def test_saturated_gates_are_no_nan(type_):
    rig, bottoms = make(type_, SMALL)
    rig.write([bottoms[0] * 1e5, bottoms[1]])
    (y,) = rig.forward()
    assert np.isfinite(y).all()
    assert np.isfinite(rig.backward([y], [True, False])[0]).all()


def test_debug_info_shows_each_step(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(glog, "info", lines.append)
    x, cont = np.ones((3, 2, 1)), np.ones((3, 2))
    rig = Rig(parse_layer('name: "r" ' + layer_text("LSTM", 2, settings="debug_info: true")), [x, cont])
    rig.backward(rig.forward(), [True, False])
    assert len(lines) == 9
    assert lines[0].startswith("    [Forward] Layer r, h data after step 0: ")
    assert lines[5].startswith("    [Forward] Layer r, c data after step 2: ")
    assert lines[8].startswith("    [Backward] Layer r, sums diff after step 2: ")


# ---- errors -------------------------------------------------------------------------------------------------------

X, CONT, STATE = np.zeros((3, 2, 4)), np.zeros((3, 2)), np.zeros((1, 2, 5))


@pytest.mark.parametrize(
    ("text", "bottoms", "tops", "message"),
    [
        ('type: "LSTM"', [X, CONT], 1, "num_output to be at least 1, received 0"),
        (layer_text("LSTM", 4294967295), [X, CONT], 1, "at most"),
        (layer_text("LSTM", 5), [X], 1, "at least 2 bottoms, received 1"),
        (layer_text("LSTM", 5), [X, CONT, np.zeros((2, 1)), STATE], 1, "at most 3 bottoms, received 4"),
        (layer_text("LSTM", 5), [X, CONT], 3, "expected 1 top, received 3"),
        (layer_text("LSTM", 5, True), [X, CONT, STATE, STATE], 1, "expected 3 tops, received 1"),
        (layer_text("RNN", 5, True), [X, CONT], 2, "at least 3 bottoms, received 2"),
        (layer_text("RNN", 5), [np.zeros(3), CONT], 1, r"time steps x streams x \.\.\., received 3"),
        (layer_text("RNN", 5), [np.zeros((0, 2, 4)), np.zeros((0, 2))], 1, r"time steps x streams x \.\.\., received 0 x 2"),
        (layer_text("RNN", 5), [X, CONT.T], 1, r"cont to be 3 x 2 \(6\).*received 2 x 3"),
        (layer_text("RNN", 5), [X, CONT, np.zeros((3, 2))], 1, r"static input of 2 streams.*received 3 x 2"),
        (layer_text("RNN", 5), [X, CONT, np.zeros(())], 1, "static input of 2 streams.*received scalar"),
        (layer_text("RNN", 5), [X, CONT, np.zeros(2)], 1, r"static input of 2 streams x \.\.\., received 2"),
        (layer_text("LSTM", 5), [X[:, :, 0], CONT], 1, r"time steps x streams x \.\.\., received 3 x 2"),
        (layer_text("LSTM", 4, True), [X, CONT, STATE, STATE], 3, r"state h to be 1 x 2 x 4 \(8\), received 1 x 2 x 5"),
        (layer_text("LSTM", 5, True), [X, CONT, STATE, STATE[0]], 3, r"state c to be 1 x 2 x 5 \(10\), received 2 x 5"),
        ('type: "LSTMUnit"', [np.zeros((2, 3, 4)), X, CONT], 2, "bottom 0 to be 1 x streams x outputs, received 2 x 3 x 4"),
        ('type: "LSTMUnit"', [STATE, STATE, CONT], 2, r"bottom 1 to be 1 x 2 x 20 \(40\), received 1 x 2 x 5"),
        ('type: "LSTMUnit"', [STATE, np.zeros((1, 2, 20)), CONT], 2, r"bottom 2 to be 1 x 2 \(2\), received 3 x 2"),
    ],
)
def test_errors_name_the_cause(text, bottoms, tops, message):
    with pytest.raises(NetError, match=message):
        Rig(parse_layer(text), bottoms, tops)


def test_what_may_not_change_after_set_up():
    rig = Rig(parse_layer(layer_text("LSTM", 5)), [X, CONT])
    for x, message in (
        (np.zeros((4, 2, 4)), "set up for 3 time steps, received 4"),
        (X[:, :, :3], "take 4 inputs, received 3"),
    ):
        rig.write([x, np.zeros(x.shape[:2])])
        with pytest.raises(NetError, match=message):
            rig.forward()


def test_cont_has_no_gradient():
    for text, bottoms, tops, cont in (
        (layer_text("RNN", 5), [X, CONT], 1, 1),
        ('type: "LSTMUnit"', [STATE, np.zeros((1, 2, 20)), CONT[:1]], 2, 2),
    ):
        rig = Rig(parse_layer(text), bottoms, tops)
        assert [rig.layer.allow_force_backward(i) for i in range(len(bottoms))] == [i != cont for i in range(len(bottoms))]
        with pytest.raises(NetError, match="cont has no gradient"):
            rig.backward(rig.forward(), [True] * len(bottoms))
