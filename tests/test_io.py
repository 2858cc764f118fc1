"""Images and messages as arrays. The numbers of `resize_image` are scikit-image's, and were made with it."""

from __future__ import annotations

import os
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from PIL import Image

import pycaffe_lite as caffe
from pycaffe_lite import io
from pycaffe_lite.errors import DataError
from pycaffe_lite.proto import caffe_pb2

RNG = np.random.default_rng(7)

# size of the image, new height and width, order, the first four numbers and the sum of what scikit-image 0.26 makes of it;
# with two and four channels of what scipy.ndimage.zoom does.
RESIZED = [
    ((10, 12, 3), (5, 6), 1, [17.2946, 30.7391, 14.3809, 24.8647], 2658.0901),
    ((10, 12, 3), (7, 30), 1, [-6.6103, 16.9953, 14.1843, 10.3936], 19637.6228),
    ((10, 12, 3), (17, 25), 0, [0.0, 45.0735, 51.4649, 0.0], 42899.0264),
    ((10, 12, 3), (17, 25), 3, [-19.9748, 11.7891, 19.2677, -9.1582], 40026.8045),
    ((33, 21, 1), (8, 8), 1, [0.6187, 11.3424, 26.9179, 51.3823], 5772.7751),
    ((33, 21, 1), (8, 8), 0, [2.6332, 9.2409, 27.163, 57.033], 6070.7095),
    ((5, 5, 1), (40, 40), 1, [-30.1962, -27.0903, -23.9844, -20.8785], -654.8337),
    ((12, 10, 2), (5, 6), 1, [0.0, 45.0735, 2.38, 47.4535], 1610.3902),
    ((6, 5, 4), (9, 11), 3, [0.0, 45.0735, 51.4649, 16.056], 4642.5785),
]


# ---- messages -----------------------------------------------------------------------------------------------------


def test_blobprotos():
    values = RNG.random((2, 3)).astype(np.float32)
    blob = io.array_to_blobproto(values, diff=-values)
    np.testing.assert_array_equal(io.blobproto_to_array(blob), values)
    np.testing.assert_array_equal(io.blobproto_to_array(blob, return_diff=True), -values)
    packed = io.arraylist_to_blobprotovector_str([values, values[0]])
    first, second = io.blobprotovector_str_to_arraylist(packed)
    assert (first.shape, second.shape) == ((2, 3), (3,))


def test_blobprotos_of_old_and_without_shape():
    old = caffe_pb2.BlobProto(num=1, channels=1, height=2, width=2, data=range(4))
    assert io.blobproto_to_array(old).shape == (1, 1, 2, 2)
    assert io.blobproto_to_array(caffe_pb2.BlobProto(data=[123])) == 123
    with pytest.raises(ValueError, match=r"shape \(\) has 2 values"):  # as pycaffe
        io.blobproto_to_array(caffe_pb2.BlobProto(data=[1, 2]))


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_datums(dtype):
    values = RNG.integers(0, 255, (3, 4, 5)).astype(dtype)
    datum = io.array_to_datum(values, label=3)
    assert (datum.label, bool(datum.data)) == (3, dtype == "uint8")
    array = io.datum_to_array(datum)
    np.testing.assert_array_equal(array, values)
    assert array.dtype == dtype
    array += 1  # scripts work on it in place
    assert not io.array_to_datum(values).HasField("label")


def test_an_encoded_datum_says_how_to_decode_it():
    file = BytesIO()
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3)).save(file, "PNG")
    datum = caffe_pb2.Datum(encoded=True, data=file.getvalue(), channels=3, height=2, width=4)
    with pytest.raises(ValueError, match=r"the Datum is encoded: .*; (\S+) decodes it") as caught:
        io.datum_to_array(datum)
    expression = str(caught.value).split("; ")[1].split(" decodes")[0]
    names = {"numpy": np, "PIL": PIL, "io": SimpleNamespace(BytesIO=BytesIO), "datum": datum}
    np.testing.assert_array_equal(eval(expression, names).ravel(), np.arange(24))


# ---- image files --------------------------------------------------------------------------------------------------


def test_load_image(tmp_path):
    pixels = RNG.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    image = io.load_image(path)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, (pixels / 255).astype(np.float32))
    gray = io.load_image(str(path), color=False)
    assert gray.shape == (4, 5, 1)
    np.testing.assert_allclose(gray[..., 0], (pixels / 255) @ [0.2125, 0.7154, 0.0721], rtol=1e-6)


