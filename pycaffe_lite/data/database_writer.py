"""Writes new databases, LMDB and LevelDB, as Caffe's converters do (`db_lmdb.cpp`, `db_leveldb.cpp`).

with create_database("examples/mnist/mnist_train_lmdb", "lmdb") as database:
    database.put(key, value)
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import DataError, did_you_mean
from .database import BACKENDS, default_backend, error_text

BATCH_RECORDS = 1000
BATCH_BYTES = 64 << 20
FIRST_MAP_SIZE = 64 << 20


def create_database(path: str | os.PathLike, backend: str) -> Writer:
    """A writer for a new database in the folder `path`. `backend` is `"lmdb"` or `"leveldb"`, in upper or lower case.

    An existing path is refused, as in Caffe's converters. A missing parent folder is an error too.
    """
    path, backend = os.fspath(path), backend.lower()
    if backend not in BACKENDS:
        raise DataError(f'unknown database backend "{backend}"{did_you_mean(backend, BACKENDS)}; there are leveldb, lmdb')
    if os.path.lexists(path):
        raise DataError(f"{path}: already exists; remove it first, or give another path")
    if backend == "leveldb" and default_backend() != "leveldb":
        raise DataError(f"{path}: cannot be written as LevelDB; pip install 'pycaffe-lite[leveldb]', or choose LMDB")
    try:
        os.mkdir(path)
    except OSError as error:
        raise DataError(f"{path}: cannot make this folder ({error.strerror})") from error
    return _LmdbWriter(path) if backend == "lmdb" else _LevelDbWriter(path)


class Writer(ABC):
    """Writes records to a new database in batches of a thousand. `close`, or the end of a `with` block, writes the rest."""

    error: type[Exception] = OSError  # the error class of the library; `_open` sets it

    def __init__(self, path: str):
        self.path = path
        self._batch: list[tuple[bytes, bytes]] = []
        self._bytes = 0
        with self._reported():
            self._open()

    def put(self, key: bytes, value: bytes) -> None:
        """Adds a record, or replaces the record with the same key."""
        self._batch.append((key, value))
        self._bytes += len(value)
        if len(self._batch) >= BATCH_RECORDS or self._bytes >= BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        try:
            self._flush()
        finally:
            with self._reported():
                self._close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type | None, *rest: object) -> None:
        if kind is not None:
            self._batch = []
        self.close()

    def _flush(self) -> None:
        batch, self._batch, self._bytes = self._batch, [], 0
        with self._reported():
            self._write(batch)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (self.error, OSError) as error:
            raise DataError(f"{self.path}: cannot be written; is the disk full? ({error_text(error)})") from error

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _write(self, batch: list[tuple[bytes, bytes]]) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...


class _LmdbWriter(Writer):
    """The map limits the size of the file, which is sparse; it is doubled whenever it is full."""

    def _open(self) -> None:
        import lmdb

        self.error = lmdb.Error
        self._full = lmdb.MapFullError
        self._map_size, self._last_key = FIRST_MAP_SIZE, b""
        self._env: Any = lmdb.open(self.path, map_size=self._map_size, sync=False)

    def _write(self, batch: list[tuple[bytes, bytes]]) -> None:
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    last = self._last_key
                    for key, value in batch:
                        transaction.put(key, value, append=key > last)  # appending fills pages completely
                        last = max(last, key)
                self._last_key = last
                return
            except self._full:
                self._map_size *= 2
                self._env.set_mapsize(self._map_size)

    def _close(self) -> None:
        # One sync at the end is enough: an incomplete database is useless anyway.
        self._env.sync(True)
        self._env.close()


class _LevelDbWriter(Writer):
    """Does not compress, unlike Caffe: a record is written once and read in every epoch, which takes a fifth of the time.

    This costs space: the pairs of MNIST take 90 MB instead of 30, photographs hardly more.
    """

    def _open(self) -> None:
        import plyvel

        self.error = plyvel.Error
        self._db: Any = plyvel.DB(self.path, create_if_missing=True, error_if_exists=True, compression=None)

    def _write(self, batch: list[tuple[bytes, bytes]]) -> None:
        with self._db.write_batch() as writes:
            for key, value in batch:
                writes.put(key, value)

    def _close(self) -> None:
        self._db.close()
