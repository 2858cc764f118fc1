"""`check` on files with errors of syntax: each fault is reported, at its line, and nothing that only follows from it."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest

from pycaffe_lite import cli
from pycaffe_lite.check import check
from pycaffe_lite.check.findings import MAX_LINES
from pycaffe_lite.proto import NetParameter, recovery

from .test_prototxt import KIT_FILES

NET = """name: "net"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer {
  name: "conv"
  type: "Convolution"
  bottom: "x"
  top: "conv"
  param { lr_mult: 1 }
  param { lr_mult: 2 }
  convolution_param {
    num_output: 4
    kernel_size: 3
    weight_filler { type: "xavier" }
  }
}
layer {
  name: "relu"
  type: "ReLU"
  bottom: "conv"
  top: "conv"
}
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip" inner_product_param { num_output: 2 } }
"""


def layer(type: str, name: str, bottom: str, top: str) -> str:
    return f'layer {{ name: "{name}" type: "{type}" bottom: "{bottom}" top: "{top}" }}\n'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def errors_of(text: str, name: str = "net.prototxt") -> list[str]:
    """The findings for a file with that text, without `error: ` and its name. A warning is a failure."""
    Path(name).write_text(text)
    lines = check(name)[0].lines()
    assert all(line.startswith("error: ") for line in lines), lines
    return [line.removeprefix("error: ").removeprefix(f"{name}:") for line in lines]


# What is replaced (its only place in NET), by what, and the beginnings of the errors.
FAULTS = {
    "unknown field": ("kernel_size: 3", "kernel_siz: 3", ['12: layer "conv" (Convolution): ConvolutionParameter has no']),
    "unknown block": ('weight_filler { type: "xavier" }', 'filler { type: "x" a { b: [1, 2] } }', ["13: "]),
    "unknown field of a layer": ('  top: "conv"\n  param', '  tpo: "conv"\n  param', ["7: "]),
    "misspelt layer": ("layer {\n  name: \"conv\"", "layr {\n  name: \"conv\"", ["3: NetParameter has no field"]),
    "bad number": ("num_output: 4", "num_output: four", ["11: "]),
    "negative number": ("num_output: 4", "num_output: -4", ["11: "]),
    "bad enum": ("pool: MAX", "pool: LAST", ["22: "]),
    "enum in quotes": ("pool: MAX", 'pool: "MAX"', ["22: "]),
    "name without quotes": ('type: "ReLU"', "type: ReLU", ["18: "]),
    "bottom without quotes": ('bottom: "pool"', "bottom: pool", ["23: "]),
    "top without quotes": ('top: "pool"', "top: pool", ["22: "]),
    "no value": ("kernel_size: 3", "kernel_size:", ["13: "]),
    "no colon": ("num_output: 4", "num_output 4", ["11: "]),
    "duplicate": ('  type: "ReLU"', '  type: "ReLU"\n  type: "TanH"', ["19: "]),
    "duplicate block": ("  convolution_param {", "  convolution_param { }\n  convolution_param {", ["11: "]),
    "list": ("num_output: 4", "num_output: [4]", ["11: "]),
    "list that is not closed": ("kernel_size: 3", "kernel_size: [3", ["13: "]),
    "a bad item of a list": ("kernel_size: 3", "kernel_size: [3, x]", ["12: "]),
    "garbage": ('  name: "relu"', '  @@ %\n  name: "relu"', ["17: "]),
    "garbage outside": ('name: "net"', 'name: "net"\n= 3', ["2: "]),
    "prose": ('  name: "relu"', '  this is no field\n  name: "relu"', ["17: "]),
    "open string": ('name: "relu"', 'name: "relu', ["17: "]),
    "string without its first quote": ('name: "relu"', 'name: relu"', ["17: "]),
    "string without an end in a layer on one line": ('top: "pool"', 'top: "pool', ["22: "]),
    "bottom without an end in a layer on one line": ('bottom: "pool" top', 'bottom: "pool top', ["23: "]),
    "type without an end in a layer on one line": ('type: "InnerProduct"', 'type: "InnerProduct', ["23: "]),
    "missing brace of a layer": ('  top: "conv"\n}', '  top: "conv"\n', ['22: layer "relu" (ReLU): LayerParameter has no']),
    "missing brace of a field": ("xavier\" }\n  }", "xavier\" }\n", ["16: "]),
    "missing brace of a filler": ('"xavier" }', '"xavier"', ["16: "]),
    "missing brace at the end": ("num_output: 2 } }", "num_output: 2 }", ["23: "]),
    "missing two braces at the end": ("num_output: 2 } }", "num_output: 2", ["23: "]),
    "missing first brace": ("convolution_param {", "convolution_param", ["11: "]),
    "missing first brace of a layer": ("layer {\n  name: \"conv\"", "layer\n  name: \"conv\"", ["4: "]),
    "a brace too many": ('"xavier" }', '"xavier" } }', ["15: there is no open", "14: "]),
    "a brace too many in the middle": ("lr_mult: 1 }", "lr_mult: 1 } }", ["9: "]),
    "a brace too many at the end": ("num_output: 2 } }", "num_output: 2 } } }", ["23: "]),
    "a first brace too many": ("convolution_param {", "convolution_param { {", ["10: "]),
    "the other brace": ("num_output: 2 } }", "num_output: 2 > }", ["23: "]),
    "a layer in a layer": ('  name: "relu"', '  name: "relu" layer { name: "a" }', ["17: "]),
    "a bottom in the wrong block": ("kernel_size: 2 }", 'kernel_size: 2 bottom: "conv" }', ["22: "]),
    "a rule that is wrong": ('top: "ip"', 'top: "ip" include { phase: TESTING }', ["23: "]),
    "two commas": ("num_output: 4", "num_output: 4,,", ["11: "]),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_one_fault_is_one_error(name):
    old, new, expected = FAULTS[name]
    assert NET.count(old) == 1
    errors = errors_of(NET.replace(old, new))
    assert len(errors) == 1, errors
    assert any(errors[0].startswith(start) for start in expected), errors


def test_the_net_without_a_fault():
    assert errors_of(NET) == []


def test_faults_of_all_kinds_in_one_file():
    errors = errors_of(
        NET.replace('type: "ReLU"', 'type: "RelU"')
        .replace("kernel_size: 3", "kernel_siz: 3")
        .replace('bottom: "pool"', 'bottom: "pol"')
        .replace("pool: MAX", "pool: LAST")
    )
    assert [error.split(":")[0] for error in errors] == ["12", "16", "22", "23"]
    assert 'unknown layer type "RelU" (did you mean "ReLU"?)' in errors[1]
    assert 'bottom "pol" is not the top of any earlier layer (did you mean "pool"?)' in errors[3]


def test_several_faults_in_one_layer():
    faults = {"pol: MAX": '"pol"', "stride 2": '"stride"', "kernel_size: two": '"kernel_size"', "pad: 1 pad: x": '"pad"'}
    errors = errors_of(NET.replace("pool: MAX kernel_size: 2", "\n".join(faults)))
    assert [name in error for name, error in zip(faults.values(), errors, strict=True)] == [True] * 4


def test_a_layer_with_an_error_may_differ_from_another_in_what_was_not_read():
    data = '\nlayer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 }} }} {} }}'
    relu = '\nlayer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
    for rule in ("include { phase: TRIAN }", "include { phas: TRAIN }", "exclude { phase: TRIAN }", "exclude: 3"):
        for rules in ((rule, "include { phase: TEST }"), ("include { phase: TEST }", rule)):
            (error,) = errors_of("".join(map(data.format, rules)) + relu)
            assert 'layer "x"' in error


def test_an_old_net_with_an_error():
    text = 'input: "x" input_dim: [1, 3, 4, 4]\nlayers { name: "r" type: RELLU bottom: "x" top: "r" }\n'
    text += (
        'layers { name: "s" type: TANH bottom: "r" top: "s" foo: 1 }\nlayers { name: "t" type: TANH bottom: "u" top: "t" }'
    )
    errors = errors_of(text)
    assert [error.split(":")[0] for error in errors][:2] == ["2", "3"]


@pytest.mark.parametrize(
    "shape", ["input_shape { dim: 1 dim 2 dim: 8 dim: 8 }", "input_dim: [1, 2, 8, x]", "input_shpe { dim: 1 }"]
)
def test_an_input_outside_of_layers_that_cannot_be_read(shape):
    text = f'input: "x" {shape}\n' + layer("Pooling", "p", "x", "p") + layer("ReLU", "r", "q", "r")
    assert [error.split(":")[0] for error in errors_of(text)] == ["1", "3"]


def test_a_doubtful_layer_is_not_counted():
    (error,) = errors_of(NET.replace('bottom: "pool" top', 'propagate_down: true botom: "pool" top'))
    assert "botom" in error


def test_a_solver_with_an_error_and_errors_of_its_own_and_of_its_net():
    Path("net.prototxt").write_text(NET.replace('type: "ReLU"', 'type: "RelU"'))
    solver = 'net: "net.prototxt"\nbase_lr: abc\nlr_policy: "stp"\nmax_iter: 10\naverage_loss: 0\nbogus: 1\n'
    errors = errors_of(solver + 'snapshot_prefix: "s"\n', "solver.prototxt")
    assert [error.split(":")[0] for error in errors] == ["2", "3", "5", "6", "net.prototxt"]
    # what needs a field that was not read is not reported
    errors = errors_of('net: "net.prototxt"\nlr_policy: "step"\nstepsize: x\nsnapshot_prefix: "s"\n', "solver.prototxt")
    assert [error.split(":")[0] for error in errors] == ["3", "net.prototxt"]
    errors = errors_of('net: "net.prototxt"\nlr_policy: step\nsnapshot_prefix: "s"\n', "solver.prototxt")
    assert [error.split(":")[0] for error in errors] == ["2", "net.prototxt"]


def test_a_solver_whose_net_has_an_error_is_checked_too():
    Path("net.prototxt").write_text(NET.replace("num_output: 4", "num_output: x"))
    errors = errors_of(
        'net: "net.prototxt"\nlr_policy: "stp"\nmax_iter: 1\nbase_lr: 1\nsnapshot_prefix: "s"\n', "s.prototxt"
    )
    assert sorted(error.split(":")[0] for error in errors) == ["2", "net.prototxt"]


def test_a_net_in_a_solver_with_an_error():
    errors = errors_of(f'bogus: 1\nnet_param {{\n{NET.replace("ReLU", "RelU")}}}\nlr_policy: "fixed"\n', "solver.prototxt")
    assert [error.split(":")[0] for error in errors] == ["1", "18"]


def test_only_the_check_collects():
    text = "layer { a: 1 }\nlayer { b: 1 }\n"
    _, errors = recovery.parse_all(text, NetParameter(), "n")
    assert [error.where.line for error in errors] == [1, 2]


def test_the_number_of_errors_has_a_bound(capsys):
    _, errors = recovery.parse_all("layer { a: 1 }\n" * 10_000, NetParameter())
    assert len(errors) == recovery.MAX_ERRORS
    Path("net.prototxt").write_text("".join(f'layer {{ name: "l{i}" type: "Nope" }}\n' for i in range(1000)))
    assert cli.main(["check", "net.prototxt"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == MAX_LINES + 2
    assert lines[-2] == f"... and {1000 - MAX_LINES} more"
    assert lines[-1] == "net.prototxt: 1000 errors, no warnings"


@pytest.mark.parametrize(
    "unit", ["layer { ", "foo: 1 ", "} ", "{ ", "[ ", '"', "name: ", "layer { a: 1 } ", "layer\n", "<", "'\n"]
)
@pytest.mark.parametrize("start", ["", "layer { ", "layer { bottom: [", 'name: "'])
def test_hostile_text_takes_linear_time(start, unit):
    begin = time.perf_counter()
    _, errors = recovery.parse_all(start + unit * 50_000, NetParameter())
    assert time.perf_counter() - begin < 10  # anything worse than linear would take minutes
    assert len(errors) <= recovery.MAX_ERRORS


PIECES = [
    "{",
    "}",
    "<",
    ">",
    "[",
    "]",
    ":",
    ",",
    "'",
    '"',
    "\\",
    "#",
    "-",
    "9" * 30,
    "\n",
    "layer",
    "layer {",
    "e",
    "\x01",
    "",
]


def test_damaged_files_end_in_findings():
    """Whatever is damaged: no crash, no hang, and lines of the file."""
    chance = random.Random(1)
    texts = [NET, *(path.read_text(encoding="utf-8") for path in KIT_FILES[::20])]
    counts = []
    for _ in range(300):
        text = chance.choice(texts)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(text) + 1)
            text = text[:at] + chance.choice(PIECES) + text[at + chance.choice([0, 0, 1, 5, 40]) :]
        Path("net.prototxt").write_text(text)
        findings, _ = check("net.prototxt")
        lines = [int(line) for line in re.findall(r"^error: net\.prototxt:(\d+)", "\n".join(findings.lines()), re.MULTILINE)]
        assert all(1 <= line <= text.count("\n") + 1 for line in lines)
        counts.append(len(findings.errors))
    assert sum(map(bool, counts)) > 100
    assert max(counts) <= MAX_LINES
