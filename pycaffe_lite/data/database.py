"""Key/value databases as Caffe uses them: LMDB and LevelDB folders, read in key order.

    with open_database("examples/mnist/mnist_train_lmdb") as database:
        cursor = database.cursor()
        key, value = cursor.next()      # after the last record it starts again

The files in a folder show which database it is, whatever a prototxt says. The behaviour is that of Caffe's
`src/caffe/util/db_lmdb.cpp`, `db_leveldb.cpp` and `data_reader.cpp`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from .. import glog
from ..errors import DataError, DataMissing, did_you_mean
from . import lmdb_file

BACKENDS = ("leveldb", "lmdb")
LOOK_SECONDS = 0.05  # between two checks of the sizes of files

_NO_PLYVEL = (
    "is a LevelDB database, and the package that reads those is not installed: "
    "pip install 'pycaffe-lite[leveldb]', or write the database as LMDB"
)


def detect(path: str | os.PathLike) -> str | None:
    """`"lmdb"` or `"leveldb"`, from the files in a folder; None if it is neither, or missing.

    A single file may also be an LMDB database (written without a folder).
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
    """`"leveldb"`, which is Caffe's default, if plyvel is installed, else `"lmdb"`."""
    try:
        import plyvel  # noqa: F401
    except ImportError:
        return "lmdb"
    return "leveldb"


def open_database(path: str | os.PathLike, backend: str | None = None) -> Database:
    """Opens a database for reading. The format of its files overrides `backend`, and the log notes a difference.

    Raises `DataError` for a folder that is missing, empty, in use, damaged or not a database, and for an empty database.
    """
    path = os.fspath(path)
    detected = detect(path)
    if detected is None:
        raise _no_database(path)
    if backend is not None and backend.lower() != detected:
        glog.info(f"{path} is read as {detected.upper()}, which it is, and not as {backend.upper()}")
    return Database(_acquire(path, detected))


class Database:
    """An open database, for reading. Close it, use it as a context manager, or drop it."""

    def __init__(self, store: _Store):
        self.path = store.path
        self.backend = store.backend
        self._store = store
        self._release = weakref.finalize(self, _release, store)

    def cursor(self, start_key: bytes | None = None) -> Cursor:
        """A cursor whose first record has the smallest key that is not below `start_key`."""
        return Cursor(self, start_key)

    def count(self) -> int:
        """The number of records. LevelDB does not store it, so all keys are read."""
        with self._store.reading():
            return self._store.count()

    def extent(self) -> str:
        """A cheap description that changes with the data: first and last key, and for LMDB the number of records."""
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
    """Reads records in key order, again and again. Any thread may call `next` and `take`.

    If the database is written to meanwhile, it continues after its last key in the new state.
    """

    def __init__(self, database: Database, start_key: bytes | None = None):
        self._database = database
        self._store = database._store
        self._start = start_key
        self._records: Iterator[tuple[bytes, bytes]] = iter(())
        self._state = -1  # the state of the store that `_records` reads
        self._key: bytes | None = None  # of the last record

    def next(self) -> tuple[bytes, bytes]:
        """The next key and value; the first record follows the last one."""
        return self.take(1)[0]

    def take(self, count: int) -> list[tuple[bytes, bytes]]:
        """The next `count` records, at least one. An error names the last record that could be read."""
        taken: list[tuple[bytes, bytes]] = []
        with self._store.reading(lambda: taken[-1][0] if taken else self._key):
            if self._database.closed:
                raise DataError(f"{self._store.path}: the database was closed")
            self._store.look_after_files()
            while not self._read_into(taken, count):
                taken.clear()
            self._key = taken[-1][0]
            self._start = self._key + b"\0"  # the smallest key after it
        return taken

    def _read_into(self, taken: list[tuple[bytes, bytes]], count: int) -> bool:
        """Adds the next records; returns False if they may belong to different states of the database."""
        state = self._store.state()
        if state != self._state:
            self._records, self._state = self._store.records(self._start), state
        errors: tuple[type[Exception], ...] = (DataError, *self._store.errors)
        try:
            taken.extend(islice(self._records, count))
            while len(taken) < count:  # the end is reached
                self._records = self._store.records(None)
                before = len(taken)
                taken.extend(islice(self._records, count - before))
                if len(taken) == before:
                    raise DataError(f"{self._store.path}: the database is empty")
        except errors:
            if self._store.state() == state:
                raise
        return self._store.state() == state


