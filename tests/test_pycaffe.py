"""The names that pycaffe scripts use, and what they do."""

from __future__ import annotations

import ast
import gc
import pickle
import sys
import threading
import time
import weakref
from pathlib import Path

import lmdb
import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import glog, pycaffe
from pycaffe_lite.blob import Blob
from pycaffe_lite.errors import CaffeError, DataError, DeviceError, NetError
from pycaffe_lite.proto.caffe_pb2 import NetParameter, SolverParameter

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
    with pytest.raises(ValueError, match="expected arrays of one length, received lengths 2, 3"):
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
        with pytest.raises(DeviceError, match=r"NCCL is not there.*one solver so far, received 2"):
            caffe.NCCL(None, "uid")
    finally:
        caffe.set_solver_rank(0)
        caffe.set_solver_count(1)
        caffe.set_multiprocess(False)


def test_nccl_of_one_solver_does_nothing(solver_file):
    """As Caffe's train.py uses it, for one GPU too."""
    uid = caffe.NCCL.new_uid()
    assert isinstance(uid, bytes)
    solver = caffe.get_solver(solver_file())
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    calls = []
    solver.add_callback(lambda: calls.append("start"), lambda: calls.append("ready"))
    solver.add_callback(nccl)
    solver.net.after_backward(nccl)
    solver.step(2)
    assert calls == ["start", "ready"] * 2
    with pytest.raises(TypeError, match="add_callback takes"):
        solver.add_callback(calls.clear)


def test_timer_and_log(capsys):
    timer = caffe.Timer()
    timer.start()
    timer.stop()
    assert 0 <= timer.ms < 1000
    with glog.kept_settings():
        caffe.init_log(1)
        caffe.log("hidden")
        caffe.init_log(0, True)
        caffe.log("shown")
    err = capsys.readouterr().err
    assert "shown" in err
    assert "hidden" not in err


def test_init_log_leaves_what_is_not_given(capsys):
    with glog.kept_settings():
        glog.set_min_level(2)
        caffe.init_log()
        glog.warning("hidden")
        caffe.init_log(1)
        glog.warning("shown")
    assert capsys.readouterr().err.endswith("shown\n")


def test_import_of_everything():
    """pycaffe has no list of its names: the modules that it has imported are among them."""
    names: dict = {}
    exec("from pycaffe_lite import *", names)
    for module in ("classifier", "detector", "io", "net_spec", "proto", "pycaffe"):
        assert names[module] is sys.modules[f"pycaffe_lite.{module}"]


# ---- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda net: net.forward(y=np.zeros((4, 3))), ValueError, "expected the inputs x, received y"),
        (lambda net: net.forward(x=np.zeros((3, 3))), ValueError, r"is 4 x 3 \(12\), received an array of shape \(3, 3\)"),
        (lambda net: net.forward(x=np.zeros((4, 2))), ValueError, r"received an array of shape \(4, 2\)"),
        (lambda net: net.forward(start="ipp"), ValueError, r'no layer "ipp" \(did you mean "ip"\?\)'),
        (lambda net: net.forward(end="pi"), ValueError, 'no layer "pi"'),
        (lambda net: net.forward(blobs=["z"]), KeyError, 'no blob "z"'),
        (lambda net: net.backward(x=np.zeros((4, 3))), ValueError, '"x" is no output'),
        (lambda net: net.backward(y=np.zeros((3, 2))), ValueError, "the gradient of output"),
        (lambda net: net.backward(start="pi"), ValueError, 'no layer "pi"'),
        (lambda net: net.backward(diffs=["z"]), KeyError, 'no blob "z"'),
        (lambda net: net.blobs["z"], KeyError, "z"),
        (lambda net: net.params["z"], KeyError, "z"),
        (lambda net: net.layer_dict["z"], KeyError, "z"),
        (lambda net: setattr(net.blobs["x"], "data", 3), AttributeError, "data"),
        (lambda net: net.set_input_arrays(np.zeros((4, 1, 1, 1), "f"), np.zeros(4, "f")), RuntimeError, "MemoryData"),
        (lambda net: net.copy_from("missing.caffemodel"), RuntimeError, "missing.caffemodel"),
        (lambda net: caffe.Net("missing.prototxt", caffe.TEST), RuntimeError, "missing.prototxt"),
        (lambda net: caffe.Net("net.prototxt"), TypeError, "Net takes"),
        (lambda net: caffe.Net("net.prototxt", caffe.TEST, 0, [], None, 1), TypeError, "Net takes"),
        (lambda net: caffe.Net(0, caffe.TEST), TypeError, "PathLike"),  # not the standard input
        (lambda net: caffe.Net({}, caffe.TEST), TypeError, "PathLike"),
    ],
)
def test_errors_are_of_the_kind_that_pycaffe_raised(net, call, kind, text):
    with pytest.raises(kind, match=text) as caught:
        call(net)
    if kind is ValueError:
        assert isinstance(caught.value, RuntimeError)  # the package's own, too


