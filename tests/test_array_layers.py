"""What single elementwise, shape and index layers promise beyond the table of `test_layers`."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycaffe_lite.errors import NetError
from pycaffe_lite.ops.rows import _add_rows

from .layer_harness import Rig, parse_layer

quick = settings(max_examples=20, deadline=None)


def rig(text: str, *bottoms, tops: int = 1, dtype=np.float64) -> Rig:
    return Rig(parse_layer(text), [np.asarray(array, dtype) for array in bottoms], tops, dtype)


def values(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def put_in_place(layer: Rig) -> Rig:
    """The rig with its top over bottom 0."""
    layer.top = layer.bottom[:1]
    return layer


# ---- shapes -------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(-3, 2))
@quick
def test_concat_undoes_slice(sizes, axis):
    shape = [2, 3, 4]
    shape[axis] = sum(sizes)
    x = values(0, *shape)
    points = " ".join(f"slice_point: {point}" for point in np.cumsum(sizes)[:-1])
    pieces = rig(f'type: "Slice" slice_param {{ axis: {axis} {points} }}', x, tops=len(sizes)).forward()
    concat = rig(f'type: "Concat" concat_param {{ axis: {axis} }}', *pieces)
    np.testing.assert_array_equal(concat.forward()[0], x)
    for gradient, piece in zip(concat.backward([x], [True] * len(pieces)), pieces, strict=True):
        np.testing.assert_array_equal(gradient, piece)


@given(st.integers(-3, 2), st.integers(1, 4))
@quick
def test_tile_is_numpys(axis, tiles):
    x = values(1, 2, 3, 4)
    repeats = [1, 1, 1]
    repeats[axis] = tiles
    tile = rig(f'type: "Tile" tile_param {{ axis: {axis} tiles: {tiles} }}', x)
    (y,) = tile.forward()
    np.testing.assert_array_equal(y, np.tile(x, repeats))
    np.testing.assert_allclose(tile.backward([y], [True])[0], tiles * x, rtol=1e-12)


@given(st.data())
@quick
def test_crop_is_a_window(data):
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    axis = data.draw(st.integers(0, len(shape) - 1))
    offsets = [data.draw(st.integers(0, size - 1)) for size in shape[axis:]]
    size = [1] * axis + [data.draw(st.integers(1, n - o)) for n, o in zip(shape[axis:], offsets, strict=True)]
    given_axis = data.draw(st.sampled_from([axis, axis - len(shape)]))
    text = f"axis: {given_axis} " + " ".join(f"offset: {offset}" for offset in offsets)
    x = values(2, *shape)
    crop = rig(f'type: "Crop" crop_param {{ {text} }}', x, np.zeros(size))
    window = (slice(None),) * axis + tuple(slice(o, o + s) for o, s in zip(offsets, size[axis:], strict=True))
    (y,) = crop.forward()
    np.testing.assert_array_equal(y, x[window])
    expected = np.zeros_like(x)
    expected[window] = y
    np.testing.assert_array_equal(crop.backward([y], [True, False])[0], expected)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ('type: "Flatten"', (2, 60)),
        ('type: "Flatten" flatten_param { axis: 0 end_axis: -2 }', (24, 5)),
        ('type: "Flatten" flatten_param { axis: 2 end_axis: 1 }', (2, 3, 1, 4, 5)),  # Caffe inserts an axis, too
        ('type: "Reshape" reshape_param { shape { dim: 0 dim: 0 dim: -1 } }', (2, 3, 20)),
        ('type: "Reshape" reshape_param { shape { dim: 6 dim: 20 } }', (6, 20)),
        ('type: "Reshape" reshape_param { shape { dim: -1 } axis: 1 num_axes: 2 }', (2, 12, 5)),
        ('type: "Reshape" reshape_param { shape { dim: 1 } axis: 2 num_axes: 0 }', (2, 3, 1, 4, 5)),
        ('type: "Reshape" reshape_param { shape { dim: 1 dim: -1 } axis: -1 }', (2, 3, 4, 5, 1, 1)),
        ('type: "Reshape" reshape_param { shape { dim: 0 dim: 0 dim: 5 dim: -1 } axis: 0 num_axes: -1 }', (2, 3, 5, 4)),
        ('type: "Concat"', (2, 3, 4, 5)),
    ],
)
def test_reshaping_layers_share_values_and_gradient(text, shape):
    layer = rig(text, values(3, 2, 3, 4, 5))
    (y,) = layer.forward()
    assert y.shape == shape
    np.testing.assert_array_equal(y.ravel(), layer.bottom[0].data.ravel())
    layer.top[0].data[...] = 2
    layer.top[0].diff[...] = 3
    assert np.all(layer.bottom[0].data == 2)
    assert np.all(layer.bottom[0].diff == 3)
    layer.write([values(4, 4, 3, 4, 5)] if "dim: 6" not in text else [values(4, 2, 3, 20, 1)])
    np.testing.assert_array_equal(layer.forward()[0].ravel(), layer.bottom[0].data.ravel())


def test_reshape_infers_what_it_can_of_an_empty_batch():
    assert rig('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 dim: 2 } }', np.zeros((0, 6))).top[0].shape == (
        0,
        3,
        2,
    )
    assert rig('type: "Reshape" reshape_param { shape { dim: -1 dim: 4 } }', np.zeros((0, 6))).top[0].shape == (0, 4)


# ---- elementwise --------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.sampled_from([-1, 0.5, 2, 10]), st.floats(0.25, 2), st.floats(-1, 1))
@quick
def test_log_inverts_exp(seed, base, scale, shift):
    x = values(seed, 3, 4)
    (y,) = rig(f'type: "Exp" exp_param {{ base: {base} scale: {scale} shift: {shift} }}', x).forward()
    (exponent,) = rig(f'type: "Log" log_param {{ base: {base} }}', y).forward()
    np.testing.assert_allclose(exponent, np.float32(scale) * x + np.float32(shift), rtol=1e-6, atol=1e-9)


def test_bounds_and_zeros():
    clip = rig('type: "Clip" clip_param { min: -1 max: 2 }', [-1.5, -1, 0, 2, 2.5])
    np.testing.assert_array_equal(clip.forward()[0], [-1, -1, 0, 2, 2])
    np.testing.assert_array_equal(clip.backward([np.full(5, 7)], [True])[0], [0, 7, 7, 7, 0])
    np.testing.assert_array_equal(rig('type: "Threshold"', [-1, 0, 1e-9]).forward()[0], [0, 0, 1])
    zero = rig('type: "AbsVal"', [-2, 0, 3])
    np.testing.assert_array_equal(zero.forward()[0], [2, 0, 3])
    np.testing.assert_array_equal(zero.backward([np.full(3, 5)], [True])[0], [-5, 0, 5])


def test_bnll_does_not_overflow_and_is_caffes_in_place():
    x = np.array([-1e4, -1, 0, 2, 1e4])
    bnll = rig('type: "BNLL"', x, dtype=np.float32)
    (y,) = bnll.forward()
    np.testing.assert_allclose(y, [0, np.log1p(np.exp(-1)), np.log(2), np.log1p(np.exp(2)), 1e4], rtol=1e-6)
    np.testing.assert_allclose(bnll.backward([np.ones(5)], [True])[0], [0, 0.26894143, 0.5, 0.88079703, 1], rtol=1e-6)
    inside = put_in_place(rig('type: "BNLL"', x, dtype=np.float32))
    inside.forward()
    np.testing.assert_allclose(inside.backward([np.ones(5)], [True])[0], 1 / (1 + np.exp(-y)), rtol=1e-6)


def test_prelu_starts_at_a_quarter_for_each_channel():
    assert np.all(rig('type: "PReLU"', np.zeros((2, 3, 4))).layer.blobs[0].data == [0.25] * 3)
    shared = rig('type: "PReLU" prelu_param { channel_shared: true filler { value: 2 } }', -np.ones((2, 3)))
    assert shared.layer.blobs[0].shape == ()
    assert np.all(shared.forward()[0] == -2)


def test_eltwise_ties_and_zeros():
    ties = rig('type: "Eltwise" eltwise_param { operation: MAX }', [1, 5, 2], [1, 5, 1], [1, 6, 2])
    np.testing.assert_array_equal(ties.forward()[0], [1, 6, 2])
    gradients = ties.backward([np.array([3, 4, 5])], [True] * 3)
    np.testing.assert_array_equal(gradients, [[0, 0, 5], [3, 0, 0], [0, 4, 0]])
    product = rig('type: "Eltwise" eltwise_param { operation: PROD }', [0.0, 0], [0.0, 2], [3.0, 4])
    product.forward()
    np.testing.assert_array_equal(product.backward([np.ones(2)], [True] * 3), [[0, 8], [0, 0], [0, 0]])


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("", (3,)),
        ("axis: 2 num_axes: 2", (4, 5)),
        ("axis: -1", (5,)),
        ("axis: 0 num_axes: -1", (2, 3, 4, 5)),
        ("num_axes: 0", ()),
    ],
)
@pytest.mark.parametrize("type_", ["Scale", "Bias"])
def test_shapes_of_scale_and_bias(type_, text, shape):
    layer = rig(f'type: "{type_}" {type_.lower()}_param {{ {text} }}', values(0, 2, 3, 4, 5))
    assert layer.layer.blobs[0].shape == shape
    np.testing.assert_array_equal(layer.forward()[0], layer.bottom[0].data)


def test_scale_leaves_caffes_product_where_no_gradient_is_asked_for():
    x, diff = values(0, 2, 3), values(1, 2, 3)
    layer = rig('type: "Scale"', x)
    layer.forward()
    np.testing.assert_array_equal(layer.backward([diff], [False])[0], x * diff)
    cut = rig('type: "Scale" bottom: "x" propagate_down: false', x)
    cut.forward()
    assert not cut.backward([diff], [False])[0].any()


@pytest.mark.parametrize(
    ("text", "bottom"),
    [
        ('type: "Scale" scale_param { bias_term: true }', values(0, 2, 3, 4)),
        ('type: "Bias"', values(0, 2, 3)),
        ('type: "PReLU"', values(0, 2, 3)),
        ('type: "Embed" embed_param { num_output: 2 input_dim: 3 }', np.array([1, 1, 2])),
    ],
)
def test_parameter_gradients_add_up_and_can_be_left_out(text, bottom):
    layer = rig(text, bottom)
    (y,) = layer.forward()
    layer.backward([y + 1], [False])
    once = [blob.diff.copy() for blob in layer.layer.blobs]
    layer.top[0].diff[...] = y + 1
    layer.layer.backward(layer.top, [False], layer.bottom)
    for blob, diff in zip(layer.layer.blobs, once, strict=True):
        np.testing.assert_array_equal(blob.diff, 2 * diff)
        assert diff.any()
    for left_out in range(len(once)):
        layer.layer.param_propagate_down = [i != left_out for i in range(len(once))]
        layer.backward([y + 1], [False])
        assert [bool(blob.diff.any()) for blob in layer.layer.blobs] == layer.layer.param_propagate_down


def test_parameter_is_its_top():
    layer = rig('type: "Parameter" parameter_param { shape { dim: 2 } }')
    assert not layer.forward()[0].any()
    layer.top[0].data[...] = 3
    layer.top[0].diff[...] = 4
    assert np.all(layer.layer.blobs[0].data == 3)
    assert np.all(layer.layer.blobs[0].diff == 4)


# ---- indices ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.integers(1, 6), st.sampled_from([None, 0, 1, -1]), st.booleans())
@quick
def test_arg_max_agrees_with_sorting(seed, top_k, axis, with_values):
    x = np.random.default_rng(seed).integers(4, size=(6, 7, 6)).astype(float)  # many ties
    given_axis = "" if axis is None else f"axis: {axis}"
    text = f'type: "ArgMax" argmax_param {{ top_k: {top_k} out_max_val: {str(with_values).lower()} {given_axis} }}'
    (y,) = rig(text, x).forward()
    rows = x.reshape(6, -1) if axis is None else np.moveaxis(x, axis, -1)
    best = np.array([sorted(range(len(r)), key=lambda i: (-r[i], -i))[:top_k] for r in rows.reshape(-1, rows.shape[-1])])
    best = best.reshape(*rows.shape[:-1], top_k)
    largest = np.take_along_axis(rows, best, -1)
    if axis is None:
        np.testing.assert_array_equal(y, np.stack([best, largest], 1) if with_values else best[:, None])
    else:
        np.testing.assert_array_equal(y, np.moveaxis(largest if with_values else best, -1, axis))


def test_arg_max_has_at_least_three_axes():
    assert rig('type: "ArgMax"', np.zeros(5)).top[0].shape == (5, 1, 1)
    assert rig('type: "ArgMax" argmax_param { out_max_val: true }', np.zeros((5, 2, 1, 3, 1))).top[0].shape == (
        5,
        2,
        1,
        1,
        1,
    )


@given(st.integers(0, 1000), st.integers(0, 9), st.integers(1, 5))
@quick
def test_rows_are_added_in_order_whatever_the_threads(seed, count, chunks):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(count, 5)).astype(np.float32)
    indices = rng.integers(3, size=count)
    expected, got = np.ones((3, 5), np.float32), np.ones((3, 5), np.float32)
    np.add.at(expected, indices, source)
    _add_rows(source, indices, got, chunks)
    np.testing.assert_array_equal(got, expected)


def test_embed_takes_rows_and_adds_their_gradients():
    embed = rig('type: "Embed" embed_param { num_output: 2 input_dim: 4 bias_filler { value: 10 } }', [[3, 1.9], [3, 0]])
    embed.layer.blobs[0].data[...] = np.arange(8).reshape(4, 2)
    np.testing.assert_array_equal(embed.forward()[0], 10 + np.array([[[6, 7], [2, 3]], [[6, 7], [0, 1]]]))
    embed.backward([np.arange(8).reshape(2, 2, 2)], [False])
    np.testing.assert_array_equal(embed.layer.blobs[0].diff, [[6, 7], [2, 3], [0, 0], [4, 6]])


@pytest.mark.parametrize("index", [3, -1, -0.5, 1e30, np.nan])
def test_indices_out_of_range(index):
    message = re.escape(f"expected indices from 0 to 2, received {index:g}")
    with pytest.raises(NetError, match=message):
        rig('type: "BatchReindex"', np.zeros((3, 2)), [0, index]).forward()
    with pytest.raises(NetError, match=message):
        rig('type: "Embed" embed_param { num_output: 2 input_dim: 3 }', [0, index]).forward()


@given(st.lists(st.sampled_from([0, 0, 1, -2, 0.5]), min_size=1, max_size=6))
@quick
def test_filter_is_a_batch_reindex(selector):
    x, z = values(0, len(selector), 2, 2), values(1, len(selector))
    filtered = rig('type: "Filter"', x, z, np.reshape(selector, (-1, 1)), tops=2)
    assert filtered.top[0].shape == x.shape  # until the first forward
    kept = np.flatnonzero(selector)
    got = filtered.forward()
    for top, bottom in zip(got, (x, z), strict=True):
        reindexed = rig('type: "BatchReindex"', bottom, kept)
        np.testing.assert_array_equal(top, reindexed.forward()[0])
        gradient = filtered.backward(got, [True, True, False])[0 if bottom is x else 1]
        np.testing.assert_array_equal(gradient, reindexed.backward([top], [True, False])[0])


# ---- errors -------------------------------------------------------------------------------------------------------

X = np.zeros((2, 3, 4))


@pytest.mark.parametrize(
    ("text", "bottoms", "message"),
    [
        ('type: "ArgMax" argmax_param { top_k: 0 }', [X], "expected top_k from 1 to 12, .* received 0"),
        ('type: "ArgMax" argmax_param { top_k: 4 axis: 1 }', [X], "expected top_k from 1 to 3, .* received 4"),
        ('type: "ArgMax" argmax_param { axis: 3 }', [X], "axis 3 is out of range"),
        ('type: "BatchReindex"', [X, np.zeros((2, 1))], r"expected bottoms N x \.\.\. and M, received .* 2 x 1"),
        ('type: "Bias" bias_param { num_axes: 3 }', [X], "expected num_axes from -1 to 2 for axis 1 .* received 3"),
        ('type: "Bias"', [X, np.zeros(4)], r"dimensions of 2 x 3 x 4 \(24\) from axis 1 on, received 4"),
        ('type: "Clip"', [X], "expected clip_param with min and max"),
        ('type: "Concat" concat_param { axis: 1 concat_dim: 1 }', [X], "either axis or concat_dim"),
        ('type: "Concat" concat_param { concat_dim: 4294967295 }', [X], "concat_dim 4294967295 is out of range"),
        ('type: "Concat"', [X, np.zeros((2, 3))], "differ in axis 1 only"),
        ('type: "Crop"', [X, np.zeros((2, 3))], "bottom 1 of at least 3 axes"),
        ('type: "Crop" crop_param { offset: 4294967295 }', [X, X], "offset of 4294967295 and a size of 4 do not fit"),
        ('type: "Crop" crop_param { axis: 1 offset: 0 offset: 0 offset: 0 }', [X, X], "each of the 2 axes, received 3"),
        ('type: "Eltwise" eltwise_param { coeff: 1 }', [X, X], "each of the 2 bottoms, received 1"),
        ('type: "Eltwise" eltwise_param { operation: PROD coeff: 1 coeff: 1 }', [X, X], "coeff is for SUM"),
        ('type: "Eltwise"', [X, X.reshape(2, 4, 3)], "one shape"),
        ('type: "Eltwise"', [X], "at least 2 bottoms, received 1"),
        ('type: "Embed" embed_param { input_dim: 2 }', [X], "num_output is at least 1, received 0"),
        ('type: "Exp" exp_param { base: -2 }', [X], "expected a positive base, or -1 for e, received -2"),
        ('type: "Exp" exp_param { base: nan }', [X], "received nan"),
        ('type: "Filter"', [X, np.zeros((2, 2))], r"expected a selector N \(x 1 \.\.\.\), received 2 x 2"),
        ('type: "Filter"', [X, np.zeros(3)], "as many items as the selector has, 3, received 2 x 3 x 4"),
        ('type: "Filter"', [X, X, np.zeros(2)], "a top for each bottom but the selector, 2, received 1"),
        ('type: "Flatten" flatten_param { axis: 2 end_axis: 0 }', [X], "expected axis before end_axis, received 2 and 0"),
        ('type: "Log" log_param { base: 0 }', [X], "expected a positive base"),
        ('type: "Log" log_param { base: 1 }', [X], "no logarithm to the base 1"),
        ('type: "Parameter" parameter_param { shape { dim: -1 } }', [], "not negative"),
        ('type: "PReLU"', [np.zeros(3)], "at least 2 axes"),
        ('type: "Reduction" reduction_param { axis: 3 }', [X], "axis 3 is out of range"),
        ('type: "Reshape" reshape_param { shape { dim: -1 dim: -1 } }', [X], "at most one -1"),
        ('type: "Reshape" reshape_param { shape { dim: -2 } }', [X], r"received \[-2\]"),
        ('type: "Reshape" reshape_param { shape { dim: 5 dim: -1 } }', [X], "5 is no divisor"),
        ('type: "Reshape" reshape_param { shape { dim: 5 } }', [X], "shape of 24 elements, .* received 5"),
        ('type: "Reshape" reshape_param { shape { dim: 24 dim: 0 } axis: -2 }', [X], "no dimension to copy"),
        ('type: "Reshape" reshape_param { axis: 4 }', [X], "axis 4 is out of range"),
        ('type: "Reshape" reshape_param { axis: 1 num_axes: 3 }', [X], "expected num_axes from -1 to 2 .* received 3"),
        ('type: "Reshape" reshape_param { shape { dim: 4294967296 dim: 4294967296 dim: 0 } }', [X], "shape of 24 elements"),
        ('type: "Scale" scale_param { num_axes: -2 }', [X], "expected num_axes from -1 to 2 .* received -2"),
        ('type: "Scale"', [X, np.zeros((3, 4, 1))], "received 3 x 4 x 1"),
        ('type: "Tile"', [X], "tiles is at least 1, received 0"),
        ('type: "Tile" tile_param { tiles: 2147483647 }', [X], "at most 2147483647 elements"),
    ],
)
def test_errors_name_the_cause(text, bottoms, message):
    with pytest.raises(NetError, match=message):
        rig(text, *bottoms)


def test_a_change_of_channels_is_an_error_where_there_is_a_parameter():
    for type_ in ("Scale", "Bias", "PReLU"):
        layer = rig(f'type: "{type_}"', X)
        layer.write([np.zeros((2, 5, 4))])
        with pytest.raises(NetError, match="received"):
            layer.forward()


def test_what_has_no_gradient_says_so():
    for text, bottoms, wanted, message in [
        ('type: "Threshold"', [X], [True], "no gradient"),
        ('type: "ArgMax"', [X], [True], "no gradient"),
        ('type: "BatchReindex"', [X, [0]], [True, True], "indices have no gradient"),
        ('type: "Embed" embed_param { num_output: 1 input_dim: 1 }', [X], [True], "indices have no gradient"),
        ('type: "Filter"', [X, [0, 1]], [True, True], "a selector has no gradient"),
    ]:
        layer = rig(text, *bottoms)
        tops = layer.forward()
        with pytest.raises(NetError, match=message):
            layer.backward(tops, wanted)
