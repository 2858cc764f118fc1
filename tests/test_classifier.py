"""Classifier and Detector on a small net with random weights."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from PIL import Image

import pycaffe_lite as caffe
from pycaffe_lite import io
from pycaffe_lite import layers as L
from pycaffe_lite.detector import read_windows
from pycaffe_lite.errors import DataError

RNG = np.random.default_rng(3)
MEAN = np.array([100.0, 110.0, 120.0])
OPTIONS = {"mean": MEAN, "raw_scale": 255, "channel_swap": (2, 1, 0), "input_scale": 0.01}


@pytest.fixture
def files(tmp_path):
    """A net for images of 6 x 6 in batches of 4, and weights for it."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [4, 3, 6, 6]})
    n.conv = L.Convolution(n.data, num_output=5, kernel_size=3, weight_filler={"type": "xavier"})
    n.prob = L.Softmax(L.InnerProduct(n.conv, num_output=4, weight_filler={"type": "xavier"}))
    model, weights = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    model.write_text(str(n.to_proto()))
    caffe.Net(model, caffe.TEST).save(weights)
    return model, weights


def scores(files, crops) -> np.ndarray:
    """What the net says to crops H x W x K, one after the other."""
    net = caffe.Net(*files, caffe.TEST)
    net.blobs["data"].reshape(1, 3, 6, 6)
    found = []
    for crop in crops:
        ready = (crop.transpose(2, 0, 1)[::-1] * 255 - MEAN[:, None, None]) * 0.01
        found.append(net.forward(data=ready[np.newaxis])["prob"][0].copy())
    return np.array(found)


# ---- Classifier ---------------------------------------------------------------------------------------------------


def test_predict_of_the_centre(files):
    images = [RNG.random((8, 9, 3)).astype(np.float32) for _ in range(6)]  # one batch and a half
    net = caffe.Classifier(*files, image_dims=(8, 9), **OPTIONS)
    got = net.predict(images, oversample=False)
    np.testing.assert_allclose(got, scores(files, [image[1:7, 1:7] for image in images]), rtol=1e-5)


def test_predict_with_oversampling(files):
    images = [RNG.random((8, 9, 3)).astype(np.float32) for _ in range(2)]
    net = caffe.Classifier(*files, image_dims=[8, 9], **OPTIONS)
    want = scores(files, io.oversample(images, (6, 6))).reshape(2, 10, 4).mean(1)
    np.testing.assert_allclose(net.predict(images), want, rtol=1e-5)


def test_images_are_resized_to_the_net(files):
    image = RNG.random((20, 13, 3)).astype(np.float32)
    net = caffe.Classifier(*files, **OPTIONS)
    assert (*net.image_dims, *net.crop_dims) == (6, 6, 6, 6)
    got = net.predict([image], oversample=False)
    np.testing.assert_allclose(got, scores(files, [io.resize_image(image, (6, 6))]), rtol=1e-5)