# ---- what a net is made of ----------------------------------------------------------------------------------------


def spec():
    n = caffe.NetSpec()
    n.x = caffe.layers.Input(shape={"dim": [4, 3]})
    n.y = caffe.layers.InnerProduct(n.x, num_output=2)
    return n


@pytest.mark.parametrize("kind", ["str", "Path", "text", "NetParameter", "NetSpec"])
def test_a_net_of_many_things(net, kind):
    given = {"str": "net.prototxt", "Path": Path("net.prototxt"), "text": NET, "NetSpec": spec()}
    given["NetParameter"] = spec().to_proto()
    made = caffe.Net(given[kind], caffe.TEST)
    assert made.forward(x=np.zeros((4, 3)))["y"].shape == (4, 2)
    assert made.phase == caffe.TEST
    net.save(Path("net.caffemodel"))
    if kind not in ("NetParameter", "NetSpec"):
        weights = caffe.Net(given[kind], Path("net.caffemodel"), caffe.TRAIN).params["ip"][0].data
        np.testing.assert_array_equal(weights, net.params["ip"][0].data)


def test_a_message_stays_as_it_is_and_may_be_old():
    old = NetParameter(input=["x"], input_dim=[4, 3, 1, 1])
    before = old.SerializeToString()
    assert caffe.Net(old, caffe.TEST).blobs["x"].shape == (4, 3, 1, 1)
    assert old.SerializeToString() == before


def test_an_error_in_a_text_has_its_line():
    with pytest.raises(NetError, match=r'<text>:2: layer "ip" \(InnerProdukt\): unknown layer type'):
        caffe.Net(NET.replace('"InnerProduct"', '"InnerProdukt"'), caffe.TEST)
    with pytest.raises(CaffeError, match=r"<text>:2: .*no field \"bse_lr\""):
        caffe.get_solver('net: "train.prototxt"\nbse_lr: 1')


def test_numbers_of_numpy(net):
    for args in ([np.int64(1)], [np.int32(1), np.int64(0)]):
        assert caffe.Net(np.str_("net.prototxt"), *args).phase == caffe.TEST


def test_one_stage_is_a_list_of_one():
    text = NET.replace('top: "x"', 'top: "x" include { stage: "deploy" }', 1)
    assert caffe.Net(text, caffe.TEST, stages="deploy").inputs == ["x"]


def test_solvers_of_many_things(solver_file):
    path = solver_file("Adam")
    text = Path(path).read_text() + "\n"
    message = SolverParameter(net="train.prototxt", base_lr=0.1, lr_policy="fixed", max_iter=3, type="Adam")
    for given in (path, Path(path), text, message):
        for made in (caffe.get_solver(given), caffe.AdamSolver(given)):
            assert type(made) is caffe.AdamSolver
            made.step(1)
    assert message.type == "Adam"
    assert caffe.get_solver(Path(path)).param.snapshot_prefix == "solver"
    assert not caffe.get_solver(text).param.snapshot_prefix
    old = SolverParameter(net="train.prototxt", base_lr=0.1, lr_policy="fixed", solver_type=SolverParameter.ADAGRAD)
    assert type(caffe.get_solver(old)) is caffe.AdaGradSolver


