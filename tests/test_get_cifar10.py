"""Fetching CIFAR-10, drawing images instead, and what the commands that fetch share."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from pycaffe_lite.cli import _download, call, convert_cifar_data, get_cifar10, synthetic_cifar10
from pycaffe_lite.data import cifar10
from pycaffe_lite.data.database import open_database
from pycaffe_lite.data.datum import decode_datums
from pycaffe_lite.data.synthetic_cifar10 import draw
from pycaffe_lite.errors import DataError

ROOT = Path(__file__).resolve().parent.parent
NAMES = list(get_cifar10.FILES)


@pytest.fixture(autouse=True)
def nothing_from_the_environment(monkeypatch):
    monkeypatch.delenv("PYCAFFE_LITE_CIFAR10", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def wanted(monkeypatch) -> dict[str, bytes]:
    """Makes get_cifar10 want small files; gives their contents."""
    rng = np.random.default_rng(0)
    contents = {name: rng.integers(0, 10, 500, np.uint8).tobytes() for name in NAMES}
    files = {name: (len(data), hashlib.md5(data, usedforsecurity=False).hexdigest()) for name, data in contents.items()}
    monkeypatch.setattr(get_cifar10, "FILES", files)
    return contents


@pytest.fixture
def archive(wanted, monkeypatch) -> bytes:
    """The small files as get_cifar10 wants them from a mirror, with one more that it leaves there."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in [("../outside", b"x"), *wanted.items()]:
            member = tarfile.TarInfo(f"{get_cifar10.INSIDE}{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    content = packed.getvalue()
    monkeypatch.setattr(get_cifar10, "ARCHIVE_IS", (len(content), hashlib.sha256(content).hexdigest()))
    return content


def fetched(folder: Path, wanted: dict[str, bytes]) -> bool:
    """Whether the folder has the files, and nothing else."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} == wanted


# ------------------------------------------------------------------------------------------------------ from this disk
def test_what_is_wanted_is_what_the_converter_reads():
    assert NAMES == cifar10.TRAIN_FILES + cifar10.TEST_FILES
    assert {size for size, _ in get_cifar10.FILES.values()} == {10_000 * cifar10.RECORD_BYTES}
    assert [len(digest) for digest in (*(md5 for _, md5 in get_cifar10.FILES.values()), get_cifar10.ARCHIVE_IS[1])] == [
        *[32] * 6,
        64,
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_takes_files_from_a_folder(wanted, archive, tmp_path, packed, capsys):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    if packed:
        (source / get_cifar10.ARCHIVE).write_bytes(archive)
    for name in NAMES[:2] if packed else NAMES:
        (source / name).write_bytes(wanted[name])
    assert get_cifar10.main(["-to", str(target), "-from", str(source)]) == 0
    assert fetched(target, wanted)
    before = (target / NAMES[0]).stat().st_mtime_ns
    assert get_cifar10.main(["--to", str(target)]) == 0  # nothing to do: the mirrors are not asked
    assert (target / NAMES[0]).stat().st_mtime_ns == before
    assert "there, and right" in capsys.readouterr().out


def test_a_folder_with_wrong_files(wanted, archive, tmp_path):
    for name in NAMES:
        (tmp_path / name).write_bytes(wanted[name])
    (tmp_path / NAMES[3]).write_bytes(bytes(len(wanted[NAMES[3]])))
    (tmp_path / get_cifar10.ARCHIVE).write_bytes(archive[:-1] + b"x")
    with pytest.raises(DataError, match=rf"has no right {NAMES[3]} \(nor cifar-10-binary.tar.gz\)"):
        get_cifar10.main(["--to", str(tmp_path / "target"), "--from", str(tmp_path)])


def test_the_environment_comes_before_the_mirrors(wanted, archive, tmp_path, monkeypatch):
    (tmp_path / get_cifar10.ARCHIVE).write_bytes(archive)
    monkeypatch.setenv("PYCAFFE_LITE_CIFAR10", str(tmp_path))
    monkeypatch.setattr(get_cifar10, "answering", lambda *_: pytest.fail("asked the mirrors"))
    assert get_cifar10.main(["--to", str(tmp_path / "target")]) == 0
    assert fetched(tmp_path / "target", wanted)


# ------------------------------------------------------------------------------------------------------------- mirrors
class Mirror(http.server.BaseHTTPRequestHandler):
    """/good/ gives the archive, /break/ half of it, /wrong/ other bytes, /long/ more than there should be."""

    def do_GET(self):
        manner = self.path.split("/")[1]
        self.server.asked.append((manner, self.headers.get("Range")))
        body = self.server.archive
        body = {"wrong": bytes(len(body)), "long": body + bytes(1 << 20)}.get(manner, body)
        start = int(re.sub(r"\D", "", self.headers.get("Range") or "0"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : len(body) // 2 if manner == "break" else None])

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_):
        """A client that goes away in mid-download is what some tests are about."""


@pytest.fixture
def mirrors(archive, monkeypatch):
    """A function that makes get_cifar10 use mirrors of these manners; it gives the list of what they are asked."""
    server = Server(("127.0.0.1", 0), Mirror)
    server.archive, server.asked = archive, []
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def use(*manners: str) -> list[tuple[str, str | None]]:
        urls = [f"http://127.0.0.1:{server.server_port}/{manner}/" for manner in manners]
        monkeypatch.setattr(get_cifar10, "MIRRORS", urls)
        return server.asked

    yield use
    server.shutdown()
    server.server_close()


def test_downloads_and_unpacks(mirrors, wanted, tmp_path):
    mirrors("good")
    assert get_cifar10.main(["--to", str(tmp_path / "new" / "target")]) == 0
    assert fetched(tmp_path / "new" / "target", wanted)


def test_goes_on_with_another_mirror_where_one_stopped(mirrors, wanted, archive, tmp_path):
    asked = mirrors("break", "good")
    assert get_cifar10.main(["--to", str(tmp_path)]) == 0
    assert fetched(tmp_path, wanted)
    assert asked[-1] == ("good", f"bytes={len(archive) // 2}-")


@pytest.mark.parametrize(("manner", "message"), [("wrong", "wrong SHA-256"), ("long", "is too long")])
def test_a_mirror_with_something_else(mirrors, tmp_path, capsys, manner, message):
    mirrors(manner)
    target = tmp_path / "target"
    assert get_cifar10.main(["--to", str(target)]) == get_cifar10.CANNOT_FETCH
    assert message in capsys.readouterr().err
    assert [path.name for path in target.glob("*.bin")] == []
    assert sum(path.stat().st_size for path in target.iterdir()) <= get_cifar10.ARCHIVE_IS[0]  # no more than was wanted


def test_drawn_images_until_the_real_ones_arrive(mirrors, wanted, tmp_path, monkeypatch, capsys):
    mirrors()
    monkeypatch.setattr(synthetic_cifar10.write, "__defaults__", (1, 10, 2))
    assert get_cifar10.main(["--to", str(tmp_path)]) == get_cifar10.CANNOT_FETCH
    assert "none of 0 mirrors answers" in capsys.readouterr().err
    assert get_cifar10.main(["--to", str(tmp_path), "--or-synthetic"]) == 0
    assert "SYNTHETIC IMAGES" in capsys.readouterr().err
    assert (tmp_path / "SYNTHETIC").exists()
    mirrors("good")
    assert get_cifar10.main(["--to", str(tmp_path), "--or-synthetic"]) == 0
    assert fetched(tmp_path, wanted)  # and no SYNTHETIC


def test_the_bar_shows_the_whole_name(mirrors, archive, tmp_path, monkeypatch):
    mirrors("good")
    labels = []
    bar = _download.tqdm
    monkeypatch.setattr(_download, "tqdm", lambda **flags: labels.append(flags["desc"]) or bar(**flags))
    for name in "m.caffemodel.part", "cifar-10-binary.tar.gz.part":
        _download.receive(f"{get_cifar10.MIRRORS[0]}x", tmp_path / name, len(archive))
    assert labels == ["m.caffemodel", "cifar-10-binary.tar.gz"]


# -------------------------------------------------------------------------------------------------------- drawn images
def test_images_are_the_same_for_the_same_seed(tmp_path):
    contents = []
    for folder, seed in ("a", 5), ("b", 5), ("c", 6):
        argv = ["--to", str(tmp_path / folder), "--seed", str(seed), "-train=52", "--test=30"]
        assert synthetic_cifar10.main(argv) == 0
        contents.append([(tmp_path / folder / name).read_bytes() for name in NAMES])
    assert contents[0] == contents[1]
    assert contents[0][0] != contents[2][0]
    assert len({data[1:3073] for data in contents[0]}) == len(NAMES)
    assert [len(data) // cifar10.RECORD_BYTES for data in contents[0]] == [11, 11, 10, 10, 10, 30]


def test_images_go_into_databases(tmp_path):
    synthetic_cifar10.write(tmp_path, 1, 25, 10)
    assert convert_cifar_data.main([str(tmp_path), str(tmp_path), "lmdb"]) == 0
    with open_database(tmp_path / "cifar10_test_lmdb") as database:
        cursor = database.cursor()
        keys, values = zip(*(cursor.next() for _ in range(database.count())), strict=True)
    images, labels = decode_datums(values, keys)
    drawn = draw(10, [1, 5])
    np.testing.assert_array_equal(images, drawn[0])
    np.testing.assert_array_equal(labels, drawn[1])


def test_images_can_be_told_apart_by_form_alone():
    images, labels = draw(2000, 3)
    assert np.bincount(labels, minlength=10).min() > 150
    assert 110 < images.mean() < 145
    flat = images.reshape(len(images), -1).astype(np.float32)
    known, asked = flat[:1700], flat[1700:]
    nearest = labels[((known**2).sum(axis=1) - 2 * asked @ known.T).argmin(axis=1)]
    assert (nearest == labels[1700:]).mean() < 0.3  # colours and places do not tell
    # What does: how the brightness of neighbours, of the second neighbours and so on goes together.
    grey = images.mean(axis=1)
    grey = (grey - grey.mean(axis=(1, 2), keepdims=True)) / grey.std(axis=(1, 2), keepdims=True)
    alike = np.stack([(grey[:, :, k:] * grey[:, :, :-k]).mean(axis=(1, 2)) for k in range(1, 16)], axis=1)
    nearest = labels[:1700][((alike[1700:, None] - alike[None, :1700]) ** 2).sum(axis=2).argmin(axis=1)]
    assert (nearest == labels[1700:]).mean() > 0.35


def test_too_few_images(capsys):
    for flag in "--train=4", "--test=0", "--seed=-1":
        with pytest.raises(SystemExit):
            synthetic_cifar10.main([flag])
        assert "--train must be 5 or more" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- scripts
@pytest.mark.skipif(shutil.which("sh") is None, reason="no sh")
def test_the_script(tmp_path):
    """It takes the folder that it lies in, and hands on flags and exit status."""
    shutil.copytree(ROOT / "data/cifar10", tmp_path / "data/cifar10", ignore=shutil.ignore_patterns("*.bin", "*.gz"))
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    command = ["sh", str(tmp_path / "data/cifar10/get_cifar10.sh"), "--from", str(tmp_path)]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"{tmp_path}: has no right data_batch_1.bin, " in done.stderr


def test_errors_end_in_one_line(tmp_path, capsys):
    assert call(get_cifar10.main, ["--to", str(tmp_path / "to"), "--from", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