def test_without_preprocessing(files):
    net = caffe.Classifier(*files)
    image = RNG.random((6, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(net.transformer.preprocess("data", image), image.transpose(2, 0, 1))


# ---- Detector -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    """Two image files."""
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        Image.fromarray(RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)).save(path)
    return paths


WINDOWS = [[0, 0, 6, 6], [2, 3, 20, 30]], [np.array([5, 6, 7, 8])]


def test_detect_windows(files, pictures):
    net = caffe.Detector(*files, **OPTIONS)
    found = net.detect_windows(zip(pictures, WINDOWS))  # an iterator is as good as a list
    assert [entry["filename"] for entry in found] == [pictures[0], pictures[0], pictures[1]]
    assert found[1]["window"] is WINDOWS[0][1]
    first, second = map(io.load_image, pictures)
    crops = [first[0:6, 0:6], io.resize_image(first[2:20, 3:30], (6, 6)), io.resize_image(second[5:7, 6:8], (6, 6))]
    np.testing.assert_allclose([entry["prediction"] for entry in found], scores(files, crops), rtol=1e-4)
    assert net.detect_windows([(pictures[0], [])]) == []


def test_windows_of_a_csv_file(files, pictures, tmp_path):
    table = tmp_path / "windows.csv"
    rows = [f"{pictures[0]},0,0,6,6", f"{pictures[1]},5.0,6,7,8", f"{pictures[0]},2,3,20,30"]
    table.write_text("\n".join(["filename,ymin,xmin,ymax,xmax", *rows]))
    (first, one), (second, two) = read_windows(table)
    assert [first, second] == list(map(str, pictures))
    assert (one.tolist(), two.tolist()) == ([[0, 0, 6, 6], [2, 3, 20, 30]], [[5, 6, 7, 8]])
    net = caffe.Detector(*files, **OPTIONS)
    found = [[entry["prediction"] for entry in net.detect_windows(windows)] for windows in
             (read_windows(table), zip(pictures, WINDOWS))]  # fmt: skip
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("filename,ymin,xmin,ymax,xmx\n", r'windows.csv has no column xmax \(did you mean "xmx"\?\)'),
        ("filename,ymin,xmin,ymax,xmax\na.png,1,2,3\n", r"windows.csv:2: expected four numbers"),
        ("filename,ymin,xmin,ymax,xmax\na.png,1,2,3,inf\n", r"windows.csv:2: expected four numbers"),
        ("", "has no column filename"),
    ],
)
def test_a_broken_csv_file(tmp_path, text, error):
    (tmp_path / "windows.csv").write_text(text)
    with pytest.raises(DataError, match=error):
        read_windows(tmp_path / "windows.csv")


@pytest.mark.parametrize("window", [(0, 0, 0, 5), (25, 0, 30, 5), (-3, 0, 5, 5)])
def test_a_window_outside_of_the_image(files, window):
    with pytest.raises(DataError, match="does not lie in the image of 20 x 30"):
        caffe.Detector(*files).crop(np.zeros((20, 30, 3), np.float32), window)


def test_a_crop_with_context(files):
    """The net sees 6 x 6 pixels, 2 around each side of the window: three times its size."""
    net = caffe.Detector(*files, context_pad=2, **OPTIONS)
    image = RNG.random((40, 40, 3)).astype(np.float32)
    inside = net.crop(image, (18, 18, 19, 19))  # 2 x 2 pixels, if both ends count; the context reaches from 16 to 22
    want = io.resize_image(image[16:22, 16:22], (6, 6))
    assert inside.shape == (6, 6, 3)
    np.testing.assert_allclose(inside, want, atol=1e-5)


def test_a_context_beyond_the_image_is_the_mean(files):
    net = caffe.Detector(*files, context_pad=2, **OPTIONS)
    image = RNG.random((40, 40, 3)).astype(np.float32)
    crop = net.crop(image, (0, 18, 1, 19))
    np.testing.assert_allclose(crop[0], np.tile(MEAN[::-1] / 255, (6, 1)), rtol=1e-6)
    assert not np.allclose(crop[3], MEAN[::-1] / 255)
    ready = net.transformer.preprocess("data", crop)
    np.testing.assert_allclose(ready[:, 0], 0, atol=1e-4)  # what the net sees there is nothing


def test_a_context_that_leaves_no_window(files):
    with pytest.raises(DataError, match="below half the input's width of 6, received 3"):
        caffe.Detector(*files, context_pad=3)


def test_selective_search(files, pictures, monkeypatch):
    net = caffe.Detector(*files)
    with pytest.raises(DataError, match="selective_search_ijcv_with_python"):
        net.detect_selective_search(pictures)
    proposals = types.SimpleNamespace(get_windows=lambda names, cmd: WINDOWS)
    monkeypatch.setitem(sys.modules, "selective_search_ijcv_with_python", proposals)
    assert len(net.detect_selective_search(pictures)) == 3
