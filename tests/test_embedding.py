"""plot_embedding: nearest neighbours, batches through the net, and the picture."""

import numpy as np
import pytest

import pycaffe_lite
from pycaffe_lite.cli import call, plot_embedding
from pycaffe_lite.cli.plot_embedding import BATCH, SCALE, embed
from pycaffe_lite.data.mnist import write_idx
from pycaffe_lite.errors import DataError, NetError
from pycaffe_lite.plots.embedding import knn_accuracy, scatter


class FakeBlob:
    def __init__(self):
        self.data = np.zeros((1, 1, 28, 28), np.float32)

    def reshape(self, *shape):
        self.data = np.zeros(shape, np.float32)


class FakeNet:
    """A net whose `feat` is the mean of the upper and of the lower half of an image."""

    batches: list[int] = []

    def __init__(self, model, weights, phase):
        self.inputs = ["data"]
        self.blobs = {"data": FakeBlob(), "feat": FakeBlob(), "ip1": FakeBlob()}

    def reshape(self):
        pass

    def forward(self, data):
        assert data.shape == self.blobs["data"].data.shape
        FakeNet.batches.append(len(data))
        self.blobs["feat"].data = data.reshape(len(data), 2, -1).mean(axis=2)
        self.blobs["ip1"].data = data.reshape(len(data), -1)


@pytest.fixture
def fake_net(monkeypatch):
    monkeypatch.setattr(pycaffe_lite, "Net", FakeNet, raising=False)
    monkeypatch.setattr(pycaffe_lite, "TEST", 1, raising=False)
    monkeypatch.setattr(FakeNet, "batches", [])


def digits(count):
    """Images of class c whose upper half is 20 c and whose lower half is 200 - 20 c, with their labels."""
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = np.empty((count, 28, 28), np.uint8)
    images[:, :14] = 20 * labels[:, None, None]
    images[:, 14:] = 200 - 20 * labels[:, None, None]
    return images, labels


def slow_knn(train, train_labels, test, test_labels, k=5):
    right = 0
    for point, label in zip(test, test_labels, strict=True):
        nearest = np.argsort(((train - point) ** 2).sum(axis=1), kind="stable")[:k]
        classes = [train_labels[i] for i in nearest]
        most = max(classes.count(c) for c in classes)
        right += next(c for c in classes if classes.count(c) == most) == label
    return right / len(test)


def test_knn_accuracy_is_that_of_a_plain_loop():
    rng = np.random.default_rng(3)
    train, test = rng.normal(size=(300, 2)), rng.normal(size=(200, 2))
    train_labels, test_labels = rng.integers(0, 4, 300), rng.integers(0, 4, 200)
    for k in (1, 4, 5):
        expected = slow_knn(train, train_labels, test, test_labels, k)
        assert knn_accuracy(train, train_labels, test, test_labels, k) == pytest.approx(expected)


def test_of_equal_votes_the_nearest_wins_also_against_a_nearer_single_one():
    train = np.array([[1.0, 0], [2, 0], [3, 0], [4, 0], [5, 0]])
    test = np.zeros((1, 2))
    # Nearest first: a single 9, then two votes each for 7 and 3.
    assert knn_accuracy(train, np.array([9, 7, 3, 3, 7]), test, np.array([7])) == 1
    assert knn_accuracy(train, np.array([9, 3, 7, 7, 3]), test, np.array([7])) == 0


def test_fewer_points_than_neighbours_all_vote():
    assert knn_accuracy(np.eye(2), np.array([4, 4]), np.zeros((1, 2)), np.array([4])) == 1


def test_values_that_are_not_finite_are_an_error():
    with pytest.raises(DataError, match="diverged"):
        knn_accuracy(np.full((5, 2), np.nan), np.zeros(5), np.zeros((1, 2)), np.zeros(1))


@pytest.mark.usefixtures("fake_net")
def test_embed_scales_the_images_and_keeps_their_order_over_batches():
    images, labels = digits(BATCH + 7)
    points = embed("deploy.prototxt", "net.caffemodel", images)
    assert FakeNet.batches == [BATCH, 7]
    np.testing.assert_allclose(points[:, 0], 20.0 * labels * SCALE, rtol=1e-5)
    np.testing.assert_allclose(points[:, 1], (200 - 20.0 * labels) * SCALE, rtol=1e-5)


@pytest.mark.usefixtures("fake_net")
def test_embed_wants_a_blob_with_two_values():
    images, _ = digits(3)
    with pytest.raises(NetError, match=r'no blob "feet" \(did you mean "feat"\?\)'):
        embed("deploy.prototxt", "net.caffemodel", images, "feet")
    with pytest.raises(NetError, match='"ip1" has 784 values'):
        embed("deploy.prototxt", "net.caffemodel", images, "ip1")


def test_the_picture_has_every_point_and_a_legend_of_the_classes():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 1000)
    axes = scatter(rng.normal(size=(1000, 2)), labels, 0.905, "synthetic digits")
    assert len(axes.collections[0].get_offsets()) == 1000
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [str(digit) for digit in range(10)]
    assert axes.get_title("left") == "2-D embedding of 1,000 test images, 5-NN accuracy 0.905"
    assert axes.get_title("right") == "synthetic digits"


@pytest.mark.usefixtures("fake_net")
def test_the_command_prints_the_accuracy_and_writes_the_picture(tmp_path, capsys):
    images, labels = digits(40)
    for name, array in (("images", images), ("labels", labels)):
        write_idx(tmp_path / name, array)
    argv = ["--model", "deploy.prototxt", "--weights", "net.caffemodel", "--out", str(tmp_path / "out.png")]
    argv += ["--images", str(tmp_path / "images"), "--labels", str(tmp_path / "labels")]
    argv += ["--train-images", str(tmp_path / "images"), "--train-labels", str(tmp_path / "labels")]
    assert call(plot_embedding.main, argv) == 0
    assert capsys.readouterr().out.startswith("5-NN accuracy: 1.000 (40 test images against 40 training images)\n")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_image_format_is_told_before_anything_is_read(capsys):
    argv = ["--model", "m", "--weights", "w", "--images", "i", "--labels", "l", "--out", "out.xyz"]
    assert call(plot_embedding.main, argv) == 1
    assert "image format" in capsys.readouterr().err
