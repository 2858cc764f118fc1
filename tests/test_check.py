"""`pycaffe_lite check`: every error of a net or a solver with its line, warnings, and shapes without data."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from pycaffe_lite import cli, glog
from pycaffe_lite.check import check
from pycaffe_lite.data.database_writer import create_database
from pycaffe_lite.io import array_to_datum
from pycaffe_lite.proto import prototxt
from pycaffe_lite.proto.caffe_pb2 import TEST, TRAIN

KIT = Path(os.environ.get("PYCAFFE_LITE_CONFORMANCE") or "nowhere")

INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }\n'
IP = 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 5 } }\n'
SOLVER = 'net: "net.prototxt"\nbase_lr: 0.1\nlr_policy: "fixed"\nmax_iter: 10\nsnapshot_prefix: "s"\n'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def found(text: str, name: str = "net.prototxt", **options) -> tuple[list[str], list[str]]:
    """Errors and warnings of a file with that text, without its name."""
    Path(name).write_text(text)
    findings, _ = check(name, **options)
    lines = [line.replace(f"{name}:", "") for line in findings.lines()]
    errors, warnings = ([line for line in lines if line.startswith(kind)] for kind in ("error", "warning"))
    return errors, warnings


def shapes(text: str, phase: int = TEST) -> dict[str, tuple[int, ...] | None]:
    Path("net.prototxt").write_text(text)
    _, tables = check("net.prototxt", [phase])
    return {row.top: row.shape for rows in tables.values() for row in rows}


def make_database(count: int, shape: tuple[int, ...] = (3, 10, 12)) -> None:
    with create_database("db", "lmdb") as writer:
        for i in range(count):
            datum = array_to_datum(np.zeros(shape, np.uint8), 1)
            writer.put(b"%05d" % i, datum.SerializeToString())


def data(more: str = "", param: str = "batch_size: 4", top: str = 'top: "x" top: "l"') -> str:
    return f'layer {{ name: "d" type: "Data" {top} data_param {{ source: "db" {param} }} {more} }}\n'


# ---- nets ---------------------------------------------------------------------------------------------------------


def test_reports_every_error_with_its_line_and_hint():
    errors, warnings = found(
        INPUT
        + IP
        + """layer { name: "a" type: "ReLu" bottom: "ip" top: "a" }
