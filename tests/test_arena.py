"""The arena of a solver: parameters, gradients and history in one piece of memory each, cleared and updated at once."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from google.protobuf import text_format

from pycaffe_lite import solver as solvers
from pycaffe_lite.errors import SolverError
from pycaffe_lite.proto.caffe_pb2 import SolverParameter
from pycaffe_lite.solver import rules
from pycaffe_lite.solver import solver as solver_module
from pycaffe_lite.solver.arena import ALIGNMENT

LAYERS = """
layer { name: "data" type: "DummyData" top: "x" top: "t"
        dummy_data_param { shape { dim: 4 dim: 5 } shape { dim: 4 dim: 2 } data_filler { type: "gaussian" } } }
layer { name: "one" type: "InnerProduct" bottom: "x" top: "a"
        param { name: "w" lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } bias_filler { value: 0.1 } } }
layer { name: "two" type: "InnerProduct" bottom: "x" top: "b" param { name: "w" } param { lr_mult: 2 decay_mult: 0 }
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "c" }
layer { name: "out" type: "InnerProduct" bottom: "c" top: "y" param { lr_mult: 0 } param { lr_mult: 3 }
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""


def solver(kind: str = "SGD", settings: str = "momentum: 0.9"):
    text = f'type: "{kind}" base_lr: 0.1 lr_policy: "fixed" weight_decay: 0.01 random_seed: 7 {settings}'
    param = text_format.Parse(text, SolverParameter())
    text_format.Parse(LAYERS, param.net_param)
    return solvers.create(param)


def values(made) -> list[np.ndarray]:
    return [one.blob.data.copy() for one in made.net.learnable] + [
        blob.data.copy() for blobs in made.history for blob in blobs
    ]


@pytest.mark.parametrize(
    ("kind", "settings"), [("SGD", "momentum: 0.9"), ("AdaGrad", ""), ("Adam", "momentum: 0.9 clip_gradients: 0.5")]
)
def test_what_is_updated_at_once_gets_what_it_gets_alone(kind, settings):
    together, alone = solver(kind, settings), solver(kind, settings)
    alone.update_each = True
    start = values(together)
    together.step(3)
    alone.step(3)
    for a, b in zip(values(together), values(alone), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(values(together), start, strict=True))


def test_parameters_with_equal_multipliers_are_updated_at_once():
    made = solver()
    updates = []
    update = made.update
    made.update = lambda blob, *rest: (updates.append((blob.count, rest[1])), update(blob, *rest))
    made.step(1)
    assert sorted(rate for _, rate in updates) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert len(made.net.learnable) == 5


def test_every_parameter_is_a_part_of_one_memory_and_begins_on_a_boundary():
    made = solver()
    first, *rest = [one.blob for one in made.net.learnable]
    base = first.data.base if first.data.base.base is None else first.data.base.base
    for blob in (first, *rest):
        assert np.may_share_memory(blob.data, base)
    starts = sorted(blob.data.__array_interface__["data"][0] for blob in (first, *rest))
    assert all((start - starts[0]) % ALIGNMENT == 0 for start in starts)
    params = made.net.all_params
    assert params[0].blob.data.__array_interface__["data"] == params[2].blob.data.__array_interface__["data"]  # shared


def test_gradients_are_cleared_at_once():
    made = solver()
    for one in made.net.learnable:
        one.blob.diff[...] = 5
    made.arena.clear_gradients()
    assert not any(one.blob.diff.any() for one in made.net.learnable)


def test_a_parameter_that_leaves_is_cleared_and_updated_by_itself():
    """As one does that shares the memory of another net."""
    made, expected = solver(), solver()
    other = solver().net
    blob = made.net.learnable[0].blob
    for sharer in (one.blob for one in made.net.all_params if one.learnable == 0):
        sharer.share_data(other.learnable[0].blob)
    assert not made.arena.is_whole
    blob.data[...] = expected.net.learnable[0].blob.data
    blob.diff[...] = 5
    made.step(2)
    expected.step(2)
    for a, b in zip(values(made), values(expected), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(other.learnable[0].blob.data, blob.data)


def test_a_parameter_that_changed_its_size_cannot_be_updated():
    made = solver()
    made.step(1)
    made.net.learnable[-1].blob.reshape(99)
    with pytest.raises(SolverError, match=r"a parameter was 2 \(2\) when the solver was made and is now 99 \(99\)"):
        made.apply_update()


def test_a_multiplier_that_is_changed_counts():
    made, expected = solver(), solver()
    expected.update_each = True
    for one in (made, expected):
        one.step(1)
        one.net.learnable[1].lr_mult = 0
        one.step(1)
    for a, b in zip(values(made), values(expected), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def own_rule(monkeypatch):
    """A rule that needs whole parameters: it divides a gradient by its norm, as LARS does."""
    monkeypatch.setattr(solver_module, "_REGISTRY", copy.copy(solver_module._REGISTRY))

    @solver_module.register("Norm")
    class Norm(rules.SGDSolver):
        def update(self, blob, history, rate, scale, l2, l1):
            blob.data[...] -= rate * blob.diff / max(np.linalg.norm(blob.diff), 1e-9)
            sizes.append(blob.shape)

    sizes: list = []
    return sizes


def test_a_rule_of_ones_own_is_given_one_parameter_at_a_time(own_rule):
    made = solver("Norm", "")
    made.step(1)
    assert own_rule == [one.blob.shape for one in made.net.learnable]


KEEPER = """
import numpy as np
import pycaffe_lite as caffe

class Keeper(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(5)
        self.weights, self.gradient = self.blobs[0].data, self.blobs[0].diff  # for ever

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data + self.weights

    def backward(self, top, propagate_down, bottom):
        self.gradient += top[0].diff.sum(axis=0)
"""


def test_a_layer_of_ones_own_may_keep_the_arrays_of_its_parameters(tmp_path, monkeypatch):
    (tmp_path / "keeper.py").write_text(KEEPER)
    monkeypatch.syspath_prepend(tmp_path)
    param = text_format.Parse('base_lr: 0.1 lr_policy: "fixed"', SolverParameter())
    layers = """
    layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 4 dim: 5 } } }
    layer { name: "keeper" type: "Python" bottom: "x" top: "y" python_param { module: "keeper" layer: "Keeper" } }
    layer { name: "loss" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1 }
    """
    text_format.Parse(layers, param.net_param)
    made = solvers.create(param)
    made.step(2)
    (learnable,) = made.net.learnable
    np.testing.assert_allclose(learnable.blob.data, np.full(5, -2 * 0.1 * 4), 1e-6)
    assert made.net.forward_layers() == pytest.approx(4 * 5 * -0.8)
