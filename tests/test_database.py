"""LMDB and LevelDB databases, and the Datum records in them."""

from __future__ import annotations

import gc
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from pycaffe_lite import glog
from pycaffe_lite.data import database as module
from pycaffe_lite.data import database_writer, datum
from pycaffe_lite.data.database import default_backend, detect, open_database
from pycaffe_lite.data.database_writer import create_database
from pycaffe_lite.data.datum import decode_datums, decode_image, encode_datum
from pycaffe_lite.errors import DataError
from pycaffe_lite.proto.caffe_pb2 import Datum

from .leveldb import backends, needs_leveldb

COUNT = 25


@pytest.fixture
def make(tmp_path):
    def make(backend: str, count: int = COUNT, name: str = "db") -> Path:
        with create_database(tmp_path / name, backend) as writer:
            for i in reversed(range(count)):
                writer.put(b"%08d" % i, b"value %d" % i)
        return tmp_path / name

    return make


@pytest.fixture
def kit() -> Path:
    if "PYCAFFE_LITE_CONFORMANCE" not in os.environ:
        pytest.skip("PYCAFFE_LITE_CONFORMANCE is not set")
    return Path(os.environ["PYCAFFE_LITE_CONFORMANCE"], "data")


# ------------------------------------------------------------------------------------------------------------ reading
@pytest.fixture(autouse=True)
def _no_handles_of_other_tests():
    """Nets of other tests keep theirs until they are garbage collected."""
    gc.collect()


@backends
def test_reads_in_key_order_and_wraps_around(make, backend):
    path = make(backend)
    assert detect(path) == backend
    with open_database(path) as database:
        assert database.backend == backend
        assert database.count() == COUNT
        cursor = database.cursor()
        keys = [cursor.next()[0] for _ in range(2 * COUNT + 3)]
        assert keys == [b"%08d" % (i % COUNT) for i in range(2 * COUNT + 3)]
        cursor = database.cursor(start_key=b"%08d" % (COUNT - 1))
        assert cursor.next() == (b"%08d" % (COUNT - 1), b"value %d" % (COUNT - 1))
        assert cursor.next() == (b"%08d" % 0, b"value 0")
        assert database.cursor(start_key=b"z").next()[0] == b"%08d" % 0


@backends
def test_one_folder_is_opened_once_and_closed_with_its_last_user(make, backend, tmp_path):
    path = make(backend)
    (tmp_path / "alias").symlink_to(path)
    first, second = open_database(path), open_database(tmp_path / "alias")
    cursor = second.cursor()
    first.close()
    first.close()
    assert cursor.next()[1] == b"value 0"
    second.close()
    with pytest.raises(DataError, match="was closed"):
        cursor.next()
    assert not module._stores
    open_database(path)  # dropped, not closed: must not keep the folder
    assert not module._stores


@backends
def test_cursors_in_threads_while_others_open_and_close(make, backend):
    path, wrong = make(backend), []

    def read():
        for _ in range(5):
            with open_database(path) as database:
                cursor = database.cursor()
                got = [cursor.next()[0] for _ in range(2 * COUNT)]
            if got != [b"%08d" % (i % COUNT) for i in range(2 * COUNT)]:
                wrong.append(got)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not module._stores