layer { name: "b" type: "Sigmoid" bottom: "ipp" top: "b" }
layer { name: "c" type: "TanH" bottom: "ipp" top: "c" }
layer { name: "d" type: "Eltwise" bottom: "b" top: "d" }
layer { name: "e" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "f" type: "Convolution" bottom: "x" top: "f" convolution_param { num_output: 5 kernel_size: 9 } }
layer { name: "g" type: "InnerProduct" bottom: "f" top: "g" inner_product_param { num_output: 5 } }
layer { name: "h" type: "Power" bottom: "x" top: "h" include { phase: TEST } exclude { stage: "s" } }
layer { name: "i" type: "Slice" bottom: "x" top: "i" top: "j" slice_param { slice_point: 1 slice_point: 0 } }
"""
    )
    for line, hint in [
        (3, 'did you mean "ReLU"'),
        (4, 'bottom "ipp" is not the top of any earlier layer (did you mean "ip"?)'),
        (5, 'bottom "ipp" is not the top of any earlier layer (did you mean "ip"?)'),
        (6, "at least 2 bottoms, received 1"),
        (7, 'top "ip" is produced already, by layer "ip" (InnerProduct) of line 2, and read by "a"'),
        (8, "kernel"),
        (10, "include and exclude"),
        (11, "slice_point"),
    ]:
        matching = [error for error in errors if error.startswith(f"error: {line}: layer ")]
        assert len(matching) == 1, line
        assert hint in matching[0]
    assert len(errors) == 8  # nothing about g, whose bottom has no known shape
    assert not warnings


def test_a_later_error_is_found_behind_one_of_syntax():
    text = 'layer { name: "a" tipe: "Input" }\nlayer {\n  name: "b"\n  type: 3\n}\nbogus: 1\n' + INPUT
    errors, _ = found(text)
    assert [int(error.split(":")[1]) for error in errors] == [1, 4, 6]
    assert "type" in errors[0]
    errors, _ = found(INPUT.replace("}", "", 1) + text)  # a brace is missing in the first line
    assert [int(error.split(":")[1]) for error in errors] == [2, 2, 5, 7]


def test_an_error_of_both_phases_is_told_once():
    errors, _ = found(INPUT + 'layer { name: "a" type: "Nope" bottom: "x" top: "a" }\n')
    assert len(errors) == 1
    errors, _ = found(INPUT + 'layer { name: "a" type: "Nope" bottom: "x" top: "a" include { phase: TEST } }\n')
    assert len(errors) == 1
    assert not found(INPUT + 'layer { name: "a" type: "Nope" bottom: "x" include { phase: TEST } }\n', phases=[TRAIN])[0]


def test_odd_text_is_read_in_linear_time_and_memory():
    """A name without end was once gone over from each of its letters."""
    for text in ("a" * 1_000_000, "1" * 1_000_000, "'\\'" * 500_000, '"' * 50_001, "{" * 100_000, "#\n" * 500_000):
        begin = time.monotonic()
        found(text)
        assert time.monotonic() - begin < 20, text[:4]


def test_a_file_without_end_is_refused():
    with open("large", "wb") as file:
        file.truncate(1 << 40)
    assert check("large")[0].lines() == [f"error: large: expected text of at most 256 MiB, but {prototxt.BINARY}"]


def test_names_do_not_break_lines():
    name = r"\n\033[31m\200" + "q" * 10000
    errors, _ = found(f'layer {{ name: "{name.replace(chr(92) + "200", "")}" type: "Nope" top: "t" }}\n')
    assert len(errors) == 1
    assert r"\n\x1b[31mqqq" in errors[0]
    assert errors[0].isprintable()
    assert len(errors[0]) < 5000


def test_an_unclosed_string_hides_nothing_behind_its_line():
    errors, _ = found('name: "a\nlayer { bogus: 1 }\nbogus: 2\n')
    assert [int(error.split(":")[1]) for error in errors] == [1, 2, 3]


def test_an_empty_file_is_worth_a_warning():
    assert found("# nothing\n") == ([], ["warning:  there is nothing in it"])


def test_a_matrix_that_is_missing():
    label = 'layer { name: "l" type: "Input" top: "l" input_param { shape { dim: 2 } } }\n'
    loss = 'layer { name: "loss" type: "InfogainLoss" bottom: "ip" bottom: "l" top: "loss" infogain_loss_param { %s } }'
    errors, warnings = found(INPUT + IP + label + loss % 'source: "H.binaryproto"')
    assert not errors
    assert 'layer "loss" (InfogainLoss): there is no source "H.binaryproto"' in warnings[0]
    assert "matrix H is needed" in found(INPUT + IP + label + loss % "")[0][0]


def test_old_nets_have_lines():
    errors, _ = found('input: "x" input_dim: [1, 3, 4, 4]\nlayers { layer { name: "c" type: "konv" } bottom: "x" }')
    assert errors == ['error: 2: layer "c" (konv): there is no V0 layer type "konv" (did you mean "conv"?)']


def test_parameters_that_do_not_fit():
    shared = 'param { name: "w" %s } bottom: "%s" top: "%s" inner_product_param { num_output: 5 }'
    errors, _ = found(
        INPUT
        + f'layer {{ name: "a" type: "InnerProduct" {shared % ("lr_mult: 1", "x", "a")} }}\n'
        + f'layer {{ name: "b" type: "InnerProduct" {shared % ("", "a", "b")} }}\n'
        + f'layer {{ name: "c" type: "InnerProduct" {shared % ("lr_mult: 2", "x", "c")} }}\n'
        + 'layer { name: "d" type: "InnerProduct" bottom: "x" top: "d" inner_product_param { num_output: 5 '
        + 'weight_filler { type: "xavjer" } } }\n'
    )
    assert 'param "w" needs the shape that it has in its owner, layer "a"' in errors[0]
    assert "lr_mult 2 here and 1" in errors[1]
    assert 'did you mean "xavier"' in errors[2]
    assert len(errors) == 3


def test_warns_of_what_nobody_reads():
    loss = 'layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "ip" top: "loss" }\n'
    accuracy = 'layer { name: "acc" type: "Accuracy" bottom: "ip" bottom: "l" top: "acc" include { phase: TEST } }\n'
    label = 'layer { name: "l" type: "Input" top: "l" input_param { shape { dim: 2 } } }\n'
    extra = 'layer { name: "p" type: "Power" bottom: "ip" top: "p" }\n'
    assert found(INPUT + IP) == ([], [])  # the result of a net without a loss
    assert found(INPUT + label + IP + loss + accuracy, phases=[TEST]) == ([], [])
    errors, warnings = found(INPUT + label + IP + extra + loss)
    assert not errors
    assert ['"l"' in warnings[0], '"p"' in warnings[1], len(warnings)] == [True, True, 2]


def test_a_net_for_one_phase_is_checked_in_that_phase():
    train = INPUT.replace('top: "x"', 'top: "x" include { phase: TRAIN }') + IP
    errors, warnings = found(train)
    assert not errors
    assert len(warnings) == 1
    assert "no data in phase TEST" in warnings[0]
    assert 'bottom "x"' in found(train, phases=[TEST])[0][0]


def test_level_and_stage_choose_layers(capsys):
    Path("net.prototxt").write_text(INPUT + 'layer { name: "a" type: "Nope" include { stage: "s" min_level: 2 } }\n')
    assert cli.main(["check", "net.prototxt"]) == 0
    assert cli.main(["check", "net.prototxt", "--stage", "r,s", "--level", "2"]) == 1
    assert "Nope" in capsys.readouterr().out


def test_a_python_layer_is_not_imported():
    Path("evil_layer.py").write_text("raise SystemExit('imported')\nclass L: pass\n")
    text = 'layer { name: "p" type: "Python" bottom: "x" top: "p" python_param { module: "evil_layer" layer: "L" } }\n'
    errors, warnings = found(INPUT + text + IP.replace('"x"', '"p"'))
    assert not errors
    assert "evil_layer.L is not imported" in warnings[0]
    assert "evil_layer" not in sys.modules


def test_huge_parameters_and_blobs_are_not_made():
    dims = "dim: 1000 dim: 1000 dim: 1000"
    text = (
        f'layer {{ name: "x" type: "DummyData" top: "x" dummy_data_param {{ shape {{ {dims} }} }} }}\n'
        'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" loss_weight: 1 inner_product_param { '
        'num_output: 1000 weight_filler { type: "xavier" } } }\n'
    )
    tracemalloc.start()
    try:
        assert shapes(text) == {"x": (1000, 1000, 1000), "ip": (1000, 1000)}
        assert tracemalloc.get_traced_memory()[1] < 1e9  # each would take four times as much
    finally:
        tracemalloc.stop()
    errors, _ = found(text.replace("dim: 1000 }", "dim: 10000 }"))
    assert "at most 2147483647 elements" in errors[0]


# ---- data ---------------------------------------------------------------------------------------------------------


def test_missing_data_are_a_warning_and_shapes_come_from_the_prototxt():
    crop = "transform_param { crop_size: 8 mean_value: 1 mean_value: 2 mean_value: 3 }"
    errors, warnings = found(data(crop) + IP)
    assert not errors
    assert "there is no such database" in warnings[0]
    assert shapes(data(crop) + IP) == {"x": (4, 3, 8, 8), "l": (4,), "ip": (4, 5)}
    assert shapes(data() + IP) == {"x": None, "l": (4,), "ip": None}
    image = 'layer { name: "d" type: "ImageData" top: "x" top: "l" image_data_param { source: "none.txt" batch_size: 4 '
    assert shapes(image + "new_height: 5 new_width: 6 } }\n")["x"] == (4, 3, 5, 6)
    assert shapes(image + "is_color: false } transform_param { crop_size: 7 } }\n")["x"] == (4, 1, 7, 7)
    assert any("mean.binaryproto" in text for text in found(data('transform_param { mean_file: "mean.binaryproto" }'))[1])


def test_shapes_come_from_data_that_are_there():
    make_database(3)
    assert shapes(data() + IP) == {"x": (4, 3, 10, 12), "l": (4,), "ip": (4, 5)}
    assert shapes(data(param="batch_size: 100000000"))["x"] is None  # more than a blob holds
    with h5py.File("a.h5", "w") as file:
        file["x"] = np.zeros((7, 2, 3))
    Path("list.txt").write_text("a.h5\n")
    hdf5 = 'layer { name: "d" type: "HDF5Data" top: "%s" hdf5_data_param { source: "list.txt" batch_size: 5 } }\n'
    assert shapes(hdf5 % "x")["x"] == (5, 2, 3)
    assert 'no data set "xx"' in found(hdf5 % "xx")[0][0]
    Image.new("RGB", (6, 5)).save("a.png")
    Path("images.txt").write_text("a.png 1\n")
    image = (
        'layer { name: "d" type: "ImageData" top: "x" top: "l" image_data_param { source: "images.txt" batch_size: 4 } }\n'
    )
    assert shapes(image) == {"x": (4, 3, 5, 6), "l": (4,)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (data(param=""), "batch_size"),
        (data("transform_param { crop_size: 11 }"), "at least 11 x 11 to crop"),
        (data(top='top: "x" top: "l" top: "z"'), "at most 2 tops"),
        (data().replace('source: "db"', ""), "received none"),
        (data().replace('"db"', '"net.prototxt"'), "is a file"),
    ],
)
def test_errors_of_data_layers(text, says):
    make_database(1)
    errors, _ = found(text)
    assert len(errors) == 1
    assert says in errors[0]


# ---- solvers ------------------------------------------------------------------------------------------------------


def test_reports_every_error_of_a_solver():
    Path("net.prototxt").write_text(INPUT + IP + 'layer { name: "a" type: "Nope" bottom: "ip" top: "a" }\n')
    text = SOLVER.replace("fixed", "fixd") + 'average_loss: 0\ntype: "Adma"\niter_size: 0\n'
    errors, _ = found(text, "solver.prototxt")
    assert [int(re.findall(r":? ?(\d+): ", error)[0]) for error in errors] == [3, 6, 7, 8, 3]
    assert "did you mean" in errors[0]
    assert "average_loss" in errors[1]
    assert 'did you mean "Adam"' in errors[2]
    assert "iter_size" in errors[3]
    assert "Nope" in errors[4]


def test_reads_the_nets_of_a_solver():
    errors, _ = found(SOLVER, "solver.prototxt")
    assert "net.prototxt: cannot read this file" in errors[0]
    Path("net.prototxt").write_text('layer { nome: "x" }\nlayer { typ: "x" }\n')
    errors, _ = found(SOLVER, "solver.prototxt")
    assert ["net.prototxt:1" in errors[0], "net.prototxt:2" in errors[1], len(errors)] == [True, True, 2]
    Path("net.prototxt").write_text(INPUT.replace('top: "x"', 'top: "x" include { phase: TRAIN }') + IP)
    assert not found(SOLVER, "solver.prototxt")[0]  # nobody tests
    assert 'bottom "x"' in found(SOLVER + "test_iter: 1\ntest_interval: 5\n", "solver.prototxt")[0][0]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("test_iter: -1\n", "6: test_iter is a number of batches"),
        ('train_net: "net.prototxt"\n', "1: expected one of net, net_param"),
        ('type: "SGD"\nsolver_type: ADAM\n', '6: a solver has either "type" or'),
        ('type: "AdaGrad"\nmomentum: 0.5\n', "7: AdaGrad takes no momentum"),
        ('type: "Adam"\nmomentum: 0.5\nmomentum2: 1.5\n', "8: momentum and momentum2 are at least 0"),
        ("net_param { }\ntest_state { }\n", "1: expected one of net, net_param"),
        ("test_state { }\n", "6: test_state is given once"),
    ],
    ids=lambda value: value.split()[0],
)
def test_errors_of_a_solver_have_lines(more, says):
    Path("net.prototxt").write_text(INPUT + IP)
    errors, _ = found(SOLVER + more, "solver.prototxt")
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {says}")


def test_snapshots_need_a_folder_but_no_prefix():
    Path("net.prototxt").write_text(INPUT + IP)
    errors, _ = found(SOLVER.replace('"s"', '"gone/s"'), "solver.prototxt")  # for the one after training
    assert errors == ['error: 5: snapshots cannot be written: the folder "gone" is missing or not writable']
    without = SOLVER.replace('snapshot_prefix: "s"\n', "")
    assert found(without + "snapshot: 5\n", "solver.prototxt") == ([], [])  # the name of the solver's file is used
    assert not found(SOLVER.replace('"s"', '"gone/s"') + "snapshot_after_train: false\n", "solver.prototxt")[0]


def test_a_net_inside_a_solver_has_its_lines():
    inner = 'net_param {\n  layer { name: "a" type: "Nope" top: "a" }\n}\n'
    errors, _ = found(SOLVER.replace('net: "net.prototxt"\n', inner), "solver.prototxt")
    (error,) = errors
    assert error.startswith('error: 2: layer "a" (Nope): unknown layer type "Nope"')


def test_one_missing_net_does_not_hide_the_errors_of_another():
    Path("net.prototxt").write_text(INPUT + 'layer { name: "a" type: "Nope" bottom: "x" top: "a" }\n')
    errors, _ = found(SOLVER + 'test_net: "gone.prototxt"\ntest_iter: 1\ntest_interval: 1\n', "solver.prototxt")
    assert len(errors) == 2
    assert "gone.prototxt: cannot read this file" in "".join(errors)
    assert 'net.prototxt:2: layer "a" (Nope)' in "".join(errors)


def test_warns_of_a_rate_of_zero_and_of_no_iterations():
    Path("net.prototxt").write_text(INPUT + IP)
    assert found(SOLVER, "solver.prototxt") == ([], [])
    _, warnings = found(SOLVER.replace("0.1", "0").replace("max_iter: 10", ""), "solver.prototxt")
    assert ["max_iter is 0" in warnings[0], "base_lr is zero" in warnings[1]] == [True, True]
    for rate in ("-0.1", "nan", "inf"):
        assert f"base_lr is {rate}" in found(SOLVER.replace("0.1", rate), "solver.prototxt")[1][0]
    _, warnings = found(SOLVER.replace('"fixed"', '"step"\nstepsize: 2'), "solver.prototxt")
    assert "the learning rate becomes zero" in warnings[0]
    assert "no file of weights" in found(SOLVER + 'weights: "none.caffemodel"\n', "solver.prototxt")[1][0]


def test_warns_of_a_test_that_does_not_cover_its_data():
    make_database(10)
    Path("net.prototxt").write_text(data() + IP + 'layer { name: "s" type: "Silence" bottom: "l" }\n')
    test = SOLVER + "test_interval: 5\ntest_iter: "
    assert found(f"{test} 3\n", "solver.prototxt") == ([], [])
    _, warnings = found(f"{test} 2\n", "solver.prototxt")
    assert len(warnings) == 1
    assert "test_iter 2 x batch size 4 = 8 of 10 items" in warnings[0]


# ---- the command --------------------------------------------------------------------------------------------------


def test_the_command_reports_shapes_counts_and_status(capsys):
    Path("good.prototxt").write_text(INPUT + IP)
    Path("bad.prototxt").write_text(IP)
    level = glog.logger.level
    assert cli.main(["check", "good.prototxt"]) == 0
    assert capsys.readouterr().out == "good.prototxt: no errors, no warnings\n"
    assert cli.main(["check", "-v", "good.prototxt", "bad.prototxt", "none.prototxt", "--phase", "TEST"]) == 1
    out, err = capsys.readouterr()
    assert "  x   Input         x   2 x 3 x 8 x 8 (384)\n  ip  InnerProduct  ip  2 x 5 (10)\n" in out
    assert 'error: bad.prototxt:1: layer "ip" (InnerProduct): bottom "x"' in out
    assert "bad.prototxt: 1 error, no warnings" in out
    assert "error: none.prototxt: cannot read this file" in out
    assert not err
    assert check(os.devnull)[0].lines() == [f"error: {os.devnull}: expected a regular file"]
    assert glog.logger.level == level


# ---- the kit ------------------------------------------------------------------------------------------------------

# What only shows when the data, the weights or the module are read.
UNSEEN = {"data_no_db", "data_no_leveldb", "h5_no_source", "h5_no_file", "python_no_module", "weights_missing_arg"}


@pytest.mark.skipif(not KIT.is_dir(), reason="PYCAFFE_LITE_CONFORMANCE names no folder")
def test_agrees_with_caffe_on_the_kits_errors(tmp_path, monkeypatch):
    shutil.copytree(KIT / "errors", tmp_path / "errors")
    monkeypatch.chdir(tmp_path / "errors")
    wrong, judged = [], 0
    for case in json.loads(Path("manifest.json").read_text())["cases"]:
        first, *more = case["steps"]
        findings, _ = check(first[1], [TEST])
        fails = case["verdict"] in ("abort", "exception") and not more
        if case["id"] in UNSEEN or not (fails or case["verdict"] == "accepts"):
            continue
        judged += 1
        if bool(findings.errors) != fails:
            wrong.append((case["id"], findings.lines()))
    assert not wrong
    assert judged > 100


@pytest.mark.skipif(not KIT.is_dir(), reason="PYCAFFE_LITE_CONFORMANCE names no folder")
@pytest.mark.parametrize("kind", ["nets", "layers", "upgrade"])
def test_finds_no_error_in_what_caffe_ran(kind, tmp_path, monkeypatch):
    shutil.copytree(KIT / kind, tmp_path / kind)
    monkeypatch.chdir(tmp_path / kind)
    files = sorted(map(str, Path().glob("*.prototxt")))
    assert len(files) > 10
    assert not {file: findings.lines() for file in files if (findings := check(file)[0]).errors}
