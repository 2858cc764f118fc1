"""Data and HDF5Data: golden batches of the conformance kit, random order, errors, and what happens to their thread."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import shutil
import threading
import time
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

from pycaffe_lite import glog, layer, layer_types, rng  # noqa: F401  layer_types registers the types
from pycaffe_lite.blob import Blob
from pycaffe_lite.data import hdf5_list
from pycaffe_lite.data.database_writer import create_database
from pycaffe_lite.data.datum import encode_datum
from pycaffe_lite.errors import CaffeError, DataError, NetError
from pycaffe_lite.proto.caffe_pb2 import TEST, TRAIN, Datum, LayerParameter, NetParameter

from .leveldb import backends


class Reader:
    """A layer without bottoms, run as a net would."""

    def __init__(self, text: str | LayerParameter, phase: int = TRAIN, dtype=np.float32):
        param = text if isinstance(text, LayerParameter) else text_format.Parse(text, LayerParameter())
        param.phase = phase
        self.layer = layer.create(param)
        self.layer.dtype = np.dtype(dtype)
        self.names = list(param.top)
        self.top = [Blob((0,), dtype=dtype) for _ in self.names]
        self.layer.check_counts(0, len(self.top))
        self.layer.setup([], self.top)
        self.layer.reshape([], self.top)

    def next(self) -> dict[str, np.ndarray]:
        self.layer.reshape([], self.top)
        self.layer.forward([], self.top)
        return {name: blob.data.copy() for name, blob in zip(self.names, self.top, strict=True)}

    def labels(self, batches: int) -> list[int]:
        return [int(label) for _ in range(batches) for label in self.next()["label"]]


def data(source: Path, batch_size: int = 4, settings: str = "", transform: str = "", phase: int = TRAIN, **kwargs) -> Reader:
    return Reader(
        f'type: "Data" top: "data" top: "label" transform_param {{ {transform} }} '
        f'data_param {{ source: "{source}" batch_size: {batch_size} {settings} }}',
        phase,
        **kwargs,
    )


def image(i: int, shape: tuple[int, ...] = (2, 5, 6)) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def make(tmp_path):
    """Writes a database whose record i has label i. `values` replaces single records."""

    def make(count: int = 10, backend: str = "lmdb", values: dict[int, bytes] | None = None) -> Path:
        with create_database(tmp_path / "db", backend) as writer:
            for i in range(count):
                writer.put(b"%04d" % i, (values or {}).get(i, encode_datum(image(i), i)))
        return tmp_path / "db"

    return make


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    if prefetch_threads():
        gc.collect()
    assert wait_until(lambda: not prefetch_threads())


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "prefetch" in thread.name]


def wait_until(condition) -> bool:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return bool(condition())


# ---- conformance kit ----------------------------------------------------------------------------------------------

KIT = Path(os.environ.get("PYCAFFE_LITE_CONFORMANCE", "nowhere"), "data")
CASES = json.loads((KIT / "manifest.json").read_text())["cases"] if KIT.is_dir() else []


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    if not CASES:
        pytest.skip("PYCAFFE_LITE_CONFORMANCE is not set")
    folder = tmp_path_factory.mktemp("kit") / "data"
    shutil.copytree(KIT, folder)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def kit_reader(case: dict) -> tuple[Reader, dict[str, np.ndarray]]:
    net = text_format.Parse(Path(case["prototxt"]).read_text(), NetParameter())
    phase = TEST if case.get("phase") == "TEST" else TRAIN
    return Reader(net.layer[0], phase), dict(np.load(case["npz"]))


def test_the_kit_has_data_cases(kit):
    assert len([case for case in CASES if case["kind"] == "batches"]) >= 15


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == "batches"], ids=lambda case: case["id"])
def test_golden_batches(kit, monkeypatch, case):
    monkeypatch.chdir(kit)
    reader, golden = kit_reader(case)
    for k in range(case["forwards"]):
        for name, values in reader.next().items():
            if f"{name}@{k}" in golden:
                np.testing.assert_allclose(values, golden.pop(f"{name}@{k}"), case["rtol"], case["atol"])
    assert not golden
    reader.layer.close()


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == "crop_mirror"], ids=lambda case: case["id"])
def test_kit_crop_and_mirror(kit, monkeypatch, case):
    monkeypatch.chdir(kit)
    reader, golden = kit_reader(case)
    source, size, seen = golden["images"].astype(np.float32), case["crop"], set()
    images = np.concatenate([reader.next()["data"] for _ in range(case["forwards"])])
    for i, got in enumerate(images):
        windows = np.lib.stride_tricks.sliding_window_view(source[i % len(source)], (size, size), axis=(1, 2))
        found = set()
        for flip in (False, True):
            same = (windows == (got[:, :, ::-1] if flip else got)[:, None, None]).all((0, 3, 4))
            found |= {(int(y), int(x), flip) for y, x in zip(*np.nonzero(same), strict=True)}
        assert found
        seen |= found
    assert all(len({place[axis] for place in seen}) > 1 for axis in range(3))
    reader.layer.close()


# ---- Data ---------------------------------------------------------------------------------------------------------


@backends
def test_batches_wrap_around_in_key_order(make, backend):
    reader = data(make(10, backend), batch_size=4)
    assert [blob.shape for blob in reader.top] == [(4, 2, 5, 6), (4,)]
    assert not prefetch_threads()
    first = reader.next()
    np.testing.assert_array_equal(first["data"], np.stack([image(i) for i in range(4)]))
    np.testing.assert_array_equal(first["label"], range(4))
    assert reader.labels(6) == [i % 10 for i in range(4, 28)]
    assert len(prefetch_threads()) == 1
    reader.layer.close()


def test_a_batch_may_be_larger_than_the_database(make):
    reader = data(make(3), batch_size=8)
    assert reader.labels(2) == [i % 3 for i in range(16)]


def test_the_label_is_optional_and_other_floats_are_possible(make):
    source = make()
    reader = Reader(f'type: "Data" top: "data" data_param {{ source: "{source}" batch_size: 2 }}', dtype=np.float64)
    batch = reader.next()
    assert list(batch) == ["data"]
    assert batch["data"].dtype == np.float64
    np.testing.assert_array_equal(batch["data"][1], image(1))


@pytest.mark.parametrize("tops", [[], ["a", "b", "c"]])
def test_number_of_tops(make, tops):
    with pytest.raises(NetError, match=f"expected at .* received {len(tops)}"):
        Reader(LayerParameter(type="Data", top=tops))


def test_transforms(make):
    reader = data(make(), transform="crop_size: 3 scale: 0.5 mean_value: 10 mean_value: 20", phase=TEST)
    assert reader.top[0].shape == (4, 2, 3, 3)
    wanted = (np.stack([image(i) for i in range(4)])[:, :, 1:4, 1:4] - np.float32([[[10]], [[20]]])) * np.float32(0.5)
    np.testing.assert_array_equal(reader.next()["data"], wanted)


def test_decodes_images_as_asked(make):
    def png(i: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image(i, (4, 5))).save(buffer, "PNG")
        return Datum(encoded=True, data=buffer.getvalue(), label=i).SerializeToString()

    source = make(2, values={0: png(0), 1: png(1)})
    assert data(source).top[0].shape == (4, 1, 4, 5)
    assert data(source, transform="force_color: true").top[0].shape == (4, 3, 4, 5)
    assert data(source, settings="force_encoded_color: true").next()["data"].shape == (4, 3, 4, 5)


def test_a_seed_fixes_the_random_crops_whatever_else_draws(make):
    source = make()

    def run(seed: int, prefetch: int) -> np.ndarray:
        rng.set_seed(seed)
        reader = data(source, settings=f"prefetch: {prefetch}", transform="crop_size: 3 mirror: true")
        batches = np.stack([reader.next()["data"] for _ in range(5)])
        reader.layer.close()
        return batches

    np.testing.assert_array_equal(run(3, 1), run(3, 7))
    assert (run(3, 2) != run(4, 2)).any()


@backends
def test_goes_on_from_a_position_with_the_same_random_crops(make, backend):
    source = make(10, backend)
    transform = "crop_size: 3 mirror: true"
    reader = data(source, transform=transform)
    start = reader.layer.save_state()
    assert bytes.fromhex(start["key"]) == b"0000"
    batches = [reader.next() for _ in range(3)]
    position = reader.layer.save_state()
    assert bytes.fromhex(position["key"]) == b"0002"  # not what was read ahead
    rest = [reader.next() for _ in range(4)]
    other = data(source, transform=transform)
    other.next()
    for at, wanted in ((position, rest), (start, batches + rest)):
        other.layer.load_state(at)
        assert other.layer.save_state() == at
        for batch in wanted:
            for name, values in other.next().items():
                np.testing.assert_array_equal(values, batch[name])
    assert other.layer.save_state() == reader.layer.save_state()


def test_the_batch_takes_the_shape_of_its_first_record(make):
    values = {i: encode_datum(image(i, (1, 3, 3)), i) for i in (4, 5, 6, 7)}
    reader = data(make(12, values=values))
    assert [reader.next()["data"].shape for _ in range(4)] == [(4, 2, 5, 6), (4, 1, 3, 3), (4, 2, 5, 6), (4, 2, 5, 6)]


def test_a_record_of_another_shape_within_a_batch(make):
    reader = data(make(12, values={6: encode_datum(image(0, (1, 3, 3)), 0)}))
    assert reader.labels(1) == [0, 1, 2, 3]
    for _ in range(2):
        with pytest.raises(DataError, match=r'db: record "0006": expected .* 2 x 5 x 6 .*received 1 x 3 x 3'):
            reader.next()
    assert wait_until(lambda: not prefetch_threads())


def test_records_of_several_shapes_that_are_cropped_to_one(make):
    """As in Caffe: databases of photographs have them."""
    shapes = [(2, 5, 6), (2, 3, 3), (2, 9, 4), (2, 5, 6)]
    source = make(4, values={i: encode_datum(image(i, shape), i) for i, shape in enumerate(shapes)})
    reader = data(source, transform="crop_size: 3 scale: 2", phase=TEST)
    assert reader.labels(1) == [0, 1, 2, 3]
    for i, (_, height, width) in enumerate(shapes):
        y, x = (height - 3) // 2, (width - 3) // 2
        expected = 2 * image(i, shapes[i])[:, y : y + 3, x : x + 3].astype(np.float32)
        np.testing.assert_array_equal(reader.top[0].data[i], expected)
    assert data(source, transform="crop_size: 3 mirror: true").next()["data"].shape == (4, 2, 3, 3)


def test_records_of_several_numbers_of_channels(make):
    source = make(4, values={2: encode_datum(image(2, (1, 5, 6)), 2)})
    with pytest.raises(DataError, match=r'record "0002": expected 2 channels, received 1'):
        data(source, transform="crop_size: 3").next()


def test_a_first_record_too_small_to_crop(make):
    values = {i: encode_datum(image(i, (2, 2, 2)), i) for i in (4, 5, 6, 7)}
    source = make(12, values=values)
    reader = data(source, transform="crop_size: 4")
    reader.next()
    with pytest.raises(DataError, match=r"db: expected images of at least 4 x 4 to crop, received 2 x 2"):
        reader.next()
    with pytest.raises(DataError, match=r"at least 6 x 6 to crop, received 5 x 6"):
        data(source, transform="crop_size: 6")


@pytest.mark.parametrize("record", [0, 9])
def test_a_damaged_record(make, record):
    source = make(12, values={record: b"\xff\xff no datum"})

    def read() -> None:
        reader = data(source)
        while True:
            reader.next()

    with pytest.raises(DataError, match=f'db: record "000{record}"'):
        read()


@backends
def test_no_records(make, backend):
    with pytest.raises(DataError, match="empty"):
        data(make(0, backend))


def test_a_missing_database_and_its_similar_neighbour(tmp_path):
    (tmp_path / "mnist_siamese_train_leveldb").mkdir()
    with pytest.raises(DataError, match=r'mnist-siamese-train-leveldb.*did you mean "mnist_siamese_train_leveldb"'):
        data(tmp_path / "mnist-siamese-train-leveldb")


def test_the_format_on_disk_wins_and_is_mentioned_if_another_was_asked_for(make, monkeypatch):
    source = make(backend="lmdb")
    notes: list[str] = []
    monkeypatch.setattr(glog, "info", notes.append)
    assert data(source, settings="backend: LEVELDB").labels(1) == [0, 1, 2, 3]
    assert any("LMDB" in note for note in notes)
    notes.clear()
    assert data(source).labels(1) == [0, 1, 2, 3]
    assert not notes


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("batch_size: 4", r"data_param\.source, received none"),
        ('source: "x" batch_size: 0', "batch_size to be at least 1, received 0"),
        ('source: "x"', "batch_size to be at least 1, received 0"),
        ('source: "x" batch_size: 1 prefetch: 0', "prefetch to be at least 1 and at most 1000, received 0"),
        ('source: "x" batch_size: 1 prefetch: 2147483648', "at most 1000, received 2147483648"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(NetError, match=words):
        Reader(f'type: "Data" top: "data" data_param {{ {settings} }}')


def test_a_batch_that_no_blob_can_hold(make):
    with pytest.raises(NetError, match="at most 2147483647 elements"):
        data(make(), batch_size=2**31)


def test_rand_skip_is_ignored_with_a_warning(make, monkeypatch):
    warnings: list[str] = []
    monkeypatch.setattr(glog, "warning", warnings.append)
    assert data(make(), settings="rand_skip: 9").labels(1) == [0, 1, 2, 3]
    assert "rand_skip is ignored" in warnings[0]


def test_close_ends_the_thread_and_lets_go_of_the_database(make):
    source = make()
    reader = data(source)
    reader.next()
    reader.layer.close()
    assert not prefetch_threads()
    assert reader.layer._reader.database.closed
    reader.layer.close()
    with pytest.raises(DataError, match="closed"):
        reader.next()


def test_dropping_the_layer_ends_the_thread_and_lets_go_of_the_database(make):
    reader = data(make())
    reader.next()
    gone, database = weakref.ref(reader.layer), weakref.ref(reader.layer._reader.database)
    assert prefetch_threads()
    gc.disable()  # there is no cycle: counting references is enough
    try:
        del reader
        assert gone() is None
        assert wait_until(lambda: not prefetch_threads())
        assert wait_until(lambda: database() is None)
    finally:
        gc.enable()


@backends
def test_two_layers_read_one_database(make, backend):
    source = make(10, backend)
    first, second = data(source), data(source, batch_size=3)
    assert (first.labels(2), second.labels(3)) == (list(range(8)), list(range(9)))
    first.layer.close()
    assert second.labels(1) == [9, 0, 1]


# ---- HDF5Data -----------------------------------------------------------------------------------------------------


@pytest.fixture
def hdf5(tmp_path, monkeypatch):
    """Writes one file for each dict of data sets, and their list; returns a function that builds the layer."""
    monkeypatch.chdir(tmp_path)

    def write(*files: dict[str, np.ndarray]):
        for i, arrays in enumerate(files):
            with h5py.File(f"{i}.h5", "w") as file:
                for name, array in arrays.items():
                    file[name] = array
        Path("list.txt").write_text("".join(f"{i}.h5\n" for i in range(len(files))))

    return write


def hdf5_layer(tops: str = "data label", batch_size: int = 4, settings: str = "", **kwargs) -> Reader:
    names = " ".join(f'top: "{name}"' for name in tops.split())
    return Reader(
        f'type: "HDF5Data" {names} hdf5_data_param {{ source: "list.txt" batch_size: {batch_size} {settings} }}', **kwargs
    )


def rows(start: int, stop: int) -> dict[str, np.ndarray]:
    label = np.arange(start, stop)
    return {"label": label, "data": label[:, None, None] + np.linspace(0, 0.5, 6).reshape(2, 3)}


def test_hdf5_batches_go_on_in_the_next_file_and_start_over(hdf5):
    hdf5(rows(0, 3), rows(3, 4), rows(4, 10))
    reader = hdf5_layer()
    assert [blob.shape for blob in reader.top] == [(4, 2, 3), (4,)]
    for k in range(8):
        batch = reader.next()
        np.testing.assert_array_equal(batch["label"], [i % 10 for i in range(4 * k, 4 * k + 4)])
        np.testing.assert_allclose(batch["data"][:, 1, 2], batch["label"] + 0.5)


def test_hdf5_batch_larger_than_all_files(hdf5):
    hdf5(rows(0, 3))
    assert hdf5_layer(batch_size=10).labels(1) == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("dtype", ["u1", "i2", "<i8", ">i4", "f2", ">f4", "f8"])
@pytest.mark.parametrize("net", [np.float32, np.float64])
def test_hdf5_element_types(hdf5, dtype, net):
    hdf5({"data": np.array([0, 1, 100, 7], dtype)})
    got = hdf5_layer("data", dtype=net).next()["data"]
    assert got.dtype == net
    np.testing.assert_array_equal(got, [0, 1, 100, 7])


def test_hdf5_shuffle_visits_every_row_once_in_each_round(hdf5):
    hdf5(rows(0, 6), rows(6, 9), rows(9, 12))
    rng.set_seed(1)
    reader = hdf5_layer(settings="shuffle: true")
    rounds = []
    for _ in range(6):
        batches = [reader.next() for _ in range(3)]
        for batch in batches:
            np.testing.assert_allclose(batch["data"][:, 1, 2], batch["label"] + 0.5)
        rounds.append([int(label) for batch in batches for label in batch["label"]])
    assert all(sorted(order) == list(range(12)) for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1
    assert len({next(i for i, end in enumerate((6, 9, 12)) if order[0] < end) for order in rounds}) > 1  # of the files


def test_hdf5_shuffle_of_one_file(hdf5):
    hdf5(rows(0, 12))
    rng.set_seed(1)
    reader = hdf5_layer(settings="shuffle: true")
    rounds = [reader.labels(3) for _ in range(3)]
    assert all(sorted(order) == list(range(12)) for order in rounds)
    assert rounds[0] != rounds[1]
    rng.set_seed(1)
    assert hdf5_layer(settings="shuffle: true").labels(3) == rounds[0]


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == "hdf5_shuffle"], ids=lambda case: case["id"])
def test_kit_hdf5_shuffle(kit, monkeypatch, case):
    monkeypatch.chdir(kit)
    reader, golden = kit_reader(case)
    source = golden["data"].reshape(case["rows"], -1)
    orders = []
    for _ in range(case["epochs"]):
        order = []
        for _ in range(case["rows"] // case["batch"]):
            batch = reader.next()
            order += [int(label) for label in batch["label"].ravel()]
            np.testing.assert_array_equal(batch["data"].reshape(case["batch"], -1), source[order[-case["batch"] :]])
        assert sorted(order) == list(range(case["rows"]))
        orders.append(order)
    assert any(order != sorted(order) for order in orders)


def test_hdf5_settings(hdf5):
    hdf5(rows(0, 4))
    with pytest.raises(NetError, match=r"hdf5_data_param\.source, received none"):
        Reader('type: "HDF5Data" top: "data" hdf5_data_param { batch_size: 1 }')
    with pytest.raises(NetError, match="batch_size to be at least 1"):
        hdf5_layer(batch_size=0)
    with pytest.raises(NetError, match="expected no transform_param"):
        Reader('type: "HDF5Data" top: "data" transform_param {} hdf5_data_param { source: "list.txt" batch_size: 1 }')


def test_hdf5_missing_files(hdf5, tmp_path):
    hdf5(rows(0, 4))
    with pytest.raises(DataError, match=r'no list of HDF5 files "lst.txt" \(did you mean "list.txt"\?\).*' + tmp_path.name):
        Reader('type: "HDF5Data" top: "data" hdf5_data_param { source: "lst.txt" batch_size: 1 }')
    with pytest.raises(DataError, match=r"expected a text file that lists HDF5 files"):
        Reader('type: "HDF5Data" top: "data" hdf5_data_param { source: "0.h5" batch_size: 1 }')
    Path("list.txt").write_text("\n  \n")
    with pytest.raises(DataError, match="is empty"):
        hdf5_layer()
    Path("list.txt").write_text("00.h5\n")
    with pytest.raises(DataError, match=r'no HDF5 file "00.h5" \(did you mean "0.h5"\?\)'):
        hdf5_layer()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"datum": np.zeros(3), "label": np.zeros(3)}, r'no data set "data".*did you mean "datum"'),
        ({"data/x": np.zeros(3), "label": np.zeros(3)}, r'no data set "data"'),
        ({"data": np.zeros((3, 2)), "label": np.zeros(4)}, r'equally many rows, received 3 in "data", 4 in "label"'),
        ({"data": np.zeros((0, 2)), "label": np.zeros(0)}, r"at least one row"),
        ({"data": np.float32(1), "label": np.zeros(3)}, r'at least one axis.*"data"'),
        ({"data": np.array([b"a", b"b"]), "label": np.zeros(2)}, r'integers or floats in data set "data", received \|S1'),
        ({"data": np.zeros(2, np.complex64), "label": np.zeros(2)}, r"received complex64"),
    ],
)
def test_hdf5_data_sets_that_do_not_fit(hdf5, arrays, words):
    hdf5(arrays)
    with pytest.raises(DataError, match="0[.]h5: .*" + words):
        hdf5_layer()


def test_hdf5_is_read_ahead_in_the_background(hdf5, monkeypatch):
    hdf5(rows(0, 4), rows(4, 8), rows(8, 12))
    loaded: list[str] = []
    load = hdf5_list.load
    monkeypatch.setattr(hdf5_list, "load", lambda path, *rest: loaded.append(path) or load(path, *rest))
    reader = hdf5_layer(batch_size=4, settings="} data_param { prefetch: 1")
    assert (loaded, prefetch_threads()) == (["0.h5"], [])
    assert reader.labels(1) == [0, 1, 2, 3]
    assert wait_until(lambda: len(loaded) == 3)  # one batch is out and one ready, behind which the third file begins
    assert len(prefetch_threads()) == 1
    time.sleep(0.02)
    assert loaded == ["0.h5", "1.h5", "2.h5"]
    reader.layer.close()
    assert not prefetch_threads()
    with pytest.raises(DataError, match="closed"):
        reader.next()


def test_hdf5_an_error_comes_after_the_batches_before_it(hdf5):
    hdf5(rows(0, 5), rows(5, 9))
    reader = hdf5_layer(batch_size=2)
    Path("1.h5").write_bytes(b"damaged since")
    assert reader.labels(2) == [0, 1, 2, 3]
    with pytest.raises(DataError, match=r"1.h5: is damaged"):
        reader.next()
    assert wait_until(lambda: not prefetch_threads())
    with pytest.raises(DataError, match=r"cannot be read on after an error: 1.h5: is damaged"):
        reader.next()


@pytest.mark.parametrize("prefetch", [0, 1001, 2147483648])
def test_hdf5_prefetch_is_bounded(hdf5, prefetch):
    hdf5(rows(0, 4))
    with pytest.raises(NetError, match=rf"prefetch to be at least 1 and at most 1000, received {prefetch}"):
        hdf5_layer(settings=f"}} data_param {{ prefetch: {prefetch}")


def test_hdf5_rows_of_another_shape_in_a_later_file(hdf5):
    hdf5({"data": np.zeros((4, 2))}, {"data": np.zeros((4, 3))})
    reader = hdf5_layer("data")
    with pytest.raises(DataError, match=r'1.h5: expected rows of data set "data" to be 2 \(2\).*received 3 \(3\)'):
        reader.next()


def test_hdf5_damaged_files(hdf5):
    hdf5(rows(0, 40))
    whole = Path("0.h5").read_bytes()
    for damaged in (b"", b"text, no HDF5", whole[: len(whole) // 2]):
        Path("0.h5").write_bytes(damaged)
        with pytest.raises(DataError, match=r"0.h5: is damaged or no HDF5 file"):
            hdf5_layer()


def test_hdf5_random_damage_is_an_error_or_harmless(hdf5):
    hdf5(rows(0, 40))
    whole = Path("0.h5").read_bytes()
    random = np.random.default_rng(5)
    for _ in range(60):
        damaged = bytearray(whole)
        for position in random.integers(0, len(whole), 8):
            damaged[position] = random.integers(256)
        Path("0.h5").write_bytes(damaged)
        with contextlib.suppress(CaffeError):
            hdf5_layer().next()


@pytest.mark.parametrize("shape", [(2**40, 2**30), (2**31, 1), (2**20, 1000)])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_hdf5_claims_of_enormous_size(hdf5, shape, compression):
    with h5py.File("0.h5", "w") as file:
        file.create_dataset("data", shape, "f4", chunks=(16, 1), compression=compression)
        if shape[0] < 2**32:
            file["data"][:16, 0] = 1
    Path("list.txt").write_text("0.h5")
    with pytest.raises(DataError, match=r'0.h5: data set "data" claims a shape of .* bytes are stored'):
        hdf5_layer("data")


def test_hdf5_well_compressed_data_is_read(hdf5):
    rows = hdf5_list.UNCHECKED_BYTES // 4000 + 1000
    with h5py.File("0.h5", "w") as file:
        file.create_dataset(
            "data", (rows, 1000), "f4", chunks=(rows // 4, 1000), compression="gzip", data=np.zeros((rows, 1000))
        )
    Path("list.txt").write_text("0.h5")
    assert hdf5_layer("data").next()["data"].shape == (4, 1000)


def test_hdf5_memory_that_is_not_there(hdf5, monkeypatch):
    hdf5(rows(0, 4))

    def refuse(*args) -> None:
        raise MemoryError

    monkeypatch.setattr(hdf5_list, "_read", refuse)
    with pytest.raises(DataError, match=r"0.h5: does not fit into memory"):
        hdf5_layer()
