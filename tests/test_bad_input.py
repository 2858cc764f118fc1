"""Bad and hostile input, through the command line: one clear error, a status other than zero, and nothing lost."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import cli, files, glog
from pycaffe_lite.data.database_writer import create_database
from pycaffe_lite.data.datum import encode_datum
from pycaffe_lite.errors import NetError
from pycaffe_lite.proto import caffe_pb2

from .leveldb import backends, needs_leveldb, with_marks

SECONDS = 60  # no input keeps a command longer
SOLVER = 'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" solver_mode: CPU random_seed: 1 snapshot_prefix: "s" '
TRAIN = ["train", "--solver=solver.prototxt"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of its own, in which a command that hangs is ended."""
    monkeypatch.chdir(tmp_path)

    def give_up(*_):
        raise AssertionError(f"no end after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    glog.quiet_stderr(False)


@pytest.fixture
def little_memory():
    """At most 2 GiB more than this process has by now."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("this system does not say how much memory a process uses")
    used = int(re.search(r"VmSize:\s+(\d+) kB", status.read_text())[1]) << 10
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def layer(type: str, name: str, bottoms: str = "", tops: str = "", more: str = "") -> str:
    """A layer on one line; `bottoms` and `tops` are names with blanks."""
    ends = [f'bottom: "{bottom}"' for bottom in bottoms.split()] + [f'top: "{top}"' for top in tops.split()]
    return f'layer {{ name: "{name}" type: "{type}" {" ".join(ends)} {more} }}\n'


def dummy(name: str, *dims: int) -> str:
    shape = " ".join(f"dim: {dim}" for dim in dims)
    return layer("DummyData", name, "", name, f"dummy_data_param {{ shape {{ {shape} }} }}")


def product(name: str, bottom: str, outputs: int = 2, more: str = "") -> str:
    return layer("InnerProduct", name, bottom, name, f"inner_product_param {{ num_output: {outputs} {more} }}")


def convolution(name: str, bottom: str, more: str) -> str:
    return layer("Convolution", name, bottom, name, f"convolution_param {{ {more} }}")


def loss(bottoms: str) -> str:
    return layer("EuclideanLoss", "loss", bottoms, "loss")


def data(source: str, backend: str = "LMDB", batch: int = 2, more: str = "") -> str:
    param = f'data_param {{ source: "{source}" backend: {backend} batch_size: {batch} }} {more}'
    return (
        layer("Data", "d", "", "x label", param) + product("ip", "x") + layer("SoftmaxWithLoss", "loss", "ip label", "loss")
    )


def hdf5(source: str, batch: int = 2) -> str:
    return layer("HDF5Data", "d", "", "x y", f'hdf5_data_param {{ source: "{source}" batch_size: {batch} }}') + product(
        "ip", "x"
    )


PLAIN = dummy("x", 4, 3) + dummy("y", 4, 2) + product("ip", "x") + loss("ip y")


def image(label: int = 0, *shape: int) -> bytes:
    return encode_datum(np.full(shape or (1, 4, 4), label, np.uint8), label % 2)


def database(name: str, backend: str = "lmdb", count: int = 5, **values: bytes) -> None:
    """Writes `count` records; `values` (by name: at_3=...) replace single ones."""
    with create_database(name, backend) as writer:
        for i in range(count):
            writer.put(b"%04d" % i, values.get(f"at_{i}", image(i)))


def write(net: str = PLAIN, solver: str = "max_iter: 4 ", head: str = SOLVER) -> None:
    Path("net.prototxt").write_text(net)
    Path("solver.prototxt").write_text(head + solver)


def run(*words: str, capsys) -> tuple[int, list[str], list[str]]:
    """Status, lines of the log without stamps, other lines of stderr. What a user should not see is a failure."""
    capsys.readouterr()
    try:
        status = cli.main([*words])
    except SystemExit as error:
        status = error.code
    text = capsys.readouterr().err
    assert "Traceback" not in text
    log, rest = [], []
    for line in text.splitlines():
        match = re.match(r"[IWE]\d{4} \S+ +\d+ \S+\] (.*)", line)
        (log if match else rest).append(match[1] if match else line)
    return status, log, rest


def error_of(*words: str, capsys) -> str:
    """The one line of error that a command ends with."""
    status, _, rest = run(*words, capsys=capsys)
    assert status == 1
    assert len(rest) == 1, rest
    assert rest[0].startswith("error: ")
    assert len(rest[0]) < 600
    return rest[0].removeprefix("error: ")


# ---- databases ----------------------------------------------------------------------------------------------------

RECORDS = {
    "truncated": (image(3)[:-5], 'db: record "0003": '),
    "text": (b"no protobuf at all", 'db: record "0003": '),
    "nothing": (b"", 'db: record "0003": '),
    "random": (bytes(np.random.default_rng(7).integers(0, 256, 50, np.uint8)), 'db: record "0003": '),
    "another shape": (image(1, 2, 4, 4), 'db: record "0003": expected an image of 1 x 4 x 4 .*, received 2 x 4 x 4'),
    "a giant shape": (
        caffe_pb2.Datum(channels=2**30, height=2**30, width=2**30, data=b"x").SerializeToString(),
        'db: record "0003": ',
    ),
    "no image": (caffe_pb2.Datum(encoded=True, data=b"\xff\xd8\xff junk").SerializeToString(), 'db: record "0003": '),
    "a wrong label": (
        encode_datum(np.zeros((1, 4, 4), np.uint8), 7),
        r'layer "loss" .*expected labels from 0 to 1, received 7',
    ),
}


@backends
@pytest.mark.parametrize("record", RECORDS)
def test_a_bad_record_in_mid_database(record, backend, capsys):
    value, cause = RECORDS[record]
    database("db", backend, at_3=value)
    write(data("db", backend.upper()), "max_iter: 9 snapshot: 1 ")
    assert re.search(rf"^net\.prototxt:\d: .*{cause}", error_of(*TRAIN, capsys=capsys))
    assert Path("s_iter_1.solverstate").exists()  # the batch before it was fine


def test_a_bad_first_record(capsys):
    database("db", at_0=b"junk")
    write(data("db"))
    assert error_of(*TRAIN, capsys=capsys).startswith('net.prototxt:1: layer "d" (Data): db: record "0000": ')


@pytest.mark.parametrize(("found", "said"), [("lmdb", "LEVELDB"), pytest.param("leveldb", "LMDB", marks=needs_leveldb)])
def test_a_database_of_the_other_format_is_read_and_that_is_noted(found, said, capsys):
    database("db", found)
    write(data("db", said))
    status, log, rest = run(*TRAIN, capsys=capsys)
    assert (status, rest) == (0, [])
    assert f"db is read as {found.upper()}, which it is, and not as {said}" in log


DATABASES = {
    "missing": ("gone", "gone: there is no such database; relative paths start at "),
    "misspelt": ("dbb", r'dbb: there is no such database.*did you mean "db"\?'),
    "empty lmdb": ("empty", "empty: the LMDB database is empty"),
    "empty leveldb": ("level", "level: the LEVELDB database is empty"),
    "folder": ("folder", "folder: expected a database, but the folder is empty"),
    "file": ("net.prototxt", "net.prototxt: expected the folder of a database, but it is a file"),
    "damaged lmdb": ("damaged", "damaged/data.mdb: the header of the LMDB database is damaged"),
    "none": ("", "data_param.source"),
}


@pytest.mark.parametrize("name", with_marks(DATABASES, ["empty leveldb"]))
def test_a_database_that_is_none(name, capsys):
    source, cause = DATABASES[name]
    database("db")
    database("empty", count=0)
    if name == "empty leveldb":
        database("level", "leveldb", 0)
    Path("folder").mkdir()
    Path("damaged").mkdir()
    Path("damaged/data.mdb").write_bytes(b"no database" * 1000)
    write(data(source))
    assert re.search(rf'^net\.prototxt:1: layer "d" \(Data\): .*{cause}', error_of(*TRAIN, capsys=capsys))


MEANS = {
    'mean_file: "gone.binaryproto"': "gone.binaryproto.*no such file",
    'mean_file: "net.prototxt"': "net.prototxt.*expected a BlobProto",
    'mean_file: "mean" mean_value: 1': "mean_file.*mean_value|mean_value.*mean_file",
    "mean_value: 1 mean_value: 2": "mean_value",
    "crop_size: 5": "5",
}


@pytest.mark.parametrize("transform", MEANS)
def test_a_transformation_that_cannot_be_done(transform, capsys):
    database("db")
    write(data("db", more=f"transform_param {{ {transform} }}"))
    assert re.search(rf'^net\.prototxt:1: layer "d" \(Data\): .*({MEANS[transform]})', error_of(*TRAIN, capsys=capsys))


LISTS = {
    "missing": (None, 'there is no list of HDF5 files "list.txt"'),
    "empty": ("", 'the list of HDF5 files "list.txt" is empty'),
    "naming itself": ("list.txt", "list.txt: is damaged or no HDF5 file"),
    "naming a missing file": ("good.h5\ngone.h5", 'there is no HDF5 file "gone.h5"'),
    "naming a folder": (".", 'there is no HDF5 file "."'),
    "rows of another shape": ("good.h5 wide.h5", "wide.h5: expected rows of data set"),
    "without a data set": ("bare.h5", 'bare.h5: has no data set "y"'),
    "with text": ("words.h5", 'words.h5: expected integers or floats in data set "y"'),
    "truncated": ("cut.h5", "cut.h5: is damaged or no HDF5 file"),
    "claiming to be huge": ("huge.h5", r'huge.h5: data set "x" claims a shape of 2000000000 x 1 .*, but 0 bytes'),
}


@pytest.mark.parametrize("name", LISTS)
def test_hdf5_data_that_cannot_be_read(name, capsys):
    text, cause = LISTS[name]
    for file, x, y in (("good", np.zeros((2, 3)), np.zeros((2, 1))), ("wide", np.zeros((2, 4)), np.zeros((2, 1)))):
        with h5py.File(f"{file}.h5", "w") as new:
            new["x"], new["y"] = x, y
    with h5py.File("bare.h5", "w") as new:
        new["x"] = np.zeros((2, 3))
    with h5py.File("words.h5", "w") as new:
        new["x"], new["y"] = np.zeros((2, 3)), [b"one", b"two"]
    with h5py.File("huge.h5", "w") as new:
        new.create_dataset("x", (2_000_000_000, 1), "f4", chunks=(1000, 1))
        new["y"] = np.zeros((2, 1))
    Path("cut.h5").write_bytes(Path("good.h5").read_bytes()[:-100])
    if text is not None:
        Path("list.txt").write_text(text)
    write(hdf5("list.txt"))
    assert re.search(rf'^net\.prototxt:1: layer "d" \(HDF5Data\): .*{cause}', error_of(*TRAIN, capsys=capsys))


# ---- nets ---------------------------------------------------------------------------------------------------------

X = dummy("x", 2, 3, 5, 5)
NETS = {  # what is wrong on line 2: the net, the error behind the place
    "unknown type": (
        X + layer("Convolutoin", "bad", "x", "c"),
        r'unknown layer type "Convolutoin" \(did you mean "Convolution"\?\)',
    ),
    "missing bottom": (X + product("bad", "xx"), r'bottom "xx" .*\(did you mean "x"\?\)'),
    "duplicate top": (
        X + layer("Split", "bad", "x", "a a"),
        r'the layer produces top "a" twice: give each top a name of its own',
    ),
    "bottom count": (X + layer("Power", "bad", "x x", "p"), r"expected 1 bottom, received 2"),
    "no bottom": (X + layer("ReLU", "bad", "", "p"), r"expected 1 bottom, received 0"),
    "top count": (X + layer("Softmax", "bad", "x", "p q"), r"expected 1 top, received 2"),
    "slice points": (
        X + layer("Slice", "bad", "x", "a b c", "slice_param { slice_point: 2 slice_point: 1 }"),
        r"slice",
    ),
    "kernel": (X + convolution("bad", "x", "num_output: 1 kernel_size: 7"), r"5.*7|7.*5"),
    "window": (X + layer("Pooling", "bad", "x", "p", "pooling_param { kernel_size: 7 }"), r"5.*7|7.*5"),
    "counts": (
        X + loss("x x").replace('"loss" type', '"bad" type').replace('bottom: "x" bottom: "x"', 'bottom: "x" bottom: "y"'),
        '"y"',
    ),
    "giant kernel": (X + convolution("bad", "x", "num_output: 1 kernel_size: 2147483647"), r"2147483647"),
    "giant padding": (
        X + convolution("bad", "x", "num_output: 1 kernel_size: 1 pad: 2147483647"),
        r"at most 2147483647 elements",
    ),
    "giant columns": (
        X + convolution("bad", "x", "num_output: 1 kernel_size: 3 pad: 20000"),
        r"more than 2147483647|at most 2147483647",
    ),
    "giant window": (X + layer("Pooling", "bad", "x", "p", "pooling_param { kernel_size: 2147483647 }"), r"2147483647"),
    "giant output": (X + product("bad", "x", 2147483647), r"at most 2147483647 elements, received 2147483647 x 75 "),
    "giant convolution": (
        X + convolution("bad", "x", "num_output: 2147483647 kernel_size: 1"),
        r"at most 2147483647 elements",
    ),
    "giant input": (
        X + layer("Input", "bad", "", "i", "input_param { shape { dim: 1000000 dim: 1000000 } }"),
        r"at most 2147483647 elements, received 1000000 x 1000000 \(1000000000000\)",
    ),
    "overflowing input": (
        X + layer("Input", "bad", "", "i", "input_param { shape { dim: 9223372036854775807 dim: 2 } }"),
        r"at most 2147483647 elements",
    ),
    "giant input around a 0": (
        X + layer("Input", "bad", "", "i", "input_param { shape { dim: 0 dim: 1000000 dim: 1000000 } }"),
        r"at most 2147483647 elements",
    ),
    "negative input": (
        X + layer("Input", "bad", "", "i", "input_param { shape { dim: -2 } }"),
        r"not negative, received -2",
    ),
    "33 axes": (
        X + layer("Input", "bad", "", "i", f"input_param {{ shape {{ {'dim: 1 ' * 33} }} }}"),
        r"at most 32 axes, received 33",
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_a_net_that_cannot_be_built(name, capsys, little_memory):
    net, cause = NETS[name]
    write(net)
    pattern = rf'^net\.prototxt:2: layer "bad" \(\w+\): .*({cause})'
    assert re.search(pattern, error_of(*TRAIN, capsys=capsys))
    assert re.search(pattern, error_of("time", "--model=net.prototxt", capsys=capsys))


def test_a_giant_batch_of_a_small_database(capsys, little_memory):
    database("db")
    write(data("db", batch=1_000_000_000))
    cause = r'^net\.prototxt:1: layer "d" \(Data\): .*at most 2147483647 elements, received 1000000000 x 1 x 4 x 4'
    assert re.search(cause, error_of(*TRAIN, capsys=capsys))
    write(hdf5("list.txt", batch=4_000_000_000))
    Path("list.txt").write_text("a.h5")
    with h5py.File("a.h5", "w") as file:
        file["x"], file["y"] = np.zeros((2, 3)), np.zeros((2, 1))
    assert re.search(r'layer "d" \(HDF5Data\): .*at most 2147483647', error_of(*TRAIN, capsys=capsys))


@pytest.mark.parametrize(
    "net", [dummy("x", 2147483647), dummy("x", 2, 3) + product("ip", "x", 700_000_000)], ids=["data", "weights"]
)
def test_a_net_that_does_not_fit_into_memory(net, capsys, little_memory):
    write(net)
    assert re.search(r"(?i)memory|allocate", error_of(*TRAIN, capsys=capsys))


TEXTS = {
    "unknown field": ('name: "a"\nlayer { name: "ip" typ: "Input" }', r'net\.prototxt:2: .*"typ".*did you mean "type"'),
    "unbalanced": ('layer { name: "ip"', r"net\.prototxt:1: "),
    "junk": (bytes(range(1, 256)).decode("latin-1"), r"net\.prototxt:1: "),
    "binary": ("\0\1\2", r"net\.prototxt: this is no prototxt but a binary file"),
    "deep": ("layer { " * 100_000, r"net\.prototxt:1: "),
    "deep lists": ("layer { top: " + "[" * 100_000, r"net\.prototxt:1: "),
    "a long word": ("a" * 5_000_000, r"net\.prototxt:1: "),
    "a long number": ("layer { top: " + "9" * 1_000_000, r"net\.prototxt:1: "),
    "an endless string": ('name: "' + "a" * 1_000_000, r"net\.prototxt:1: "),
    "beyond 64 bits": (dummy("x", 10**30), r"net\.prototxt:1: .*10{30}"),
    "a solver": (SOLVER, r"net\.prototxt:1: .*this looks like a solver"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_no_net(name, capsys):
    text, cause = TEXTS[name]
    write(text)
    assert re.search(f"^{cause}", error_of(*TRAIN, capsys=capsys))


# ---- solvers ------------------------------------------------------------------------------------------------------

SOLVERS = {
    "iter_size: -1": "solver.prototxt: iter_size is at least 1, received -1",
    "test_iter: -5 test_interval: 1": "solver.prototxt: test_iter is a number of batches, received -5",
    'type: "Adm"': 'solver.prototxt: unknown solver type "Adm"',
    "bse_lr: 1": 'solver.prototxt:1: .*"bse_lr".*did you mean "base_lr"',
    "max_iter: 5000000000": r"solver\.prototxt:1: .*5000000000",
    "max_iter: 1.5": r"solver\.prototxt:1: .*1\.5",
    "snapshot: 1 snapshot_format: XML": r"solver\.prototxt:1: .*XML",
    'weights: "gone.caffemodel"': "gone.caffemodel: there is no such file",
    'weights: "net.prototxt"': r"net.prototxt: expected a NetParameter in binary form .*, but this is text",
    "net_param { net_param { } }": r'solver\.prototxt:1: .*"net_param"',
}


@pytest.mark.parametrize("text", SOLVERS)
def test_a_solver_that_cannot_be_used(text, capsys):
    write(solver=text)
    assert re.search(f"^{SOLVERS[text]}", error_of(*TRAIN, capsys=capsys))


def test_files_in_each_others_place(capsys):
    write(head=SOLVER.replace("net.prototxt", "solver.prototxt"))  # a net that is the solver itself
    assert re.search(r"^solver\.prototxt:1: .*this looks like a solver", error_of(*TRAIN, capsys=capsys))
    write()
    run(*TRAIN, capsys=capsys)
    for words, cause in {
        "train --solver=.": r"^\.: cannot read this file: Is a directory",
        "train --solver=net.prototxt": r"^net\.prototxt:1: .*this looks like a net",
        "train --solver=s_iter_4.caffemodel": r"^s_iter_4\.caffemodel: this is no prototxt but a binary file",
        "train --solver=solver.prototxt --weights=.": r"^\.: is not a regular file",
        "train --solver=solver.prototxt --weights=solver.prototxt": r"^solver\.prototxt: expected a NetParameter",
        "train --solver=solver.prototxt --snapshot=net.prototxt": r"^net\.prototxt: expected a SolverState",
        "train --solver=solver.prototxt --snapshot=/dev/zero": r"^/dev/zero: is not a regular file",
        "test --model=s_iter_4.caffemodel --weights=net.prototxt": r"^s_iter_4\.caffemodel: this is no prototxt",
        "test --model=net.prototxt --weights=/dev/zero": r"^/dev/zero: is not a regular file",
    }.items():
        assert re.search(cause, error_of(*words.split(), capsys=capsys)), words


@pytest.mark.parametrize("text", ["max_iter: 0 ", "max_iter: -3 ", "max_iter: 2 test_iter: 0 test_interval: 1 "])
def test_a_run_with_nothing_to_do_is_no_error(text, capsys):
    write(solver=text + "display: 1 test_compute_loss: true ")
    assert run(*TRAIN, capsys=capsys)[::2] == (0, [])
    assert len(list(Path().glob("s_iter_*.solverstate"))) == 1


def test_a_net_without_outputs_or_layers_runs(capsys):
    for net in ("", "# nothing\n", X + layer("Silence", "s", "x")):
        write(net, "max_iter: 2 display: 1 test_iter: 1 test_interval: 1 ")
        assert run(*TRAIN, capsys=capsys)[::2] == (0, [])
        assert run("time", "--model=net.prototxt", "--iterations=1", capsys=capsys)[::2] == (0, [])


# ---- weights ------------------------------------------------------------------------------------------------------

OTHER = PLAIN.replace('"x" dummy_data_param { shape { dim: 4 dim: 3 }', '"x" dummy_data_param { shape { dim: 4 dim: 5 }')
FORMATS = {"BINARYPROTO": "", "HDF5": ".h5"}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("command", ["train --solver=solver.prototxt", "test --model=net.prototxt"])
def test_weights_of_another_shape(command, format, capsys):
    assert OTHER != PLAIN
    write(OTHER, f"max_iter: 0 snapshot_format: {format} ")
    run(*TRAIN, capsys=capsys)
    model = f"s_iter_0.caffemodel{FORMATS[format]}"
    before = Path(model).read_bytes()
    write(solver="max_iter: 0 ")
    error = error_of(*command.split(), f"--weights={model}", capsys=capsys)
    assert error.startswith(
        f'{model}: layer "ip" (InnerProduct): parameter 0 is 2 x 3 (6) in the net and 2 x 5 (10) in the model'
    )
    assert Path(model).read_bytes() == before


def trained(format: str, capsys) -> tuple[str, str]:
    """Model and state of a run of two iterations."""
    write(dummy("x", 4, 3) + dummy("y", 4, 2) + product("ip0", "x", 3) + product("ip", "ip0") + loss("ip y"), "max_iter: 2 ")
    Path("solver.prototxt").write_text(Path("solver.prototxt").read_text() + f"momentum: 0.9 snapshot_format: {format}")
    assert run(*TRAIN, capsys=capsys)[0] == 0
    return f"s_iter_2.caffemodel{FORMATS[format]}", f"s_iter_2.solverstate{FORMATS[format]}"


def parses(kind: str, payload: bytes) -> caffe_pb2.NetParameter | None:
    try:
        return getattr(caffe_pb2, kind).FromString(payload)
    except Exception:
        return None


def offsets(size: int, count: int = 50) -> list[int]:
    return sorted({*np.linspace(1, size - 1, count).astype(int).tolist(), size - 1})


@pytest.mark.parametrize("format", FORMATS)
def test_a_truncated_model(format, capsys):
    """What is left is refused, unless the cut is between two layers: that is a model of fewer layers to Caffe as well."""
    model, _ = trained(format, capsys)
    whole = Path(model).read_bytes()
    refused = 0
    for size in offsets(len(whole)):
        Path("cut").write_bytes(whole[:size])
        left = parses("NetParameter", whole[:size]) if format == "BINARYPROTO" else None
        words = ["test", "--model=net.prototxt", "--weights=cut", "--iterations=1"]
        if left is not None and left.layer and all(one.name for one in left.layer):
            run(*words, capsys=capsys)
            continue
        assert error_of(*words, capsys=capsys).startswith("cut: ")
        refused += 1
    assert refused > 40
    assert Path(model).read_bytes() == whole


@pytest.mark.parametrize("format", FORMATS)
def test_a_truncated_solver_state(format, capsys):
    _, state = trained(format, capsys)
    whole = Path(state).read_bytes()
    refused = 0
    for size in offsets(len(whole)):
        Path("cut").write_bytes(whole[:size])
        left = parses("SolverState", whole[:size]) if format == "BINARYPROTO" else None
        if left is not None and len(left.history) == 4:
            continue
        assert error_of(*TRAIN, "--snapshot=cut", capsys=capsys).startswith("cut: ")
        refused += 1
    assert refused > 40
    assert Path(state).read_bytes() == whole


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", ["model", "state"])
def test_a_damaged_file_ends_in_an_error_or_a_run(kind, format, capfd):
    """Bytes are changed here and there. Where that hits a number, nobody can know.

    A name with bytes that are no text takes `capfd`: as a terminal, and unlike `capsys`, it shows any character.
    """
    path = trained(format, capfd)[kind == "state"]
    whole = np.frombuffer(Path(path).read_bytes(), np.uint8)
    rng = np.random.default_rng(1)
    flag = "--weights=bad" if kind == "model" else "--snapshot=bad"
    statuses = set()
    for _ in range(60):
        damaged = whole.copy()
        at = rng.integers(0, min(len(damaged), 2000), rng.integers(1, 6))
        damaged[at] = rng.integers(0, 256, len(at))
        Path("bad").write_bytes(damaged.tobytes())
        status, _, rest = run(*TRAIN, flag, capsys=capfd)
        assert status in (0, 1)
        assert len(rest) == status
        statuses.add(status)
        for new in Path().glob("s_iter_*"):  # a damaged count of iterations gives its name to the last snapshot
            if "_2." not in new.name:
                new.unlink()
    assert statuses == {0, 1}


@pytest.mark.parametrize("format", FORMATS)
def test_random_bytes_as_a_state(format, capsys):
    trained(format, capsys)
    rng = np.random.default_rng(3)
    signature = b"\x89HDF\r\n\x1a\n" if format == "HDF5" else b""
    for size in (1, 10, 100, 10_000):
        Path("bad").write_bytes(signature + rng.bytes(size))
        assert error_of(*TRAIN, "--snapshot=bad", capsys=capsys).startswith("bad: ")


def test_the_state_of_another_net(capsys):
    _, state = trained("BINARYPROTO", capsys)
    write(PLAIN, "max_iter: 9 momentum: 0.9 ")
    assert error_of(*TRAIN, f"--snapshot={state}", capsys=capsys).startswith(f"{state}: the state has 4 history blobs")
    assert not Path("s_iter_9.solverstate").exists()


STATES = {
    "negative iteration": ({"iter": -5}, "iter -5"),
    "negative step": ({"current_step": -100}, "current_step -100"),
    "zero byte": ({"learned_net": "a\0b"}, "zero byte"),
    "no model": ({"learned_net": "gone.caffemodel"}, "gone.caffemodel: there is no such file"),
    "a device": ({"learned_net": "/dev/zero"}, "/dev/zero: is not a regular file"),
    "the state itself": ({"learned_net": "bad"}, "bad: is not the model that bad was written with"),
    "a folder": ({"learned_net": "/"}, "/: is not a regular file"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_makes_no_sense(name, capsys):
    fields, cause = STATES[name]
    _, path = trained("BINARYPROTO", capsys)
    state = caffe_pb2.SolverState.FromString(Path(path).read_bytes())
    state.MergeFrom(caffe_pb2.SolverState(**fields))
    Path("bad").write_bytes(state.SerializeToString())
    multistep = Path("solver.prototxt").read_text().replace('"fixed"', '"multistep" gamma: 0.1 stepvalue: 1 ')
    Path("solver.prototxt").write_text(multistep)
    assert cause in error_of(*TRAIN, "--snapshot=bad", capsys=capsys)


def test_an_hdf5_state_that_makes_no_sense(capsys):
    _, path = trained("HDF5", capsys)
    whole = Path(path).read_bytes()

    def replace(name, **new):
        def change(file):
            del file[name]
            file.create_dataset(name, **new)

        return change

    for change, cause in (
        (replace("iter", data=np.inf), "infinity"),
        (replace("iter", data=np.uint64(2**63)), "iter 9223372036854775808"),
        (replace("iter", data=[np.int32()][:0]), "damaged"),
        (replace("current_step", data=b"x"), "damaged"),
        (replace("history/0", shape=(2_000_000_000,), dtype="f4", chunks=(1000,)), "history blob 0 is 2000000000"),
        (replace("history/0", data=np.array([b"a"] * 9).reshape(3, 3)), "history blob 0 holds"),
        (replace("history", data=np.zeros(4)), "damaged"),
        (lambda file: file["history"].clear(), "the state has 0 history blobs"),
        (lambda file: file.clear(), "damaged"),
    ):
        Path("bad").write_bytes(whole)
        with h5py.File("bad", "r+") as file:
            change(file)
        error = error_of(*TRAIN, "--snapshot=bad", capsys=capsys)
        assert error.startswith("bad: ")
        assert cause in error


# ---- disks --------------------------------------------------------------------------------------------------------

BIG = dummy("x", 4, 3) + dummy("y", 4, 1000) + product("ip", "x", 1000) + loss("ip y")
LIMITED = """import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (%d, %d))
from pycaffe_lite import cli
sys.exit(cli.main())"""


def run_limited(limit: int, *words: str) -> subprocess.CompletedProcess:
    """Runs a command in a process that can write files of so many bytes only: a disk that is full, as good as."""
    command = [sys.executable, "-c", LIMITED % (limit, limit), *words]
    env = {**os.environ, "PYTHONPATH": str(Path(caffe.__file__).parents[1]), "NUMBA_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=env)


@pytest.mark.parametrize("format", FORMATS)
def test_a_disk_that_fills_up(format, capsys):
    write(BIG, f"momentum: 0.9 snapshot: 2 max_iter: 2 snapshot_format: {format} ")
    assert run(*TRAIN, capsys=capsys)[0] == 0
    before = {path.name: path.read_bytes() for path in Path().glob("*s_iter*")}
    write(BIG, f"momentum: 0.9 snapshot: 2 max_iter: 6 snapshot_format: {format} ")
    state = f"s_iter_2.solverstate{FORMATS[format]}"
    done = run_limited(8192, *TRAIN, f"--snapshot={state}")
    assert done.returncode == 1
    rest = [line for line in done.stderr.splitlines() if not re.match(r"[IW]\d{4} ", line)]
    assert rest == [f"error: s_iter_4.caffemodel{FORMATS[format]}: cannot be written: File too large"]
    assert {path.name: path.read_bytes() for path in Path().iterdir() if "s_iter" in path.name} == before
    assert run(*TRAIN, f"--snapshot={state}", capsys=capsys)[0] == 0  # with room again, it goes on
    assert Path(f"s_iter_6.solverstate{FORMATS[format]}").exists()


def test_a_full_disk_under_the_log_does_not_end_training(capsys):
    write(solver="max_iter: 30 display: 1 snapshot_after_train: false ")
    done = run_limited(1000, *TRAIN, "--log_dir=logs")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Logging error" not in done.stderr
    assert "Optimization Done" in done.stderr
    assert 0 < Path("logs/pycaffe_lite.INFO").stat().st_size <= 1000


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", ["caffemodel", "solverstate"])
def test_a_disk_that_becomes_read_only(kind, format, capsys, monkeypatch):
    """The model can fail to be written, or after it the state."""
    replace = os.replace

    def refuse(source, target):
        if f"_4.{kind}" in str(target):
            raise OSError(30, "Read-only file system")
        replace(source, target)

    write(solver=f"momentum: 0.9 snapshot: 2 max_iter: 6 snapshot_format: {format} ")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", refuse)
        error = error_of(*TRAIN, capsys=capsys)
    assert error == f"s_iter_4.{kind}{FORMATS[format]}: cannot be written: Read-only file system"
    assert not list(Path().glob(".*.tmp"))
    assert not list(Path().glob("s_iter_6*"))
    solver = caffe.get_solver("solver.prototxt")
    solver.restore(f"s_iter_2.solverstate{FORMATS[format]}")
    assert solver.iter == 2


def test_a_snapshot_folder_that_is_missing_or_a_file(capsys):
    for prefix in ("gone/s", "net.prototxt/s"):
        for more in ("snapshot: 1", ""):  # now and then, or only after training
            write(solver=f"{more} max_iter: 1000000000 ", head=SOLVER.replace('"s"', f'"{prefix}"'))
            folder = re.escape(prefix.partition("/")[0])
            pattern = rf'^solver\.prototxt: .*the folder "{folder}" is missing or not writable'
            assert re.search(pattern, error_of(*TRAIN, capsys=capsys))


# ---- shapes that change under a layer: kernels trust them --------------------------------------------------------


def test_backward_wants_the_shapes_of_the_last_forward():
    text = 'input: "x" input_shape { dim: 2 dim: 3 dim: 4 dim: 4 } force_backward: true layer { name: "l" bottom: "x" %s }'
    for layer in ('type: "ReLU" top: "y"', 'type: "LRN" top: "x"', 'type: "MVN" top: "y"', 'type: "ELU" top: "x"'):
        net = caffe.Net(text % layer, caffe.TRAIN)
        net.forward()
        net.backward()
        for reshape in (lambda: None, net.reshape):
            net.blobs["x"].reshape(300, 3, 40, 40)
            reshape()
            with pytest.raises(
                NetError, match=r'layer "l" .*was 2 x 3 x 4 x 4 .* now 300 x 3 x 40 x 40 .*run forward first'
            ):
                net.backward()
        net.blobs["x"].reshape(3, 2, 4, 4)  # of as many elements
        net.reshape()
        with pytest.raises(NetError, match="run forward first"):
            net.backward()
        net.forward()
        net.backward()


def test_an_mvn_in_place_may_add_axes():
    text = 'input: "x" input_shape { dim: 2 dim: 3 dim: 4 } force_backward: true '
    text += 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" } layer { name: "m" type: "MVN" bottom: "y" top: "y" }'
    net = caffe.Net(text, caffe.TRAIN)
    net.forward()
    net.backward()


@pytest.mark.parametrize(
    "layer",
    [
        'type: "Concat" bottom: "b"',
        'type: "Convolution" convolution_param { kernel_size: 1 pad: 1 num_output: 4 group: 4 }',
        'type: "Im2col" convolution_param { kernel_size: 3 pad: 1 }',
        'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }',
    ],
)
def test_a_layer_that_changes_the_shape_cannot_work_in_place(layer):
    text = 'input: "a" input_shape { dim: 2 dim: 4 dim: 4 dim: 4 } input: "b" input_shape { dim: 2 dim: 9 dim: 4 dim: 4 } '
    with pytest.raises(NetError, match=r'layer "l" .*cannot work in place: give "a" a name of its own'):
        caffe.Net(text + f'layer {{ name: "l" bottom: "a" {layer} top: "a" }}', caffe.TEST)


@pytest.mark.parametrize("type_", ["AbsVal", "Flatten", "Reshape", "Split"])
def test_a_type_that_caffe_refuses_in_place(type_):
    text = f'input: "x" input_shape {{ dim: 2 dim: 3 }} layer {{ name: "l" type: "{type_}" bottom: "x" top: "x" }}'
    with pytest.raises(NetError, match=r'layer "l" .*cannot work in place'):
        caffe.Net(text, caffe.TEST)
