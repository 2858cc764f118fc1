"""What is said of files in place of others, of weights that do not fit a net, and of blobs that two layers produce."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import cli, glog
from pycaffe_lite.errors import CaffeError, ModelFileError, NetError
from pycaffe_lite.proto import prototxt

DATA = 'layer {{ name: "{}" type: "DummyData" top: "x" dummy_data_param {{ shape {{ dim: 2 dim: 3 }} }} {} }}\n'
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "s" random_seed: 1 '


def layer(type: str, name: str, bottom: str, top: str, more: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{type}" bottom: "{bottom}" top: "{top}" {more} }}\n'


def product(name: str, bottom: str, more: str = "", outputs: int = 3) -> str:
    return layer("InnerProduct", name, bottom, name, f"{more} inner_product_param {{ num_output: {outputs} }}")


def chain(*names: str) -> str:
    """A net of products, one after the other."""
    return DATA.format("data", "") + "".join(map(product, names, ("x", *names)))


NET = chain("ip") + layer("EuclideanLoss", "loss", 'ip" bottom: "x', "loss")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of its own with a net and a solver."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)
    yield
    glog.quiet_stderr(False)


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(glog.logger, "propagate", True)
    return lambda: [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


# ---- one file in place of another ---------------------------------------------------------------------------------

STATE = "this is a solver state, from which a solver resumes (--snapshot, restore); its weights are in s_iter_0.caffemodel"
MODEL = "these are weights (--weights, copy_from); a solver resumes from a .solverstate, such as s_iter_0.solverstate"
BINARY = "this is no prototxt but a binary file; weights are given with --weights, a solver state with --snapshot"
WRONG = {  # the command, and the end of its error
    "train --solver solver.prototxt --weights s_iter_0.solverstate": STATE,
    "test --model net.prototxt --weights s_iter_0.solverstate": STATE,
    "test --model net.prototxt --weights s_iter_0.solverstate.h5": STATE + ".h5",
    "train --solver solver.prototxt --snapshot s_iter_0.caffemodel": MODEL,
    "train --solver solver.prototxt --snapshot s_iter_0.caffemodel.h5": MODEL + ".h5",
    "train --solver solver.prototxt --snapshot net.prototxt": "(a .solverstate), but this is text (a prototxt?)",
    "train --solver solver.prototxt --weights net.prototxt": "(weights, a .caffemodel), but this is text (a prototxt?)",
    "test --model s_iter_0.caffemodel --weights net.prototxt": BINARY,
    "test --model s_iter_0.caffemodel.h5 --weights net.prototxt": BINARY,
    "train --solver s_iter_0.solverstate": BINARY,
    "train --solver net.prototxt": "(this looks like a net, not a solver; a solver names its net in the field net)",
    "time --model solver.prototxt": "(this looks like a solver, not a net; its field net names the net)",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_file_in_place_of_another(line, capsys):
    for snapshot_format in ("BINARYPROTO", "HDF5"):
        with caffe.get_solver(SOLVER + f"snapshot_format: {snapshot_format}\n") as solver:
            solver.snapshot()
    capsys.readouterr()
    assert cli.main(line.split()) == 1
    errors = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].endswith(WRONG[line])


def test_a_state_is_told_from_a_model_whatever_its_model_is_called():
    """The bytes of some names can be read as layers of the oldest format."""
    for name in ("b\x05abcde", "a12345678", "e1234", "model.caffemodel", ""):
        Path("state").write_bytes(
            caffe.proto.caffe_pb2.SolverState(iter=3, learned_net=name, current_step=0).SerializeToString()
        )
        with pytest.raises(CaffeError, match="expected a NetParameter in binary form"):
            caffe.Net("net.prototxt", "state", caffe.TEST)


def test_a_large_binary_file_in_place_of_a_prototxt(monkeypatch):
    monkeypatch.setattr(prototxt, "MAX_MIB", 0)
    Path("model").write_bytes(b"\n\0\0")
    with pytest.raises(CaffeError, match="expected text of at most 0 MiB, but this is no prototxt but a binary file"):
        caffe.Net("model", caffe.TEST)


# ---- weights that do not fit ------------------------------------------------------------------------------------------


def saved(text: str, save=caffe.Net.save) -> str:
    save(caffe.Net(text, caffe.TEST), "w")
    return "w"


FORMATS = pytest.mark.parametrize("save", [caffe.Net.save, caffe.Net.save_hdf5], ids=["binary", "hdf5"])


@FORMATS
def test_weights_that_fit_give_no_warning(save, log):
    text = chain("a", "b")
    caffe.Net(text, saved(text, save), caffe.TEST)
    assert log() == []


@FORMATS
def test_a_new_layer_is_one_short_warning(save, log):
    caffe.Net(chain("a", "b", "new"), saved(chain("a", "b", "c"), save), caffe.TEST)
    assert log() == ['w: there is nothing for 1 of 3 layers with parameters, which keeps its values: "new"']


@FORMATS
def test_weights_that_fit_one_layer_of_many(save, log):
    names = [f"conv{i}" for i in range(1, 26)]
    caffe.Net(chain("ip", *names), saved(chain("ip", *(f"{name}_x" for name in names)), save), caffe.TEST)
    (text,) = log()
    assert text.startswith("w: there is nothing for 25 of 26 layers with parameters, which keep their values: ")
    assert '"conv1" (nearest "conv1_x"), "conv2" (nearest "conv2_x")' in text
    assert text.endswith('"conv5" (nearest "conv5_x") and 20 more')


def test_names_that_are_not_near_are_listed(log):
    caffe.Net(chain("a", "b"), saved(chain("layer1", "layer2")), caffe.TEST)
    assert log()[0].endswith('keep their values: "a", "b"; there is something for "layer1", "layer2"')


@FORMATS
def test_a_shared_parameter_counts_as_copied(save, log):
    shared = 'param { name: "w" } param { name: "b" }'
    text = DATA.format("data", "") + product("a", "x", shared) + product("b", "a", shared)
    caffe.Net(text, saved(DATA.format("data", "") + product("a", "x"), save), caffe.TEST)
    assert log() == []


@pytest.mark.parametrize("line", ["test --model net.prototxt --iterations 1", "train --solver solver.prototxt"])
def test_every_command_warns_once(line, log):
    saved(chain("other"))
    Path("solver.prototxt").write_text(SOLVER + "test_iter: 1 test_interval: 10 ")
    assert cli.main([*line.split(), "--weights", "w"]) == 0
    assert [text for text in log() if "nothing for 1 of 1 layers" in text] == log()
    assert len(log()) == 1


def test_several_files_are_seen_as_one(log):
    Path("net.prototxt").write_text(chain("a", "b"))
    saved(chain("a"))
    Path("w").rename("v")
    saved(chain("b"))
    assert cli.main(["test", "--model", "net.prototxt", "--weights", "v,w", "--iterations", "1"]) == 0
    assert log() == []
    assert cli.main(["test", "--model", "net.prototxt", "--weights", "v", "--iterations", "1"]) == 0
    assert len(log()) == 1


def test_an_hdf5_model_for_a_branch_whose_parameters_another_layer_owns():
    shared = 'param { name: "w" } param { name: "b" }'
    saved(DATA.format("data", "") + product("a", "x", shared) + product("a_p", "x", shared), caffe.Net.save_hdf5)
    expected = (
        'w: layer "a_p" (InnerProduct) has a parameter 0 that the model lacks; HDF5 models have a shared parameter once, '
        'in the first layer that shares it, perhaps "a": give this layer that name, or give a .caffemodel'
    )
    with pytest.raises(CaffeError, match=re.escape(expected)):
        caffe.Net(chain("a_p"), "w", caffe.TEST)


# ---- a blob that two layers produce -----------------------------------------------------------------------------------

TRAIN, TEST = "include { phase: TRAIN }", "include { phase: TEST }"
PHASES = "give each of them an include { phase: TRAIN } or { phase: TEST }, or its top another name"
TWICE = {  # the net, the line of the error, and its text
    "data": (
        DATA.format("a", "") + DATA.format("b", "") + product("i", "x") + product("j", "x"),
        2,
        f'top "x" is produced already, by layer "a" (DummyData) of line 1, and read by "i", "j": {PHASES}',
    ),
    "data with one rule": (
        DATA.format("a", TEST) + DATA.format("b", ""),
        2,
        f'top "x" is produced already, by layer "a" (DummyData) of line 1: {PHASES}',
    ),
    "data with rules": (
        DATA.format("a", TEST) + DATA.format("b", TEST),
        2,
        'top "x" is produced already, by layer "a" (DummyData) of line 1: give this top another name',
    ),
    "others": (
        chain("i") + layer("ReLU", "j", "x", "i") + product("k", "i"),
        3,
        'top "i" is produced already, by layer "i" (InnerProduct) of line 2, and read by "k": give this top another name',
    ),
    "in place": (
        chain("i") + layer("ReLU", "r", "i", "i") + product("k", "i") + layer("TanH", "t", "i", "i"),
        5,
        'top "i" is produced already, by layer "i" (InnerProduct) of line 2: this layer cannot work in place, '
        'since the blob is also read by "k"; give its top another name',
    ),
    "in place on a blob with a loss weight": (
        DATA.format("d", "") + product("i", "x", "loss_weight: 1") + layer("TanH", "t", "i", "i"),
        3,
        'top "i" is produced already, by layer "i" (InnerProduct) of line 2: this layer cannot work in place, '
        "since the blob has another reader; give its top another name",
    ),
    "one layer": (
        DATA.format("a", "") + layer("Slice", "s", "x", 'p" top: "p'),
        2,
        'the layer produces top "p" twice: give each top a name of its own',
    ),
}


@pytest.mark.parametrize("name", TWICE)
def test_a_top_that_is_produced_twice(name):
    text, line, expected = TWICE[name]
    with pytest.raises(NetError) as caught:
        caffe.Net(text, caffe.TEST)
    assert caught.value.where.line == line
    assert caught.value.message == expected


def test_a_mean_file_in_place_of_weights_or_of_an_array(capsys):
    blob = caffe.io.array_to_blobproto(np.zeros((1, 3, 2, 2)))
    Path("mean.binaryproto").write_bytes(blob.SerializeToString())
    with pytest.raises(ModelFileError, match=r"this is a mean file, a \.binaryproto"):
        caffe.Net('input: "x" input_shape { dim: 1 }', "mean.binaryproto", caffe.TEST)
    assert cli.main(["classify", "a.jpg", "out.npy", "--mean_file", "mean.binaryproto"]) == 1
    assert "mean.binaryproto is a mean file of Caffe, but a .npy file is expected" in capsys.readouterr().err
