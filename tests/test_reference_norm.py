"""LRN against a slow, obvious reference; what BatchNorm and MVN promise."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pycaffe_lite.errors import NetError
from pycaffe_lite.ops import lrn
from pycaffe_lite.proto.caffe_pb2 import TEST, TRAIN

from .layer_harness import Rig, parse_layer

SETTINGS = settings(max_examples=30, deadline=None)
SIZES = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.integers(1, 5))


def rig_of(text: str, x, dtype=np.float64, phase: int = TRAIN) -> Rig:
    return Rig(parse_layer(text, phase), [np.asarray(x, dtype)], 1, dtype)


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# ---- LRN ----------------------------------------------------------------------------------------------------------


def obvious_lrn(x, dy, size: int, alpha: float, beta: float, k: float, within: bool):
    """y and dx, from the definition: every element looks at its neighbours one by one."""
    near = range(-(size // 2), size // 2 + 1)
    offsets = [(0, 0, i, j) for i in near for j in near] if within else [(0, c, 0, 0) for c in near]
    if within:
        k = 1
    places = list(itertools.product(*map(range, x.shape)))

    def neighbours(at):
        spots = (tuple(a + b for a, b in zip(at, offset)) for offset in offsets)
        return [spot for spot in spots if all(0 <= i < n for i, n in zip(spot, x.shape))]

    y, dx = np.zeros_like(x), np.zeros_like(x)
    for at in places:
        strength = k + alpha / len(offsets) * sum(x[spot] ** 2 for spot in neighbours(at))
        y[at] = x[at] / strength**beta
        dx[at] += dy[at] / strength**beta
        for spot in neighbours(at):
            dx[spot] -= dy[at] * x[at] * beta * strength ** (-beta - 1) * alpha / len(offsets) * 2 * x[spot]
    return y, dx


@SETTINGS
@given(SIZES, st.integers(0, 4), st.floats(0, 3), st.sampled_from([0.75, 0.5, 1, 2.2]), st.floats(0.5, 3), st.booleans())
@example((1, 3, 9, 8), 1, 1.0, 0.75, 1.0, False)  # more pixels than a tile
@example((1, 1, 1, 1), 4, 1.0, 0.75, 1.0, True)  # a window larger than the image
@example((1, 3, 1, 1), 9, 1.0, 0.75, 1.0, False)  # more neighbours than channels
def test_lrn(shape, half, alpha, beta, k, within):
    alpha, beta, k = map(float, np.float32([alpha, beta, k]))  # as a prototxt holds them
    region = "WITHIN_CHANNEL" if within else "ACROSS_CHANNELS"
    text = f"local_size: {2 * half + 1} alpha: {alpha!r} beta: {beta!r} k: {k!r} norm_region: {region}"
    x, dy = normal(*shape), normal(*shape, seed=2)
    with mock.patch.object(lrn, "num_threads", return_value=2):
        rig = rig_of(f'type: "LRN" lrn_param {{ {text} }}', x)
        (y,), (dx,) = rig.forward(), rig.backward([dy], [True])
    expected_y, expected_dx = obvious_lrn(x, dy, 2 * half + 1, alpha, beta, k, within)
    np.testing.assert_allclose(y, expected_y, 1e-9, 1e-12)
    np.testing.assert_allclose(dx, expected_dx, 1e-9, 1e-12)


@pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
def test_lrn_keeps_nothing_of_a_large_value_that_left_the_window(region):
    text = f'type: "LRN" lrn_param {{ local_size: 3 norm_region: {region} }}'
    x = np.ones((1, 8, 8, 8), np.float32)
    expected = rig_of(text, x, np.float32).forward()[0][0, -1, -1]
    x[0, 0] = x[0, :, :2] = x[0, :, :, :2] = 1e6
    np.testing.assert_allclose(rig_of(text, x, np.float32).forward()[0][0, -1, -1, 4:], expected[4:], 1e-6)


# ---- BatchNorm ----------------------------------------------------------------------------------------------------


@SETTINGS
@given(st.integers(2, 5), st.integers(1, 4), st.lists(st.integers(1, 4), max_size=3), st.integers(0, 2**32))
def test_batch_norm_gives_each_channel_mean_0_and_variance_1(images, channels, inner, seed):
    x = normal(images, channels, *inner, seed=seed) * 3 + 7
    (y,) = rig_of('type: "BatchNorm" batch_norm_param { eps: 0 }', x).forward()
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(y.mean(axis=axes), 0, atol=1e-9)
    np.testing.assert_allclose(y.var(axis=axes), 1, rtol=1e-9)


@pytest.mark.parametrize("inner", [(), (40, 50)])
def test_batch_norm_of_values_far_from_zero(inner):
    x = normal(6, 3, *inner) + 1000
    double, single = (rig_of('type: "BatchNorm"', x.astype(np.float32), dtype).forward()[0] for dtype in (float, np.float32))
    np.testing.assert_allclose(single, double, atol=2e-4)  # 1000 has an ulp of 6e-5


def test_batch_norm_sums_statistics_up_and_uses_them_in_test():
    text = 'type: "BatchNorm" batch_norm_param { moving_average_fraction: 0.75 eps: 0.5 use_global_stats: %s }'
    rig, sums = rig_of(text % "false", normal(4, 3, 2), phase=TEST), [np.zeros(3), np.zeros(3), np.zeros(1)]
    for seed in (5, 6):
        x = normal(4, 3, 2, seed=seed)
        rig.write([x])
        rig.forward()
        batch = x.mean(axis=(0, 2)), x.var(axis=(0, 2), ddof=1), 1
        sums = [0.75 * total + latest for total, latest in zip(sums, batch)]
    for blob, expected in zip(rig.layer.blobs, sums):
        np.testing.assert_allclose(blob.data, expected, 1e-6)
    stored = rig_of('type: "BatchNorm" batch_norm_param { eps: 0.5 }', x, phase=TEST)
    for blob, total in zip(stored.layer.blobs, sums):
        blob.data[...] = total
    scale = 1 / np.sqrt(sums[1] / sums[2] + 0.5).reshape(3, 1)
    expected = (x - (sums[0] / sums[2]).reshape(3, 1)) * scale
    np.testing.assert_allclose(stored.forward()[0], expected, 1e-9)
    np.testing.assert_allclose(stored.backward([x], [True])[0], x * scale, 1e-9)
    for blob, total in zip(stored.layer.blobs, sums):
        np.testing.assert_array_equal(blob.data, total)
        assert not blob.diff.any()


def test_batch_norm_without_stored_statistics_takes_mean_and_variance_for_0():
    x = normal(2, 3)
    (y,) = rig_of('type: "BatchNorm" batch_norm_param { eps: 0.25 }', x, phase=TEST).forward()
    np.testing.assert_allclose(y, 2 * x)


def test_batch_norm_of_one_value_or_none():
    rig = rig_of('type: "BatchNorm"', np.full((1, 2), 3.0))
    assert not rig.forward()[0].any()
    assert not rig.layer.blobs[1].data.any()
    rig.write([np.zeros((0, 2))])
    rig.forward()
    np.testing.assert_array_equal(rig.layer.blobs[0].data, 3)
    np.testing.assert_array_equal(rig.layer.blobs[2].data, 1)


def test_batch_norm_keeps_the_solver_off_its_statistics():
    layer = rig_of('type: "BatchNorm" param { name: "mean" lr_mult: 0 decay_mult: 2 }', normal(2, 3)).layer
    assert [(spec.name, spec.lr_mult) for spec in layer.param.param] == [("mean", 0), ("", 0), ("", 0)]
    assert all(spec.HasField("lr_mult") for spec in layer.param.param)


# ---- MVN ----------------------------------------------------------------------------------------------------------


@SETTINGS
@given(SIZES, st.booleans(), st.integers(0, 2**32))
def test_mvn_gives_each_plane_mean_0_and_deviation_1(shape, across, seed):
    x = normal(*shape, seed=seed) * 3 + 7
    (y,) = rig_of(f'type: "MVN" mvn_param {{ across_channels: {str(across).lower()} }}', x).forward()
    groups = y.reshape(shape[0] if across else shape[0] * shape[1], -1)
    np.testing.assert_allclose(groups.mean(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(groups.std(axis=1), groups.shape[1] > 1, rtol=1e-6)


def test_mvn_adds_eps_to_the_deviation():
    x = normal(2, 3, 4, 5)
    (y,) = rig_of('type: "MVN" mvn_param { eps: 0.5 }', x).forward()
    axes = {"axis": (2, 3), "keepdims": True}
    np.testing.assert_allclose(y, (x - x.mean(**axes)) / (x.std(**axes) + 0.5), 1e-9)


def test_mvn_of_a_constant_plane_is_zero():
    rig = rig_of('type: "MVN"', np.full((2, 3, 7, 9), 0.1), np.float32)
    assert not rig.forward()[0].any()
    assert np.isfinite(rig.backward([np.ones((2, 3, 7, 9))], [True])[0]).all()


def test_mvn_has_four_axes_on_top():
    assert rig_of('type: "MVN"', normal(2, 3)).forward()[0].shape == (2, 3, 1, 1)


# ---- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ('type: "BatchNorm"', (6,), r"at least 2 axes \(N x C x ...\), received 6"),
        ('type: "BatchNorm" param { lr_mult: 0 } param { }', (2, 3), "expected lr_mult 0, received 1"),
        ('type: "LRN" lrn_param { local_size: 4 }', (1, 2, 3, 3), "local_size is odd, received 4"),
        ('type: "LRN"', (2, 3), "expected 4 axes"),
        ('type: "MVN"', (1, 2, 3, 3, 3), "at most 4 axes"),
    ],
)
def test_errors_name_the_cause(text, shape, message):
    with pytest.raises(NetError, match=message):
        rig_of(text, np.zeros(shape))


def test_batch_norm_cannot_change_its_channels():
    rig = rig_of('type: "BatchNorm"', normal(2, 3))
    rig.write([normal(2, 4)])
    with pytest.raises(NetError, match="expected 3 channels"):
        rig.forward()