class _Store(ABC):
    """An open handle, shared by all readers of a folder in this process.

    Neither library lets a process open a folder twice. `lock` is held during every access, so that no thread reads while
    another thread closes the handle.
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
        """Holds the lock, and turns errors of the file into a `DataError` with the path and the previous record."""
        with self.lock:
            try:
                yield
            except self.errors as error:
                key = last_key()
                after = "" if key is None else f' after record "{_key_text(key)}"'
                raise DataError(f"{self.path}: cannot be read{after} ({error_text(error)})") from error

    def look_after_files(self) -> None:  # noqa: B027  by default there is nothing to do
        """Raises `DataError` if files were cut off since they were opened and reading on would end the process."""

    def state(self) -> int:
        """A number that changes if records may have been written, so that what was read may be outdated."""
        return 0

    @abstractmethod
    def records(self, start_key: bytes | None) -> Iterator[tuple[bytes, bytes]]: ...

    @abstractmethod
    def count(self) -> int: ...

    @abstractmethod
    def last_key(self) -> bytes: ...

    @abstractmethod
    def close(self) -> None: ...


class _LmdbStore(_Store):
    """Reads the file itself, without the library.

    It takes no lock, so folders may be read-only, and a script may have the same database open; the library lets a process
    open it only once. A writer may therefore reuse pages while they are read; `state` shows that.
    """

    backend = "lmdb"
    errors = (lmdb_file.LmdbError, OSError)

    def __init__(self, path: str):
        super().__init__(path)
        name = Path(path, "data.mdb") if os.path.isdir(path) else Path(path)
        try:
            self.file = lmdb_file.LmdbFile(name)
        except self.errors as error:
            raise DataError(f"{name}: {error_text(error)}") from error

    def state(self) -> int:
        self.file.refresh()
        return self.file.version

    def records(self, start_key: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        return self.file.records(start_key or b"")

    def count(self) -> int:
        return self.file.entries

    def last_key(self) -> bytes:
        return self.file.last_key()

    def close(self) -> None:
        self.file.close()


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
            if ": lock " in error_text(error):
                raise DataMissing(f"{path}: is in use by another process; LevelDB lets in one at a time") from error
            raise DataError(f"{path}: cannot open the LevelDB database ({error_text(error)})") from error
        self._sizes: dict[str, int] = {}
        self._next_look = 0.0

    def look_after_files(self) -> None:
        """The library maps tables into memory, and reading a map beyond the end of its file ends the process.

        The check takes some microseconds for each table, so it is not made for each batch.
        """
        if time.monotonic() < self._next_look:
            return
        with suppress(FileNotFoundError):  # removed: the mapped part stays valid, and the library reports the rest
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
_stores_lock = threading.RLock()  # reentrant: the garbage collector may drop a Database while this thread opens another


def _acquire(path: str, backend: str) -> _Store:
    """The shared handle of a folder, by whatever path it was opened. A forked child does not use its parent's handle."""
    status = os.stat(path)
    key = (os.getpid(), status.st_dev, status.st_ino)
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
    if store.key[0] != os.getpid():  # in a forked child the handle belongs to the parent, and its locks may be held there
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
    """Whether LevelDB could open a folder for itself: it writes files, and opens its lock file for writing."""
    lock = os.path.join(path, "LOCK")
    return os.access(path, os.W_OK) and (not os.path.exists(lock) or os.access(lock, os.W_OK))


def _copy_with_links(path: str) -> tempfile.TemporaryDirectory:
    """A temporary folder in place of a LevelDB folder that cannot be written to: links to its tables, copies of the rest.

    LevelDB cannot open a folder without writing to it. It never changes tables, it only replaces or removes them. If the
    system has no links, the tables are copied too.
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


def error_text(error: BaseException) -> str:
    """The message of an error; plyvel's is bytes."""
    message = error.args[0] if error.args else ""
    return message.decode("utf-8", "replace") if isinstance(message, bytes) else str(error)