@backends
def test_one_cursor_shared_by_threads_gives_each_record_once(make, backend):
    got: list[bytes] = []
    with open_database(make(backend, 400)) as database:
        cursor = database.cursor()
        threads = [threading.Thread(target=lambda: got.extend(cursor.next()[0] for _ in range(100))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(got) == [b"%08d" % i for i in range(400)]


@backends
def test_the_format_found_wins_over_the_one_asked_for(make, backend, caplog):
    glog.logger.addHandler(caplog.handler)
    other = {"lmdb": "LEVELDB", "leveldb": "LMDB"}[backend]
    try:
        with open_database(make(backend), other) as database:
            assert database.count() == COUNT
    finally:
        glog.logger.removeHandler(caplog.handler)
    assert f"read as {backend.upper()}" in caplog.text


@backends
def test_reads_a_folder_nobody_may_write_to_and_leaves_it_as_it_is(make, backend, monkeypatch):
    path = make(backend)
    (path / "lock.mdb").unlink(missing_ok=True)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere, chmod would not do
    with open_database(path) as database:
        assert [database.cursor().next()[1], database.count()] == [b"value 0", COUNT]
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


@needs_leveldb
@pytest.mark.parametrize("refused", ["db", "LOCK"])
def test_a_leveldb_that_cannot_be_written_is_opened_through_links_and_copies(make, monkeypatch, refused):
    """Its folder, or the lock file that another user made."""
    path = make("leveldb", 2000)
    open_database(path).close()  # moves the records from the log to a table
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    monkeypatch.setattr(os, "access", lambda path, _: os.path.basename(path) != refused)
    with open_database(path) as database:
        folder = Path(database._store.copy.name)
        linked = {file.name for file in folder.iterdir() if file.is_symlink()}
        assert linked == {name for name in before if name.endswith(".ldb")} != set()
        assert "CURRENT" in {file.name for file in folder.iterdir()}
        assert database.count() == 2000
    assert not folder.exists()
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_processes_share_an_lmdb(make):
    path = make("lmdb")
    program = (
        "import sys; from pycaffe_lite.data.database import open_database; database = open_database(sys.argv[1]);"
        "print(database.count(), flush=True); sys.stdin.read(); print(database.cursor().next()[1])"
    )
    with open_database(path) as database:
        command = [sys.executable, "-c", program, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == f"{COUNT}\n"
            assert database.cursor().next()[1] == b"value 0"
            assert other.communicate(timeout=60)[0] == "b'value 0'\n"


def test_lmdb_reads_what_the_library_wrote(tmp_path):
    """Values in pages, and over several; keys of all lengths; trees of several levels; and where reading starts."""
    draws = np.random.default_rng(3)
    for count, most in ((1, 10), (40, 9000), (3000, 60), (3000, 3000)):
        path = tmp_path / f"{count} {most}"
        written = {draws.bytes(draws.integers(1, 40)): draws.bytes(draws.integers(0, most)) for _ in range(count)}
        with lmdb.open(str(path), map_size=1 << 27) as env, env.begin(write=True) as transaction:
            for key, value in written.items():
                transaction.put(key, value)
        with lmdb.open(str(path), map_size=1 << 27) as env, env.begin(write=True) as transaction:
            for key in list(written)[::3][1:]:
                transaction.delete(key)
                del written[key]
        expected = sorted(written.items())
        with open_database(path) as database:
            assert database.cursor().take(2 * len(written)) == 2 * expected
            assert database.count() == len(written)
            assert database._store.last_key() == expected[-1][0]
            for at in draws.integers(0, len(expected), 20):
                key, value = expected[at]
                assert database.cursor(key).take(1) == [(key, value)]
                assert database.cursor(key + b"\0").next() == expected[(at + 1) % len(expected)]


def test_an_lmdb_that_is_written_to_while_it_is_read(make):
    """What is read belongs together, though the writer reuses pages: it goes on behind the last key in the new state."""
    path = make("lmdb", 500)
    program = """
import lmdb, sys
with lmdb.open(sys.argv[1]) as env:
    for _ in range(3):
        with env.begin(write=True) as transaction:
            for i in range(500):
                transaction.put(b"%08d" % i, b"new %d" % i)
"""
    with open_database(path) as database:
        one, other = database.cursor(), database.cursor(b"%08d" % 300)
        assert one.take(100)[-1] == (b"%08d" % 99, b"value 99")
        assert other.next() == (b"%08d" % 300, b"value 300")
        subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)
        assert one.take(500) == [(b"%08d" % i, b"new %d" % i) for i in [*range(100, 500), *range(100)]]
        assert other.next() == (b"%08d" % 301, b"new 301")


def test_records_of_two_states_of_an_lmdb_are_read_again(make, monkeypatch):
    path = make("lmdb", 500)
    with open_database(path) as database, lmdb.open(str(path)) as env:
        cursor = database.cursor()
        cursor.take(10)
        records = database._store.file._records

        def interrupted(*where):
            for i, record in enumerate(records(*where)):
                yield record
                if i == 20:  # once: the records of the new state are read undisturbed
                    monkeypatch.undo()
                    for value in (b"new", b"newer"):
                        with env.begin(write=True) as transaction:
                            for number in range(500):
                                transaction.put(b"%08d" % number, value)

        monkeypatch.setattr(database._store.file, "_records", interrupted)
        cursor._state = -1
        assert cursor.take(40) == [(b"%08d" % i, b"newer") for i in range(10, 50)]


def test_an_lmdb_that_became_empty(make):
    path = make("lmdb", 5)
    with open_database(path) as database, lmdb.open(str(path)) as env:
        cursor = database.cursor()
        cursor.next()
        with env.begin(write=True) as transaction:
            transaction.drop(env.open_db(txn=transaction), delete=False)
        with pytest.raises(DataError, match="the database is empty"):
            cursor.next()


def test_a_script_may_have_an_lmdb_open(make):
    """The library opens a database once in a process; a net must not be the one that has it."""
    path = make("lmdb", 5)
    with lmdb.open(str(path)), open_database(path) as database:
        assert database.cursor().next()[1] == b"value 0"
    with open_database(path) as database, lmdb.open(str(path)) as env:
        assert env.stat()["entries"] == 5
        assert database.cursor().next()[1] == b"value 0"


def test_an_lmdb_in_a_single_file(tmp_path):
    with lmdb.open(str(tmp_path / "one.lmdb"), subdir=False) as env, env.begin(write=True) as transaction:
        transaction.put(b"key", b"value")
    with open_database(tmp_path / "one.lmdb") as database:
        assert database.cursor().next() == (b"key", b"value")


def test_what_is_no_database(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "image.png").write_text("x")
    (tmp_path / "file").write_text("x")
    for name, message in [
        ("empty", "folder is empty"),
        ("other", r"neither an LMDB .* nor a LevelDB"),
        ("file", "it is a file"),
        ("othr", r'did you mean "other"'),
    ]:
        assert detect(tmp_path / name) is None
        with pytest.raises(DataError, match=message) as error:
            open_database(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)


@backends
def test_an_empty_database(make, backend):
    path = make(backend, 0)
    with pytest.raises(DataError, match="is empty"):
        open_database(path)
    assert not module._stores


def test_leveldb_without_plyvel(tmp_path, monkeypatch):
    (tmp_path / "CURRENT").write_text("MANIFEST-000001\n")
    monkeypatch.setitem(sys.modules, "plyvel", None)
    assert default_backend() == "lmdb"
    with pytest.raises(DataError, match=r"pip install 'pycaffe-lite\[leveldb\]'.*LMDB"):
        open_database(tmp_path)
    with pytest.raises(DataError, match=r"pip install 'pycaffe-lite\[leveldb\]'"):
        create_database(tmp_path / "new", "leveldb")
    assert not (tmp_path / "new").exists()


@needs_leveldb
def test_a_leveldb_that_another_process_holds(make):
    path = make("leveldb")
    program = "import plyvel, sys; db = plyvel.DB(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with pytest.raises(DataError, match="in use by another process"):
            open_database(path)
        other.stdin.close()
    with open_database(path) as database:
        assert database.count() == COUNT


@needs_leveldb
def test_leveldb_files_that_cannot_be_locked_for_another_reason(make, monkeypatch):
    path = make("leveldb")
    (path / "LOCK").unlink()
    (path / "LOCK").mkdir()
    with pytest.raises(DataError, match=r"cannot open the LevelDB database \(.*LOCK: Is a directory\)"):
        open_database(path)


@pytest.mark.parametrize(
    ("size", "why"),
    [(0, "the header"), (10_000, "the LMDB database was cut off"), (100_000, "the LMDB database was cut off")],
)
def test_an_lmdb_that_is_cut_off_while_it_is_read(make, size, why):
    path = make("lmdb", 20_000)
    with open_database(path) as database:
        cursor = database.cursor()
        cursor.take(300)
        os.truncate(path / "data.mdb", size)
        with pytest.raises(DataError, match=rf'db: cannot be read after record "\d{{8}}" \({why}'):
            cursor.take(20_000)
        with pytest.raises(DataError, match="cannot be read"):
            database.extent()


def test_an_lmdb_that_is_removed_while_it_is_read(make):
    path = make("lmdb", 20_000)
    with open_database(path) as database:
        cursor = database.cursor()
        cursor.take(300)
        shutil.rmtree(path)
        assert cursor.take(40_000)[-1] == (b"00000299", b"value 299")


@needs_leveldb
def test_a_leveldb_that_is_removed_while_it_is_read(make, tmp_path):
    with create_database(tmp_path / "db", "leveldb") as writer:
        draws = np.random.default_rng(1)
        for i in range(20_000):
            writer.put(b"%08d" % i, draws.bytes(1000))
    with open_database(tmp_path / "db") as database:
        cursor = database.cursor()
        cursor.take(30)
        shutil.rmtree(tmp_path / "db")
        with pytest.raises(DataError, match=r'db: cannot be read after record "\d{8}" \(.*No such file or directory'):
            cursor.take(20_000)


@needs_leveldb
@pytest.mark.parametrize("size", [0, 10_000])
def test_a_leveldb_that_is_cut_off_while_it_is_read(make, monkeypatch, size):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0)
    path = make("leveldb", 20_000)
    open_database(path).close()  # moves the records from the log to a table
    with open_database(path) as database:
        cursor = database.cursor()
        cursor.take(30)
        (table,) = path.glob("*.ldb")
        os.truncate(table, size)  # alone it would end the process at the next record
        with pytest.raises(DataError, match=rf"db: cannot be read: {table.name} was cut off or overwritten"):
            cursor.take(30)


@pytest.mark.parametrize("size", [30, 5000])
def test_random_damage_to_an_lmdb_is_an_error_or_harmless(tmp_path, size):
    """Pages that are changed here and there, and pages in the place of others. None may end the process."""
    draws, errors = np.random.default_rng(1), 0
    with create_database(tmp_path / "db", "lmdb") as writer:
        for i in range(100):
            writer.put(b"%08d" % i, draws.bytes(size))
    whole = np.fromfile(tmp_path / "db" / "data.mdb", np.uint8).reshape(-1, 4096)
    for k in range(200):
        damaged, page = whole.copy(), draws.integers(len(whole))
        if k % 3:
            damaged[page, draws.integers(0, 4096 if k % 3 == 1 else 60, 4)] = draws.integers(0, 256, 4)
        else:
            damaged[page] = whole[draws.integers(len(whole))]
        damaged.tofile(tmp_path / "db" / "data.mdb")
        try:
            with open_database(tmp_path / "db") as database:
                database.extent()
                database.cursor(b"00000017").take(300)
        except DataError as error:
            errors += 1
            assert str(error).startswith(str(tmp_path / "db"))  # noqa: PT017
    assert 20 < errors < 200


def test_damaged_lmdb_files_are_refused(make, tmp_path):
    good = (make("lmdb", 2000) / "data.mdb").read_bytes()
    broken = tmp_path / "broken"
    broken.mkdir()
    for name, content in [
        ("cut short", good[: len(good) // 2]),
        ("one page", good[:4096]),
        ("no header", good[:100]),
        ("nothing", b""),
        ("page size", good[:40] + b"\xff\xff\xff\xff" + good[44:]),
        ("noise", bytes(range(256)) * 64),
    ]:
        (broken / "data.mdb").write_bytes(content)
        try:
            open_database(broken)
        except DataError as error:
            assert "data.mdb" in str(error)  # noqa: PT017
        else:
            pytest.fail(f"{name}: was opened")


@needs_leveldb
def test_damaged_leveldb_files_are_refused(make):
    path = make("leveldb", 2000)
    open_database(path).close()  # moves the records from the log to a table
    table = next(path.glob("*.ldb"))
    content = bytearray(table.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    table.write_bytes(content)
    with open_database(path) as database:
        cursor = database.cursor()
        with pytest.raises(DataError, match=rf'{path}: cannot be read after record "\d+" \(Corruption'):
            cursor.take(2000)
        with pytest.raises(DataError, match=str(path)):
            database.count()
    (path / "CURRENT").write_text("nonsense")
    with pytest.raises(DataError, match="cannot open"):
        open_database(path)


# ------------------------------------------------------------------------------------------------------------ writing
@backends
def test_refuses_a_path_that_exists(make, backend):
    path = make(backend)
    with pytest.raises(DataError, match="already exists"):
        create_database(path, backend)
    with pytest.raises(DataError, match="cannot make this folder"):
        create_database(path / "missing" / "new", backend)


def test_unknown_backend(tmp_path):
    with pytest.raises(DataError, match=r'did you mean "leveldb"'):
        create_database(tmp_path / "new", "level_db")


def test_lmdb_pages_are_filled_where_keys_ascend(tmp_path):
    with create_database(tmp_path / "db", "lmdb") as writer:
        for i in range(1000):
            writer.put(b"%08d" % i, bytes(1600))
        writer.put(b"00000500", b"replaced")
        writer.put(b"00000500+", b"between")
    assert (tmp_path / "db" / "data.mdb").stat().st_size < 4096 * 530  # of two records each
    with open_database(tmp_path / "db") as database:
        taken = database.cursor(b"00000499").take(4)
        assert [(key, len(value)) for key, value in taken] == [
            (b"00000499", 1600), (b"00000500", 8), (b"00000500+", 7), (b"00000501", 1600),
        ]  # fmt: skip
        assert database.count() == 1001


def test_the_lmdb_map_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(database_writer, "FIRST_MAP_SIZE", 1 << 16)
    value = bytes(1000)
    with create_database(tmp_path / "db", "LMDB") as writer:
        for i in range(2500):
            writer.put(b"%08d" % i, value)
    with open_database(tmp_path / "db") as database:
        assert database.count() == 2500
        assert database.cursor(b"00002499").next() == (b"00002499", value)


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files through the resource module")
@backends
def test_a_disk_that_is_full(tmp_path, backend):
    program = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
from pycaffe_lite.data.database_writer import create_database
from pycaffe_lite.errors import DataError
try:
    with create_database(sys.argv[1], sys.argv[2]) as writer:
        for i in range(3000):
            writer.put(b"%08d" % i, i.to_bytes(4, "big") * 1000)
except DataError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "db"), backend]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert f"{tmp_path / 'db'}: cannot be written" in result.stdout, result.stderr


# ------------------------------------------------------------------------------------------------------------- datums
def test_datums_come_back_as_they_were():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (5, 2, 3, 4)).astype(np.uint8)
    floats = rng.normal(size=(5, 2, 3, 4)).astype(np.float32)
    keys = [b"%d" % i for i in range(5)]
    for batch in images, floats:
        array, labels = decode_datums([encode_datum(x, i - 2) for i, x in enumerate(batch)], keys)
        assert array.dtype == batch.dtype
        np.testing.assert_array_equal(array, batch)
        assert labels.tolist() == [-2, -1, 0, 1, 2]
        array[0] = 7  # the caller owns it
    mixed, _ = decode_datums([encode_datum(images[0], 0), encode_datum(floats[0], 0)], keys[:2])
    np.testing.assert_array_equal(mixed, np.stack([images[0].astype(np.float32), floats[0]]))


@pytest.mark.parametrize("tail", [b"", Datum(encoded=False).SerializeToString()])
def test_records_that_are_alike_give_what_parsing_each_would_give(tail):
    """Alike are what a converter wrote, while labels take one byte: they are compared as bytes and not parsed."""
    draws = np.random.default_rng(1)
    images = draws.integers(0, 256, (6, 2, 20, 20), dtype=np.uint8)
    for labels in ([0, 1, 127, 0, 5, 40], [1, 2, 128, 3, 4, 5], [300] * 6, [300, 301, 302, 303, 16383, 256], [-1] * 6):
        values = [encode_datum(image, label) + tail for image, label in zip(images, labels, strict=True)]
        alike = max(labels) < 128 and min(labels) >= 0
        assert (datum._decode_alike(values, None) is not None) == alike
        for shape in (None, (2, 20, 20)):
            array, got = decode_datums(values, [b"k"] * 6, shape)
            np.testing.assert_array_equal(array, images)
            assert got.dtype == np.int32
            assert got.tolist() == labels
    values = [encode_datum(image, 3) + tail for image in images]
    for k in range(400):  # one byte is another in one record
        at = draws.integers(len(values[0])) if k % 2 else draws.choice([*range(10), *range(-4, 0)])
        changed = bytearray(values[4])
        changed[at] = draws.integers(256)
        all_values = [*values[:4], bytes(changed), values[5]]
        alike = datum._decode_alike(all_values, None)
        if alike:
            parsed = Datum.FromString(bytes(changed))
            assert (parsed.data, parsed.label) == (alike[0][4].tobytes(), alike[1][4])
            assert (parsed.channels, parsed.height, parsed.width, parsed.encoded) == (2, 20, 20, False)


def test_bytes_win_over_floats():
    both = Datum(channels=1, height=1, width=2, data=b"\x01\x02", float_data=[5, 6])
    assert decode_datums([both.SerializeToString()], [b"k"])[0].tolist() == [[[[1, 2]]]]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"\xff\xff no datum", "not a Datum"),
        (Datum(channels=1, height=2, width=2, data=b"123"), r"expected 4 values \(1 x 2 x 2\), received 3 bytes"),
        (Datum(channels=1, height=2, width=2, float_data=[1]), "received 1 floats"),
        (Datum(channels=1, height=2, width=2), "received 0"),
        (Datum(channels=0, height=2, width=2, data=b""), "above 0"),
        (Datum(channels=-1, height=-2, width=2, data=b"1234"), "above 0"),
        (Datum(channels=2**31 - 1, height=2**31 - 1, width=2**31 - 1, data=b"1"), "received 1 bytes"),
        (Datum(encoded=True, data=b"\xff\xd8 no jpeg"), "cannot be read"),
        (Datum(channels=1, height=1, width=2, data=b"12"), r"expected an image of 1 x 1 x 3 .*, received 1 x 1 x 2"),
    ],
)
def test_a_bad_record_is_named_by_its_key(record, message):
    good = encode_datum(np.zeros((1, 1, 3), np.uint8), 0)
    bad = record if isinstance(record, bytes) else record.SerializeToString()
    with pytest.raises(DataError, match=message) as error:
        decode_datums([good, bad], [b"00000000", b"00000001"])
    assert 'record "00000001"' in str(error.value)


