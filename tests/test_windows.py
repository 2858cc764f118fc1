"""Deconvolution, Im2col and SPP, by way of Convolution and Pooling, which have references of their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pycaffe_lite.errors import NetError

from .layer_harness import Rig, parse_layer

SETTINGS = settings(max_examples=30, deadline=None)


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def rig_of(text: str, x: np.ndarray) -> Rig:
    return Rig(parse_layer(text), [x])


@st.composite
def geometries(draw):
    """Sizes of an image, and kernel, stride, pad and dilation as a prototxt gives them."""
    axes, size = draw(st.integers(1, 3)), []
    fields = {"kernel_size": (1, 3), "stride": (1, 3), "pad": (0, 2), "dilation": (1, 2)}
    values = {name: [draw(st.integers(*bounds)) for _ in range(axes)] for name, bounds in fields.items()}
    for k, s, p, d in zip(*values.values()):
        extent = d * (k - 1) + 1
        windows = draw(st.integers(1, 4))
        size.append(s * (windows - 1) + extent - 2 * p)  # windows end where the padded image does
    assume(min(size) > 0)
    return size, " ".join(f"{name}: {value}" for name, each in values.items() for value in each)


@SETTINGS
@given(geometries(), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.integers(1, 3))
@example(([5, 4], "kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0"), 2, 2, 1, 3)
def test_deconvolution_is_the_transpose_of_convolution(geometry, group, channels, outputs, batch):
    size, fields = geometry
    channels, outputs = channels * group, outputs * group
    common = f'{fields} group: {group} weight_filler {{ type: "gaussian" }} bias_term: false'
    x = normal(batch, channels, *size)
    forth = rig_of(f'type: "Convolution" convolution_param {{ {common} num_output: {outputs} }}', x)
    (y,) = forth.forward()
    z = normal(*y.shape, seed=2)
    back = rig_of(f'type: "Deconvolution" convolution_param {{ {common} num_output: {channels} }}', z)
    assert back.layer.blobs[0].shape == forth.layer.blobs[0].shape
    back.layer.blobs[0].data[...] = forth.layer.blobs[0].data
    np.testing.assert_allclose(back.forward()[0], forth.backward([z], [True])[0], 1e-9, 1e-12)
    np.testing.assert_allclose(back.backward([x], [True])[0], y, 1e-9, 1e-12)
    np.testing.assert_allclose(back.layer.blobs[0].diff, forth.layer.blobs[0].diff, 1e-9, 1e-12)


def test_deconvolution_adds_its_bias():
    text = "num_output: 3 kernel_size: 2 stride: 2 bias_filler { value: 2 }"
    rig = rig_of(f'type: "Deconvolution" convolution_param {{ {text} }}', normal(2, 2, 3, 3))
    np.testing.assert_array_equal(rig.forward()[0], np.full((2, 3, 6, 6), 2))
    dy = normal(2, 3, 6, 6)
    rig.backward([dy], [True])
    np.testing.assert_allclose(rig.layer.blobs[1].diff, dy.sum(axis=(0, 2, 3)), 1e-9)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bilinear_deconvolution_interpolates(factor):
    kernel, pad = 2 * factor - factor % 2, -((1 - factor) // 2)
    text = f'num_output: 2 group: 2 kernel_size: {kernel} stride: {factor} pad: {pad} weight_filler {{ type: "bilinear" }}'
    ramp = np.arange(6.0) + np.zeros((1, 2, 6, 6))
    (y,) = rig_of(f'type: "Deconvolution" convolution_param {{ {text} bias_term: false }}', ramp).forward()
    inner = y[0, 1, 2 * factor : -2 * factor, 2 * factor : -2 * factor]
    np.testing.assert_allclose(np.diff(inner, axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.diff(inner, axis=1), 1 / factor, 1e-6)


@SETTINGS
@given(geometries(), st.integers(1, 3), st.integers(1, 3))
def test_im2col_is_what_convolution_multiplies(geometry, channels, batch):
    size, fields = geometry
    x = normal(batch, channels, *size)
    conv = rig_of(
        f'type: "Convolution" convolution_param {{ {fields} num_output: 2 weight_filler {{ type: "gaussian" }} }}', x
    )
    columns = rig_of(f'type: "Im2col" convolution_param {{ {fields} }}', x)
    (y,), (col,) = conv.forward(), columns.forward()
    w = conv.layer.blobs[0].data.reshape(2, -1)
    assert col.shape == (batch, w.shape[1], *y.shape[2:])
    np.testing.assert_allclose(np.einsum("ok,nk...->no...", w, col), y, 1e-9, 1e-12)
    dy = normal(*y.shape, seed=3)
    (dx,) = columns.backward([np.einsum("ok,no...->nk...", w, dy)], [True])
    np.testing.assert_allclose(dx, conv.backward([dy], [True])[0], 1e-9, 1e-12)


def test_im2col_of_several_batch_axes():
    x = normal(2, 3, 4, 5, 6)
    (col,) = rig_of('type: "Im2col" convolution_param { kernel_size: 2 axis: 2 }', x).forward()
    assert col.shape == (2, 3, 16, 4, 5)
    np.testing.assert_array_equal(col[1, 2, 4:8, 1, 2], x[1, 2, 1, 1:3, 2:4].reshape(-1))


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 6), (9, 4)])
def test_spp_levels_are_poolings(method, height, width):
    x, parts, gradient = normal(3, 2, height, width), [], 0
    rig = rig_of(f'type: "SPP" spp_param {{ pyramid_height: 3 pool: {method} }}', x)
    (y,) = rig.forward()
    dy = normal(*y.shape, seed=2)
    start = 0
    for bins in (1, 2, 4):
        kernel = [-(-size // bins) for size in (height, width)]
        pad = [(k * bins - size + 1) // 2 for k, size in zip(kernel, (height, width))]
        names = zip(("kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "pad_w"), kernel + kernel + pad)
        fields = " ".join(f"{name}: {value}" for name, value in names)
        pool = rig_of(f'type: "Pooling" pooling_param {{ pool: {method} {fields} }}', x)
        (part,) = pool.forward()
        assert part.shape == (3, 2, bins, bins)
        parts.append(part.reshape(3, -1))
        gradient += pool.backward([dy[:, start : start + 2 * bins**2].reshape(part.shape)], [True])[0]
        start += 2 * bins**2
    np.testing.assert_array_equal(y, np.concatenate(parts, axis=1))
    np.testing.assert_allclose(rig.backward([dy], [True])[0], gradient, 1e-12)


def test_spp_follows_the_size_of_its_images():
    rig = rig_of('type: "SPP" spp_param { pyramid_height: 2 }', normal(2, 3, 4, 4))
    for height, width in ((4, 4), (9, 5), (2, 6), (4, 4)):
        x = normal(2, 3, height, width)
        rig.write([x])
        (y,) = rig.forward()
        assert y.shape == (2, 3 * 5)
        np.testing.assert_array_equal(y[:, :3], x.max(axis=(2, 3)))


def test_spp_of_one_level_has_four_axes():
    assert rig_of('type: "SPP" spp_param { pyramid_height: 1 }', normal(2, 3, 4, 4)).forward()[0].shape == (2, 3, 1, 1)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ('type: "SPP"', (1, 2, 4, 4), "pyramid_height is at least 1, received 0"),
        ('type: "SPP" spp_param { pyramid_height: 1 }', (2, 3), "expected 4 axes"),
        ('type: "SPP" spp_param { pyramid_height: 1 }', (2, 3, 0, 4), "with pixels"),
        ('type: "SPP" spp_param { pyramid_height: 4294967295 }', (1, 2, 5, 5), "too many for 1 x 2 x 5 x 5.*4 x 4 bins"),
        ('type: "Im2col"', (1, 2, 4, 4), "kernel_size is given once or once for each of 2"),
        ('type: "Im2col" convolution_param { kernel_size: 0 }', (1, 2, 4, 4), "at least 1"),
        ('type: "Im2col" convolution_param { kernel_size: 5 }', (1, 2, 4, 4), "does not fit 1 x 2 x 4 x 4"),
        ('type: "Im2col" convolution_param { kernel_size: 1 axis: 3 }', (1, 2, 4, 4), "at least one spatial axis"),
        ('type: "Im2col" convolution_param { kernel_size: 46341 pad: 46341 }', (1, 2, 4, 4), "at most"),
        ('type: "Deconvolution" convolution_param { num_output: 2 kernel_size: 1 pad: 2 }', (1, 2, 4, 4), "does not fit"),
        ('type: "Deconvolution" convolution_param { num_output: 3 kernel_size: 1 group: 2 }', (1, 2, 4, 4), "group divides"),
    ],
)
def test_errors_name_the_cause(text, shape, message):
    with pytest.raises(NetError, match=message):
        rig_of(text, np.zeros(shape))
