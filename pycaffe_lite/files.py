"""Files that are either whole or not there: the old one stays until the new one is complete and on disk."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py

from .errors import CaffeError, ModelFileError


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a hidden path beside `path` to write to, and puts the file in the place of `path` if the block succeeds.

        with atomic_write("lenet.caffemodel") as temporary:
            temporary.write_bytes(payload)          # open() and PIL do as well

    After any error the old file, if there was one, is as before, and the hidden one is gone. A link keeps pointing to its
    file, which is replaced. Raises `ModelFileError`, which names `path`, where the system refuses: no such folder, no
    permission, a full disk. The block must have closed the file.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    _check_target(path, target)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
    except CaffeError:
        raise
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelFileError(f"cannot be written: {reason}", where=os.fspath(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    with suppress(OSError):  # Some systems cannot sync a folder; the file itself is safe by now.
        _sync(target.parent)


@contextmanager
def new_hdf5(path: str | os.PathLike) -> Iterator[h5py.File]:
    """Yields an HDF5 file to fill, which takes the place of `path` if the block succeeds; see `atomic_write`.

    It is made in memory: the HDF5 library does not survive a disk that fills up under it.
    """
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        yield file
    with atomic_write(path) as temporary:
        temporary.write_bytes(image.getbuffer())


def _check_target(path: str | os.PathLike, target: Path) -> None:
    if not target.parent.is_dir():
        raise ModelFileError(f'cannot be written: there is no folder "{target.parent}"', where=os.fspath(path))
    if target.exists() and not target.is_file():  # A folder; or a device, which the file would replace.
        raise ModelFileError("cannot be written: it exists and is not a regular file", where=os.fspath(path))


def _sync(path: Path) -> None:
    """Returns when the file or folder is on disk, and not just in the system's memory."""
    writable = os.O_RDONLY if path.is_dir() else os.O_RDWR  # Windows syncs only what is open for writing.
    descriptor = os.open(path, writable)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
