"""Files that are either whole or not there: the old one stays until the new one is complete and on disk."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py

from .errors import CaffeError, ModelFileError, SolverError


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
        temporary.write_bytes(image.getvalue())


@contextmanager
def locked(path: str | os.PathLike) -> Iterator[None]:
    """Holds the lock file `path`, which no two processes (nor two blocks of one) can hold at the same time.

    The system lets go of it when a process ends, however it ends. Raises `SolverError` if it is held already, `OSError`
    where no such file can be made or locked. The file is removed at the end.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(descriptor)
            if _is_still_there(descriptor, path):
                break
        except OSError as error:
            holder = os.pread(descriptor, 20, 1).decode("ascii", "replace") if hasattr(os, "pread") else ""
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                raise
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise SolverError(f"in use by {who}: two runs would overwrite each other's snapshots", os.fspath(path)) from None
        os.close(descriptor)  # whoever held it removed the file in between
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"\n{os.getpid()}".encode())  # after the byte that Windows locks
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            os.unlink(path)
        os.close(descriptor)


def _take(descriptor: int) -> None:
    """Locks an open file, or raises `OSError` at once."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_still_there(descriptor: int, path: str | os.PathLike) -> bool:
    """Whether `path` still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


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