def test_load_image_of_other_kinds(tmp_path):
    def load(array, mode=None, **options):
        image = Image.fromarray(array)
        (image if mode is None else image.convert(mode)).save(tmp_path / "x.png")
        return io.load_image(tmp_path / "x.png", **options)

    deep = np.array([[0, 1000], [30000, 65535]], np.uint16)
    np.testing.assert_array_equal(load(deep)[..., 2], (deep / 65535).astype(np.float32))
    bits = np.array([[0, 255]], np.uint8)
    assert load(bits, "1").tolist() == [[[0, 0, 0], [1, 1, 1]]]
    assert load(bits, "LA").tolist() == [[[0, 0, 0], [1, 1, 1]]]
    red = np.full((1, 1, 4), [255, 0, 0, 51], np.uint8)
    assert load(red).tolist() == [[[1, 0, 0]]]
    np.testing.assert_allclose(load(red, color=False), 0.8 + 0.2 * 0.2125, rtol=1e-6)  # a fifth over white
    np.testing.assert_array_equal(load(red[..., :3], "P"), [[[1, 0, 0]]])


def test_load_image_from_open_files(tmp_path):
    """What skimage's imread takes. pycaffe called it."""
    path = tmp_path / "a.png"
    Image.fromarray(RNG.integers(0, 256, (4, 5, 3)).astype(np.uint8)).save(path)
    expected = io.load_image(path)

    class Stream:
        """Has only what a socket's file has."""

        def __init__(self):
            self.read = BytesIO(path.read_bytes()).read

    with open(path, "rb") as file, open(path, "rb", buffering=0) as raw:
        for source in (file, raw, BytesIO(path.read_bytes()), Stream(), os.fsencode(path)):
            np.testing.assert_array_equal(io.load_image(source), expected)
        np.testing.assert_array_equal(io.load_image(file), expected)  # again: it is open, and read from its start
    with path.open(encoding="latin-1") as text, pytest.raises(DataError, match=r"a\.png cannot .* with mode 'rb'"):
        io.load_image(text)
    with pytest.raises(
        DataError, match=r"^the open file cannot be read as an image: it is damaged or of an unknown format$"
    ):
        io.load_image(BytesIO(b"no image"))
    with pytest.raises(TypeError):
        io.load_image(None)


def test_load_image_of_what_is_none(tmp_path):
    with pytest.raises(OSError, match="missing"):
        io.load_image(tmp_path / "missing.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png cannot be read as an image"):
        io.load_image(tmp_path / "text.png")
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"cut\.png"):
        io.load_image(tmp_path / "cut.png")


# ---- resize -------------------------------------------------------------------------------------------------------


def image(height: int, width: int, channels: int) -> np.ndarray:
    y, x, c = np.mgrid[:height, :width, :channels]
    return (np.sin(y * 1.3 + c) * 50 + x * x * 0.7 + 3 * c).astype(np.float32)


