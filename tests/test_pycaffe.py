"""The names that pycaffe scripts use, and what they do."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path

import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite.errors import DeviceError, NetError

NET = """name: "n" layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2
  weight_filler { type: "gaussian" } } } force_backward: true"""
TRAINED = """layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 4 dim: 3 }
  shape { dim: 4 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }"""


@pytest.fixture
def net(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    return caffe.Net("net.prototxt", caffe.TEST)


@pytest.fixture
def solver_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.prototxt").write_text(TRAINED)

    def write(kind="SGD"):
        Path("solver.prototxt").write_text(
            f'net: "train.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 3 type: "{kind}"'
        )
        return "solver.prototxt"

    return write


def test_forward_all_cuts_and_fills_up(net):
    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    out = net.forward_all(blobs=["x"], x=x)
    w, b = (blob.data for blob in net.params["ip"])
    np.testing.assert_allclose(out["y"], x @ w.T + b, 1e-5, 1e-6)
    np.testing.assert_array_equal(out["x"], x)
    assert net.forward_all(x=x[:4])["y"].shape == (4, 2)


def test_forward_backward_all(net):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    out, diff = net.forward_backward_all(diffs=["y"], x=x, y=dy)
    np.testing.assert_allclose(diff["x"], dy @ net.params["ip"][0].data, 1e-5, 1e-6)
    assert out["y"].shape == (6, 2)
    assert diff["y"].shape == (6, 2)


def test_arrays_of_two_lengths(net):
    with pytest.raises(NetError, match="expected arrays of one length, received lengths 2, 3"):
        list(net._batch({"x": np.zeros((3, 3)), "y": np.zeros((2, 2))}))


def test_private_names(net):
    assert net._layer_names == ["x", "ip"]
    assert net._blob_names == ["x", "y"]
    assert [blob.shape for blob in net._blobs] == [(4, 3), (4, 2)]
    assert (net._inputs, net._outputs) == ([0], [1])
    assert (net._bottom_ids(1), net._top_ids(1)) == ([0], [1])
    assert net._blob_loss_weights == [0, 0]
    net.blobs["x"].data[...] = 1
    net._forward(0, 1)
    net._backward(1, 0)


@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_solver_classes(solver_file, kind):
    made = caffe.get_solver(solver_file(kind))
    assert type(made) is getattr(caffe, f"{kind}Solver")
    assert isinstance(made, caffe.SGDSolver)
    assert isinstance(made.net, caffe.Net)
    made.step(2)
    assert (made.iter, made.lr) == (2, pytest.approx(0.1))
    other = getattr(caffe, f"{kind}Solver")(solver_file("SGD"))  # the class counts, not the file's type
    assert type(other) is type(made)
    other.step(1)
    other.share_weights(made.net)
    assert np.shares_memory(other.net.params["ip"][0].data, made.net.params["ip"][0].data)


def test_solver_of_a_message(solver_file):
    param = caffe.get_solver(solver_file()).param
    assert caffe.SGDSolver(param).param.max_iter == 3


def test_counts_and_ranks():
    assert (caffe.solver_count(), caffe.solver_rank(), caffe.has_nccl()) == (1, 0, False)
    caffe.set_solver_rank(1)
    caffe.set_solver_count(2)
    caffe.set_multiprocess(True)
    try:
        assert (caffe.solver_count(), caffe.solver_rank()) == (2, 1)
    finally:
        caffe.set_solver_rank(0)
        caffe.set_solver_count(1)
        caffe.set_multiprocess(False)
    with pytest.raises(DeviceError, match="NCCL is not there"):
        caffe.NCCL(None, "uid")


def test_timer_and_log(capsys):
    timer = caffe.Timer()
    timer.start()
    timer.stop()
    assert 0 <= timer.ms < 1000
    caffe.init_log(1)
    caffe.log("hidden")
    caffe.init_log(0, True)
    caffe.log("shown")
    err = capsys.readouterr().err
    assert "shown" in err
    assert "hidden" not in err


def api():
    kit = os.environ.get("PYCAFFE_LITE_CONFORMANCE")
    if not kit:
        pytest.skip("PYCAFFE_LITE_CONFORMANCE is not set")
    return json.loads((Path(kit) / "pycaffe_api.json").read_text())


def test_every_public_name_is_there():
    names = {name: entry for name, entry in api()["modules"]["caffe"].items() if entry.get("own")}
    missing = [name for name in names if not hasattr(caffe, name)]
    for name, entry in names.items():
        if entry["kind"] == "class":
            members = [member for member in entry["members"] if not member.startswith("__")]
            missing += [f"{name}.{member}" for member in members if not hasattr(getattr(caffe, name, None), member)]
    assert missing == []


def test_signatures_of_net():
    members = api()["modules"]["caffe"]["Net"]["members"]
    for name in ("forward_all", "forward_backward_all", "set_input_arrays", "forward", "backward"):
        expected = members[name]["signature"].strip("()").split(", ")
        received = [
            str(p).split(":")[0].split("=")[0].strip()
            for p in inspect.signature(getattr(caffe.Net, name)).parameters.values()
        ]
        assert received == [parameter.split("=")[0] for parameter in expected], name
