"""Fillers: exact values where there are some, statistics where not. Draws are seeded, so no test fails by chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from google.protobuf import text_format

from pycaffe_lite import rng
from pycaffe_lite.blob import Blob
from pycaffe_lite.errors import NetError
from pycaffe_lite.filler import FILLERS, fill
from pycaffe_lite.proto.caffe_pb2 import FillerParameter

SHAPE = (20, 30, 4, 5)  # fan in 600, fan out 400, average 500


def filled(text: str, shape: tuple[int, ...] = SHAPE, seed: int = 1, dtype=np.float32) -> np.ndarray:
    blob = Blob(shape, dtype=dtype)
    blob.data[...] = np.nan
    fill(text_format.Parse(text, FillerParameter()), blob, np.random.default_rng(seed))
    return blob.data


# ---- values -------------------------------------------------------------------------------------------------------


def test_constant_is_the_default_and_0():
    np.testing.assert_array_equal(filled(""), 0)
    np.testing.assert_array_equal(filled('type: "constant" value: 2.5'), 2.5)


def check_uniform(values: np.ndarray, low: float, high: float) -> None:
    """All within the bounds, near both of them, and in each tenth of the range as often as elsewhere."""
    assert low <= values.min() < low + (high - low) / 100
    assert high - (high - low) / 100 < values.max() <= high
    counts, _ = np.histogram(values, 10, (low, high))
    np.testing.assert_allclose(counts, values.size / 10, rtol=0.1)


def check_normal(values: np.ndarray, mean: float, std: float) -> None:
    """Mean, standard deviation, and the shares within one and two standard deviations."""
    assert values.mean() == pytest.approx(mean, abs=0.05 * std)
    assert values.std() == pytest.approx(std, rel=0.03)
    for deviations, share in ((1, 0.6827), (2, 0.9545)):
        assert (abs(values - mean) < deviations * std).mean() == pytest.approx(share, abs=0.015)


def test_uniform():
    check_uniform(filled('type: "uniform"'), 0, 1)
    check_uniform(filled('type: "uniform" min: -3 max: -1'), -3, -1)
    np.testing.assert_array_equal(filled('type: "uniform" min: 2 max: 2'), 2)


def test_gaussian():
    check_normal(filled('type: "gaussian"'), 0, 1)
    check_normal(filled('type: "gaussian" mean: 3 std: 0.5'), 3, 0.5)
    np.testing.assert_array_equal(filled('type: "gaussian" mean: 2 std: 0'), 2)


@pytest.mark.parametrize("sparse", [1, 5, 20])
def test_sparse_gaussian_keeps_that_many_weights_of_an_output_on_average(sparse):
    values = filled(f'type: "gaussian" mean: 3 std: 0.5 sparse: {sparse}')
    kept = values[values != 0]
    assert kept.size / values.size == pytest.approx(sparse / 20, abs=0.01)
    assert kept.mean() == pytest.approx(3, abs=0.1)


def test_sparse_gaussian_with_nothing_kept():
    np.testing.assert_array_equal(filled('type: "gaussian" sparse: 0'), 0)


def test_positive_unitball():
    values = filled('type: "positive_unitball"')
    assert values.min() >= 0
    np.testing.assert_allclose(values.reshape(20, -1).sum(axis=1), 1, 1e-5)
    check_uniform((values.T / values.reshape(20, -1).max(axis=1)).T, 0, 1)
    assert filled('type: "positive_unitball"', ()) == 1


FANS = [("", 600), ("variance_norm: FAN_IN", 600), ("variance_norm: FAN_OUT", 400), ("variance_norm: AVERAGE", 500)]


@pytest.mark.parametrize(("norm", "fan"), FANS)
def test_xavier(norm, fan):
    check_uniform(filled(f'type: "xavier" {norm}'), -math.sqrt(3 / fan), math.sqrt(3 / fan))


@pytest.mark.parametrize(("norm", "fan"), FANS)
def test_msra(norm, fan):
    check_normal(filled(f'type: "msra" {norm}'), 0, math.sqrt(2 / fan))


@pytest.mark.parametrize(
    ("norm", "shape", "fan"),
    [
        ("FAN_IN", (30, 400), 400),
        ("FAN_OUT", (30, 400), 30),
        ("FAN_IN", (6000,), 1),  # a missing axis counts 1: num 6000, channels 1
        ("FAN_OUT", (6000,), 6000),
    ],
)
def test_fans_of_blobs_with_few_axes(norm, shape, fan):
    check_normal(filled(f'type: "msra" variance_norm: {norm}', shape), 0, math.sqrt(2 / fan))


@pytest.mark.parametrize(("size", "line"), [(1, [1]), (2, [0.5, 0.5]), (3, [0.5, 1, 0.5]), (4, [0.25, 0.75, 0.75, 0.25])])
def test_bilinear(size, line):
    values = filled('type: "bilinear"', (2, 3, size, size))
    for plane in values.reshape(6, size, size):
        np.testing.assert_allclose(plane, np.outer(line, line), 1e-6)


@pytest.mark.parametrize("name", FILLERS)
def test_every_filler_writes_every_element_of_any_dtype(name):
    for dtype in (np.float32, np.float64):
        values = filled(f'type: "{name}"', (2, 3, 4, 4), dtype=dtype)
        assert values.dtype == dtype
        assert np.isfinite(values).all()


@pytest.mark.parametrize("name", [name for name in FILLERS if name != "bilinear"])
@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0, 3), (2, 3, 2, 2, 2)])
def test_blobs_of_any_number_of_axes(name, shape):
    assert np.isfinite(filled(f'type: "{name}"', shape)).all()


# ---- determinism --------------------------------------------------------------------------------------------------


def draw(count: int) -> list[np.ndarray]:
    param, results = FillerParameter(type="gaussian"), []
    for _ in range(count):
        blob = Blob(3)
        fill(param, blob, rng.stream())
        results.append(blob.data)
    return results


def test_a_seed_gives_the_same_values_again():
    rng.set_seed(5)
    first = draw(3)
    rng.set_seed(5)
    np.testing.assert_array_equal(draw(3), first)
    rng.set_seed(6)
    assert not np.array_equal(draw(3), first)
    assert len({values.tobytes() for values in first}) == 3


# ---- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        (
            'type: "gausian"',
            SHAPE,
            r'unknown filler "gausian" \(did you mean "gaussian"\?\); there are constant, ',
        ),
        ('type: "Xavier"', SHAPE, 'did you mean "xavier"'),
        ('type: "uniform" sparse: 3', SHAPE, "sparse is for the gaussian filler, not for uniform"),
        ('type: "uniform" min: 2 max: 1', SHAPE, "needs min <= max, received 2 and 1"),
        ('type: "gaussian" std: -1', SHAPE, "std >= 0 .* received -1"),
        ('type: "gaussian" sparse: -2', SHAPE, "sparse >= 0, received 1 and -2"),
        ('type: "gaussian" sparse: 21', SHAPE, "sparse 21 needs as many outputs, the blob is 20 x 30 x 4 x 5"),
        ('type: "gaussian" sparse: 1', (), "sparse 1 needs as many outputs, the blob is scalar"),
        ('type: "bilinear"', (2, 2, 3, 4), r"square kernels, received 2 x 2 x 3 x 4 \(48\)"),
        ('type: "bilinear"', (4, 4), "needs 4 axes"),
    ],
)
def test_errors(text, shape, message):
    with pytest.raises(NetError, match=message):
        filled(text, shape)


def test_a_filler_that_fails_leaves_the_blob_alone():
    blob = Blob(2)
    blob.data[...] = 7
    with pytest.raises(NetError):
        fill(FillerParameter(type="bilinear"), blob, np.random.default_rng(1))
    np.testing.assert_array_equal(blob.data, 7)
