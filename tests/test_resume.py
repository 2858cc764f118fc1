"""A run that was interrupted and resumed gives, bit for bit, what an uninterrupted one gives; and snapshots that survive."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import pycaffe_lite as caffe
from pycaffe_lite import cli, files, rng
from pycaffe_lite.data.database import LOOK_SECONDS, default_backend, open_database
from pycaffe_lite.data.database_writer import create_database
from pycaffe_lite.data.datum import encode_datum
from pycaffe_lite.errors import DataError, ModelFileError, SolverError
from pycaffe_lite.net import states
from pycaffe_lite.proto import caffe_pb2
from pycaffe_lite.solver import Action, snapshots

from . import leveldb
from .leveldb import backends, needs_leveldb, with_marks
from .test_data_layers import prefetch_threads, wait_until

COMMAND = [sys.executable, "-m", "pycaffe_lite", "train", "--solver=solver.prototxt"]
TIMEOUT = 120.0  # seconds, for what takes a few
FORMATS = {"BINARYPROTO": "", "HDF5": ".h5"}
formats = pytest.mark.parametrize("format", FORMATS)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of its own with the same ten images of 4 x 4 and labels 0 and 1 in every form; and a Python layer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    draws = np.random.default_rng(1)
    images = draws.integers(0, 256, (10, 1, 4, 4), dtype=np.uint8)
    for start in (0, 6):
        with h5py.File(f"{start}.h5", "w") as file:
            file["x"] = images[start : start + 6] / np.float32(256)
            file["y"] = file["flat"] = np.arange(start, min(start + 6, 10)) % 2
    Path("files.txt").write_text("0.h5 6.h5\n")
    for backend in ("lmdb", "leveldb") if leveldb.AVAILABLE else ("lmdb",):
        with create_database(backend, backend) as database:
            for i, image in enumerate(images):
                database.put(b"%04d" % i, encode_datum(image, i % 2))
    for i, image in enumerate(images):
        Image.fromarray(image[0]).resize((8, 8)).save(f"{i}.png")
    Path("images.txt").write_text("".join(f"{i}.png {i % 2}\n" for i in range(10)))
    windows = "2\n1 0.9 1 1 6 6\n0 0.1 0 0 3 3"
    Path("windows.txt").write_text("".join(f"# {i}\n{i}.png\n3 8 8\n{windows}\n" for i in range(10)))
    Path("counting.py").write_text(COUNTING)
    yield images
    sys.modules.pop("counting", None)


COUNTING = """import pycaffe_lite as caffe

class Counting(caffe.Layer):
    count = 0
    def setup(self, bottom, top): self.reshape(bottom, top)
    def reshape(self, bottom, top): top[0].reshape(3, 1, 4, 4); top[1].reshape(3)
    def forward(self, bottom, top):
        self.count += 1
        top[0].data[...] = self.count % 5 + self.rng.random((3, 1, 4, 4))
        top[1].data[...] = self.count % 2
    def backward(self, top, propagate_down, bottom): pass
    def save_state(self): return {**super().save_state(), "count": self.count}
    def load_state(self, state):
        super().load_state(state)
        self.count = state["count"]
