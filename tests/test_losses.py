"""HingeLoss, InfogainLoss, MultinomialLogisticLoss and SigmoidCrossEntropyLoss, from their definitions."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pycaffe_lite.errors import ModelFileError, NetError
from pycaffe_lite.layer import registered_types
from pycaffe_lite.proto import model_file

from .layer_harness import Rig, parse_layer

TYPES = ["HingeLoss", "InfogainLoss", "MultinomialLogisticLoss", "SigmoidCrossEntropyLoss"]


def rig_of(text: str, *bottoms, tops: int = 1) -> Rig:
    return Rig(parse_layer(text), [np.asarray(array, float) for array in bottoms], tops)


def loss_of(text: str, *bottoms) -> float:
    (loss,) = rig_of(text, *bottoms).forward()
    assert loss.shape == ()
    return float(loss)


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_hinge_loss():
    x, labels = normal(4, 3), [2, 0, 1, 1.9]  # labels are cut, not rounded
    margins = [max(0, 1 - x[i, c] if c == int(labels[i]) else 1 + x[i, c]) for i in range(4) for c in range(3)]
    assert loss_of('type: "HingeLoss"', x, labels) == pytest.approx(sum(margins) / 4)
    squares = sum(margin**2 for margin in margins) / 4
    assert loss_of('type: "HingeLoss" hinge_loss_param { norm: L2 }', x, labels) == pytest.approx(squares)


def test_hinge_loss_has_no_gradient_on_the_margin():
    rig = rig_of('type: "HingeLoss"', [[1, -1, 0.5]], [0])
    assert rig.forward()[0] == 1.5
    np.testing.assert_array_equal(rig.backward([2], [True, False])[0], [[0, 0, 2]])


def test_multinomial_logistic_loss_clamps_at_1e_20():
    rig = rig_of('type: "MultinomialLogisticLoss"', [[0.5, 0.5], [1, 0]], [1, 1])
    assert rig.forward()[0] == pytest.approx((np.log(2) + 20 * np.log(10)) / 2)
    np.testing.assert_allclose(rig.backward([1], [True, False])[0], [[0, -1], [0, -0.5e20]])


def sigmoid_entropy(x, t):
    p = 1 / (1 + np.exp(-x))
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


@pytest.mark.parametrize(
    ("mode", "divisor"),
    [("", 2), ("normalization: VALID", 4), ("normalization: FULL", 6), ("normalization: NONE", 1)]
    + [("normalize: true", 4), ("normalize: false", 2)],
)
def test_sigmoid_cross_entropy_normalization(mode, divisor):
    x, t = normal(2, 3), np.array([[0, 1, 2.5], [-2, 0.3, 1]])
    counted = np.array([[1, 1, 0], [1, 1, 1]])
    t[1, 0] = 2  # 2.5, cut to 2, and 2 are ignored
    counted[1, 0] = 0
    rig = rig_of(f'type: "SigmoidCrossEntropyLoss" loss_param {{ ignore_label: 2 {mode} }}', x, t)
    assert rig.forward()[0] == pytest.approx((sigmoid_entropy(x, t) * counted).sum() / divisor)
    expected = (1 / (1 + np.exp(-x)) - t) * counted * 3 / divisor
    np.testing.assert_allclose(rig.backward([3], [True, False])[0], expected, 1e-9)


def test_sigmoid_cross_entropy_of_large_scores():
    rig = rig_of('type: "SigmoidCrossEntropyLoss"', [[1e4, -1e4, 1e4, -1e4]], [[1, 0, 0, 1]])
    assert rig.forward()[0] == 2e4
    np.testing.assert_array_equal(rig.backward([1], [True, False])[0], [[0, 0, 1, -1]])


# ---- InfogainLoss -------------------------------------------------------------------------------------------------

MATRIX = normal(3, 3, seed=7)


@pytest.mark.parametrize(
    ("axis", "shape", "settings"),
    [(1, (4, 3), ""), (1, (2, 3, 2, 2), "ignore_label: 1"), (-1, (2, 4, 3), "normalization: FULL")]
    + [(0, (3, 6), "normalization: BATCH_SIZE"), (2, (2, 2, 3), "ignore_label: 0 normalization: NONE")],
)
def test_infogain_with_the_identity_is_softmax_loss(axis, shape, settings):
    scores = normal(*shape)
    labels = np.random.default_rng(2).integers(3, size=scores.size // 3).reshape(shape[0], -1)
    common = f"loss_param {{ {settings} }}"
    plain = rig_of(f'type: "SoftmaxWithLoss" {common} softmax_param {{ axis: {axis} }}', scores, labels)
    gain = rig_of(f'type: "InfogainLoss" {common} infogain_loss_param {{ axis: {axis} }}', scores, labels, np.eye(3))
    np.testing.assert_allclose(gain.forward()[0], plain.forward()[0], 1e-12)
    (expected, _), (got, *_) = plain.backward([2], [True, False]), gain.backward([2], [True, False, False])
    np.testing.assert_allclose(got, expected, 1e-9, 1e-15)


def infogain_file(folder, matrix) -> str:
    message = model_file.raw.BlobProto()
    model_file.encode_blob(message, matrix)
    model_file.write_message(folder / "h.binaryproto", message)
    return f'type: "InfogainLoss" infogain_loss_param {{ source: "{folder / "h.binaryproto"}" }}'


@pytest.mark.parametrize("shape", [(3, 3), (1, 1, 3, 3), (9,)])
def test_infogain_weighs_all_classes(tmp_path, shape):
    scores, labels = normal(4, 3), [0, 2, 1, 2]
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = -np.mean([MATRIX[label] @ np.log(row) for label, row in zip(labels, p)])
    assert loss_of('type: "InfogainLoss"', scores, labels, MATRIX.reshape(shape)) == pytest.approx(expected)
    assert loss_of(infogain_file(tmp_path, MATRIX.reshape(shape)), scores, labels) == pytest.approx(expected)


def test_infogain_gives_the_probabilities_as_second_top():
    rig = rig_of('type: "InfogainLoss" loss_weight: 1 loss_weight: 0', normal(4, 3, 2), np.zeros((4, 2)), MATRIX, tops=2)
    _, prob = rig.forward()
    assert prob.shape == (4, 3, 2)
    np.testing.assert_allclose(prob.sum(axis=1), 1)


def test_infogain_clamps_at_1e_20():
    assert loss_of('type: "InfogainLoss"', [[0, 100]], [0], np.eye(2)) == pytest.approx(20 * np.log(10))


def test_infogain_source_is_checked(tmp_path):
    with pytest.raises(NetError, match=r"expected a matrix H of 4 x 4, received 9"):
        rig_of(infogain_file(tmp_path, MATRIX), normal(2, 4), [0, 1])
    with pytest.raises(ModelFileError, match="no such file"):
        rig_of('type: "InfogainLoss" infogain_loss_param { source: "nowhere.binaryproto" }', normal(2, 3), [0, 1])


# ---- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "bottoms", "tops", "message"),
    [
        ('type: "HingeLoss"', [normal(2, 3), np.zeros((2, 2))], 1, "expected 2 labels"),
        ('type: "HingeLoss"', [normal(2, 3), np.zeros(3)], 1, "same first dimension"),
        ('type: "MultinomialLogisticLoss"', [normal(2, 3), np.zeros((2, 2))], 1, "expected 2 labels"),
        ('type: "SigmoidCrossEntropyLoss"', [normal(2, 3), np.zeros((2, 2))], 1, "as many targets as scores"),
        ('type: "InfogainLoss"', [normal(2, 3), np.zeros(2)], 1, "matrix H is needed"),
        (
            'type: "InfogainLoss"',
            [normal(2, 3), np.zeros(2), normal(3, 2)],
            1,
            "matrix H of 3 x 3, received 3 x 2",
        ),
        ('type: "InfogainLoss"', [normal(2, 3, 2), np.zeros(2), MATRIX], 1, "expected 4 labels"),
        ('type: "InfogainLoss"', [normal(2, 3), np.zeros(2), MATRIX], 2, "loss_weight is needed for each"),
        ('type: "InfogainLoss" infogain_loss_param { axis: 2 }', [normal(2, 3), np.zeros(2), MATRIX], 1, "axis 2 is out of"),
        ('type: "InfogainLoss" loss_param { normalize: true }', [normal(2, 3), np.zeros(2), MATRIX], 1, "use normalization"),
    ],
)
def test_errors_name_the_cause(text, bottoms, tops, message):
    with pytest.raises(NetError, match=message):
        rig_of(text, *bottoms, tops=tops)


@pytest.mark.parametrize("type_", ["HingeLoss", "InfogainLoss", "MultinomialLogisticLoss"])
@pytest.mark.parametrize("label", [3, -1, np.nan])
def test_labels_out_of_range(type_, label):
    matrix = [MATRIX] * (type_ == "InfogainLoss")
    with pytest.raises(NetError, match=re.escape(f"expected labels from 0 to 2, received {label:g}")):
        rig_of(f'type: "{type_}"', normal(2, 3), [0, label], *matrix).forward()


@pytest.mark.parametrize("type_", TYPES)
def test_only_scores_have_a_gradient(type_):
    force = registered_types()[type_](parse_layer("")).allow_force_backward
    assert [force(0), force(1)] == [True, False]
    matrix = [MATRIX] * (type_ == "InfogainLoss")
    rig = rig_of(f'type: "{type_}"', normal(3, 3), np.zeros((3, 3) if type_ == TYPES[-1] else 3), *matrix)
    with pytest.raises(NetError, match="no gradient"):
        rig.backward([1], [True, True, False])


@pytest.mark.parametrize("type_", ["SoftmaxWithLoss", "SigmoidCrossEntropyLoss"])
def test_scores_of_ignored_labels_may_be_anything(type_):
    """Caffe does not look at them."""
    softmax = type_ == "SoftmaxWithLoss"
    x = np.ones((2, 3))
    x[0] = np.nan
    labels = np.array([9.0, 1.0]) if softmax else np.array([[9.0] * 3, [1.0, 0.0, 1.0]])
    rig = Rig(parse_layer(f'type: "{type_}" loss_param {{ ignore_label: 9 }}'), [x, labels])
    (loss,) = rig.forward()
    assert np.isfinite(loss).all()
    dx, _ = rig.backward([np.ones(())], [True, False])
    assert (dx[0] == 0).all()
    assert np.isfinite(dx).all()


def test_what_losses_do_where_their_labels_are_asked_for_a_gradient():
    """As in Caffe: ContrastiveLoss does not look, InfogainLoss refuses, also for its matrix under force_backward."""
    pairs = [np.ones((2, 3)), np.zeros((2, 3)), np.ones(2)]
    rig = Rig(parse_layer('type: "ContrastiveLoss"'), pairs)
    rig.forward()
    rig.backward([np.ones(())], [True, True, True])
    assert registered_types()["InfogainLoss"].allow_force_backward(rig.layer, 2)
