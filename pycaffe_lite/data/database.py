"""Key/value databases as Caffe uses them: LMDB and LevelDB folders, read in key order, written in batches.

    with open_database("examples/mnist/mnist_train_lmdb") as database:
        cursor = database.cursor()
        key, value = cursor.next()      # after the last record comes the first again

What a folder holds is read off its files, whatever a prototxt says about it. The behaviour is that of Caffe's
`src/caffe/util/db_lmdb.cpp`, `db_leveldb.cpp` and `data_reader.cpp`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from .. import glog
from ..errors import DataError, DataMissing, did_you_mean
from . import lmdb_file

BACKENDS = ("leveldb", "lmdb")
BATCH_RECORDS = 1000
BATCH_BYTES = 64 << 20
FIRST_MAP_SIZE = 64 << 20
MAX_READERS = 512
LOOK_SECONDS = 0.05  # between two looks at the sizes of files

_NO_PLYVEL = (
    "is a LevelDB database, and the package that reads those is not installed: "
    "pip install 'pycaffe-lite[leveldb]', or convert it to LMDB"
)


def detect(path: str | os.PathLike) -> str | None:
    """`"lmdb"` or `"leveldb"`, from the files in a folder; None where it is neither, or not there.

    A single file can be an LMDB database as well (written without a folder of its own).
    """
    path = Path(path)
    if (path / "data.mdb").is_file():
        return "lmdb"
    if (path / "CURRENT").is_file():
        return "leveldb"
    if path.is_file():
        with open(path, "rb") as file:
            return "lmdb" if file.read(20)[16:] == lmdb_file.MAGIC else None
    return None


def default_backend() -> str:
    """`"leveldb"`, Caffe's own default, where plyvel is installed, else `"lmdb"`."""
    try:
        import plyvel  # noqa: F401
    except ImportError:
        return "lmdb"
    return "leveldb"


# ------------------------------------------------------------------------------------------------------------ reading
def open_database(path: str | os.PathLike, backend: str | None = None) -> Database:
    """Opens a database for reading. The format found wins over `backend` (a note is logged where they differ).

    Raises `DataError` for a folder that is missing, empty, in use, damaged or no database, and for an empty database.
    """
    path = os.fspath(path)
    found = detect(path)
    if found is None:
        raise _no_database(path)
    if backend is not None and backend.lower() != found:
        glog.info(f"{path} is read as {found.upper()}, which it is, and not as {backend.upper()}")
    return Database(_acquire(path, found))


class Database:
    """A database that is open for reading. Close it, or use it as a context manager, or just drop it."""

    def __init__(self, store: _Store):
        self.path = store.path
        self.backend = store.backend
        self._store = store
        self._release = weakref.finalize(self, _release, store)

    def cursor(self, start_key: bytes | None = None) -> Cursor:
        """A cursor whose first record is the one with the smallest key that is not below `start_key`."""
        return Cursor(self, start_key)

    def count(self) -> int:
        """The number of records (LevelDB does not keep it: all keys are read)."""
        with self._store.reading():
            return self._store.count()

    def extent(self) -> str:
        """The first and the last key, and of LMDB the number of records: what new data change, and what costs no reading."""
        with self._store.reading():
            keys = f"{_key_text(next(self._store.records(None))[0])} to {_key_text(self._store.last_key())}"
            return f"{self._store.count()} records, {keys}" if self.backend == "lmdb" else keys

    def close(self) -> None:
        self._release()

    @property
    def closed(self) -> bool:
        return not self._release.alive

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Cursor:
    """Reads records in key order, round and round. Any thread may call `next` and `take`."""

    def __init__(self, database: Database, start_key: bytes | None = None):
        self._database = database
        self._store = database._store
        self._records = self._store.records(start_key)
        self._key: bytes | None = None  # of the record before

    def next(self) -> tuple[bytes, bytes]:
        """The next key and value; after the last record comes the first."""
        return self.take(1)[0]

    def take(self, count: int) -> list[tuple[bytes, bytes]]:
        """The next `count` records, of which there is at least one. An error says which was the last that could be read."""
        taken: list[tuple[bytes, bytes]] = []
        with self._store.reading(lambda: taken[-1][0] if taken else self._key):
            if self._database.closed:
                raise DataError(f"{self._store.path}: the database was closed")
            self._store.look_after_files()
            while len(taken) < count:
                before = len(taken)
                taken.extend(islice(self._records, count - before))
                if len(taken) == before:  # at the end
                    self._records = self._store.records(None)
            self._key = taken[-1][0]
        return taken