"""


def source(type: str, more: str, include: str = "") -> str:
    return f'layer {{ name: "data" type: "{type}" top: "x" top: "y" {more} {include} }}\n'


def database(backend: str) -> str:
    transform = "transform_param { crop_size: 3 mirror: true scale: 0.004 } "
    return source("Data", transform + f'data_param {{ source: "{backend}" batch_size: 3 }}')


def hdf5(more: str = "", batch: int = 4) -> str:
    return source("HDF5Data", f'hdf5_data_param {{ source: "files.txt" batch_size: {batch} {more} }}')


def classify(bottom: str = "x", axis: int = 1) -> str:
    return (
        f'layer {{ name: "ip" type: "InnerProduct" bottom: "{bottom}" top: "ip" inner_product_param {{ num_output: 2 '
        f'axis: {axis} weight_filler {{ type: "gaussian" std: 0.1 }} }} }}\n'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "y" top: "loss" '
        f"softmax_param {{ axis: {axis} }} }}\n"
    )


IMAGES = 'image_data_param { source: "images.txt" batch_size: 3 shuffle: true rand_skip: 5 is_color: false } '
FILLED = (
    'dummy_data_param { shape { dim: 3 dim: 4 } shape { dim: 3 } data_filler { type: "gaussian" } data_filler { value: 1 } }'
)
IN_TIME = (
    'layer { name: "in_time" type: "Reshape" bottom: "x" top: "xt" reshape_param { shape { dim: 2 dim: 2 dim: 16 } } }\n'
)
LABELS = 'layer { name: "labels" type: "Reshape" bottom: "flat" top: "y" reshape_param { shape { dim: 2 dim: 2 } } }\n'
CONT = (
    'layer { name: "cont" type: "DummyData" top: "cont" dummy_data_param { shape { dim: 2 dim: 2 } '
    "data_filler { value: 1 } } }\n"
)


def recurrent(type: str) -> str:
    layer = (
        f'layer {{ name: "r" type: "{type}" bottom: "xt" bottom: "cont" top: "h" recurrent_param {{ num_output: 3 '
        'weight_filler { type: "gaussian" std: 0.5 } } }\n'
    )
    return hdf5().replace('top: "y"', 'top: "flat"') + IN_TIME + LABELS + CONT + layer


STATEFUL = {
    "LMDB": database("lmdb") + classify(),
    "LevelDB": database("leveldb") + classify(),
    "HDF5Data": hdf5() + classify(),
    "HDF5Data shuffled": hdf5("shuffle: true") + classify(),
    "ImageData": source("ImageData", IMAGES + "transform_param { mirror: true crop_size: 5 scale: 0.004 }") + classify(),
    "WindowData": source(
        "WindowData",
        'window_data_param { source: "windows.txt" batch_size: 4 } '
        "transform_param { mirror: true crop_size: 4 scale: 0.004 }",
    )
    + classify(),
    "MemoryData": source("MemoryData", "memory_data_param { batch_size: 2 channels: 1 height: 4 width: 4 }") + classify(),
    "DummyData": source("DummyData", FILLED) + classify(),
    "Dropout": hdf5(batch=10) + 'layer { name: "d" type: "Dropout" bottom: "x" top: "d" }' + classify("d"),
    "Pooling": hdf5(batch=10)
    + 'layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { pool: STOCHASTIC kernel_size: 2 } }'
    + classify("p"),
    "LSTM": recurrent("LSTM") + classify("h", 2),
    "RNN": recurrent("RNN") + classify("h", 2),
    "Python": source("Python", 'python_param { module: "counting" layer: "Counting" }') + classify(),
}
SOLVER = (
    'net: "net.prototxt" base_lr: 0.5 lr_policy: "fixed" momentum: 0.9 max_iter: 9 average_loss: 4 solver_mode: CPU '
    'snapshot_prefix: "s" random_seed: 3 '
)


def write_solver(text: str, net: str) -> None:
    """The fields in `text` take the place of those in SOLVER."""
    given = re.findall(r"(\w+):", text)
    head = re.sub(rf"({'|'.join(given)}): \S+ ", "", SOLVER) if given else SOLVER
    Path("net.prototxt").write_text(net)
    Path("solver.prototxt").write_text(head + text)


def make(net: str, text: str = ""):
    write_solver(text, net)
    solver = caffe.get_solver("solver.prototxt")
    if solver.net.layers[0].type == "MemoryData":
        draws = np.random.default_rng(2)
        arrays = draws.random((10, 1, 4, 4), np.float32), np.arange(10, dtype=np.float32) % 2
        solver.net.set_input_arrays(*arrays)
    return solver


def params(solver) -> list[np.ndarray]:
    return [param.blob.data.copy() for param in solver.net.all_params]


def equal(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def forget(path: str) -> None:
    """Takes out of a state what layers carry."""
    if path.endswith(".h5"):
        with h5py.File(path, "a") as file:
            del file["pycaffe_lite"]
        return
    state = caffe_pb2.SolverState.FromString(Path(path).read_bytes())
    del state.layer_state[:]
    state.layer_states = 0
    Path(path).write_bytes(state.SerializeToString())


# ---- every layer that carries something ---------------------------------------------------------------------------


@formats
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", with_marks(STATEFUL, ["LevelDB"]))
def test_a_resumed_run_is_the_uninterrupted_one(name, format):
    text = f"random_seed: 3 snapshot_format: {format} snapshot_after_train: false "
    through = make(STATEFUL[name], text + "snapshot: 4 ")
    through.solve()
    state = "s_iter_4.solverstate" + FORMATS[format]
    through.close()
    resumed = make(STATEFUL[name], text.replace("seed: 3", "seed: 77"))
    for _ in range(2):  # nor does it matter what the solver did before
        resumed.restore(state)
        resumed.solve()
        assert resumed.iter == 9
        assert equal(params(through), params(resumed))
        assert resumed.smoothed_loss == through.smoothed_loss
    resumed.close()
    forget(state)  # the test can fail
    other = make(STATEFUL[name], text.replace("seed: 3", "seed: 77"))
    other.solve(state)
    assert not equal(params(through), params(other))
    other.close()


def test_every_layer_that_draws_or_reads_is_in_the_table():
    """A layer with a stream or a place of its own is listed above, or hands its state on to one that is."""
    folder = Path(caffe.__file__).parent / "layer_types"
    stateful = {path.stem for path in folder.rglob("*.py") if re.search(r"self\.rng|save_state|Batches\)", path.read_text())}
    listed = {"data", "hdf5_data", "image_data", "window_data", "memory_data", "dummy_data", "dropout", "pooling", "python"}
    assert stateful == listed | {"_recurrent", "_batches"}


TESTED = (
    'layer { name: "data" type: "HDF5Data" top: "x" top: "y" '
    'hdf5_data_param { source: "files.txt" batch_size: 3 shuffle: true } include { phase: TEST not_stage: "other" } }\n'
    'layer { name: "data" type: "Data" top: "x" top: "y" data_param { source: "lmdb" batch_size: 3 } '
    'transform_param { crop_size: 4 mirror: true scale: 0.004 } include { phase: TEST stage: "other" } }\n'
    'layer { name: "train" type: "Data" top: "x" top: "y" data_param { source: "lmdb" batch_size: 3 } '
    "transform_param { crop_size: 4 mirror: true scale: 0.004 } include { phase: TRAIN } }\n"
)
TESTS = 'test_iter: 2 test_iter: 1 test_interval: 2 test_state { } test_state { stage: "other" } test_initialization: false '


def with_tests(text: str):
    """A solver with two test nets, and the list of its scores."""
    solver, scores = make(TESTED + classify(), TESTS + text), []
    solver.test_watchers.append(lambda solver, index, values: scores.append((solver.iter, index, values)))
    return solver, scores


@formats
def test_test_nets_go_on_where_they_stood(format):
    through, scores = with_tests(f"random_seed: 3 snapshot: 3 snapshot_format: {format} ")
    through.solve()
    resumed, rest = with_tests("random_seed: 4 snapshot_after_train: false ")
    resumed.solve("s_iter_3.solverstate" + FORMATS[format])
    assert [iteration for iteration, *_ in scores] == [2, 2, 4, 4, 6, 6, 8, 8]
    assert rest == scores[2:]
    assert equal(params(through), params(resumed))


def test_a_test_that_was_interrupted_is_repeated_as_a_whole():
    through, scores = with_tests("")
    through.solve()
    stopped, before = with_tests("")
    actions = {
        3: Action.SNAPSHOT,
        8: Action.STOP,
    }  # at the second batches of tests at iterations 2 and 4; each step looks once
    looks = count()
    stopped.requested_action = lambda: actions.get(next(looks), Action.NONE)
    stopped.solve()
    assert stopped.iter == 4
    assert before == scores[:2]
    for iteration in (2, 4):
        resumed, rest = with_tests("random_seed: 4 snapshot_after_train: false ")
        resumed.solve(f"s_iter_{iteration}.solverstate")
        assert rest == [score for score in scores if score[0] >= iteration]
        assert equal(params(through), params(resumed))
    stopped.solve()  # it can go on as well
    assert before == scores
    assert equal(params(through), params(stopped))


def test_a_seek_takes_no_draws_of_a_thread_that_is_slow_to_end(monkeypatch):
    """The thread of before may live on for a while: it must not draw from the stream that goes on."""
    solver = make(STATEFUL["LMDB"])
    solver.step(2)
    layer = solver.net.layers[0]
    state, old = layer.save_state(), layer._reader.transformer.rng
    layer.load_state(state)
    assert layer._reader.transformer.rng is not old
    old.random(100)
    assert layer.save_state() == state


# ---- what cannot be exact is said ---------------------------------------------------------------------------------


def warnings(capsys) -> list[str]:
    return [line.split("] ", 1)[1] for line in capsys.readouterr().err.splitlines() if line.startswith("W")]


def snapshot_of(net: str, text: str = "") -> str:
    solver = make(net, text)
    solver.step(2)
    solver.snapshot()
    solver.close()
    return solver.last_snapshot


@formats
def test_a_state_of_real_caffe_resumes_with_one_warning(format, capsys):
    path = snapshot_of(STATEFUL["HDF5Data"], f"snapshot_format: {format} ")
    if format == "HDF5":
        forget(path)
    else:
        state = caffe_pb2.SolverState.FromString(Path(path).read_bytes())
        for field, _ in state.ListFields():
            if field.number >= 1000:
                state.ClearField(field.name)
        Path(path).write_bytes(state.SerializeToString())
    capsys.readouterr()
    solver = make(STATEFUL["HDF5Data"])
    solver.restore(path)
    assert solver.iter == 2
    (warning,) = warnings(capsys)
    assert "it does not say where data and random streams stood" in warning


def test_another_number_of_threads_gives_one_warning(monkeypatch, capsys):
    path = snapshot_of(STATEFUL["HDF5Data"])
    solver = make(STATEFUL["HDF5Data"])
    capsys.readouterr()
    solver.restore(path)
    assert warnings(capsys) == []
    monkeypatch.setattr(snapshots, "num_threads", lambda: 97)
    solver.restore(path)
    (warning,) = warnings(capsys)
    assert "this one has 97" in warning


def test_changed_data_give_one_warning(capsys):
    def more(backend: str) -> None:
        shutil.rmtree(backend)
        with create_database(backend, backend) as database:
            for i in range(12):
                database.put(b"%04d" % i, encode_datum(np.zeros((1, 4, 4), np.uint8), 0))

    def longer(name: str, text: str) -> None:
        with Path(name).open("a") as file:
            file.write(text)

    changes = {
        "LMDB": lambda: more("lmdb"),
        "LevelDB": lambda: more("leveldb"),
        "HDF5Data shuffled": lambda: longer("files.txt", "0.h5\n"),
        "ImageData": lambda: longer("images.txt", "0.png 0\n"),
        "WindowData": lambda: longer("windows.txt", "# 10\n0.png\n3 8 8\n1\n1 0.9 1 1 6 6\n"),
    }
    if not leveldb.AVAILABLE:
        del changes["LevelDB"]
    for name, change in changes.items():
        path = snapshot_of(STATEFUL[name])
        change()
        solver = make(STATEFUL[name])
        capsys.readouterr()
        solver.restore(path)
        (warning,) = warnings(capsys)
        assert 'layer "data": the data have changed' in warning, name
        solver.step(5)
        solver.close()


def test_states_of_layers_that_are_gone_are_ignored(capsys):
    path = snapshot_of(STATEFUL["Dropout"])
    solver = make(hdf5(batch=10) + classify())
    capsys.readouterr()
    solver.restore(path)
    assert "Ignoring the state of layer d" in capsys.readouterr().err
    solver.step(1)


# ---- states that are not to be trusted ----------------------------------------------------------------------------

DAMAGE = [
    "",
    "[]",
    "null",
    "{",
    "{}",
    '{"rng": 3}',
    '{"array": 0}',
    '{"rng": {"array": 5}}',
    "[" * 100_000,
    '{"key": 3, "records": 0, "rng": {}, "database": 3}',
    '{"key": "zz", "records": 0, "rng": {}, "database": "x"}',
    '{"file": -1, "files": 2, "row": 0, "rows": 6}',
    '{"file": 0, "files": 1e400, "row": 0.5, "rows": null}',
    '{"file": 99999999999999999999, "files": 99999999999999999999999, "row": 0, "rows": 6}',
    '{"h": "text", "c": [1]}',
    '{"h": [[[1, 2]]]}',
]


def with_state(path: str, layer: str, text: str) -> None:
    state = caffe_pb2.SolverState.FromString(Path(path).read_bytes())
    (entry,) = [entry for entry in state.layer_state if entry.layer == layer]
    entry.state = text
    Path("bad").write_bytes(state.SerializeToString())


@pytest.mark.parametrize("name", ["LMDB", "HDF5Data shuffled", "ImageData", "WindowData", "MemoryData", "LSTM", "Dropout"])
def test_a_damaged_state_is_an_error_and_nothing_changes(name):
    path = snapshot_of(STATEFUL[name])
    layer = {"LSTM": "r", "Dropout": "d"}.get(name, "data")
    solver = make(STATEFUL[name], "random_seed: 9 ")
    solver.step(1)
    before = params(solver), states.layer_states(solver.net)
    for text in DAMAGE:
        with_state(path, layer, text)
        if name == "Dropout" and text in ("{}", *DAMAGE[9:]):
            continue  # a state without a stream is none, but no damage
        with pytest.raises(ModelFileError, match=r"bad: .*(state of layer|solver state)"):
            solver.restore("bad")
        assert solver.iter == 1
        assert equal(before[0], params(solver))
        for one, other in zip(before[1], states.layer_states(solver.net), strict=True):
            np.testing.assert_equal(one.state, other.state)
    solver.step(2)
    solver.close()


@pytest.mark.parametrize("value", ["np.arange(3)", "{1, 2}", "np.int64(3)", "object()"])
def test_what_no_file_can_hold_is_said_with_its_layer(value):
    Path("counting.py").write_text(
        COUNTING.replace('"count": self.count}', f'"count": {value}}}') + "\nimport numpy as np\n"
    )
    solver = make(STATEFUL["Python"])
    with pytest.raises(
        ModelFileError, match='layer "data": a file cannot hold what its save_state returned: expected what JSON'
    ):
        solver.snapshot()
    assert snapshots.newest("s") is None


def test_streams_are_checked():
    stream = np.random.Generator(np.random.PCG64(1))
    stream.random(3, np.float32)
    state = json.loads(json.dumps(rng.state_of(stream)))
    np.testing.assert_array_equal(rng.stream_at(state).random(9, np.float32), stream.random(9, np.float32))
    for name, value in [
        ("state", -1),
        ("inc", 2**128),
        ("has_uint32", 2),
        ("uinteger", 2**32),
        ("state", 1.0),
        ("inc", True),
    ]:
        with pytest.raises(ValueError, match="out of range"):
            rng.stream_at({**state, name: value})
    with pytest.raises(ValueError, match="has state, inc"):
        rng.stream_at({**state, "more": 1})


def test_random_damage_to_our_part_of_an_hdf5_state(capfd):
    path = snapshot_of(STATEFUL["HDF5Data shuffled"], "snapshot_format: HDF5 ")
    with h5py.File(path) as file:
        payload = file["pycaffe_lite"][()]
    solver = make(STATEFUL["HDF5Data shuffled"])
    draws, failures = np.random.default_rng(1), 0
    for _ in range(150):
        damaged = payload.copy()
        damaged[draws.integers(len(damaged), size=3)] = draws.integers(256, size=3)
        with h5py.File(path, "a") as file:
            file["pycaffe_lite"][...] = damaged
        try:
            solver.restore(path)
        except ModelFileError:
            failures += 1
        solver.step(1)
    assert failures > 10
    with h5py.File(path, "a") as file:
        del file["pycaffe_lite"]
        file.create_dataset("pycaffe_lite", (2**40,), np.uint8, chunks=(2**20,))
    with pytest.raises(ModelFileError, match="damaged"):
        solver.restore(path)


# ---- latest, auto, and how many to keep ---------------------------------------------------------------------------


def train(*words: str) -> int:
    return cli.main(["train", "--solver=solver.prototxt", *words])


def iterations() -> list[int]:
    found = [
        {int(path.name.split("_iter_")[1].split(".")[0]) for path in Path().glob(f"s_iter_*.{kind}*")} for kind in KINDS
    ]
    assert found[0] == found[1]
    assert not list(Path().glob(".s_iter*"))
    assert not list(Path().glob("*.lock"))
    return sorted(found[0])


KINDS = ("caffemodel", "solverstate")


@formats
def test_latest_and_auto_find_the_newest_whole_pair(format, capsys):
    text = f"snapshot: 3 snapshot_format: {format} "
    end = FORMATS[format]
    write_solver(text, STATEFUL["LMDB"])
    assert train("--snapshot=latest") == 1
    assert "there is no whole snapshot s_iter_*.solverstate" in capsys.readouterr().err
    assert train("--snapshot=auto") == 0
    assert iterations() == [3, 6, 9]
    final = Path(f"s_iter_9.caffemodel{end}").read_bytes()
    Path(f"s_iter_9.caffemodel{end}").unlink()
    Path("s_iter_12.caffemodel").write_bytes(b"a model without a state")
    state = Path(f"s_iter_6.solverstate{end}")
    state.write_bytes(state.read_bytes()[:-50])
    for way in ("latest", "auto"):
        capsys.readouterr()
        assert train(f"--snapshot={way}") == 0
        err = capsys.readouterr().err
        assert f"Resuming from s_iter_3.solverstate{end}" in err
        assert err.count("looking for an earlier snapshot") == 2
        assert Path(f"s_iter_9.caffemodel{end}").read_bytes() == final
        Path(f"s_iter_9.caffemodel{end}").unlink()
        state.write_bytes(state.read_bytes()[:-50])


def test_auto_goes_with_weights_and_latest_does_not(capsys):
    write_solver("snapshot: 3 ", STATEFUL["LMDB"])
    assert train() == 0
    Path("s_iter_9.caffemodel").rename("w.caffemodel")
    for path in Path().glob("s_iter*"):
        path.unlink()
    assert train("--snapshot=latest", "--weights=w.caffemodel") == 1
    assert train("--snapshot=auto", "--weights=w.caffemodel") == 0
    assert "Finetuning from w.caffemodel" in capsys.readouterr().err


def test_keep_snapshots_removes_what_is_older(capsys):
    write_solver("snapshot: 2 ", STATEFUL["LMDB"])
    Path("s_iter_100.solverstate").write_bytes(b"of another run")
    Path("s_iter_100.caffemodel").write_bytes(b"of another run")
    Path("other_iter_1.solverstate").write_bytes(b"of another prefix")
    Path("s_iter_1.caffemodel").write_bytes(b"a model without its state goes as well")
    assert train("--keep-snapshots", "2") == 0
    assert iterations() == [8, 9, 100]
    assert Path("other_iter_1.solverstate").exists()
    with pytest.raises(SystemExit):
        train("--keep-snapshots=0")


@formats
def test_nothing_is_removed_unless_the_new_snapshot_is_whole(format, monkeypatch):
    solver = make(STATEFUL["HDF5Data"], f"snapshot: 2 snapshot_format: {format} ")
    solver.keep_snapshots = 1
    solver.step(2)
    monkeypatch.setattr(files, "_sync", full_disk)
    with pytest.raises(ModelFileError, match=r"s_iter_4\.caffemodel.*cannot be written: No space left on device"):
        solver.step(2)
    assert iterations() == [2]
    assert snapshots.newest("s") == "s_iter_2.solverstate" + FORMATS[format]


def full_disk(path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@formats
def test_a_disk_that_fills_up_between_model_and_state(format, monkeypatch):
    solver = make(STATEFUL["HDF5Data"], f"snapshot: 2 snapshot_format: {format} ")
    solver.step(2)
    sync, calls = files._sync, []

    def filling(path) -> None:
        calls.append(path)
        full_disk(path) if len(calls) > 2 else sync(path)  # the model and its folder

    monkeypatch.setattr(files, "_sync", filling)
    with pytest.raises(ModelFileError, match=r"s_iter_4\.solverstate.*No space left on device"):
        solver.step(2)
    assert Path("s_iter_4.caffemodel" + FORMATS[format]).exists()
    assert snapshots.newest("s") == "s_iter_2.solverstate" + FORMATS[format]


@formats
@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_cut_off_anywhere_is_an_error_and_the_one_before_is_found(kind, format):
    net = (
        hdf5()
        + classify().replace("num_output: 2", "num_output: 700")
        + recurrent("LSTM").split("\n", 1)[1].replace("flat", "y").replace('top: "y"', 'top: "unused"')
    )
    solver = make(net, f"snapshot_format: {format} snapshot: 2 ")
    solver.step(4)
    end = FORMATS[format]
    path = Path(f"s_iter_4.{kind}{end}")
    whole = path.read_bytes()
    assert len(whole) > 8 * 4096
    for size in range(0, len(whole), 4096):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError, match=path.name):
            solver.restore(f"s_iter_4.solverstate{end}")
        assert snapshots.newest("s") == f"s_iter_2.solverstate{end}"
        assert solver.iter == 4
    path.write_bytes(whole)
    assert snapshots.newest("s") == f"s_iter_4.solverstate{end}"


def test_a_model_of_another_run_is_no_pair():
    path = snapshot_of(STATEFUL["HDF5Data"])
    make(STATEFUL["HDF5Data"], "random_seed: 4 ").net.save("s_iter_2.caffemodel")
    with pytest.raises(
        ModelFileError, match=r"s_iter_2\.caffemodel: is not the model that s_iter_2\.solverstate was written"
    ):
        make(STATEFUL["HDF5Data"]).restore(path)
    assert snapshots.newest("s") is None


# ---- data that go away --------------------------------------------------------------------------------------------


@backends
def test_a_database_that_is_removed_in_mid_run(backend):
    text = "random_seed: 3 snapshot: 2 snapshot_after_train: false "
    through = make(database(backend) + classify(), text)
    through.solve()
    through.close()
    shutil.copytree(backend, "kept")
    solver = make(database(backend) + classify(), text)
    solver.step(2)
    shutil.rmtree(backend)
    solver.step(7)  # the files live on as long as they are open
    assert equal(params(through), params(solver))
    solver.close()
    with pytest.raises(DataError, match="there is no such database"):
        make(database(backend) + classify(), text)
    Path("kept").rename(backend)
    resumed = make(database(backend) + classify(), text)
    resumed.solve("s_iter_2.solverstate")
    assert equal(params(through), params(resumed))


def error_of_training(capsys) -> str:
    capsys.readouterr()
    assert train() == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return error


CUT = {
    "lmdb": r'"data" \(Data\): lmdb: cannot be read after record "\d{4}" \(the LMDB database was cut off: page \d+ is',
    "leveldb": r'"data" \(Data\): leveldb: cannot be read: \d+\.ldb was cut off or overwritten',
}


@backends
def test_a_database_that_is_cut_off_in_mid_run(backend, capsys, monkeypatch):
    """By someone who copies another one over it, say. The library alone would end the process with a SIGBUS."""
    shutil.rmtree(backend)
    draws = np.random.default_rng(1)
    with create_database(backend, backend) as writer:
        for i in range(200):
            writer.put(b"%04d" % i, encode_datum(draws.integers(0, 256, (1, 40, 40), dtype=np.uint8), i % 2))
    open_database(backend).close()  # moves the records of a LevelDB from its log to a table
    write_solver("snapshot: 2 max_iter: 60 ", database(backend) + classify())
    snapshot = caffe.solver.Solver.snapshot

    def cut_off(solver) -> None:
        snapshot(solver)
        queue = solver.net.layers[0]._prefetcher._queue
        assert wait_until(lambda: queue.error or len(queue.batches) > queue.depth // 2)
        time.sleep(2 * LOOK_SECONDS)  # by now it is full, or left alone: the cut must not come while LevelDB reads
        for path in [*Path(backend).glob("*.mdb"), *Path(backend).glob("*.ldb")]:
            os.truncate(path, 8192)

    with monkeypatch.context() as patch:
        patch.setattr(caffe.solver.Solver, "snapshot", cut_off)
        assert re.search(CUT[backend], error_of_training(capsys))
    assert snapshots.newest("s") is not None
    assert not prefetch_threads()


@needs_leveldb
def test_a_leveldb_that_another_process_reads(capsys):
    write_solver("max_iter: 3 ", database("leveldb") + classify())
    program = (
        "import sys; from pycaffe_lite.data.database import open_database; database = open_database('leveldb');"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        error = error_of_training(capsys)
        assert re.search(r'"data" \(Data\): leveldb: is in use by another process; LevelDB lets in one at a time$', error)
        other.communicate()
    assert train() == 0


# ---- numbers that are not finite ----------------------------------------------------------------------------------

DIVERGING = (
    hdf5()
    + 'layer { name: "up" type: "Exp" bottom: "x" top: "up" exp_param { scale: 1e3 } }\n'
    + classify("up").replace('weight_filler { type: "gaussian" std: 0.1 }', "")
)


def test_a_bad_loss_ends_a_run_of_the_command_line(capsys):
    write_solver("snapshot: 1 ", DIVERGING)
    assert train() == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    expected = r'error: .*iteration 0: the loss is nan, first seen in the output "up" of layer "up" \(Exp\)'
    assert re.match(expected, error)
    assert error.endswith("there is no snapshot yet")
    assert list(Path().glob("s_iter*")) == []
    assert train("--on-nan=continue") == 0
    assert "loss = nan" in capsys.readouterr().err or iterations()[-1] == 9


def test_parameters_that_went_bad_are_not_written():
    solver = make(STATEFUL["HDF5Data"], "snapshot: 2 ")
    solver.on_nan = "stop"
    solver.step(2)
    solver.net.params["ip"][0].data[0, 0] = np.inf
    with pytest.raises(
        SolverError, match=r'no snapshot is written of parameter 0 of layer "ip".*snapshot is s_iter_2\.solv'
    ):
        solver.snapshot()
    with pytest.raises(
        SolverError, match=r'iteration 2: the loss is .*"ip".*whose parameter 0 is not finite either; the last'
    ):
        solver.solve()
    assert iterations() == [2]
    assert make(STATEFUL["HDF5Data"]).on_nan == "continue"


def test_an_infinite_weight_of_an_infinite_loss_with_finite_outputs():
    solver = make(STATEFUL["HDF5Data"].replace('top: "loss"', 'top: "loss" loss_weight: inf'))
    solver.on_nan = "stop"
    with pytest.raises(SolverError, match=r"the loss is inf, though all outputs are finite"):
        solver.step(1)


# ---- one run for a prefix -----------------------------------------------------------------------------------------


def test_two_runs_cannot_have_one_prefix(capsys):
    write_solver("", STATEFUL["LMDB"])
    solver = make(STATEFUL["HDF5Data"])
    with solver.exclusive():
        assert Path("s.lock").exists()
        assert train() == 1
        assert f"s.lock: in use by process {os.getpid()}" in capsys.readouterr().err
        with pytest.raises(SolverError, match="overwrite each other"):
            make(STATEFUL["HDF5Data"]).solve()
        make(STATEFUL["HDF5Data"]).step(1)  # a script's own steps are its own affair
        solver.solve()
        make(STATEFUL["HDF5Data"], 'snapshot_prefix: "t" ').solve()
    assert not Path("s.lock").exists()
    assert train() == 0


def test_a_killed_run_leaves_no_lock_and_no_half_files():
    Path("s.lock").write_text("\n1")
    Path(".s_iter_3.caffemodel.4711.tmp").write_bytes(b"half")
    Path(".t_iter_3.caffemodel.4711.tmp").write_bytes(b"of another prefix")
    write_solver("", STATEFUL["LMDB"])
    assert train() == 0
    assert iterations() == [9]
    assert Path(".t_iter_3.caffemodel.4711.tmp").exists()


def test_a_lock_needs_a_folder_that_can_be_written_to(capsys):
    make(STATEFUL["HDF5Data"], 'snapshot_prefix: "gone/s" snapshot_after_train: false ').solve()


# ---- processes ----------------------------------------------------------------------------------------------------

KILLED = database("lmdb").replace("name: ", 'include { phase: TRAIN } name: "train" #', 0) + (
    'layer { name: "d" type: "Dropout" bottom: "x" top: "d" }\n' + classify("d")
)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(caffe.__file__).parents[1]), "NUMBA_NUM_THREADS": "1"}


def start(*words: str) -> subprocess.Popen:
    with Path("log.txt").open("w") as log:
        return subprocess.Popen([*COMMAND, *words], stderr=log, env=environment())


def wait_for(process: subprocess.Popen, text: str, times: int = 1) -> bool:
    """Waits until the log has a text so often; False if the process ends before."""
    end = time.monotonic() + TIMEOUT
    while Path("log.txt").read_text().count(text) < times:
        if process.poll() is not None:
            return False
        assert time.monotonic() < end, Path("log.txt").read_text()[-2000:]
        time.sleep(0.001)
    return True


def finish(process: subprocess.Popen) -> None:
    process.wait(TIMEOUT)
    assert process.returncode == 0, Path("log.txt").read_text()[-2000:]


def kill_and_resume(kills: int, iterations_in_all: int) -> int:
    """Kills a run so often, each time after a random while, lets the last one end, and compares. Returns how many resumed.

    Each iteration ends with a snapshot and takes less time than that: most kills come in the middle of one.
    """
    solver = f"max_iter: {iterations_in_all} snapshot: SNAPSHOT "
    write_solver(solver.replace("SNAPSHOT", "0"), KILLED)
    finish(start())
    last = f"s_iter_{iterations_in_all}.caffemodel"
    expected = Path(last).read_bytes()
    for path in Path().glob("s_iter*"):
        path.unlink()
    write_solver(solver.replace("SNAPSHOT", "1"), KILLED)
    draws, resumed = random.Random(7), 0
    for _ in range(kills):
        process = start("--snapshot=auto", "--keep-snapshots=3")
        try:
            assert wait_for(process, "Starting Optimization")
            wait_for(process, "Snapshotting", draws.randrange(80))
            time.sleep(draws.uniform(0, 0.02))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        log = Path("log.txt").read_text()
        resumed += "Resuming from" in log
        assert "looking for an earlier" not in log
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed: let it have more iterations"
    finish(start("--snapshot=auto", "--keep-snapshots=3"))
    assert iterations() == list(range(iterations_in_all - 2, iterations_in_all + 1))
    assert Path(last).read_bytes() == expected
    return resumed


def test_five_kills():
    assert kill_and_resume(5, 400) >= 3


@pytest.mark.slow
def test_fifty_kills():
    assert kill_and_resume(50, 4000) >= 40


def test_sigterm_stops_with_a_snapshot():
    write_solver("max_iter: 1000000000 display: 100 ", KILLED)
    process = start()
    assert wait_for(process, "Iteration 100 (")
    process.send_signal(signal.SIGTERM)
    finish(process)
    assert Path("log.txt").read_text().rstrip().endswith("Optimization stopped early.")
    assert len(iterations()) == 1


def test_sigterm_ends_a_run_that_takes_no_notice_of_sigint():
    write_solver("max_iter: 1000000000 display: 100 ", KILLED)
    process = start("--sigint_effect=none")
    assert wait_for(process, "Iteration 100 (")
    process.send_signal(signal.SIGTERM)
    process.wait(TIMEOUT)
    assert process.returncode == -signal.SIGTERM


GUIDE = Path(__file__).parents[1] / "docs" / "training.md"


def test_the_commands_of_the_guide():
    text = GUIDE.read_text("utf-8").replace("1000", "20").replace("500", "10")  # iterations
    (solver,) = re.findall(r"```\n(net: .*?)```", text, re.DOTALL)
    Path("lenet_solver.prototxt").write_text(solver)
    Path("lenet.prototxt").write_text(STATEFUL["Dropout"])
    commands = re.findall(r"^ +pycaffe_lite (.+)$", text, re.MULTILINE)
    assert len(commands) == 12
    for command in commands:
        assert cli.main(command.split()) == 0, command
    assert Path("losses.png").exists()
    assert {path.suffix for path in Path("logs").glob("pycaffe_lite.INFO.*")} == {".train", ".test"}
    assert sorted(path.name for path in Path().glob("lenet_iter_*")) == [
        f"lenet_iter_{iteration}.{kind}" for iteration in (10, 20) for kind in KINDS
    ]


def logs_of_two_runs(capsys) -> list[list[str]]:
    """Without times."""
    logs = []
    for _ in range(2):
        assert train() == 0
        lines = [line.split("] ", 1)[1] for line in capsys.readouterr().err.splitlines()]
        logs.append([re.sub(r"\([^ ]+ iter/s, [^ ]+s/", "(", line) for line in lines])
    return logs


def test_the_same_seed_gives_the_same_log(capsys):
    write_solver("display: 1 " + TESTS.replace("test_initialization: false", ""), TESTED + classify())
    one, other = logs_of_two_runs(capsys)
    assert one == other
    assert len(one) > 40


def test_the_same_seed_gives_the_same_log_of_the_siamese_tutorial(capsys):
    """The net of the example and its solver, on pairs of noise and for fewer iterations."""
    example = Path(__file__).parents[1] / "examples" / "siamese"
    draws = np.random.default_rng(1)
    for kind in ("train", "test"):
        with create_database(f"{kind}_pairs", default_backend()) as writer:
            for i in range(300):
                pair = draws.integers(0, 256, (2, 28, 28), dtype=np.uint8)
                writer.put(b"%08d" % i, encode_datum(pair, int(draws.integers(2))))
    net = (example / "mnist_siamese_train_test.prototxt").read_text("utf-8")
    Path("net.prototxt").write_text(re.sub(r"examples/siamese/mnist_siamese_(train|test)_leveldb", r"\1_pairs", net))
    changes = {"net": '"net.prototxt"', "test_iter": "2", "test_interval": "10", "display": "1", "max_iter": "25"}
    changes |= {"snapshot": "0", "snapshot_prefix": '"s"'}
    solver = (example / "mnist_siamese_solver.prototxt").read_text("utf-8")
    for name, value in changes.items():
        solver, count = re.subn(rf"^{name}: .*", f"{name}: {value}", solver, flags=re.MULTILINE)
        assert count == 1
    Path("solver.prototxt").write_text(solver + "random_seed: 5\n")
    one, other = logs_of_two_runs(capsys)
    assert one == other
    assert sum("loss = " in line for line in one) > 50
