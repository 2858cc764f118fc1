"""What every layer type must keep to, checked on each case of `cases.CASES`; then what single types promise."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycaffe_lite.device import kernels
from pycaffe_lite.errors import NetError
from pycaffe_lite.layer import registered_types
from pycaffe_lite.proto.caffe_pb2 import TEST, TRAIN

from .cases import CASES, Case
from .layer_harness import Rig, check_gradient, is_single, parse_layer, replay

KIT = os.environ.get("PYCAFFE_LITE_CONFORMANCE")
RUNNABLE = [case for case in CASES if not case.needs_database]
WITH_BOTTOMS = [case for case in RUNNABLE if case.type not in ("Input", "DummyData")]
WITH_GRADIENT = [case for case in RUNNABLE if case.gradients is not None]


def by_id(cases: list[Case]):
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])


def rig_of(case: Case, batch: int = 3, dtype=np.float64) -> Rig:
    """The rig of a case; equal calls give equal values, those of the parameters too."""
    bottoms = case.bottoms(np.random.default_rng(1), batch)
    rig = Rig(parse_layer(f'type: "{case.type}" {case.text}', case.phase), bottoms, case.tops, dtype)
    for blob in rig.layer.blobs:
        blob.data[...] = np.random.default_rng(2).normal(size=blob.shape)
    return rig


def simple(text: str, *bottoms, tops: int = 1, dtype=np.float64, phase: int = TRAIN) -> Rig:
    return Rig(parse_layer(text, phase), [np.asarray(array, dtype) for array in bottoms], tops, dtype)


# ---- every type ---------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _parallel_code(monkeypatch):
    """Arrays as small as these would run on one thread, and the code for several would never be tried."""
    monkeypatch.setattr(kernels, "SMALL", 0)


def test_every_type_has_a_case():
    assert set(registered_types()) == {case.type for case in CASES}


@pytest.mark.parametrize("name", registered_types())
def test_a_type_lives_in_the_file_of_its_name(name):
    words = name.replace("PReLU", "Prelu").replace("ReLU", "Relu").replace("TanH", "Tanh")
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", words).lower()
    assert registered_types()[name].__module__.rpartition(".")[2] == snake


@by_id(WITH_GRADIENT)
def test_gradient(case):
    check_gradient(rig_of(case), case.gradients, np.random.default_rng(4), case.rtol)


@by_id(WITH_BOTTOMS)
def test_forward_leaves_the_bottoms_alone(case):
    rig = rig_of(case)
    before = [blob.data.copy() for blob in rig.bottom]
    rig.forward()
    for blob, values in zip(rig.bottom, before, strict=True):
        np.testing.assert_array_equal(blob.data, values)


@by_id(WITH_BOTTOMS)
def test_nothing_is_read_before_it_is_written(case):
    """What is to be overwritten holds NaN before, which would show in the results of a layer that reads it."""
    clean, poisoned = rig_of(case), rig_of(case)
    inputs = [blob.data.copy() for blob in clean.bottom]
    for blob in poisoned.top:
        if not any(blob.shares_memory(param) for param in poisoned.layer.blobs):  # the top of a Parameter is the parameter
            blob.data[...] = np.nan
    poisoned.write(inputs)  # again, as a top may be the memory of a bottom
    expected, got = clean.forward(), poisoned.forward()
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_array_equal(a, b)
    if case.gradients is None:
        return
    wanted = [i in case.gradients for i in range(len(clean.bottom))]
    for blob in poisoned.bottom:
        blob.diff[...] = np.nan
    for i, (a, b) in enumerate(zip(clean.backward(expected, wanted), poisoned.backward(expected, wanted), strict=True)):
        if wanted[i]:
            np.testing.assert_array_equal(a, b)
    for a, b in zip(clean.layer.blobs, poisoned.layer.blobs, strict=True):
        np.testing.assert_array_equal(a.diff, b.diff)


@by_id(WITH_GRADIENT)
def test_backward_leaves_its_inputs_alone(case):
    rig = rig_of(case)
    tops = rig.forward()
    data = [blob.data.copy() for blob in (*rig.bottom, *rig.top, *rig.layer.blobs)]
    rig.backward(tops, [i in case.gradients for i in range(len(rig.bottom))])
    for blob, values in zip((*rig.bottom, *rig.top, *rig.layer.blobs), data, strict=True):
        np.testing.assert_array_equal(blob.data, values)
    if not case.touches_unasked:
        for blob, values in zip(rig.top, tops, strict=True):
            np.testing.assert_array_equal(blob.diff, values)


@by_id(WITH_GRADIENT)
def test_backward_writes_only_what_is_asked_for(case):
    rig = rig_of(case)
    tops = rig.forward()
    for asked in ({0}, {len(rig.bottom) - 1}, set()):
        asked &= set(case.gradients)
        for blob in rig.bottom:
            blob.diff[...] = 77
        gradients = rig.backward(tops, [i in asked for i in range(len(rig.bottom))])
        for i, gradient in enumerate(gradients):
            if i in asked:
                assert not np.any(gradient == 77), "part of the gradient was not written"
            elif not case.touches_unasked:
                np.testing.assert_array_equal(gradient, 77)


@by_id(WITH_BOTTOMS)
def test_reshape_to_another_batch_and_back(case):
    rig = rig_of(case)
    for batch in (5, 2, 3):
        fresh = rig_of(case, batch)
        rig.write([blob.data for blob in fresh.bottom])
        expected, got = fresh.forward(), rig.forward()
        for a, b in zip(expected, got, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-12)
        if case.gradients is not None:
            wanted = [i in case.gradients for i in range(len(rig.bottom))]
            for a, b in zip(fresh.backward(expected, wanted), rig.backward(expected, wanted), strict=True):
                np.testing.assert_allclose(a[: len(b)], b, rtol=1e-12)


@by_id(RUNNABLE)
def test_single_precision_agrees_with_double(case):
    double, single = rig_of(case), rig_of(case, dtype=np.float32)
    expected, got = double.forward(), single.forward()
    for a, b in zip(expected, got, strict=True):
        assert b.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    if case.gradients is not None:
        wanted = [i in case.gradients for i in range(len(double.bottom))]
        for a, b in zip(double.backward(expected, wanted), single.backward(expected, wanted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@by_id(WITH_BOTTOMS)
def test_an_empty_batch_is_no_error(case):
    rig = rig_of(case, batch=0)
    tops = rig.forward()
    assert all(np.isfinite(top).all() for top in tops)
    if case.gradients is not None:
        rig.backward(tops, [i in case.gradients for i in range(len(rig.bottom))])


# ---- the conformance kit ------------------------------------------------------------------------------------------


def kit_cases() -> list[dict]:
    if not KIT:
        return []
    folder = Path(KIT) / "layers"
    runnable = {case.type for case in RUNNABLE} & set(registered_types())
    cases = json.loads((folder / "manifest.json").read_text())["cases"]
    return [case for case in cases if case["type"] in runnable and is_single(folder, case)]


KIT_CASES = kit_cases()


@pytest.mark.skipif(not KIT, reason="PYCAFFE_LITE_CONFORMANCE is not set")
@pytest.mark.parametrize("case", KIT_CASES, ids=[case["id"] for case in KIT_CASES])
def test_conformance_kit(case, monkeypatch):
    folder = Path(str(KIT)).resolve() / "layers"
    monkeypatch.chdir(folder)  # files that a layer reads are named from there
    replay(folder, case)


# ---- single types -------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.sampled_from([1, 100, 1e30]))
@settings(max_examples=20, deadline=None)
def test_softmax_sums_to_one(seed, spread):
    (y,) = simple('type: "Softmax"', np.random.default_rng(seed).normal(size=(3, 5, 2)) * spread).forward()
    assert np.all(y >= 0)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-12)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.sampled_from([0, 1, -1]))
@settings(max_examples=20, deadline=None)
def test_slices_concatenate_to_the_bottom(sizes, axis):
    shape = [2, 3, 4]
    shape[axis] = sum(sizes)
    x = np.random.default_rng(0).normal(size=shape)
    points = " ".join(f"slice_point: {point}" for point in np.cumsum(sizes)[:-1])
    rig = simple(f'type: "Slice" slice_param {{ axis: {axis} {points} }}', x, tops=len(sizes))
    pieces = rig.forward()
    np.testing.assert_array_equal(np.concatenate(pieces, axis), x)
    if len(pieces) > 1:
        np.testing.assert_array_equal(rig.backward(pieces, [True])[0], x)


@given(st.integers(1, 5))
@settings(max_examples=5, deadline=None)
def test_split_adds_gradients_up_and_shares_values(tops):
    rig = simple('type: "Split"', np.ones((2, 3)), tops=tops)
    rig.forward()
    diffs = np.random.default_rng(tops).normal(size=(tops, 2, 3))
    np.testing.assert_allclose(rig.backward(diffs, [True])[0], diffs.sum(axis=0), rtol=1e-12)
    rig.top[-1].data[0, 0] = 5
    assert rig.bottom[0].data[0, 0] == 5


def test_slice_with_one_top_is_the_bottom():
    rig = simple('type: "Slice"', np.ones((2, 3)))
    rig.forward()
    rig.top[0].data[...] = 2
    rig.top[0].diff[...] = 3
    assert np.all(rig.bottom[0].data == 2)
    assert np.all(rig.bottom[0].diff == 3)


def test_silence_zeroes_gradients():
    rig = simple('type: "Silence"', np.ones(3), np.ones(2), tops=0)
    rig.bottom[0].diff[...] = 1
    assert not rig.backward([], [True, False])[0].any()


def test_dropout_draws_a_new_mask_each_time_and_uses_it_in_backward():
    rig = simple('type: "Dropout" dropout_param { dropout_ratio: 0.2 }', np.ones((200, 500)), dtype=np.float32)
    (first,), (second,) = rig.forward(seed=1), rig.forward(seed=2)
    assert set(np.unique(second)) == {0, np.float32(1.25)}
    assert abs(np.mean(second == 0) - 0.2) < 0.007  # five standard deviations
    assert abs(np.mean((first == 0) & (second == 0)) - 0.04) < 0.004
    assert abs(np.mean((second[:, 1:] == 0) & (second[:, :-1] == 0)) - 0.04) < 0.004
    np.testing.assert_array_equal(rig.backward([np.ones_like(second)], [True])[0], second)


def test_dropout_keeps_everything_in_test_phase_and_at_ratio_0():
    x = np.random.default_rng(0).normal(size=(4, 5))
    for text, phase in (("", TEST), ("dropout_param { dropout_ratio: 0 }", TRAIN)):
        rig = simple(f'type: "Dropout" {text}', x, phase=phase)
        np.testing.assert_array_equal(rig.forward()[0], x)
        np.testing.assert_array_equal(rig.backward([x], [True])[0], x)


def test_power_of_a_constant_ignores_the_input():
    for text, value in (("power: 0", 1), ("scale: 0 shift: 3 power: 2", 9)):
        rig = simple(f'type: "Power" power_param {{ {text} }}', [np.nan, np.inf, 2])
        assert np.all(rig.forward()[0] == value)
        assert not rig.backward([np.full(3, np.nan)], [True])[0].any()


def test_dummy_data_refills_all_but_constants():
    fillers = 'data_filler { value: 2 } data_filler { type: "uniform" }'
    rig = simple(f'type: "DummyData" dummy_data_param {{ shape {{ dim: 4 }} {fillers} }}', tops=2)
    constant, first = rig.forward(seed=1)
    assert np.all(constant == 2)
    rig.top[0].data[...] = 5
    constant, second = rig.forward(seed=2)
    assert np.all(constant == 5)
    assert not np.any(first == second)


def test_accuracy_of_a_constant_score_is_zero():
    labels = np.arange(4.0)
    assert simple('type: "Accuracy"', np.ones((4, 4)), labels).forward()[0] == 0
    assert simple('type: "Accuracy"', np.eye(4), labels).forward()[0] == 1
    with pytest.raises(NetError, match="no gradient"):
        simple('type: "Accuracy"', np.eye(4), labels).backward([1], [True, False])


def test_softmax_loss_of_equal_scores_is_log_of_their_number():
    (loss,) = simple('type: "SoftmaxWithLoss"', np.zeros((6, 10)), np.arange(6)).forward()
    assert loss.shape == ()
    np.testing.assert_allclose(loss, np.log(10))


@pytest.mark.parametrize(
    ("mode", "divisor"),
    [("", 4), ("normalization: FULL", 6), ("normalization: BATCH_SIZE", 2), ("normalization: NONE", 1)]
    + [("normalize: true", 4), ("normalize: false", 2), ("normalize: false normalization: FULL", 6)],
)
def test_loss_normalization(mode, divisor):
    scores, labels = np.zeros((2, 5, 3)), [[0, 1, 9], [9, 2, 3]]
    rig = simple(f'type: "SoftmaxWithLoss" loss_param {{ ignore_label: 9 {mode} }}', scores, labels)
    np.testing.assert_allclose(rig.forward()[0], 4 * np.log(5) / divisor)


def test_losses_leave_labels_without_gradient():
    force = {name: [registered_types()[name](parse_layer("")).allow_force_backward(i) for i in range(3)] for name in LOSSES}
    assert force == LOSSES
    with pytest.raises(NetError, match="labels have no gradient"):
        simple('type: "SoftmaxWithLoss"', np.eye(3), np.arange(3)).backward([1], [True, True])
    with pytest.raises(NetError, match="labels have no gradient"):
        simple('type: "HingeLoss"', np.eye(3), np.arange(3)).backward([1], [True, True])


LOSSES = {
    "ContrastiveLoss": [True, True, False],
    "EuclideanLoss": [True, True, True],
    "SoftmaxWithLoss": [True, False, True],
}


# ---- errors -------------------------------------------------------------------------------------------------------

X = np.zeros((2, 3, 4))


@pytest.mark.parametrize(
    ("text", "bottoms", "tops", "message"),
    [
        ('type: "ReLU"', [X, X], 1, "expected 1 bottom, received 2"),
        ('type: "Input" input_param { shape { dim: 2 } shape { dim: 3 } }', [], 3, "each of the 3 tops, received 2 shapes"),
        ('type: "Input" input_param { shape { dim: 2 dim: -3 } }', [], 1, "not negative"),
        ('type: "DummyData"', [], 2, "expected one shape, or one for each of the 2 tops, received 0"),
        ('type: "DummyData" dummy_data_param { num: 1 height: 1 width: 1 }', [], 2, "expected one channels.*received 0"),
        ('type: "DummyData" dummy_data_param { num: 1 shape { dim: 1 } }', [], 1, "received both"),
        ('type: "DummyData" dummy_data_param { shape { dim: 1 } data_filler { type: "zeros" } }', [], 1, 'filler "zeros"'),
        ('type: "Slice"', [X], 2, r"axis 1 of 2 x 3 x 4 \(24\) cannot be cut into 2 equal pieces"),
        ('type: "Slice" slice_param { slice_point: 1 }', [X], 3, "expected 2 slice_point for 3 tops, received 1"),
        ('type: "Slice" slice_param { slice_point: 2 slice_point: 1 }', [X], 3, r"at most 3, received \[2, 1\]"),
        ('type: "Slice" slice_param { slice_point: 4 }', [X], 2, r"at most 3, received \[4\]"),
        ('type: "Slice" slice_param { slice_dim: 4294967295 }', [X], 3, "slice_dim 4294967295 is out of range"),
        ('type: "Slice" slice_param { slice_dim: 1 axis: 1 }', [X], 3, "either axis or slice_dim"),
        ('type: "Softmax" softmax_param { axis: -4 }', [X], 1, "axis -4 is out of range"),
        ('type: "SoftmaxWithLoss"', [X, np.zeros((2, 3))], 1, r"expected 8 labels, .* received 2 x 3 \(6\)"),
        ('type: "SoftmaxWithLoss"', [X, np.zeros((4, 2))], 1, "the same first dimension"),
        ('type: "SoftmaxWithLoss"', [X, np.zeros((2, 4))], 2, "expected 1 top, received 2.*Softmax"),
        ('type: "Accuracy" accuracy_param { top_k: 4 }', [X, np.zeros((2, 4))], 1, "number of classes, 3, received 4"),
        ('type: "Accuracy"', [X, np.zeros(2)], 1, "expected 8 labels"),
        ('type: "Dropout" dropout_param { dropout_ratio: 1 }', [X], 1, "expected 0 <= dropout_ratio < 1, received 1"),
        ('type: "EuclideanLoss"', [X, np.zeros((2, 3))], 1, r"equal counts, received 2 x 3 x 4 \(24\) and 2 x 3 \(6\)"),
        ('type: "EuclideanLoss"', [np.zeros(()), np.zeros(())], 1, "first dimension"),
        ('type: "ContrastiveLoss"', [X, X, np.zeros(2)], 1, "same shape N x C"),
        ('type: "ContrastiveLoss"', [np.zeros((2, 3)), np.zeros((2, 4)), np.zeros(2)], 1, "same shape N x C"),
        (
            'type: "ContrastiveLoss"',
            [np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(1)],
            1,
            "expected 2 labels, .*received 1",
        ),
    ],
)
def test_errors_name_the_cause(text, bottoms, tops, message):
    with pytest.raises(NetError, match=message):
        simple(text, *bottoms, tops=tops)


@pytest.mark.parametrize("type_", ["SoftmaxWithLoss", "Accuracy"])
@pytest.mark.parametrize("label", [3, -1, 1e30, np.nan, np.inf])
def test_labels_out_of_range(type_, label):
    with pytest.raises(NetError, match=re.escape(f"expected labels from 0 to 2, received {label:g}")):
        simple(f'type: "{type_}"', np.zeros((2, 3)), [0, label]).forward()