class _Store:
    """One open handle, shared by all that read the same folder in this process.

    Neither library lets a process open a folder twice. `lock` is held around every access, so that no thread reads
    while another one closes the handle.
    """

    backend = ""
    errors: tuple[type[Exception], ...]

    def __init__(self, path: str):
        self.path = path
        self.users = 0
        self.key: tuple = ()
        self.lock = threading.RLock()

    @contextmanager
    def reading(self, last_key: Callable[[], bytes | None] = lambda: None) -> Iterator[None]:
        """Holds the lock, and turns errors of the file into a `DataError` that names the path and the record before."""
        with self.lock:
            try:
                yield
            except self.errors as error:
                key = last_key()
                after = "" if key is None else f' after record "{_key_text(key)}"'
                raise DataError(f"{self.path}: cannot be read{after} ({_text(error)})") from error

    def look_after_files(self) -> None:
        """Raises for files that were cut off since they were opened, if reading on would end the process."""

    def records(self, start_key: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        raise NotImplementedError

    def count(self) -> int:
        raise NotImplementedError

    def last_key(self) -> bytes:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class _LmdbStore(_Store):
    """Reads the file itself. The library holds a transaction meanwhile, so that a writer leaves the pages alone."""

    backend = "lmdb"

    def __init__(self, path: str):
        super().__init__(path)
        import lmdb

        self.errors = (lmdb_file.LmdbError, OSError)
        name = Path(path, "data.mdb") if os.path.isdir(path) else Path(path)
        try:
            self.file = lmdb_file.LmdbFile(name)
        except self.errors as error:
            raise DataError(f"{name}: {_text(error)}") from error
        try:
            self.env = lmdb.open(
                path,
                subdir=os.path.isdir(path),
                readonly=True,
                create=False,
                lock=os.access(name.parent, os.W_OK),  # a lock file is needed only where somebody could write
                max_readers=MAX_READERS,
            )
            self.transaction = self.env.begin()
            self.file.read_header()  # of what nobody can change from now on
        except (lmdb.Error, *self.errors) as error:
            self.file.close()
            raise DataError(f"{path}: cannot open the LMDB database ({_text(error)})") from error

    def records(self, start_key: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        return self.file.records(start_key or b"")

    def count(self) -> int:
        return self.file.entries

    def last_key(self) -> bytes:
        return self.file.last_key()

    def close(self) -> None:
        self.file.close()
        self.transaction.abort()
        self.env.close()


class _LevelDbStore(_Store):
    backend = "leveldb"

    def __init__(self, path: str):
        super().__init__(path)
        try:
            import plyvel
        except ImportError:
            raise DataError(f"{path}: {_NO_PLYVEL}") from None
        self.errors = (plyvel.Error,)
        self.copy = None if _is_writable(path) else _copy_with_links(path)
        try:
            self.db = plyvel.DB(self.copy.name if self.copy else path)
        except plyvel.Error as error:
            if ": lock " in _text(error):
                raise DataMissing(f"{path}: is in use by another process; LevelDB lets in one at a time") from error
            raise DataError(f"{path}: cannot open the LevelDB database ({_text(error)})") from error
        self._sizes: dict[str, int] = {}
        self._next_look = 0.0

    def look_after_files(self) -> None:
        """The library maps tables into memory, and a map of what is no longer there ends the process.

        It takes some microseconds a table, so that this is not done for each batch.
        """
        if time.monotonic() < self._next_look:
            return
        with suppress(FileNotFoundError):  # removed: what is mapped stays, and the rest is the library's to report
            tables = [entry for entry in os.scandir(self.path) if entry.name.endswith((".ldb", ".sst"))]
            sizes = {entry.name: entry.stat().st_size for entry in tables}
            cut = [name for name, size in sizes.items() if size < self._sizes.get(name, 0)]
            if cut:
                raise DataError(f"{self.path}: cannot be read: {cut[0]} was cut off or overwritten")
            self._sizes, pause = sizes, LOOK_SECONDS * (1 + len(sizes) // 500)
            self._next_look = time.monotonic() + pause

    def records(self, start_key: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.db.iterator(start=start_key, verify_checksums=True, fill_cache=False))

    def count(self) -> int:
        return sum(1 for _ in self.db.iterator(include_value=False, verify_checksums=True, fill_cache=False))

    def last_key(self) -> bytes:
        return next(self.db.iterator(include_value=False, reverse=True, fill_cache=False))

    def close(self) -> None:
        self.db.close()
        if self.copy:
            self.copy.cleanup()


_stores: dict[tuple, _Store] = {}
_stores_lock = threading.RLock()  # reentrant: the garbage collector may drop a Database while this thread opens one


def _acquire(path: str, backend: str) -> _Store:
    """The shared handle of a folder, whatever name leads to it. A forked child does not use its parent's."""
    found = os.stat(path)
    key = (os.getpid(), found.st_dev, found.st_ino)
    with _stores_lock:
        store = _stores.get(key)
        if store is None:
            store = _LmdbStore(path) if backend == "lmdb" else _LevelDbStore(path)
            _refuse_empty(store)
            store.key = key
            _stores[key] = store
        store.users += 1
        return store


def _release(store: _Store) -> None:
    if store.key[0] != os.getpid():  # a forked child: the handle is its parent's, and so may be the locks
        return
    with _stores_lock:
        store.users -= 1
        if store.users == 0:
            del _stores[store.key]
            with store.lock:
                store.close()


def _refuse_empty(store: _Store) -> None:
    try:
        with store.reading():
            if next(store.records(None), None) is None:
                raise DataError(f"{store.path}: the {store.backend.upper()} database is empty")
    except DataError:
        store.close()
        raise


def _no_database(path: str) -> DataError:
    if os.path.isdir(path):
        if not os.listdir(path):
            return DataError(f"{path}: expected a database, but the folder is empty")
        return DataError(f"{path}: neither an LMDB (no data.mdb) nor a LevelDB database (no CURRENT)")
    if os.path.exists(path):
        return DataError(f"{path}: expected the folder of a database, but it is a file")
    folder = os.path.dirname(path.rstrip("/")) or "."
    near = os.listdir(folder) if os.path.isdir(folder) else []
    hint = did_you_mean(os.path.basename(path.rstrip("/")), near)
    return DataMissing(f"{path}: there is no such database{hint}; relative paths start at {os.getcwd()}")


def _is_writable(path: str) -> bool:
    """Whether LevelDB could open a folder as its own: files are written, and its lock file opened for writing."""
    lock = os.path.join(path, "LOCK")
    return os.access(path, os.W_OK) and (not os.path.exists(lock) or os.access(lock, os.W_OK))


def _copy_with_links(path: str) -> tempfile.TemporaryDirectory:
    """A temporary folder in place of a LevelDB folder that nobody may write to: links to its tables, copies of the rest.

    LevelDB cannot open a folder without writing to it. Tables it never changes, it only replaces or removes them. Where the
    system has no links they are copied as well.
    """
    folder = tempfile.TemporaryDirectory(prefix="pycaffe_lite_leveldb_")
    for name in os.listdir(path):
        source, target = os.path.abspath(os.path.join(path, name)), os.path.join(folder.name, name)
        if name.endswith((".ldb", ".sst")):
            with suppress(OSError):
                os.symlink(source, target)
                continue
        if name.startswith(("CURRENT", "MANIFEST-")) or name.endswith((".log", ".ldb", ".sst")):
            shutil.copyfile(source, target)
    return folder


def _key_text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")


def _text(error: BaseException) -> str:
    """The message of an error; plyvel gives bytes."""
    message = error.args[0] if error.args else ""
    return message.decode("utf-8", "replace") if isinstance(message, bytes) else str(error)


# ------------------------------------------------------------------------------------------------------------ writing
def create_database(path: str | os.PathLike, backend: str) -> Writer:
    """A writer for a new database in the folder `path`, with `backend` `"lmdb"` or `"leveldb"` (in any case).

    Refuses a path that exists, as Caffe's converters do. Missing parent folders are an error as well.
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


class Writer:
    """Writes records to a new database, a thousand at a time. `close` (or leaving the `with` block) writes the rest."""

    error: type[Exception] = OSError  # what the library raises; set by `_open`

    def __init__(self, path: str):
        self.path = path
        self._batch: list[tuple[bytes, bytes]] = []
        self._bytes = 0
        with self._reported():
            self._open()

    def put(self, key: bytes, value: bytes) -> None:
        """Adds a record, or replaces the one with the same key."""
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
            raise DataError(f"{self.path}: cannot be written; is the disk full? ({_text(error)})") from error

    def _open(self) -> None:
        raise NotImplementedError

    def _write(self, batch: list[tuple[bytes, bytes]]) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError


class _LmdbWriter(Writer):
    """The map (the largest size of the file, which is sparse) doubles whenever it is full."""

    def _open(self) -> None:
        import lmdb

        self.error = lmdb.Error
        self._full = lmdb.MapFullError
        self._map_size, self._last_key = FIRST_MAP_SIZE, b""
        self._env: Any = lmdb.open(self.path, map_size=self._map_size, sync=False, max_readers=MAX_READERS)

    def _write(self, batch: list[tuple[bytes, bytes]]) -> None:
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    last = self._last_key
                    for key, value in batch:
                        transaction.put(key, value, append=key > last)  # which fills its pages to the end
                        last = max(last, key)
                self._last_key = last
                return
            except self._full:
                self._map_size *= 2
                self._env.set_mapsize(self._map_size)

    def _close(self) -> None:
        # One sync at the end will do: a database whose writing was cut short is of no use anyway.
        self._env.sync(True)
        self._env.close()


class _LevelDbWriter(Writer):
    """Nothing is compressed, unlike Caffe's: a record is written once and read in every epoch, in a fifth of the time.

    It takes room: the pairs of MNIST 90 MB instead of 30, photographs hardly more.
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
