"""The command line: flags, exit statuses, what is printed, signals, and the progress bar of a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import cli, glog, pycaffe
from pycaffe_lite.errors import PrototxtError
from pycaffe_lite.proto import model_file

TIMEOUT = 60.0  # seconds, for what takes two or three
COMMAND = [sys.executable, "-m", "pycaffe_lite"]

NET = """name: "tiny"
layer { name: "data" type: "HDF5Data" top: "x" top: "y" hdf5_data_param { source: "data.txt" batch_size: 4 } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "staged" type: "Power" bottom: "ip" top: "staged" include { stage: "extra" min_level: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" solver_mode: CPU random_seed: 1 snapshot_prefix: "s" '
FOREVER = SOLVER + "max_iter: 1000000000 display: 100 "


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of its own with a data set, net.prototxt, and solver.prototxt of four iterations."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    with h5py.File("data.h5", "w") as file:
        file["x"], file["y"] = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
    Path("data.txt").write_text("data.h5\n")
    Path("net.prototxt").write_text(NET)
    write_solver("max_iter: 4 display: 2 ")
    yield tmp_path
    glog.set_min_level(0)
    glog.quiet_stderr(False)


def write_solver(text: str, head: str = SOLVER) -> None:
    Path("solver.prototxt").write_text(head + text)


def run(*words: str) -> int:
    return cli.main([*words])


def messages(text: str) -> list[str]:
    """Lines of a log without their stamps."""
    return [line.split("] ", 1)[1] for line in text.splitlines() if re.match(r"[IWE]\d{4} ", line)]


def only_error(capsys) -> str:
    """The one line, other than the log's, that a failed command leaves."""
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if not re.match(r"[IW]\d{4} ", line)]
    assert "Traceback" not in err
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def make_model(path: str, value: float) -> None:
    net = caffe.Net("net.prototxt", caffe.TEST)
    net.params["ip"][0].data[...] = value
    net.save(path)


# ---- flags --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["train", "-solver", "solver.prototxt"],
        ["train", "--solver", "solver.prototxt"],
        ["train", "-solver=solver.prototxt"],
        ["train", "--solver=solver.prototxt"],
        ["--solver=solver.prototxt", "train"],
        ["-solver", "solver.prototxt", "train", "-logtostderr"],
        ["train", "-logtostderr=1", "-minloglevel", "0", "-solver=solver.prototxt", "-v=2", "--alsologtostderr"],
    ],
    ids=" ".join,
)
def test_spellings_of_gflags(words, capsys):
    assert run(*words) == 0
    assert messages(capsys.readouterr().err)[-1].startswith("Optimization Done")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--solvr", "x"], 'unknown flag "--solvr" (did you mean "solver"?)'),
        (["train", "-wieghts=x"], 'unknown flag "--wieghts=x" (did you mean "weights"?)'),
        (["train", "-verbose"], 'unknown flag "--verbose"'),
        (["train", "--solver", "a", "b"], 'unknown argument "b"'),
        (["train", "--sol", "a"], 'unknown flag "--sol"'),
        (["train", "--solver"], "expected one argument"),
        (["train", "--gpus", "0", "x"], 'expected the number of a device, received "x"'),
        (["train", "--level", "high"], "invalid int value: 'high'"),
        (["train", "--sigint_effect", "explode"], "invalid choice: 'explode'"),
        (["train", "--logtostderr=perhaps"], 'expected true or false, received "perhaps"'),
        (["test", "--iterations", "x"], "invalid int value: 'x'"),
        (["time", "--phase", "train"], "invalid choice: 'train'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*words)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert f"pycaffe_lite {words[0]} --help" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "--solver", "solver.prototxt"], 'no command "trian" (did you mean "train"?)'),
        (["devicequery"], 'no command "devicequery" (did you mean "device_query"?)'),
        (["solver.prototxt", "train"], 'no command "solver.prototxt"'),
        (["--solver", "solver.prototxt"], "no command among --solver solver.prototxt"),
        (["_flags"], 'no command "_flags"'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unknown_commands(words, message, capsys):
    assert run(*words) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert not out
    assert all(f"  {name} " in err for name in cli.command_names())


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-help"], ["-h"]], ids=" ".join)
def test_help_lists_the_commands(words, capsys):
    assert run(*words) == 0
    out = capsys.readouterr().out
    for name in cli.command_names():
        assert re.search(rf"^  {name} +[A-Z].*\S", out, re.MULTILINE), name


def test_help_has_groups(capsys):
    """Each command is listed once, under the group that it names."""
    assert run("help") == 0
    listed: dict[str, list[str]] = {}
    for line in capsys.readouterr().out.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            listed[line[:-1]] = []
        elif line.startswith("  "):
            listed[list(listed)[-1]].append(line.split()[0])
    assert tuple(listed) == cli.GROUPS
    assert sorted(name for names in listed.values() for name in names) == cli.command_names()
    for name in cli.command_names():
        group = importlib.import_module(f"pycaffe_lite.cli.{name}").GROUP
        assert name in listed[group]
        assert cli.describe(name).group == group


FLAGS = {
    "summary": ["model", "weights", "written", "phase"],
    "train": ["solver", "snapshot", "weights", "gpu", "gpus", "timing", "level", "stage", "sigint_effect", "log_dir"],
    "test": ["model", "weights", "iterations", "gpu", "level", "stage"],
    "time": ["model", "iterations", "phase", "gpu", "level", "stage"],
    "device_query": ["gpu"],
}


@pytest.mark.parametrize("name", cli.command_names())
def test_help_of_each_command(name, capsys):
    for word in ("--help", "-h", *(["-help"] if name in FLAGS else [])):
        try:
            status = run(name, word)
        except SystemExit as end:
            status = end.code
        assert status == 0
        out = capsys.readouterr().out
        assert name in out
        for flag in FLAGS.get(name, []):
            assert f"--{flag}" in out


@pytest.mark.parametrize("word", ["--version", "-version"])
def test_version(word, capsys):
    assert run(word) == 0
    assert capsys.readouterr().out == f"pycaffe_lite {caffe.__version__}\n"


# ---- failures -----------------------------------------------------------------------------------------------------

FAILURES = {
    "train": "train needs --solver",
    "train --solver gone.prototxt": "gone.prototxt: cannot read this file: No such file",
    "train --solver solver.prototxt --snapshot a --weights b": "--snapshot to resume or --weights to fine-tune, not both",
    "train --solver solver.prototxt --snapshot gone.solverstate": "gone.solverstate: there is no such file",
    "train --solver solver.prototxt --weights gone.caffemodel": "gone.caffemodel: there is no such file",
    "train --solver net.prototxt": "net.prototxt:1: ",
    "train --solver solver.prototxt --gpu 0": "--gpu 0: cupy is not installed; install the extra",
    "train --solver solver.prototxt --gpu all": "--gpu all: cupy is not installed; install the extra",
    "test --model net.prototxt": "test needs --model",
    "test --weights w.caffemodel": "test needs --model",
    "test --model gone.prototxt --weights w.caffemodel": "gone.prototxt: cannot read",
    "test --model net.prototxt --weights gone.caffemodel": "gone.caffemodel: there is no such file",
    "test --model net.prototxt --weights w.caffemodel --iterations 0": "--iterations is at least 1, received 0",
    "test --model net.prototxt --weights w.caffemodel --gpu 1": "--gpu 1: cupy is not installed",
    "test --model solver.prototxt --weights w.caffemodel": "this looks like a solver",
    "time": "time needs --model",
    "time --model net.prototxt --iterations -1": "--iterations is from 1 to 1000000, received -1",
    "time --model net.prototxt --gpu 0": "--gpu 0: cupy is not installed",
    "device_query --gpu 0": "--gpu 0: cupy is not installed",
}


@pytest.fixture
def no_cupy(monkeypatch):
    monkeypatch.setattr("pycaffe_lite.device.cuda.importlib.util.find_spec", lambda name: None)


@pytest.mark.parametrize("line", FAILURES)
def test_a_failure_is_one_line_and_a_status(line, capsys, no_cupy):
    assert run(*line.split()) == 1
    assert FAILURES[line] in only_error(capsys)


# Each command with input that is broken, and how its error begins. `junk` is a file of all bytes, `junk/` a folder.
MODEL = "--model_def=junk --pretrained_model=junk --mean_file="
BROKEN = {
    "check": "junk -> error: junk: this is no prototxt but a binary file",
    "classify": f"junk out.npy {MODEL} -> error: junk: this is no prototxt but a binary file",
    "compute_image_mean": "-backend=lmdb junk out -> error: junk: expected the folder of a database, but it is a file",
    "convert_cifar_data": "folder out lmdb -> error: folder/data_batch_1.bin: expected one or more records of 3073 bytes",
    "convert_imageset": "-backend lmdb folder/ junk db -> error: junk:1: expected a path and an integer label",
    "convert_mnist_data": "--backend=lmdb junk junk db -> error: junk: is no idx file",
    "convert_mnist_siamese_data": "-backend lmdb junk junk db -> error: junk: is no idx file",
    "detect": f"junk.csv out.csv {MODEL} -> error: junk: this is no prototxt but a binary file",
    "device_query": "-gpu=0 -> error: --gpu 0: cupy is not installed",
    "download_model_binary": "folder -> error: folder/readme.md: there is no such file",
    "draw_net": "junk out.png -> error: junk: this is no prototxt but a binary file",
    "extract_features": "junk empty.prototxt x db 1 lmdb -> error: junk: expected a NetParameter in binary form",
    "warmup": "junk -> error: junk: this is no prototxt but a binary file",
    "extract_seconds": "junk out -> error: junk: no line has both a time stamp",
    "get_cifar10": "--from=folder --to=folder -> error: folder",
    "get_mnist": "--from=folder --to=folder -> error: folder",
    "kernels": "junk -> pycaffe_lite kernels: unknown argument",
    "parse_log": "junk out -> error: junk: has no outputs of a net",
    "plot_embedding": "--model=junk --weights=junk --images=junk --labels=junk --out=out.png -> error: junk: is no idx file",
    "plot_training_log": '6 out.png junk -> error: log "junk" has nothing for the chart',
    "resize_and_crop_images": "-input_folder=folder -output_folder=out -> error: folder: names no images",
    "run": "gone.py -> error: there is no script gone.py",
    "summarize": "junk -> error: junk: this is no prototxt but a binary file",
    "summary": "junk -> error: junk: this is no prototxt but a binary file",
    "synthetic_cifar10": "--to=junk -> error: ",
    "synthetic_digits": "--to=junk -> error: ",
    "test": "-model empty.prototxt -weights junk -> error: junk: expected a NetParameter in binary form",
    "time": "-model=junk -> error: junk: this is no prototxt but a binary file",
    "train": "-solver junk -> error: junk: this is no prototxt but a binary file",
    "upgrade_net_proto_binary": "junk out -> error: junk: expected a NetParameter in binary form",
    "upgrade_net_proto_text": "junk out -> error: junk: this is no prototxt but a binary file",
    "upgrade_solver_proto_text": "junk out -> error: junk: this is no prototxt but a binary file",
}


@pytest.mark.parametrize("name", cli.command_names())
def test_broken_input_gives_one_line_and_a_status(name, capsys, no_cupy):
    Path("junk").write_bytes(bytes(range(256)) * 40)
    Path("junk.csv").write_bytes(Path("junk").read_bytes())
    Path("empty.prototxt").write_text("")
    Path("folder").mkdir()
    Path("folder/data_batch_1.bin").write_bytes(b"x" * 100)
    before = sorted(map(str, Path().rglob("*")))
    line, expected = BROKEN[name].split(" -> ")
    try:
        status = run(name, *line.split())
    except SystemExit as ended:
        status = ended.code
    assert status in (1, 2)
    out, err = capsys.readouterr()
    lines = [line for line in (out + err).splitlines() if line.startswith(("error: ", f"pycaffe_lite {name}: "))]
    assert len(lines) == 1
    assert lines[0].startswith(expected)
    assert "Traceback" not in err
    assert sorted(map(str, Path().rglob("*"))) == before  # nothing half done is left


def test_flags_of_a_script_are_its_own(monkeypatch):
    seen = []
    monkeypatch.setattr("pycaffe_lite.cli.run.main", lambda argv: seen.append(argv))
    for words in (
        "run s.py --traceback -x",
        "run --traceback s.py --traceback",
        "run -m m --traceback",
        "--traceback run s.py",
    ):
        assert run(*words.split()) == 0
    assert seen == [["s.py", "--traceback", "-x"], ["s.py", "--traceback"], ["-m", "m", "--traceback"], ["s.py"]]


def test_traceback_shows_where_an_error_came_up(capsys):
    with pytest.raises(PrototxtError):
        run("train", "--solver", "gone.prototxt", "--traceback")
    done = subprocess.run(
        [*COMMAND, "train", "-traceback", "-solver=gone"], capture_output=True, text=True, timeout=TIMEOUT, env=env()
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "PrototxtError: gone: cannot read this file" in done.stderr.splitlines()[-1]


def test_an_interrupt_is_no_traceback(capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    assert cli.call(interrupted, []) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_error_without_a_text_still_says_what_it_is(capsys):
    def out_of_memory(argv):
        raise MemoryError

    assert cli.call(out_of_memory, []) == 1
    assert capsys.readouterr().err == "error: MemoryError\n"


# ---- the commands -------------------------------------------------------------------------------------------------


def test_train_trains_and_leaves_a_snapshot(capsys):
    assert run("train", "--solver=solver.prototxt") == 0
    lines = messages(capsys.readouterr().err)
    assert "Starting Optimization" in lines
    assert [line for line in lines if line.startswith("Iteration 2 (")]
    assert lines[-1].startswith("Optimization Done")
    assert {path.name for path in Path().glob("s_*")} == {"s_iter_4.caffemodel", "s_iter_4.solverstate"}


def test_train_resumes(capsys):
    write_solver("max_iter: 4 snapshot: 2 momentum: 0.9 ")
    run("train", "--solver=solver.prototxt")
    through = Path("s_iter_4.caffemodel").read_bytes()
    Path("s_iter_4.caffemodel").unlink()
    capsys.readouterr()
    assert run("train", "--solver=solver.prototxt", "--snapshot=s_iter_2.solverstate") == 0
    assert "Resuming from s_iter_2.solverstate" in messages(capsys.readouterr().err)
    assert Path("s_iter_4.caffemodel").read_bytes() == through


def test_train_takes_weights_from_several_models():
    make_model("a.caffemodel", 1)
    make_model("b.caffemodel", 2)
    write_solver("max_iter: 0 ")
    for weights, value in (("a.caffemodel,b.caffemodel", 2), ("b.caffemodel,a.caffemodel", 1)):
        assert run("train", "--solver=solver.prototxt", f"--weights={weights}") == 0
        (layer,) = [layer for layer in model_file.read_layers("s_iter_0.caffemodel") if layer.name == "ip"]
        assert set(layer.blobs[0].data) == {value}


def test_train_takes_the_flags_of_train_py(capsys, no_cupy, monkeypatch):
    """`--gpus 0 1` trains on the CPU and says so, or is refused; `--timing` shows each layer with every display."""
    monkeypatch.delenv("PYCAFFE_LITE_STRICT_GPU", raising=False)
    monkeypatch.setattr(pycaffe.use_gpu_or_warn, "said", False, raising=False)
    assert run("train", "--solver", "solver.prototxt", "--gpus", "0", "1", "--timing") == 0
    err = capsys.readouterr().err
    (warning,) = re.findall(r"^W.*", err, re.MULTILINE)
    assert "cupy is not installed" in warning
    assert "CPU" in warning
    times = [line for line in messages(err) if re.match(r"forw|back|updt|solver total", line)]
    expected = [
        *(f"forw {i:3d} {name:>8} : " for i, name in enumerate(["data", "ip", "loss"])),
        *(f"back {i:3d} {name:>8} : " for i, name in [(2, "loss"), (1, "ip"), (0, "data")]),
        "updt   1       ip : ",
        "solver total: ",
    ]
    assert len(times) == 2 * len(expected)  # displays of iterations 0 and 2
    for line, start in zip(times, 2 * expected):
        assert re.fullmatch(re.escape(start) + r"\d+\.\d\d", line)
    monkeypatch.setenv("PYCAFFE_LITE_STRICT_GPU", "1")
    assert run("train", "--solver", "solver.prototxt", "--gpus", "0") == 1
    assert "cupy is not installed" in only_error(capsys)


def test_timing_needs_a_display(capsys):
    write_solver("max_iter: 4 ")
    assert run("train", "--solver", "solver.prototxt", "--timing") == 1
    assert "solver.prototxt: --timing" in only_error(capsys)


@pytest.mark.parametrize(
    "words", [[], ["--level=1"], ["--stage=extra"], ["--level", "2", "--stage", "other,extra"]], ids=" ".join
)
def test_level_and_stage_choose_layers(words, capsys):
    make_model("w.caffemodel", 1)
    for command in (
        "train --solver solver.prototxt",
        "test --model net.prototxt --weights w.caffemodel",
        "time --model net.prototxt",
    ):
        few = ["--iterations=1"] if "model" in command else []
        assert run(*command.split(), *words, *few) == 0
        lines = messages(capsys.readouterr().err)
        assert any(line.startswith("Setting up staged") for line in lines) == (len(words) == 4)


def test_test_scores_a_model(capsys):
    make_model("w.caffemodel", 0.5)
    net = caffe.Net("net.prototxt", "w.caffemodel", caffe.TEST)
    losses = [float(net.forward()["loss"]) for _ in range(3)]
    assert losses[0] != losses[1]
    capsys.readouterr()
    assert run("test", "-model=net.prototxt", "-weights=w.caffemodel", "-iterations=3") == 0
    lines = messages(capsys.readouterr().err)
    mean = f"{np.mean(losses):g}"
    assert lines[lines.index("Running for 3 iterations.") :] == [
        "Running for 3 iterations.",
        *[f"Batch {i}, loss = {loss:g}" for i, loss in enumerate(losses)],
        f"Loss: {mean}",
        f"loss = {mean} (* 1 = {mean} loss)",
    ]


def test_test_shows_every_element_of_every_output(capsys):
    Path("net.prototxt").write_text(
        'layer { name: "in" type: "DummyData" top: "b" top: "a" dummy_data_param { shape { dim: 2 } '
        "data_filler { value: 3 } data_filler { value: 4 } } }"
    )
    caffe.Net("net.prototxt", caffe.TEST).save("w.caffemodel")
    capsys.readouterr()
    assert run("test", "--model=net.prototxt", "--weights=w.caffemodel", "--iterations=1") == 0
    lines = messages(capsys.readouterr().err)
    one = ["a = 4", "a = 4", "b = 3", "b = 3"]
    assert lines[-9:] == [*(f"Batch 0, {line}" for line in one), "Loss: 0", *one]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_time_measures_each_layer_and_the_whole(phase, capsys):
    assert run("time", "--model=net.prototxt", "--iterations=2", f"--phase={phase}") == 0
    lines = messages(capsys.readouterr().err)
    number = r"\d[\d.e+-]*"
    expected = [
        "Performing Forward",
        f"Initial loss: {number}",
        "Performing Backward",
        r"\*\*\* Benchmark begins \*\*\*",
        "Testing for 2 iterations.",
        *[f"Iteration: {i} forward-backward time: {number} ms." for i in (1, 2)],
        "Average time per layer: ",
        *[rf" *{name}\t{way}: {number} ms\." for name in ("data", "ip", "loss") for way in ("forward", "backward")],
        f"Average Forward pass: {number} ms.",
        f"Average Backward pass: {number} ms.",
        f"Average Forward-Backward: {number} ms.",
        f"Total Time: {number} ms.",
        r"\*\*\* Benchmark ends \*\*\*",
    ]
    assert len(lines[-len(expected) :]) == len(expected)
    for line, pattern in zip(lines[-len(expected) :], expected, strict=True):
        assert re.fullmatch(pattern, line), line


def test_device_query_shows_what_there_is(capsys, no_cupy):
    assert run("device_query") == 0
    out = capsys.readouterr().out
    assert re.search(r"^CPU: .*, \d+ threads$", out, re.MULTILINE)
    assert re.search(r"^BLAS: \w+ [\d.]+, ", out, re.MULTILINE)
    assert "CUDA: 0 devices; cupy is not installed; install the extra for your CUDA: pip install" in out


# ---- the log ------------------------------------------------------------------------------------------------------


def test_log_dir_keeps_the_log_as_well(capsys):
    assert run("train", "--solver=solver.prototxt", "--log_dir=logs/today") == 0
    log = Path("logs/today/pycaffe_lite.INFO")
    assert re.fullmatch(r"pycaffe_lite\..*\.log\.INFO\.\d{8}-\d{6}\.\d+", log.resolve().name)
    assert messages(log.read_text()) == messages(capsys.readouterr().err)
    assert any(line.startswith("Optimization Done") for line in messages(log.read_text()))


def test_a_log_dir_that_cannot_be_made_is_an_error(capsys):
    assert run("train", "--solver=solver.prototxt", "--log_dir=data.txt/logs") == 1
    assert "data.txt" in only_error(capsys)
    assert not list(Path().glob("s_*"))


def test_minloglevel_hides_the_log(capsys):
    assert run("train", "--solver=solver.prototxt", "--minloglevel=1") == 0
    assert capsys.readouterr().err == ""


def test_a_reader_that_goes_away_does_not_end_training():
    """As in `pycaffe_lite train ... 2>&1 | head`."""
    write_solver("max_iter: 20 display: 1 ")
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen([*COMMAND, "train", "--solver=solver.prototxt"], stderr=write, env=env())
    os.close(write)
    assert process.wait(TIMEOUT) == 0
    assert Path("s_iter_20.solverstate").exists()


# ---- signals ------------------------------------------------------------------------------------------------------


def env() -> dict[str, str]:
    """For a process of its own: it imports this package, and takes one of the machine's cores."""
    return {**os.environ, "PYTHONPATH": str(Path(caffe.__file__).parents[1]), "NUMBA_NUM_THREADS": "1"}


class Process:
    """A training run whose log is watched."""

    def __init__(self, *words: str):
        self.log = Path("stderr.txt")
        with self.log.open("w") as file:
            command = [*COMMAND, "train", "--solver=solver.prototxt", *words]
            self.popen = subprocess.Popen(command, stderr=file, env=env())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.kill()
        self.popen.wait()

    def wait_for(self, pattern: str, times: int = 1) -> None:
        end = time.monotonic() + TIMEOUT
        while len(re.findall(pattern, self.log.read_text())) < times:
            assert self.popen.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < end, self.log.read_text()[-2000:]
            time.sleep(0.02)

    def wait_for_more(self) -> None:
        """Waits until another line is displayed."""
        self.wait_for(r"iters\), loss", len(re.findall(r"iters\), loss", self.log.read_text())) + 1)

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def end(self) -> str:
        """Waits for the end, and returns the log."""
        self.popen.wait(TIMEOUT)
        return self.log.read_text()


def snapshots() -> list[int]:
    """The iterations of all snapshots; each has both of its files, and nothing else is left."""
    assert not list(Path().glob(".*.tmp"))
    numbers = [
        {int(path.stem.rsplit("_", 1)[1]) for path in Path().glob(f"s_iter_*.{kind}")}
        for kind in ("caffemodel", "solverstate")
    ]
    assert numbers[0] == numbers[1]
    return sorted(numbers[0])


def test_sighup_snapshots_and_sigint_stops(capsys):
    write_solver("momentum: 0.9 ", FOREVER)
    with Process() as process:
        process.wait_for(r"Iteration 100 \(")
        process.send(signal.SIGHUP)
        process.wait_for("Snapshotting solver state")
        process.wait_for_more()
        assert len(snapshots()) == 1
        process.send(signal.SIGINT)
        lines = messages(process.end())
    assert process.popen.returncode == 0
    assert lines[-1] == "Optimization stopped early."
    assert lines[-2] == f"Snapshotting solver state to binary proto file s_iter_{snapshots()[-1]}.solverstate"
    first, last = snapshots()
    assert 100 <= first < last
    write_solver(f"momentum: 0.9 max_iter: {last + 1} ")
    assert run("train", "--solver=solver.prototxt", f"--snapshot=s_iter_{last}.solverstate") == 0
    assert snapshots() == [first, last, last + 1]


def test_a_second_sigint_stops_at_once():
    write_solver("iter_size: 1000000000 ", FOREVER)  # an iteration that does not end
    with Process() as process:
        process.wait_for("Solving tiny")
        process.send(signal.SIGINT)
        time.sleep(0.3)
        assert process.popen.poll() is None
        process.send(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.popen.wait(10)
        if process.popen.poll() is None:  # on a busy machine both came at once, and counted as one
            process.send(signal.SIGINT)
        log = process.end()
    assert process.popen.returncode == 130
    assert log.endswith("\ninterrupted\n")
    assert "Traceback" not in log
    assert snapshots() == []


def test_sigint_effect_snapshot_and_sighup_effect_stop():
    write_solver("", FOREVER)
    with Process("--sigint_effect=snapshot", "-sighup_effect", "stop") as process:
        for count in (1, 2):
            process.wait_for_more()
            process.send(signal.SIGINT)
            process.wait_for("Snapshotting solver state", count)
        process.wait_for_more()
        process.send(signal.SIGHUP)
        assert messages(process.end())[-1] == "Optimization stopped early."
    assert process.popen.returncode == 0
    assert len(snapshots()) == 3


def test_sigint_effect_none():
    write_solver("snapshot_after_train: false ", FOREVER)
    with Process("--sigint_effect=none", "--sighup_effect=stop") as process:
        for _ in range(3):
            process.wait_for_more()
            process.send(signal.SIGINT)
        process.wait_for_more()
        process.send(signal.SIGHUP)
        process.end()
    assert process.popen.returncode == 0
    assert snapshots() == []


# ---- a terminal ---------------------------------------------------------------------------------------------------

# A shell makes the terminal the one that controls its jobs; a closed terminal then sends SIGHUP.
ON_TERMINAL = (
    "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from pycaffe_lite import cli; sys.exit(cli.main())"
)


class Terminal:
    """A training run on a pseudo-terminal of so many columns."""

    def __init__(self, *words: str, columns: int = 80):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
        command = [sys.executable, "-c", ON_TERMINAL, "train", "--solver=solver.prototxt", *words]
        self.popen = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=env())
        os.close(slave)
        self.text = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.popen.kill()
        self.popen.wait()

    def read(self, until: str | None = None) -> str:
        """All that is written until the end, or until a pattern has appeared."""
        end = time.monotonic() + TIMEOUT
        while until is None or not re.search(until, self.text):
            assert select.select([self.master], [], [], max(0, end - time.monotonic()))[0], self.text
            try:
                self.text += os.read(self.master, 65536).decode()
            except OSError:  # Linux says so at the end
                break
        return self.text

    def close(self) -> None:
        os.close(self.master)


def screen(text: str) -> list[str]:
    """The lines that are left on a terminal: a carriage return goes back to the start of the line."""
    lines = []
    for line in text.split("\r\n"):
        cells: list[str] = []
        for part in line.split("\r"):
            cells[: len(part)] = part
        lines.append("".join(cells).rstrip())
    return lines


def test_a_terminal_shows_a_bar_and_the_log_goes_to_a_file():
    Path("run").mkdir()
    write_solver(
        'max_iter: 300 display: 100 test_iter: 2 test_interval: 150 snapshot_prefix: "run/s" ',
        SOLVER.replace('snapshot_prefix: "s"', ""),
    )
    with Terminal() as terminal:
        lines = screen(terminal.read())
        assert terminal.popen.wait(TIMEOUT) == 0
    (log,) = Path("run").glob("*.log")
    assert lines[0] == f"log: {log}"
    for line, iteration in zip(lines[1:4], (0, 150, 300)):
        assert re.fullmatch(rf"iteration {iteration}, test net: loss [\d.e+-]+", line)
    assert re.fullmatch(r"100%\|\S+\| 300/300 \[\d\d:\d\d<00:00, +[\d.]+iter/s, loss [\d.e+-]+, lr 0\.01\]", lines[4])
    assert lines[5:] == ["last snapshot: run/s_iter_300.solverstate", ""]
    assert all(len(line) <= 80 for line in lines)
    assert not re.search(r"[IW]\d{4} ", terminal.text)
    assert re.search(r"\d\d:\d\d<\d\d:\d\d, [^\r]*loss [^\r]*, lr 0\.01", terminal.text)  # while it ran
    logged = messages(log.read_text())
    for line in ("Solving tiny", "Iteration 150, Testing net (#0)", "Iteration 100, lr = 0.01"):
        assert line in logged
    assert logged[-1].startswith("Optimization Done")


def test_warnings_and_errors_stand_on_lines_of_their_own(monkeypatch):
    """The second data file is missing, so that the run ends after two iterations."""
    Path("data.txt").write_text("data.h5 gone.h5\n")
    write_solver("max_iter: 100 snapshot: 1 ", SOLVER.replace("CPU", "GPU"))
    with Terminal() as terminal:
        lines = screen(terminal.read())
        assert terminal.popen.wait(TIMEOUT) == 1
    assert any(line.startswith("W") and "GPU" in line for line in lines)
    assert lines[-3].startswith("last snapshot: s_iter_")
    assert lines[-2].startswith('error: net.prototxt:2: layer "data" (HDF5Data): ')
    assert "gone.h5" in "".join(lines[-2:])
    assert "Traceback" not in terminal.text


def test_ctrl_c_on_a_terminal_says_where_to_go_on():
    write_solver("", FOREVER)
    with Terminal(columns=0) as terminal:  # some pseudo-terminals have no width
        terminal.read(until=r"\d+/1000000000 .*loss")
        os.write(terminal.master, b"\x03")
        lines = screen(terminal.read())
        assert terminal.popen.wait(TIMEOUT) == 0
    (iteration,) = snapshots()
    assert lines[-2:] == [f"last snapshot: s_iter_{iteration}.solverstate", ""]


def test_training_survives_its_terminal():
    """The terminal closes: SIGHUP asks for a snapshot, and nobody reads what is printed."""
    write_solver("max_iter: 4000 display: 1 ")
    with Terminal() as terminal:
        terminal.read(until=r"\d+/4000 .*loss")
        terminal.close()
        assert terminal.popen.wait(TIMEOUT) == 0
    assert len(snapshots()) == 2
    assert snapshots()[1] == 4000
    (log,) = Path().glob("*.log")
    assert messages(log.read_text())[-1].startswith("Optimization Done")


def test_logtostderr_shows_the_log_on_a_terminal():
    with Terminal("--logtostderr") as terminal:
        lines = screen(terminal.read())
        assert terminal.popen.wait(TIMEOUT) == 0
    assert messages("\n".join(lines))[-1].startswith("Optimization Done")
    assert not list(Path().glob("*.log"))
    assert "%|" not in terminal.text


def test_a_missing_folder_is_not_made_for_the_log():
    write_solver('max_iter: 2 snapshot_prefix: "gone/s" ', SOLVER.replace('snapshot_prefix: "s"', ""))
    with Terminal() as terminal:
        lines = screen(terminal.read())
        assert terminal.popen.wait(TIMEOUT) == 1
    assert lines[0].startswith("error: ")
    assert '"gone"' in lines[0]
    assert not Path("gone").exists()