def test_the_expected_shape_holds_for_the_first_record_too():
    with pytest.raises(DataError, match=r"expected an image of 3 x 1 x 3 .* received 1 x 1 x 3"):
        decode_datums([encode_datum(np.zeros((1, 1, 3), np.uint8), 0)], [b"k"], shape=(3, 1, 3))
    with pytest.raises(DataError, match="at least one record"):
        decode_datums([], [])
    with pytest.raises(DataError, match="C x H x W"):
        encode_datum(np.zeros((3, 3), np.uint8), 0)


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    file, image = io.BytesIO(), Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, "PNG")
    return file.getvalue()


def test_encoded_images():
    rgb = np.random.default_rng(2).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    bgr = rgb[:, :, ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(decode_image(png(rgb)), bgr)
    assert decode_image(png(rgb), color=False).shape == (1, 4, 5)
    np.testing.assert_array_equal(decode_image(png(rgb[:, :, 0])), rgb[np.newaxis, :, :, 0])
    np.testing.assert_array_equal(decode_image(png(rgb[:, :, 0]), color=True), np.stack([rgb[:, :, 0]] * 3))
    alpha = decode_image(png(rgb, "RGBA"))
    np.testing.assert_array_equal(alpha, np.concatenate([bgr, np.full((1, 4, 5), 255)]))
    with pytest.raises(DataError, match="8 bits"):
        decode_image(png(np.zeros((2, 2), np.uint16)))


def test_a_huge_encoded_image_is_refused(monkeypatch):
    for limit in (10, 15):  # of 20 pixels: twice the limit is Pillow's error, once its warning
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match=r"pixels|exceeds"):
            decode_image(png(np.zeros((4, 5), np.uint8)))


