"""Each update rule against its formula in float64, written out step by step."""

from __future__ import annotations

import numpy as np
import pytest

from pycaffe_lite.errors import SolverError
from pycaffe_lite.proto import prototxt
from pycaffe_lite.proto.caffe_pb2 import SolverParameter
from pycaffe_lite.solver import create

NET = """net_param { layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } data_filler { value: 0.7 } data_filler { value: -0.4 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" } }
base_lr: 0.1 lr_policy: "fixed" max_iter: 9 random_seed: 3 weight_decay: 0.05 """
RATE = 0.1


def sgd(g, state, t, rate, m=0.9):
    state["v"] = m * state.get("v", 0) + rate * g
    return state["v"]


def nesterov(g, state, t, rate, m=0.9):
    old = state.get("v", 0)
    state["v"] = m * old + rate * g
    return (1 + m) * state["v"] - m * old


def adagrad(g, state, t, rate, delta=0.01):
    state["h"] = state.get("h", 0) + g**2
    return rate * g / (np.sqrt(state["h"]) + delta)


def rmsprop(g, state, t, rate, decay=0.8, delta=0.01):
    state["h"] = decay * state.get("h", 0) + (1 - decay) * g**2
    return rate * g / (np.sqrt(state["h"]) + delta)


def adadelta(g, state, t, rate, m=0.9, delta=0.01):
    state["h"] = m * state.get("h", 0) + (1 - m) * g**2
    step = g * np.sqrt((state.get("u", 0) + delta) / (state["h"] + delta))
    state["u"] = m * state.get("u", 0) + (1 - m) * step**2
    return rate * step


def adam(g, state, t, rate, b1=0.9, b2=0.99, delta=0.01):
    state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
    state["v"] = b2 * state.get("v", 0) + (1 - b2) * g**2
    return rate * np.sqrt(1 - b2**t) / (1 - b1**t) * state["m"] / (np.sqrt(state["v"]) + delta)


RULES = {
    "SGD": (sgd, "momentum: 0.9"),
    "Nesterov": (nesterov, "momentum: 0.9"),
    "AdaGrad": (adagrad, "delta: 0.01"),
    "RMSProp": (rmsprop, "rms_decay: 0.8 delta: 0.01"),
    "AdaDelta": (adadelta, "momentum: 0.9 delta: 0.01"),
    "Adam": (adam, "momentum: 0.9 momentum2: 0.99 delta: 0.01"),
}


def solver(kind, fields):
    param = SolverParameter()
    prototxt.parse(f'{NET} type: "{kind}" {fields}', param)
    return create(param)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("penalty", ["L2", "L1"])
def test_rule(kind, penalty):
    formula, fields = RULES[kind]
    made = solver(kind, f'{fields} regularization_type: "{penalty}"')
    blobs = [learnable.blob for learnable in made.net.learnable]
    weights = [blob.data.astype(np.float64) for blob in blobs]
    states = [{}, {}]
    gradients = []
    made.add_callback(lambda: None, lambda: gradients.append([blob.diff.astype(np.float64) for blob in blobs]))
    for t in range(1, 8):
        made.step(1)
        for i, (rate, decay) in enumerate([(RATE, 0.05), (2 * RATE, 0)]):
            penalised = gradients[-1][i] + decay * (weights[i] if penalty == "L2" else np.sign(weights[i]))
            update = formula(penalised, states[i], t, rate)
            np.testing.assert_allclose(blobs[i].diff, update, rtol=2e-4, atol=1e-6, err_msg=f"update {t} of parameter {i}")
            weights[i] -= update
            np.testing.assert_allclose(blobs[i].data, weights[i], rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("AdaGrad", "momentum: 0.5", "AdaGrad takes no momentum, received 0.5"),
        ("RMSProp", "momentum: 0.5", "RMSProp takes no momentum, received 0.5"),
        ("RMSProp", "rms_decay: 1", "rms_decay is at least 0 and less than 1, received 1"),
        ("Adam", "momentum: 1", "momentum and momentum2 are at least 0 and less than 1, received 1 and 0.999"),
        ("Adma", "", r'unknown solver type "Adma" \(did you mean "Adam"\?\)'),
    ],
)
def test_impossible(kind, fields, message):
    with pytest.raises(SolverError, match=message):
        solver(kind, fields)