def test_paths_everywhere(solver_file):
    """A `pathlib.Path` wherever pycaffe takes the name of a file."""
    solver = caffe.get_solver(Path(solver_file()))
    solver.snapshot()
    solver.restore(Path("solver_iter_0.solverstate"))
    solver.solve(Path("solver_iter_0.solverstate"))
    net = solver.net
    for save, load, name in (
        (net.save, net.copy_from, "a.caffemodel"),
        (net.save_hdf5, net.load_hdf5, "a.h5"),
        (net.save_hdf5, net.copy_from, "b.h5"),
    ):
        save(Path(name))
        load(Path(name))
    assert caffe.Net(Path("train.prototxt"), caffe.TEST, weights=Path("a.h5")).params


# ---- memory -------------------------------------------------------------------------------------------------------


def test_dlpack():
    blob = Blob(2, 3)
    for of in (blob, blob.data):
        view = np.from_dlpack(of)
        assert (view.shape, view.dtype) == ((2, 3), np.float32)
        assert np.shares_memory(view, blob.data)
    assert blob.__dlpack_device__() == (1, 0)  # kDLCPU


def test_dlpack_with_torch():
    torch = pytest.importorskip("torch")
    blob = Blob(2, 3)
    torch.from_dlpack(blob).fill_(5)
    assert (blob.data == 5).all()


def test_views_alias_memory(net):
    x = net.blobs["x"].data
    x[...] = 1
    assert (net.blobs["x"].data == 1).all()
    net.blobs["x"].data[...] = 2
    assert (x == 2).all()
    out = net.forward()["y"]
    assert np.shares_memory(out, net.blobs["y"].data)
    before = out.copy()
    net.blobs["x"].data[...] = -7
    net.forward()
    assert (out != before).all()  # a view, as in pycaffe, that the next forward writes to
    weights = net.params["ip"][0].data
    weights[...] = 0
    assert not net.forward(x=np.ones((4, 3)))["y"].any()


def test_a_view_lives_through_a_reshape(net):
    view = net.blobs["x"].data
    view[...] = 3
    net.blobs["x"].reshape(2, 3)  # fits: the same memory, as in Caffe
    net.reshape()
    assert np.shares_memory(view, net.blobs["x"].data)
    net.blobs["x"].data[...] = 4
    assert (view[:2] == 4).all()
    assert (view[2:] == 3).all()
    net.blobs["x"].reshape(100, 3)  # does not fit: new memory, and the view keeps the old one
    net.reshape()
    assert not np.shares_memory(view, net.blobs["x"].data)
    net.blobs["x"].data[...] = 5
    net.forward()
    assert (view[:2] == 4).all()
    view[...] = 6
    assert (net.blobs["x"].data == 5).all()


def test_a_view_outlives_its_net(net):
    views = [net.blobs["x"].data, net.params["ip"][0].data, net.forward(x=np.full((4, 3), 2))["y"], net.blobs["x"].diff]
    copies = [view.copy() for view in views]
    blob, made = net.blobs["y"], caffe.Net("net.prototxt", caffe.TEST)
    gone = weakref.ref(made)
    view = made.blobs["x"].data
    del made
    gc.collect()
    assert gone() is None  # a view does not keep a net alive, only its memory
    view[...] = 9
    assert (view == 9).all()
    for view, copy in zip(views, copies, strict=True):
        np.testing.assert_array_equal(view, copy)
    assert blob.data.shape == (4, 2)


def test_arrays_are_arrays(net):
    """No subclass, which `np.save` and pickles would show."""
    for array in (net.blobs["x"].data, net.params["ip"][0].diff, net.forward()["y"], net.backward()["x"]):
        assert type(array) is np.ndarray
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(array)), array)


# ---- closing ------------------------------------------------------------------------------------------------------

DATA = """layer { name: "d" type: "Data" top: "x" data_param { source: "db" batch_size: 2 } }
layer { name: "t" type: "DummyData" top: "t" dummy_data_param { shape { dim: 2 dim: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }"""