# --------------------------------------------------------------------------------------------- the reference's files
def test_datums_of_the_reference(kit):
    cases = [case for case in json.loads((kit / "manifest.json").read_text())["cases"] if case["kind"] == "datum"]
    assert len(cases) == 4
    for case in cases:
        array, labels = decode_datums([(kit / case["file"]).read_bytes()], [b"k"])
        with np.load(kit / case["npz"]) as want:
            if "array" in want:
                np.testing.assert_array_equal(array[0], want["array"])
            else:  # JPEG decoders differ by a little
                difference = np.abs(array[0].astype(int) - want["decoded_bgr_chw"])
                assert difference.max() <= (0 if case["id"] == "png_datum" else 3)
        assert labels.tolist() == [case["fields"]["label"]]


def test_databases_of_the_reference(kit, tmp_path):
    cases = {"lmdb_wrap": "mnist_lmdb", "rgb_values": "rgb_lmdb"}
    if default_backend() == "leveldb":
        cases |= {"leveldb_wrap_scale": "mnist_leveldb", "leveldb_tables": "mnist_leveldb_tables"}
        cases |= {"rgb_one_value": "rgb_leveldb"}
    for case, name in cases.items():
        shutil.copytree(kit / name, tmp_path / name)
        (tmp_path / name).chmod(0o755)
        with open_database(tmp_path / name) as database, np.load(kit / f"{case}.npz") as want:
            cursor, batch = database.cursor(), len(want["label@0"])
            for k in range(sum(key.startswith("label@") for key in want)):
                keys, values = zip(*(cursor.next() for _ in range(batch)), strict=True)
                np.testing.assert_array_equal(decode_datums(values, keys)[1], want[f"label@{k}"].ravel(), name)
