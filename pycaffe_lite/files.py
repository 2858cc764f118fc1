"""Writes files completely or not at all: the old file stays until the new one is complete and on disk."""

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
    """Yields a hidden path beside `path` to write to, and moves the file to `path` if the block succeeds.

        with atomic_write("lenet.caffemodel") as temporary:
            temporary.write_bytes(payload)          # or open(), or PIL

    After an error the old file is unchanged, if there was one, and the hidden file is removed. If `path` is a link, the file
    that it points to is replaced. Raises `ModelFileError` with `path` if the system refuses: no such folder, no permission,
    a full disk. The block must close the file.
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
    with suppress(OSError):  # some systems cannot sync a folder; the file itself is safe by now
        _sync(target.parent)


@contextmanager
def new_hdf5(path: str | os.PathLike) -> Iterator[h5py.File]:
    """Yields an HDF5 file to fill, which is moved to `path` if the block succeeds; see `atomic_write`.

    The file is built in memory, because the HDF5 library crashes when the disk fills up.
    """
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        yield file
    with atomic_write(path) as temporary:
        temporary.write_bytes(image.getvalue())


@contextmanager
def locked(path: str | os.PathLike) -> Iterator[None]:
    """Holds the lock file `path`; no two processes, and no two blocks of one process, can hold it at the same time.

    The system releases the lock when a process ends in any way. Raises `SolverError` if the lock is held already, and
    `OSError` if the file cannot be created or locked. The file is removed at the end.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
            if _is_still_there(descriptor, path):
                break
        except OSError as error:
            holder = os.pread(descriptor, 20, 1).decode("ascii", "replace") if hasattr(os, "pread") else ""
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                raise
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise SolverError(f"in use by {who}: two runs would overwrite each other's snapshots", os.fspath(path)) from None
        os.close(descriptor)  # the last holder removed the file before it was locked here
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"\n{os.getpid()}".encode())  # after the byte that Windows locks
        yield
    finally:
        with suppress(OSError):  # Windows cannot remove an open file
            os.unlink(path)
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Locks an open file, or raises `OSError` without waiting."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_still_there(descriptor: int, path: str | os.PathLike) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _check_target(path: str | os.PathLike, target: Path) -> None:
    if not target.parent.is_dir():
        raise ModelFileError(f'cannot be written: there is no folder "{target.parent}"', where=os.fspath(path))
    if target.exists() and not target.is_file():  # a folder, or a device, which a file must not replace
        raise ModelFileError("cannot be written: it exists and is not a regular file", where=os.fspath(path))


def _sync(path: Path) -> None:
    """Returns when the file or folder is on disk, not only in the system's memory."""
    writable = os.O_RDONLY if path.is_dir() else os.O_RDWR  # Windows can only sync a file that is open for writing
    descriptor = os.open(path, writable)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