@pytest.fixture
def database(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with lmdb.open("db") as env, env.begin(write=True) as transaction:
        for i in range(4):
            datum = caffe.io.array_to_datum(np.full((1, 2, 2), i, np.uint8))
            transaction.put(b"%04d" % i, datum.SerializeToString())


def readers() -> int:
    return sum("prefetch" in thread.name for thread in threading.enumerate())


def gone(count: int) -> bool:
    """Whether no more than so many readers are left, at once or soon."""
    end = time.monotonic() + 10
    while readers() > count and time.monotonic() < end:
        time.sleep(0.01)
    return readers() <= count


def test_a_block_closes_the_net(database):
    before = readers()
    with caffe.Net(DATA, caffe.TRAIN) as net:
        net.forward()
        assert readers() == before + 1
    assert gone(before)
    net.close()  # once more
    assert net.blobs["x"].data.shape == (2, 1, 2, 2)
    assert net.forward(start="ip")["loss"].shape == ()  # what needs no data goes on
    with pytest.raises(DataError, match=r'<text>:1: layer "d" \(Data\): .*closed'):
        net.forward()


def test_a_block_closes_the_solver(database):
    before = readers()
    Path("train.prototxt").write_text(DATA)
    text = 'net: "train.prototxt" base_lr: 0.1 lr_policy: "fixed"\ntest_iter: 1 test_interval: 10'
    with caffe.get_solver(text) as solver:
        solver.test_nets[0].share_with(solver.net)
        solver.step(1)
        solver.test_nets[0].forward()
        assert readers() == before + 2
    assert gone(before)
    solver.close()


# ---- what is private ----------------------------------------------------------------------------------------------


def test_functions_behind_the_methods():
    for name in ("forward", "backward", "forward_all", "forward_backward_all", "set_input_arrays"):
        assert getattr(caffe.pycaffe, f"_Net_{name}") is getattr(caffe.Net, name)
    assert caffe.pycaffe._Net_batch is caffe.Net._batch
    assert isinstance(caffe.pycaffe._Net_params, property)
    assert caffe._caffe.Net is caffe.Net
    for name in ("_Net_nothing", "nothing", "_Net_"):
        with pytest.raises(AttributeError, match=name):
            getattr(caffe.pycaffe, name)


def test_names_of_the_extension_module():
    for name in (
        "Blob",
        "Layer",
        "Net",
        "Solver",
        "SGDSolver",
        "Timer",
        "NCCL",
        "BlobVec",
        "layer_type_list",
        "set_mode_cpu",
    ):
        assert hasattr(caffe._caffe, name)
    assert caffe.io.caffe_pb2 is caffe.proto.caffe_pb2


# ---- the GPU ------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    monkeypatch.setattr(pycaffe.use_gpu_or_warn, "said", False, raising=False)
    monkeypatch.delenv("PYCAFFE_LITE_STRICT_GPU", raising=False)


def test_a_script_that_asks_for_the_gpu_goes_on(no_cupy, capsys):
    with glog.kept_settings():
        glog.set_min_level(2)  # as scripts do, to hide what nets say
        caffe.set_device(0)
        caffe.set_mode_gpu()
        glog.warning("hidden")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("W")
    assert "The CPU is used instead" in line


@pytest.mark.parametrize("ask", [caffe.set_mode_gpu, lambda: caffe.set_device(0)])
def test_unless_it_must_not(no_cupy, monkeypatch, ask):
    monkeypatch.setenv("PYCAFFE_LITE_STRICT_GPU", "1")
    with pytest.raises(DeviceError, match="The GPU was asked for, but cupy is not installed"):
        ask()


def test_a_solver_file_that_asks_for_the_gpu(no_cupy, monkeypatch, solver_file):
    path = Path(solver_file())
    path.write_text(path.read_text() + " solver_mode: GPU")
    caffe.get_solver(path)
    monkeypatch.setenv("PYCAFFE_LITE_STRICT_GPU", "1")
    with pytest.raises(DeviceError, match="PYCAFFE_LITE_STRICT_GPU is set"):
        caffe.get_solver(path)


# ---- types --------------------------------------------------------------------------------------------------------


def test_editors_see_every_name():
    """What is loaded late is imported for type checkers, from the same module."""
    source = Path(caffe.__file__)
    assert source.with_name("py.typed").exists()
    guard = next(n for n in ast.parse(source.read_text()).body if isinstance(n, ast.If))
    imports = [node for node in guard.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname or alias.name: node.module for node in imports for alias in node.names}
    modules = {name for name, home in seen.items() if home is None}
    assert modules == {*caffe._MODULES, "_caffe"}
    assert {name: home for name, home in seen.items() if home} == caffe._HOME
    assert set(caffe._HOME) <= set(caffe.__all__) <= set(dir(caffe))