@pytest.mark.parametrize(("size", "dims", "order", "first", "total"), RESIZED)
def test_resize_image_has_the_numbers_of_scikit_image(size, dims, order, first, total):
    resized = io.resize_image(image(*size), dims, interp_order=order)
    assert resized.shape == (*dims, size[2])
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized.ravel()[:4], first, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(resized.sum(dtype=float), total, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_resize_image_against_scikit_image(dtype, order):
    transform = pytest.importorskip("skimage.transform")
    for channels, dims in ((1, (7, 30)), (3, (5, 4)), (3, (20, 20))):
        im = RNG.integers(0, 256, (12, 10, channels)).astype(dtype)
        low, high = im.min(), im.max()
        want = transform.resize((im - low) / (high - low), dims, order=order, mode="constant") * (high - low) + low
        np.testing.assert_array_equal(io.resize_image(im, dims, order), want.astype(np.float32))


def test_resize_image_of_one_value():
    assert (io.resize_image(np.full((3, 4, 3), 7, np.uint8), (2, 2)) == np.full((2, 2, 3), 7, np.float32)).all()


@pytest.mark.parametrize(("shape", "dims"), [((3, 4), (2, 2)), ((0, 4, 3), (2, 2)), ((3, 4, 3), (0, 2))])
def test_resize_image_of_what_is_none(shape, dims):
    with pytest.raises(ValueError, match="expected an image H x W x K"):
        io.resize_image(np.zeros(shape), dims)


def test_oversample():
    images = RNG.random((2, 6, 9, 3)).astype(np.float32)
    crops = io.oversample(images, (4, 4))
    assert crops.shape == (20, 4, 4, 3)
    places = [(0, 0), (0, 5), (2, 0), (2, 5), (1, 2)]
    for i, (y, x) in enumerate(places):
        np.testing.assert_array_equal(crops[10 + i], images[1, y : y + 4, x : x + 4])
        np.testing.assert_array_equal(crops[15 + i], images[1, y : y + 4, x : x + 4][:, ::-1])
    with pytest.raises(ValueError, match="crops of 7 x 4 do not fit into images of 6 x 9"):
        io.oversample(images, (7, 4))


# ---- Transformer --------------------------------------------------------------------------------------------------


@pytest.fixture
def transformer():
    return io.Transformer({"data": (10, 3, 4, 5)})


def test_preprocess_and_back(transformer):
    pixels = RNG.random((4, 5, 3)).astype(np.float32)
    before = pixels.copy()
    mean = np.array([104.0, 117.0, 123.0])
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 0, 1))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", mean)
    transformer.set_input_scale("data", 0.5)
    ready = transformer.preprocess("data", pixels)
    want = (pixels.transpose(2, 0, 1)[[2, 0, 1]] * 255 - mean[:, None, None]) * 0.5
    assert (ready.shape, ready.dtype) == ((3, 4, 5), np.float32)
    np.testing.assert_allclose(ready, want, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_allclose(transformer.deprocess("data", ready[np.newaxis]), pixels, rtol=1e-4, atol=1e-5)


def test_preprocess_resizes(transformer):
    pixels = RNG.random((8, 9, 3))
    np.testing.assert_array_equal(transformer.preprocess("data", pixels), io.resize_image(pixels.astype("f"), (4, 5)))


def test_one_channel():
    transformer = io.Transformer({"data": [1, 1, 4, 5]})
    pixels = RNG.random((4, 5, 1)).astype(np.float32)
    assert transformer.deprocess("data", pixels.transpose(2, 0, 1)).shape == (4, 5)
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_mean("data", np.full((4, 5), 0.5))
    ready = transformer.preprocess("data", pixels)
    np.testing.assert_array_equal(ready, pixels.transpose(2, 0, 1) - np.float32(0.5))
    np.testing.assert_array_equal(transformer.deprocess("data", ready), ready.transpose(1, 2, 0) + np.float32(0.5))


def test_a_mean_of_another_size_is_resized(transformer):
    """As Caffe's io.py does it, which first brings the mean to [0, 1]."""
    mean = RNG.normal(100, 20, (3, 8, 7))
    transformer.set_mean("data", mean)
    low, high = mean.min(), mean.max()
    unit = io.resize_image(((mean - low) / (high - low)).transpose(1, 2, 0), (4, 5))
    np.testing.assert_allclose(transformer.mean["data"], unit.transpose(2, 0, 1) * (high - low) + low, rtol=1e-5)
    transformer.set_mean("data", np.full((3, 8, 7), 2))
    assert transformer.mean["data"].tolist() == np.full((3, 4, 5), 2).tolist()
    for name, channels, size in (("data", 3, (1, 8, 7)), ("data", 3, (1, 4, 5)), ("gray", 1, (8, 7))):
        transformer.inputs = {name: (1, channels, 4, 5)}
        transformer.set_mean(name, np.full(size, 2))
        assert transformer.mean[name].shape == (1, 4, 5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda t: t.set_raw_scale("date", 2), r'"date" is not one of the inputs data \(did you mean "data"\?\)'),
        (lambda t: t.preprocess("x", np.zeros((4, 5, 3))), '"x" is not one'),
        (lambda t: t.set_transpose("data", (1, 0)), "an order of 3 axes"),
        (lambda t: t.set_channel_swap("data", (1, 0)), "an order of 3 channels"),
        (lambda t: t.set_mean("data", np.zeros(4)), r"a mean of shape \(3, 4, 5\) or \(3,\), received \(4,\)"),
        (lambda t: t.set_mean("data", np.zeros((4, 5))), r"received \(4, 5\)"),
        (lambda t: t.set_mean("data", np.zeros((2, 8, 8))), r"received \(2, 8, 8\)"),
        (lambda t: t.set_mean("data", np.zeros((3, 0, 8))), r"received \(0, 8, 3\)"),
        (lambda t: t.set_mean("data", np.zeros((1, 3, 4, 5))), r"received \(1, 3, 4, 5\)"),
    ],
)
def test_what_does_not_fit_the_input(transformer, call, text):
    with pytest.raises(caffe.CaffeError, match=text):
        call(transformer)
