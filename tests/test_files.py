"""A file is either whole or not there."""

import errno
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from pycaffe_lite.errors import CaffeError, ModelFileError
from pycaffe_lite.files import atomic_write, new_hdf5


def only(folder):
    return sorted(path.name for path in folder.iterdir())


def refuse(number):
    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    return fail


def test_writes_and_replaces(tmp_path):
    target = tmp_path / "a.caffemodel"
    for content in (b"old", b"new and longer"):
        with atomic_write(target) as temporary:
            assert temporary.parent == target.parent
            assert temporary.name.startswith(".")
            assert str(os.getpid()) in temporary.name
            with open(temporary, "wb") as file:
                file.write(content)
            assert not target.exists() or target.read_bytes() == b"old"
        assert target.read_bytes() == content
    assert only(tmp_path) == ["a.caffemodel"]


def test_hdf5(tmp_path):
    with atomic_write(tmp_path / "a.h5") as temporary, h5py.File(temporary, "w") as file:
        file["x"] = np.arange(3)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["x"][:].tolist() == [0, 1, 2]


def test_relative_path_and_link(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "far").mkdir()
    os.symlink("far/real", "link")
    with atomic_write("link") as temporary:
        temporary.write_bytes(b"x")
    assert os.path.islink("link")
    assert (tmp_path / "far" / "real").read_bytes() == b"x"
    assert only(tmp_path / "far") == ["real"]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), ModelFileError("mine")])
def test_error_in_the_block_leaves_the_old_file(tmp_path, error):
    target = tmp_path / "a"
    target.write_bytes(b"old")

    def write_half():
        with atomic_write(target) as temporary:
            temporary.write_bytes(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        write_half()
    assert caught.value is error
    assert target.read_bytes() == b"old"
    assert only(tmp_path) == ["a"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_refusal_of_the_system_names_the_target(tmp_path, monkeypatch, step, number):
    target = tmp_path / "a"
    target.write_bytes(b"old")
    monkeypatch.setattr(os, step, refuse(number))
    with pytest.raises(ModelFileError) as caught, atomic_write(target) as temporary:
        temporary.write_bytes(b"new")
    assert str(caught.value) == f"{target}: cannot be written: {os.strerror(number)}"
    assert target.read_bytes() == b"old"
    assert only(tmp_path) == ["a"]


def test_read_only_folder(tmp_path):
    with (
        pytest.raises(ModelFileError, match=r"a\.h5: cannot be written: Permission denied"),
        atomic_write(tmp_path / "a.h5"),
    ):
        refuse(errno.EACCES)()
    assert only(tmp_path) == []


def test_folder_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch):
    system_fsync = os.fsync
    synced = []

    def fsync(descriptor):
        system_fsync(descriptor)
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.EINVAL, "a folder")

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_bytes(b"x")
    assert len(synced) == 2
    assert only(tmp_path) == ["a"]


def test_missing_folder_and_strange_targets(tmp_path):
    for target, message in [
        (tmp_path / "none" / "a", "there is no folder"),
        (tmp_path, "not a regular file"),
        (os.devnull, "not a regular file"),
    ]:
        with pytest.raises(ModelFileError, match=message) as caught, atomic_write(target):
            pytest.fail("the block must not run")
        assert str(caught.value).startswith(str(target))
    assert os.path.exists(os.devnull)


def test_block_that_writes_nothing(tmp_path):
    with pytest.raises(CaffeError, match="cannot be written"), atomic_write(tmp_path / "a"):
        pass
    assert only(tmp_path) == []


FULL_DISK = """
import resource, signal, sys
from pycaffe_lite.errors import ModelFileError
from pycaffe_lite.files import atomic_write, new_hdf5

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with atomic_write(sys.argv[1]) as temporary, open(temporary, "wb") as file:
        file.write(bytes(5000))
except ModelFileError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_disk_that_is_full_in_the_middle(tmp_path):
    target = tmp_path / "a"
    target.write_bytes(b"old")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, target], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"{target}: cannot be written: File too large\n", done.stderr
    assert target.read_bytes() == b"old"
    assert only(tmp_path) == ["a"]


def test_hdf5_is_whole_or_not_there(tmp_path, monkeypatch):
    target = tmp_path / "a.h5"
    with new_hdf5(target) as file:
        file["x"] = np.arange(3)
    with h5py.File(target) as file:
        assert file["x"][()].tolist() == [0, 1, 2]
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
    with pytest.raises(ModelFileError, match=r"a\.h5: cannot be written: No space left"), new_hdf5(target) as file:
        file["y"] = np.arange(4)
    with h5py.File(target) as file:
        assert list(file) == ["x"]
