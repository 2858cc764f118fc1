"""Convolution and pooling (and copies) against slow, obvious references, written with loops from the definitions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pycaffe_lite.device import kernels
from pycaffe_lite.ops import convolution as ops
from pycaffe_lite.ops import copies
from pycaffe_lite.ops.convolution import columns, depthwise, turned
from pycaffe_lite.proto.caffe_pb2 import TEST

from .layer_harness import Rig, parse_layer

Ints = tuple[int, ...]
BATCHES = st.sampled_from([1, 2, 3, 5])
AXES = st.integers(1, 3)
SETTINGS = settings(max_examples=60, deadline=None)


@pytest.fixture(autouse=True)
def _parallel_code(monkeypatch):
    """Arrays as small as these would run on one thread, and the code for several would never be tried."""
    monkeypatch.setattr(kernels, "SMALL", 0)


def positions(*sizes: int) -> Iterator[Ints]:
    return itertools.product(*map(range, sizes))


# ---- convolution --------------------------------------------------------------------------------------------------


def places(size: int, kernel: int, stride: int, pad: int, dilation: int) -> list[int]:
    """Where the windows begin along one axis: all that lie within the padded image."""
    last = size + pad - dilation * (kernel - 1) - 1
    return list(range(-pad, last + 1, stride))


def taps(x: Ints, w: Ints, stride: Ints, pad: Ints, dilation: Ints, group: int) -> Iterator[tuple[Ints, Ints, Ints]]:
    """The indices (y, w, x) of all products that a convolution adds up. Shapes: x N x C x ..., w O x C / group x ..."""
    starts = [places(*axis) for axis in zip(x[2:], w[2:], stride, pad, dilation)]
    for n, o, c in positions(x[0], w[0], w[1]):
        channel = o // (w[0] // group) * w[1] + c
        for window in positions(*map(len, starts)):
            for tap in positions(*w[2:]):
                pixel = tuple(s[i] + t * d for s, i, t, d in zip(starts, window, tap, dilation))
                if all(0 <= p < size for p, size in zip(pixel, x[2:])):
                    yield (n, o, *window), (o, c, *tap), (n, channel, *pixel)


@st.composite
def convolutions(draw, axes=AXES):
    """(x shape, w shape, stride, pad, dilation, group), with at least one window."""
    axes, group = draw(axes), draw(st.integers(1, 3))

    def each(strategy) -> Ints:
        return tuple(draw(strategy) for _ in range(axes))

    size, kernel = each(st.integers(1, 7 if axes < 3 else 4)), each(st.integers(1, 3))
    stride, pad, dilation = each(st.integers(1, 3)), each(st.integers(0, 3)), each(st.integers(1, 3))
    assume(all(map(places, size, kernel, stride, pad, dilation)))
    channels, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    x, w = (draw(BATCHES), channels * group, *size), (outputs * group, channels, *kernel)
    return x, w, stride, pad, dilation, group


def repeated(name: str, values: Ints) -> str:
    return " ".join(f"{name}: {value}" for value in values)


def convolution_rig(w: Ints, stride: Ints, pad: Ints, dilation: Ints, group: int, bias: bool, x: np.ndarray) -> Rig:
    fields = [repeated("kernel_size", w[2:]), repeated("stride", stride), repeated("pad", pad)]
    fields += [repeated("dilation", dilation), f"num_output: {w[0]} group: {group} bias_term: {str(bias).lower()}"]
    rig = Rig(parse_layer(f'type: "Convolution" convolution_param {{ {" ".join(fields)} }}'), [x])
    rng = np.random.default_rng(2)
    for blob in rig.layer.blobs:
        blob.data[...] = rng.normal(size=blob.shape)
    return rig


# What pays for large shapes only has to be right for all: limits that let small ones through.
TAPS = {"TAP_MIN_DEPTH": 1, "TAP_MIN_WINDOWS": 0}
TURNED = {"MIN_DEPTH": 1, "MIN_WINDOWS": 1, "MIN_REUSE": 1, "STRIP": 40}


@SETTINGS
@given(convolutions(), st.booleans(), st.integers(1, 4), st.sampled_from(["columns", "taps", "turned"]))
@example(((5, 2, 6, 7), (4, 1, 3, 2), (2, 1), (1, 2), (1, 2), 2), True, 2, "taps")
@example(((2, 2, 6, 7), (4, 1, 3, 2), (2, 1), (1, 2), (1, 2), 2), True, 4, "taps")
@example(((5, 3, 4, 4), (2, 3, 1, 1), (1, 1), (0, 0), (3, 3), 1), True, 2, "columns")  # the image is its own columns
@example(((1, 3, 4, 4), (2, 3, 1, 1), (1, 1), (0, 0), (3, 3), 1), True, 3, "columns")
@example(((3, 2, 9), (2, 2, 3), (2,), (1,), (2,), 1), False, 2, "columns")
@example(((3, 2, 4, 3, 5), (2, 1, 2, 2, 3), (1, 2, 2), (1, 0, 1), (2, 1, 1), 2), True, 2, "columns")
@example(((2, 1, 1, 1), (1, 1, 3, 3), (1, 1), (3, 3), (1, 1), 1), True, 1, "columns")  # windows that see only padding
@example(((3, 9, 7, 8), (11, 9, 3, 2), (1, 1), (2, 1), (1, 2), 1), True, 2, "turned")
@example(((1, 2, 7, 5), (3, 2, 3, 3), (1, 1), (3, 0), (2, 1), 1), False, 3, "turned")
@example(((2, 3, 9), (2, 3, 3), (1,), (1,), (1,), 1), True, 2, "turned")
def test_convolution(shapes, bias, threads, way):
    limits = {columns: TAPS if way == "taps" else {}, turned: TURNED if way == "turned" else {}}
    with ExitStack() as stack:  # few images are cut in another way than many
        for module, values in limits.items():
            stack.enter_context(mock.patch.multiple(module, num_threads=lambda: threads, **values))
        stack.enter_context(mock.patch.object(ops, "_plan", ops._plan.__wrapped__))  # without what it knows of other limits
        check_convolution(shapes, bias)


def test_which_convolutions_turn_their_images():
    assert isinstance(way_of(((1, 16, 12, 12), (16, 16, 5, 5), (1, 1), (2, 2), (1, 1), 1)), turned.Turned)
    for shapes in (
        ((1, 16, 12, 12), (16, 16, 5, 5), (1, 2), (2, 2), (1, 1), 1),  # a stride
        ((1, 16, 12, 12), (16, 8, 5, 5), (1, 1), (2, 2), (1, 1), 2),  # groups
        ((1, 16, 12, 12), (33, 16, 5, 5), (1, 1), (2, 2), (1, 1), 1),  # many outputs
    ):
        assert isinstance(way_of(shapes), columns.Columns)


@SETTINGS
@given(convolutions(st.just(2)), st.integers(2, 5), st.booleans(), st.integers(1, 4), st.booleans())
@example(((2, 0, 7, 7), (0, 1, 3, 3), (1, 1), (1, 1), (1, 1), 0), 5, True, 2, True)
@example(((2, 0, 6, 7), (0, 1, 2, 3), (2, 1), (1, 0), (1, 2), 0), 3, True, 3, False)
@example(((1, 0, 5, 6), (0, 1, 3, 4), (4, 3), (0, 2), (1, 1), 0), 2, False, 1, True)  # strides beyond the kernel, and not
@example(((1, 0, 5, 5), (0, 1, 1, 1), (3, 2), (0, 0), (1, 1), 0), 4, True, 4, False)  # pixels that no window sees
@example(((1, 0, 1, 2100), (0, 1, 1, 2), (1, 1), (0, 0), (1, 1), 0), 2, True, 2, False)  # more than a block
def test_depthwise_convolution(shapes, channels, bias, threads, serial):
    x, w, *geometry, _ = shapes
    shapes = (x[0], channels, *x[2:]), (channels, 1, *w[2:]), *geometry, channels
    # memory is no matter here
    with (
        mock.patch.object(ops, "_plan", ops._plan.__wrapped__),
        mock.patch.multiple(depthwise, num_threads=lambda: threads, MAX_PADDING=10**6),
        mock.patch.object(kernels, "SMALL", 10**6 if serial else 0),
    ):
        check_convolution(shapes, bias)
        assert isinstance(way_of(shapes), depthwise.Depthwise)


def way_of(shapes):
    """What computes the forward pass of a convolution."""
    x, w, *rows, group = shapes
    windows = (len(places(*axis)) for axis in zip(x[2:], w[2:], *rows))
    geometry = tuple(zip(x[2:], windows, w[2:], *rows))
    return ops._plan(geometry, group, w[:2], x[0]).to_windows.__self__


def check_convolution(shapes, bias: bool) -> None:
    """Compares a layer with the sums of products."""
    x_shape, w_shape, stride, pad, dilation, group = shapes
    rng = np.random.default_rng(1)
    x = rng.normal(size=x_shape)
    rig = convolution_rig(w_shape, stride, pad, dilation, group, bias, x)
    (y,) = rig.forward()
    dy = rng.normal(size=y.shape)
    (dx,) = rig.backward([dy], [True])
    w = rig.layer.blobs[0].data
    windows = tuple(len(places(*axis)) for axis in zip(x_shape[2:], w_shape[2:], stride, pad, dilation))
    expected_y = np.zeros((x_shape[0], w_shape[0], *windows))
    if bias:
        expected_y += rig.layer.blobs[1].data.reshape(-1, *[1] * len(windows))
    expected_dx, expected_dw = np.zeros(x_shape), np.zeros(w_shape)
    assert y.shape == expected_y.shape
    for at_y, at_w, at_x in taps(x_shape, w_shape, stride, pad, dilation, group):
        expected_y[at_y] += w[at_w] * x[at_x]
        expected_dx[at_x] += w[at_w] * dy[at_y]
        expected_dw[at_w] += x[at_x] * dy[at_y]
    np.testing.assert_allclose(y, expected_y, 1e-9, 1e-9)
    np.testing.assert_allclose(dx, expected_dx, 1e-9, 1e-9)
    np.testing.assert_allclose(rig.layer.blobs[0].diff, expected_dw, 1e-9, 1e-9)
    if bias:
        other_axes = tuple(axis for axis in range(dy.ndim) if axis != 1)
        np.testing.assert_allclose(rig.layer.blobs[1].diff, dy.sum(axis=other_axes), 1e-9, 1e-9)


@pytest.mark.parametrize("bias", [False, True])
def test_windows_of_an_image_without_pixels_see_its_padding(bias):
    rig = convolution_rig((2, 3, 2, 2), (1, 1), (1, 1), (1, 1), 1, bias, np.zeros((2, 3, 0, 0)))
    for blob in rig.top:
        blob.data[...] = np.nan
    (y,) = rig.forward()
    expected = rig.layer.blobs[1].data.reshape(1, 2, 1, 1) if bias else 0
    np.testing.assert_array_equal(y, np.broadcast_to(expected, y.shape))
    assert y.size


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_convolution_gradients_add_up_in_parameters_only(batch):
    x = np.random.default_rng(1).normal(size=(batch, 2, 5, 4))
    rig = convolution_rig((2, 2, 3, 3), (1, 1), (1, 1), (1, 1), 1, True, x)
    (y,) = rig.forward()
    (dx,) = rig.backward([y], [True])
    once = [blob.diff.copy() for blob in rig.layer.blobs]
    rig.layer.backward(rig.top, [True], rig.bottom)
    np.testing.assert_array_equal(rig.bottom[0].diff, dx)
    for blob, gradient in zip(rig.layer.blobs, once, strict=True):
        np.testing.assert_allclose(blob.diff, 2 * gradient, 1e-9)


def test_convolution_of_no_images():
    rig = convolution_rig((2, 2, 3, 3), (1, 1), (1, 1), (1, 1), 1, True, np.zeros((0, 2, 5, 4)))
    assert rig.forward()[0].shape == (0, 2, 5, 4)
    assert rig.backward([np.zeros((0, 2, 5, 4))], [True])[0].shape == (0, 2, 5, 4)
    assert not any(blob.diff.any() for blob in rig.layer.blobs)


# ---- pooling ------------------------------------------------------------------------------------------------------


def pooled_places(size: int, kernel: int, stride: int, pad: int, round_up: bool, any_pad: bool) -> list[int]:
    """Where the windows begin along one axis. Rounding up adds one that hangs over the end of the image; in a layer that
    pads (on either axis) a window that would begin beyond the image is dropped."""
    starts = list(range(-pad, size + pad - kernel + 1, stride))
    if round_up and (size + 2 * pad - kernel) % stride:
        starts.append(starts[-1] + stride)
    if any_pad and starts[-1] >= size:
        starts.pop()
    return starts


def window_pixels(start: int, kernel: int, size: int) -> list[int]:
    return [p for p in range(start, start + kernel) if 0 <= p < size]


@st.composite
def poolings(draw, padded: bool = True):
    """(N x C x H x W, kernel, stride, pad, round_up); every window sees a pixel."""
    round_up, axes = draw(st.booleans()), []
    for _ in range(2):
        size, kernel = draw(st.integers(1, 8)), draw(st.integers(1, 4))
        stride, pad = draw(st.integers(1, 4)), draw(st.integers(0, kernel - 1)) if padded else 0
        assume(size + 2 * pad >= kernel)
        axes.append((size, kernel, stride, pad))
    size, kernel, stride, pad = zip(*axes)
    for axis in axes:
        starts = pooled_places(*axis, round_up, any(pad))
        assume(starts and all(window_pixels(start, axis[1], axis[0]) for start in starts))
    return (draw(BATCHES), draw(st.integers(1, 2)), *size), kernel, stride, pad, round_up


def pooling_rig(method: str, x: np.ndarray, kernel: Ints, stride: Ints, pad: Ints, round_up: bool, tops: int = 1) -> Rig:
    pairs = [f"{name}_h: {h} {name}_w: {w}" for name, (h, w) in (("kernel", kernel), ("stride", stride), ("pad", pad))]
    text = f"pool: {method} round_mode: {'CEIL' if round_up else 'FLOOR'} {' '.join(pairs)}"
    return Rig(parse_layer(f'type: "Pooling" pooling_param {{ {text} }}', TEST), [x], tops)


def windows_of(shape: Ints, kernel: Ints, stride: Ints, pad: Ints, round_up: bool) -> dict[Ints, list[Ints]]:
    """(i, j) of each output to the pixels (h, w) that it sees, in row order."""
    rows, columns = (
        [window_pixels(start, k, size) for start in pooled_places(size, k, s, p, round_up, any(pad))]
        for size, k, s, p in zip(shape[2:], kernel, stride, pad)
    )
    return {(i, j): [(h, w) for h in rows[i] for w in columns[j]] for i, j in positions(len(rows), len(columns))}


def area(start: Ints, kernel: Ints, size: Ints, pad: Ints) -> int:
    """Pixels of a window that lie in the image or its padding."""
    height, width = (len([p for p in range(s, s + k) if p < n + q]) for s, k, n, q in zip(start, kernel, size, pad))
    return height * width


@SETTINGS
@given(poolings(), st.booleans())
@example(((3, 2, 7, 6), (3, 2), (2, 2), (1, 0), True), True)
@example(((1, 1, 4, 4), (3, 3), (2, 2), (1, 1), True), False)
@example(((1, 1, 4, 4), (2, 2), (3, 3), (1, 1), True), False)  # the last window would start in the padding
@example(((1, 1, 3, 3), (1, 2), (3, 1), (0, 1), True), False)  # the last row of windows would start below the image
def test_max_pooling(pooling, with_mask):
    shape, *parameters = pooling
    rng = np.random.default_rng(1)
    x = rng.integers(-3, 3, shape).astype(float)  # with ties
    rig = pooling_rig("MAX", x, *parameters, tops=1 + with_mask)
    tops = rig.forward()
    windows = windows_of(shape, *parameters)
    out = tuple(1 + max(axis) for axis in zip(*windows))
    assert [top.shape for top in tops] == [(*shape[:2], *out)] * (1 + with_mask)
    dy = rng.normal(size=tops[0].shape)
    (dx,) = rig.backward([dy] + [np.zeros_like(dy)] * with_mask, [True])
    expected_dx = np.zeros(shape)
    for plane, at in itertools.product(positions(*shape[:2]), windows):
        winner = max(windows[at], key=lambda pixel: x[plane][pixel])  # of equals, max takes the first
        assert tops[0][plane][at] == x[plane][winner]
        expected_dx[plane][winner] += dy[plane][at]
        if with_mask:
            assert tops[1][plane][at] == winner[0] * shape[3] + winner[1]
    np.testing.assert_allclose(dx, expected_dx, 1e-12, 1e-12)


@SETTINGS
@given(poolings())
@example(((3, 2, 7, 6), (3, 2), (2, 2), (1, 0), True))
@example(((1, 1, 3, 4), (3, 3), (3, 3), (2, 2), True))
def test_average_pooling(pooling):
    shape, kernel, stride, pad, round_up = pooling
    rng = np.random.default_rng(1)
    x = rng.normal(size=shape)
    rig = pooling_rig("AVE", x, kernel, stride, pad, round_up)
    (y,) = rig.forward()
    dy = rng.normal(size=y.shape)
    (dx,) = rig.backward([dy], [True])
    expected_dx = np.zeros(shape)
    windows = windows_of(shape, kernel, stride, pad, round_up)
    assert y.size == shape[0] * shape[1] * len(windows)
    for plane, at in itertools.product(positions(*shape[:2]), windows):
        start = tuple(i * s - p for i, s, p in zip(at, stride, pad))
        count = area(start, kernel, shape[2:], pad)
        pixels = windows[at]
        assert y[plane][at] == pytest.approx(sum(x[plane][pixel] for pixel in pixels) / count, 1e-9, 1e-12)
        for pixel in pixels:
            expected_dx[plane][pixel] += dy[plane][at] / count
    np.testing.assert_allclose(dx, expected_dx, 1e-9, 1e-12)


@SETTINGS
@given(poolings(padded=False))
def test_stochastic_pooling_takes_in_test_the_mean_weighted_by_the_values(pooling):
    shape, *parameters = pooling
    x = np.random.default_rng(1).integers(0, 4, shape).astype(float)
    (y,) = pooling_rig("STOCHASTIC", x, *parameters).forward()
    windows = windows_of(shape, *parameters)
    assert y.size == shape[0] * shape[1] * len(windows)
    for plane, at in itertools.product(positions(*shape[:2]), windows):
        values = [x[plane][pixel] for pixel in windows[at]]
        expected = sum(value**2 for value in values) / sum(values) if sum(values) else 0
        assert y[plane][at] == pytest.approx(expected, 1e-9)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_a_window_beyond_the_image_harms_nobody(method):
    x = np.arange(1.0, 19).reshape(1, 2, 3, 3)
    rig = pooling_rig(method, x, (1, 1), (3, 3), (0, 0), True)  # windows at 0 and 3, the latter outside
    (y,) = rig.forward()
    assert y.shape == (1, 2, 2, 2)
    np.testing.assert_array_equal(y[0, :, 0, 0], [1, 10])
    (dx,) = rig.backward([np.ones_like(y)], [True])
    assert dx.sum() == 2
    np.testing.assert_array_equal(dx[0, :, 0, 0], 1)


# ---- copies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [0, 10**9])
def test_copies_of_columns(small, monkeypatch):
    monkeypatch.setattr(copies, "SMALL_COPY", small)
    source = np.random.default_rng(1).normal(size=(3, copies.PIECE + 20))
    for at, to, width in ((0, 0, copies.PIECE + 20), (7, 2, copies.PIECE + 1), (5, 6, 0), (0, 19, 4)):
        target = np.zeros_like(source)
        copies.copy_columns(source, target, at, to, width)
        expected = np.zeros_like(source)
        expected[:, to : to + width] = source[:, at : at + width]
        np.testing.assert_array_equal(target, expected)
