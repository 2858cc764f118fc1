"""The transformer against a slow reference that says what data_transformer.cpp does, value by value."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given, settings

from pycaffe_lite.data.transformer import Transformer
from pycaffe_lite.errors import DataError, ModelFileError, NetError
from pycaffe_lite.proto.caffe_pb2 import TEST, TRAIN, BlobProto, TransformationParameter


def transformer(text: str = "", phase: int = TEST, seed: int = 1) -> Transformer:
    param = text_format.Parse(text, TransformationParameter())
    return Transformer(param, phase, np.random.default_rng(seed))


def images(count: int, channels: int, height: int, width: int, dtype=np.uint8) -> np.ndarray:
    values = np.random.default_rng(7).integers(0, 256, (count, channels, height, width))
    return values.astype(dtype)


def write_mean(path, array: np.ndarray, legacy: bool = False) -> str:
    blob = BlobProto(data=array.ravel().tolist())
    if legacy:
        blob.num, (blob.channels, blob.height, blob.width) = 1, array.shape[-3:]
    else:
        blob.shape.dim.extend(array.shape)
    path.write_bytes(blob.SerializeToString())
    return f'mean_file: "{path}" '


def reference(image, mean, scale, y, x, crop, flip):
    """One image in float64. `mean`: C x H x W or C values."""
    channels, height, width = image.shape
    rows, columns = (crop, crop) if crop else (height, width)
    result = np.empty((channels, rows, columns))
    for c in range(channels):
        for h in range(rows):
            for w in range(columns):
                off = mean[c] if np.ndim(mean) == 1 else mean[c, y + h, x + w]
                result[c, h, columns - 1 - w if flip else w] = (float(image[c, y + h, x + w]) - off) * scale
    return result


def candidates(image, mean, scale, crop, phase, mirror):
    """All that may become of an image, with the place and the flip."""
    _, height, width = image.shape
    places = [(0, 0)]
    if crop and phase == TEST:
        places = [((height - crop) // 2, (width - crop) // 2)]
    elif crop:
        places = [(y, x) for y in range(height - crop + 1) for x in range(width - crop + 1)]
    for y, x in places:
        for flip in (False, True)[: 1 + mirror]:
            yield (y, x, flip), reference(image, mean, scale, y, x, crop, flip)


@settings(max_examples=60, deadline=None)
@given(
    phase=st.sampled_from([TRAIN, TEST]),
    channels=st.integers(1, 3),
    height=st.integers(3, 6),
    width=st.integers(3, 6),
    crop=st.integers(0, 3),
    mirror=st.booleans(),
    scale=st.sampled_from([1.0, 0.5, 0.00390625, -2.0, 0.0]),
    mean=st.sampled_from(["none", "one", "each", "file"]),
    dtype=st.sampled_from([np.uint8, np.float32]),
    out_dtype=st.sampled_from([None, np.float32, np.float64]),
)
def test_agrees_with_the_reference(
    tmp_path_factory, phase, channels, height, width, crop, mirror, scale, mean, dtype, out_dtype
):
    source = images(4, channels, height, width, dtype)
    text = f"scale: {scale} crop_size: {crop} mirror: {str(mirror).lower()} "
    means = np.zeros(channels)
    if mean == "one":
        text, means = text + "mean_value: 3.5", np.full(channels, 3.5)
    elif mean == "each":
        means = np.arange(channels) + 0.25
        text += "".join(f"mean_value: {value} " for value in means)
    elif mean == "file":
        means = np.random.default_rng(3).random((channels, height, width), np.float32) * 100
        text += write_mean(tmp_path_factory.mktemp("mean") / "m.binaryproto", means[np.newaxis])
    tool = transformer(text, phase)
    shape = (4, *tool.output_shape(channels, height, width))
    out = None if out_dtype is None else np.full(shape, np.nan, out_dtype)
    before = source.copy()
    result = tool.transform(source, out)
    assert result.dtype == (out_dtype or np.float32)
    assert out is None or result is out
    assert result.shape == shape
    np.testing.assert_array_equal(source, before)
    for image, got in zip(source, result, strict=True):
        allowed = candidates(image, means, scale, crop, phase, mirror)
        assert any(np.allclose(got, wanted, 1e-5, 1e-4) for _, wanted in allowed)


def test_each_image_has_its_own_place_and_flip_and_all_of_them_occur():
    source = images(400, 1, 6, 5)
    result = transformer("crop_size: 3 mirror: true", TRAIN).transform(source)
    zero = np.zeros(1)
    seen = {
        key
        for image, got in zip(source, result, strict=True)
        for key, wanted in candidates(image, zero, 1, 3, TRAIN, True)
        if np.array_equal(got, wanted)
    }
    assert seen == {(y, x, flip) for y in range(4) for x in range(3) for flip in (False, True)}


def test_mirrors_in_test_as_well():
    source = images(64, 2, 3, 4)
    flipped = [not np.array_equal(a, b) for a, b in zip(transformer("mirror: true").transform(source), source, strict=True)]
    assert 10 < sum(flipped) < 54


def test_the_same_stream_gives_the_same_images():
    source = images(20, 1, 8, 8)
    text = "crop_size: 4 mirror: true"
    first = [transformer(text, TRAIN, seed).transform(source) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(first[0], first[1])
    assert (first[0] != first[2]).any()


def test_a_crop_as_large_as_the_image_changes_nothing():
    source = images(3, 1, 5, 5)
    np.testing.assert_array_equal(transformer("crop_size: 5", TRAIN).transform(source), source)


def test_reads_a_mean_file_of_the_old_form(tmp_path):
    mean = images(1, 3, 4, 5, np.float32)
    source = images(2, 3, 4, 5)
    result = transformer(write_mean(tmp_path / "m", mean, legacy=True)).transform(source)
    np.testing.assert_array_equal(result, source - mean)


@pytest.mark.parametrize(
    ("text", "shape", "words"),
    [
        ("crop_size: 5", (1, 6, 4), "at least 5 x 5 to crop, received 6 x 4"),
        ("mean_value: 1 mean_value: 2", (3, 6, 6), "expected 1 mean_value or 3.*received 2"),
        ("{mean}", (3, 8, 8), "expected images of 3 x 8 x 9.*mean.binaryproto.*received 3 x 8 x 8"),
        ("{mean} crop_size: 4", (1, 4, 4), "expected images of 3 x 8 x 9.*received 1 x 4 x 4"),
    ],
)
def test_images_that_do_not_fit(tmp_path, text, shape, words):
    text = text.replace("{mean}", write_mean(tmp_path / "mean.binaryproto", np.zeros((1, 3, 8, 9))))
    tool = transformer(text)
    with pytest.raises(DataError, match=words):
        tool.output_shape(*shape)
    with pytest.raises(DataError, match=words):
        tool.transform(images(2, *shape))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('mean_file: "m" mean_value: 1', "mean_file or mean_value, received both"),
        ("force_color: true force_gray: true", "force_color or force_gray, received both"),
    ],
)
def test_settings_that_exclude_each_other(text, words):
    with pytest.raises(NetError, match=words):
        transformer(text)


def test_bad_mean_files(tmp_path):
    with pytest.raises(ModelFileError, match=r"mean_file .*mean.binaryproto: there is no such file"):
        transformer(f'mean_file: "{tmp_path}/mean.binaryproto"')
    (tmp_path / "garbage").write_bytes(b"\xff\xfe\x00 no message")
    with pytest.raises(ModelFileError, match=r"mean_file .*garbage: expected a BlobProto"):
        transformer(f'mean_file: "{tmp_path}/garbage"')
    for shape in [(2, 3, 4, 5), (4, 5)]:
        with pytest.raises(ModelFileError, match=r"mean_file .*m: expected one image.*received a blob of"):
            transformer(write_mean(tmp_path / "m", np.zeros(shape)))


def test_what_encoded_images_become():
    assert transformer().color is None
    assert transformer("force_color: true").color is True
    assert transformer("force_gray: true").color is False
