"""Fetching MNIST, drawing digits instead, and turning both into databases."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pycaffe_lite.cli import _download, call, convert_mnist_data, convert_mnist_siamese_data, get_mnist, synthetic_digits
from pycaffe_lite.data import mnist
from pycaffe_lite.data.database import open_database
from pycaffe_lite.data.datum import decode_datums
from pycaffe_lite.data.synthetic_digits import draw
from pycaffe_lite.errors import DataError

from .leveldb import needs_leveldb

ROOT = Path(__file__).resolve().parent.parent
NAMES = [mnist.TRAIN_IMAGES, mnist.TRAIN_LABELS, mnist.TEST_IMAGES, mnist.TEST_LABELS]
COUNT = 40
REAL_MNIST = os.environ.get("PYCAFFE_LITE_MNIST")


@pytest.fixture(autouse=True)
def no_mnist_from_the_environment(monkeypatch):
    monkeypatch.delenv("PYCAFFE_LITE_MNIST", raising=False)


@pytest.fixture
def idx(tmp_path) -> Path:
    """A folder of small idx files."""
    rng, folder = np.random.default_rng(0), tmp_path / "idx"
    folder.mkdir()
    for images, labels in (NAMES[:2], NAMES[2:]):
        mnist.write_idx(folder / images, rng.integers(0, 256, (COUNT, 6, 5)).astype(np.uint8))
        mnist.write_idx(folder / labels, rng.integers(0, 3, COUNT).astype(np.uint8))
    return folder


@pytest.fixture
def wanted(idx, monkeypatch) -> dict[str, bytes]:
    """Makes get_mnist want the small files; gives their contents."""
    contents = {name: (idx / name).read_bytes() for name in NAMES}
    files = {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items()}
    monkeypatch.setattr(get_mnist, "FILES", files)
    return contents


def fetched(folder: Path, wanted: dict[str, bytes]) -> bool:
    return all((folder / name).exists() and (folder / name).read_bytes() == wanted[name] for name in wanted)


# ---------------------------------------------------------------------------------------------------------- idx files
def test_reads_plain_and_gzipped_files(idx, tmp_path):
    for name, read in (NAMES[0], mnist.read_images), (NAMES[1], mnist.read_labels):
        zipped = tmp_path / "whatever it is called"
        zipped.write_bytes(gzip.compress((idx / name).read_bytes()))
        np.testing.assert_array_equal(read(zipped), read(idx / name))
    assert mnist.read_images(idx / NAMES[0]).shape == (COUNT, 6, 5)


def test_bad_idx_files(idx, tmp_path):
    good, path = (idx / NAMES[0]).read_bytes(), tmp_path / "bad"
    packed = gzip.compress(good)
    for content, message in [
        (good[:-1], "expected 1200 bytes .* received 1199"),
        (good[:9], "no idx file of images"),
        (b"", "no idx file of images"),
        ((idx / NAMES[1]).read_bytes(), "no idx file of images"),
        (good + b"x", "more than that"),
        (struct.pack(">4I", 2051, 2**32 - 1, 2**32 - 1, 2**32 - 1) + good[16:], "cut off"),
        (gzip.compress(struct.pack(">4I", 2051, 2**31, 2**31, 28)), "cut off"),
        (gzip.compress(good[:-1]), "expected 1200 bytes"),
        (packed[:-20], "cannot be read"),
        (packed[:30] + b"\xff\xff\xff" + packed[33:], "cannot be read|expected|idx file"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message) as error:
            mnist.read_images(path)
        assert str(path) in str(error.value)
    with pytest.raises(DataError, match=r"no such file.*get_mnist"):
        mnist.read_images(tmp_path / "missing")


@pytest.mark.skipif(REAL_MNIST is None, reason="PYCAFFE_LITE_MNIST is not set")
def test_the_real_files(monkeypatch, tmp_path):
    monkeypatch.setenv("PYCAFFE_LITE_MNIST", REAL_MNIST)
    assert get_mnist.main(["--to", str(tmp_path)]) == 0
    images, labels = mnist.read_images(tmp_path / NAMES[2]), mnist.read_labels(tmp_path / NAMES[3])
    assert images.shape == (10_000, 28, 28)
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]


# ----------------------------------------------------------------------------------------------------------- get_mnist
def test_takes_files_from_a_folder(idx, wanted, tmp_path, capsys):
    packed, target = tmp_path / "packed", tmp_path / "target"
    packed.mkdir()
    (packed / f"{NAMES[0]}.gz").write_bytes(gzip.compress(wanted[NAMES[0]]))
    for name in NAMES[1:]:
        shutil.copy(idx / name, packed)
    assert get_mnist.main(["-to", str(target), "-from", str(packed)]) == 0
    assert fetched(target, wanted)
    before = (target / NAMES[0]).stat().st_mtime_ns
    assert get_mnist.main(["--to", str(target)]) == 0  # nothing to do: the mirrors are not asked
    assert (target / NAMES[0]).stat().st_mtime_ns == before
    assert "there, and right" in capsys.readouterr().out


def test_a_folder_with_wrong_files(idx, wanted, tmp_path):
    (idx / NAMES[3]).write_bytes(b"something else")
    with pytest.raises(DataError, match=f"has no right {NAMES[3]}"):
        get_mnist.main(["--to", str(tmp_path / "target"), "--from", str(idx)])


def test_the_environment_comes_before_the_mirrors(idx, wanted, tmp_path, monkeypatch):
    monkeypatch.setenv("PYCAFFE_LITE_MNIST", str(idx))
    monkeypatch.setattr(get_mnist, "answering", lambda *_: pytest.fail("asked the mirrors"))
    assert get_mnist.main(["--to", str(tmp_path / "target")]) == 0
    assert fetched(tmp_path / "target", wanted)


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves /<manner>/<file>.gz; what it was asked goes to the server's list `asked`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        _, manner, file = self.path.split("/")
        self.server.asked.append((manner, file, self.headers.get("Range")))
        body, status, start = self.server.files.get(file, b""), 200, 0
        if manner == "wrong" or (manner == "trickle" and file.startswith("train-images")):
            body = bytes(reversed(body))
        if found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start, status = int(found[1]), 206
        if not body or start >= len(body):
            self.send_error(416 if body else 404)
            return
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("Connection", "close")
        self.end_headers()
        if manner in ("stall", "break", "trickle") and file.startswith("train-images"):
            self.misbehave(manner, body[start:])
        else:
            self.wfile.write(body[start:])
        self.close_connection = True

    def misbehave(self, manner: str, body: bytes) -> None:
        self.wfile.write(body[:100])
        self.wfile.flush()
        if manner == "stall":
            self.server.stop.wait(20)
        elif manner == "trickle":
            for i in range(100, len(body)):
                if self.server.stop.wait(0.05):
                    break
                self.wfile.write(body[i : i + 1])

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_):
        """A client that goes away in mid-download is what some tests are about."""


@pytest.fixture
def mirrors(wanted, monkeypatch):
    """A function that makes get_mnist use mirrors of these manners; it gives the list of what they are asked."""
    server = Server(("127.0.0.1", 0), Mirror)
    server.files = {f"{name}.gz": gzip.compress(data) for name, data in wanted.items()}
    server.asked, server.stop = [], threading.Event()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def use(*manners: str) -> list[tuple[str, str, str | None]]:
        urls = [f"http://127.0.0.1:{server.server_port}/{manner}/" for manner in manners]
        monkeypatch.setattr(get_mnist, "MIRRORS", urls)
        return server.asked

    monkeypatch.setattr(_download, "STALL_SECONDS", 0.3)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield use
    server.stop.set()
    server.shutdown()
    server.server_close()


def test_downloads_and_unpacks(mirrors, wanted, tmp_path):
    mirrors("good")
    assert get_mnist.main(["--to", str(tmp_path / "new" / "target")]) == 0
    assert fetched(tmp_path / "new" / "target", wanted)
    assert sorted(p.name for p in (tmp_path / "new" / "target").iterdir()) == sorted(NAMES + [f"{n}.gz" for n in NAMES])


@pytest.mark.parametrize("manner", ["stall", "break", "trickle"])
def test_goes_on_with_another_mirror_where_one_stopped(mirrors, wanted, tmp_path, manner):
    asked = mirrors(manner, "good")
    assert get_mnist.main(["--to", str(tmp_path)]) == 0
    assert fetched(tmp_path, wanted)
    ranges = [part for mirror, file, part in asked if mirror == "good" and file.startswith("train-images")]
    assert len(ranges) == (2 if manner == "trickle" else 1)  # trickle sends other bytes: the good one has to start afresh
    assert re.fullmatch(r"bytes=[1-9]\d*-", ranges[0])


def test_a_wrong_checksum(mirrors, wanted, tmp_path, capsys):
    mirrors("wrong", "good")
    assert get_mnist.main(["--to", str(tmp_path)]) == 0
    assert fetched(tmp_path, wanted)
    assert "wrong SHA-256" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "idx")
    mirrors("wrong")
    target = tmp_path / "other"
    assert get_mnist.main(["--to", str(target)]) == get_mnist.CANNOT_FETCH
    assert list(target.iterdir()) == []


def test_a_part_that_is_as_long_as_the_file_but_wrong(mirrors, wanted, tmp_path):
    mirrors("good")
    (tmp_path / f"{NAMES[1]}.gz.part").write_bytes(bytes(len(gzip.compress(wanted[NAMES[1]]))))
    assert get_mnist.main(["--to", str(tmp_path)]) == 0
    assert fetched(tmp_path, wanted)


def test_no_mirror_answers(wanted, tmp_path, monkeypatch, capsys):
    """One refuses, one accepts and says nothing, one has no address."""
    silent = http.server.HTTPServer(("127.0.0.1", 0), Mirror)  # never served
    monkeypatch.setattr(_download, "CONTACT_SECONDS", 0.5)
    monkeypatch.setenv("no_proxy", "*")
    urls = ["http://127.0.0.1:1/", f"http://127.0.0.1:{silent.server_port}/", "http://mirror.invalid/"]
    monkeypatch.setattr(get_mnist, "MIRRORS", urls)
    start = time.monotonic()
    assert get_mnist.main(["--to", str(tmp_path)]) == get_mnist.CANNOT_FETCH
    assert time.monotonic() - start < 2
    silent.server_close()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "none of 3 mirrors answers" in said


def test_synthetic_digits_until_the_real_ones_arrive(mirrors, wanted, tmp_path, monkeypatch, capsys):
    mirrors()
    monkeypatch.setattr(synthetic_digits.write, "__defaults__", (1, 30, 20))
    assert get_mnist.main(["--to", str(tmp_path), "--or-synthetic"]) == 0
    assert "SYNTHETIC DIGITS" in capsys.readouterr().err
    assert mnist.is_synthetic(tmp_path)
    assert mnist.read_images(tmp_path / NAMES[0]).shape == (30, 28, 28)
    mirrors("good")
    assert get_mnist.main(["--to", str(tmp_path), "--or-synthetic"]) == 0
    assert not mnist.is_synthetic(tmp_path)
    assert fetched(tmp_path, wanted)


# ---------------------------------------------------------------------------------------------------- synthetic digits
def test_digits_are_the_same_for_the_same_seed(tmp_path):
    contents = []
    for folder, seed in ("a", 5), ("b", 5), ("c", 6):
        argv = ["--to", str(tmp_path / folder), "--seed", str(seed), "-train=60", "--test=30"]
        assert synthetic_digits.main(argv) == 0
        contents.append([(tmp_path / folder / name).read_bytes() for name in NAMES])
    assert contents[0] == contents[1]
    assert contents[0][0] != contents[2][0]
    assert contents[0][0][16 : 16 + 30 * 784] != contents[0][2][16:]


def test_digits_can_be_told_apart_but_not_too_easily():
    images, labels = draw(4000, 3)
    assert np.bincount(labels, minlength=10).min() > 300
    assert 20 < images.mean() < 45  # MNIST: 33
    assert len(np.unique(images)) > 200  # soft strokes
    flat = images.reshape(len(images), -1).astype(np.float32)
    known, asked = flat[:3500], flat[3500:]
    distance = (known**2).sum(axis=1) - 2 * asked @ known.T
    nearest = labels[np.argsort(distance, axis=1)[:, :5]]
    guess = np.array([np.bincount(row).argmax() for row in nearest])
    assert 0.85 < (guess == labels[3500:]).mean() < 0.99


# ---------------------------------------------------------------------------------------------------------- converters
def content(path: Path) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    with open_database(path) as database:
        cursor = database.cursor()
        keys, values = zip(*(cursor.next() for _ in range(database.count())), strict=True)
    return list(keys), *decode_datums(values, keys)


@pytest.mark.parametrize("flags", [[], pytest.param(["-backend=leveldb"], marks=needs_leveldb)])
def test_convert_mnist_data(idx, tmp_path, flags):
    assert convert_mnist_data.main([str(idx / NAMES[0]), str(idx / NAMES[1]), str(tmp_path / "db"), *flags]) == 0
    assert (tmp_path / "db" / ("CURRENT" if flags else "data.mdb")).exists()
    keys, images, labels = content(tmp_path / "db")
    assert keys == [b"%08d" % i for i in range(COUNT)]
    np.testing.assert_array_equal(images[:, 0], mnist.read_images(idx / NAMES[0]))
    np.testing.assert_array_equal(labels, mnist.read_labels(idx / NAMES[1]))


def test_convert_mnist_siamese_data(idx, tmp_path):
    files = [str(idx / NAMES[0]), str(idx / NAMES[1])]
    for name, flags in ("a", []), ("b", ["--seed=1"]), ("c", ["-seed", "2", "--count", "2000", "--backend", "lmdb"]):
        assert convert_mnist_siamese_data.main([*files, str(tmp_path / name), *flags]) == 0
    keys, pairs, same = content(tmp_path / "a")
    assert keys == [b"%08d" % i for i in range(COUNT)]
    assert pairs.shape == (COUNT, 2, 6, 5)
    assert pairs.tobytes() == content(tmp_path / "b")[1].tobytes()
    _, pairs, same = content(tmp_path / "c")
    images, labels = (mnist.read_images(files[0]), mnist.read_labels(files[1]))
    label_of = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    expected = [label_of[first.tobytes()] == label_of[second.tobytes()] for first, second in pairs]
    assert same.tolist() == expected
    assert 0.2 < same.mean() < 0.6  # three classes
    assert len({first.tobytes() for first, _ in pairs}) == COUNT


def test_pairs_without_plyvel_become_lmdb(idx, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "plyvel", None)
    argv = [str(idx / NAMES[0]), str(idx / NAMES[1]), str(tmp_path / "pairs_leveldb")]
    assert convert_mnist_siamese_data.main(argv) == 0
    assert (tmp_path / "pairs_leveldb" / "data.mdb").exists()
    assert "writing LMDB" in capsys.readouterr().err


def test_converters_refuse_what_does_not_fit(idx, tmp_path, capsys):
    images, labels = str(idx / NAMES[0]), str(idx / NAMES[1])
    mnist.write_idx(tmp_path / "few", np.zeros(3, np.uint8))
    mnist.write_idx(tmp_path / "none", np.zeros((0, 28, 28), np.uint8))
    mnist.write_idx(tmp_path / "no labels", np.zeros(0, np.uint8))
    (tmp_path / "there").mkdir()
    for argv, message in [
        ([images, str(tmp_path / "few"), "new"], "expected 40 labels"),
        ([str(tmp_path / "none"), str(tmp_path / "no labels"), "new"], "holds no images"),
        ([images, labels, str(tmp_path / "there")], "already exists"),
        ([labels, images, "new"], "no idx file of images"),
    ]:
        for command in convert_mnist_data.main, convert_mnist_siamese_data.main:
            assert call(command, argv) == 1
            assert message in capsys.readouterr().err
    assert not Path("new").exists()


# ------------------------------------------------------------------------------------------------------------- scripts
@pytest.mark.skipif(shutil.which("sh") is None, reason="no sh")
def test_the_scripts_of_the_tutorials(idx, tmp_path):
    """In a copy of the folders, with the small files in place of MNIST."""
    for folder in "data/mnist", "examples":
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*-ubyte*", "*db"))
    for name in NAMES:
        shutil.copy(idx / name, tmp_path / "data/mnist")
    (tmp_path / "examples/mnist/mnist_test_lmdb").mkdir()  # what an earlier run left is replaced
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    for script in "siamese/create_mnist_siamese.sh", "mnist/create_mnist.sh":
        subprocess.run(["sh", tmp_path / "examples" / script], cwd="/", env=environment, check=True, timeout=60)
    for path, channels in [
        ("siamese/mnist_siamese_train_leveldb", 2),
        ("siamese/mnist_siamese_test_leveldb", 2),
        ("mnist/mnist_train_lmdb", 1),
        ("mnist/mnist_test_lmdb", 1),
    ]:
        assert content(tmp_path / "examples" / path)[1].shape == (COUNT, channels, 6, 5)
