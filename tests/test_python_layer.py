"""Layers that are classes of the user: what they are given, how their errors arrive, and who may refuse them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import cli, glog
from pycaffe_lite.blob import Blob
from pycaffe_lite.errors import NetError
from pycaffe_lite.layer import BlobVec
from pycaffe_lite.net import Net
from pycaffe_lite.proto.caffe_pb2 import NetParameter
from pycaffe_lite.proto.prototxt import parse

MODULE = '''
import numpy as np
import pycaffe_lite as caffe

class Scale(caffe.Layer):
    """y = w x, w of the shape of an item; all attributes that the package may want to use are taken."""

    def setup(self, bottom, top):
        assert self.param_str_ == self.param_str
        self.seen = (self.param_str, self.phase, len(bottom), len(top))
        self.param = self.loss_weights = self.rng = self.needs_backward = self.is_loss = "mine"
        self.blobs.add_blob(*bottom[0].shape[1:])
        assert not self.blobs[0].data.any()
        self.blobs[0].data[...] = 3

    def reshape(self, bottom, top):
        top[0].reshape(bottom[0].num, *bottom[0].data.shape[1:])

    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += (top[0].diff * bottom[0].data).sum(axis=0)
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff * self.blobs[0].data

class Loss(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        top[0].data[...] = np.sum(bottom[0].data ** 2) / 2

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = bottom[0].data * top[0].diff

class Odd(Exception):
    pass

class Bad(Loss):
    def __init__(self, param):
        super().__init__(param)
        self.fail("init")

    def fail(self, where):
        words = self.param.python_param.param_str.split()
        if where in words:
            raise (StopIteration if "stop" in words else Odd)("broken " + where)

    def setup(self, bottom, top):
        self.fail("setup")

    def forward(self, bottom, top):
        self.fail("forward")

    def backward(self, top, propagate_down, bottom):
        self.fail("backward")

    def close(self):
        self.closed = True

NotALayer = dict
a_function = lambda param: None
'''


@pytest.fixture(autouse=True)
def user_module(tmp_path, monkeypatch):
    """Makes `user_layers` importable, for one test."""
    (tmp_path / "user_layers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith(("user_layers", "needs_"))]:
        del sys.modules[name]


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(glog, "warning", lines.append)
    return lines


INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 } } }\n'


def python(layer: str, settings: str = "", bottom: str = "x", top: str = "y", module: str = "user_layers", more: str = ""):
    return (
        f'layer {{ name: "{top}" type: "Python" bottom: "{bottom}" top: "{top}" {more}\n'
        f'  python_param {{ module: "{module}" layer: "{layer}" {settings} }} }}\n'
    )


def net_of(*layers: str, dtype=np.float32, **kwargs) -> Net:
    param = NetParameter(force_backward=True)
    source = parse(INPUT + "".join(layers), param, "net.prototxt")
    return Net(param, source, dtype, **kwargs)


def file_net(path: Path, *layers: str, phase: int = caffe.TRAIN, **kwargs) -> caffe.Net:
    path.write_text(INPUT + "".join(layers))
    return caffe.Net(path, phase, **kwargs)


# ---- what a layer is given ----------------------------------------------------------------------------------------


def test_runs_in_a_net_and_learns():
    net = net_of(python("Scale"), python("Loss", bottom="y", top="loss", more="loss_weight: 2"), dtype=np.float64)
    x = np.random.default_rng(1).normal(size=(2, 3, 4))
    net.blobs["x"].data[...] = x
    assert net.forward_backward() == pytest.approx(9 * np.sum(x**2))
    np.testing.assert_allclose(net.blobs["x"].diff, 18 * x)
    (weight,) = net.learnable
    assert weight.blob.data.dtype == np.float64
    np.testing.assert_allclose(weight.blob.diff, 6 * (x**2).sum(axis=0))


def test_a_top_has_a_loss_weight_only_if_the_prototxt_gives_one():
    assert net_of(python("Loss")).blob_loss_weights == {"x": 0, "y": 0}


def test_the_object_of_the_class_is_what_pycaffe_shows(tmp_path):
    net = file_net(tmp_path / "net.prototxt", python("Scale", 'param_str: "a, b"', more="param { lr_mult: 0 }"))
    layer = net.layers[1]
    assert type(layer).__name__ == "Scale"
    assert layer is net.layer_dict["y"]
    assert layer.type == "Python"
    assert layer.seen == ("a, b", caffe.TRAIN, 1, 1)
    assert layer.blobs is net.params["y"]
    assert layer.rng == "mine"
    net.blobs["x"].data[...] = 2
    assert np.all(net.forward()["y"] == 6)
    net.save(tmp_path / "net.caffemodel")
    net.params["y"][0].data[...] = 0
    net.copy_from(tmp_path / "net.caffemodel")
    assert np.all(net.params["y"][0].data == 3)


def test_phase_and_reshape_follow_the_net(tmp_path):
    net = file_net(tmp_path / "net.prototxt", python("Scale"), phase=caffe.TEST)
    assert net.layers[1].seen[1] == caffe.TEST
    net.blobs["x"].reshape(5, 3, 4)
    net.reshape()
    assert net.blobs["y"].shape == (5, 3, 4)


def test_close_reaches_the_object(tmp_path):
    net = file_net(tmp_path / "net.prototxt", python("Bad"))
    net.close()
    assert net.layers[1].closed


def test_every_layer_has_blobs_to_add_to():
    blobs = BlobVec()
    blobs.add_blob(2, 3)
    assert isinstance(blobs[0], Blob)
    assert blobs[0].shape == (2, 3)
    assert not blobs[0].data.any()
    assert blobs[0].data.dtype == np.float32


# ---- errors of the class ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["init", "setup", "forward", "backward"])
@pytest.mark.parametrize("kind", ["Odd", "StopIteration"])
def test_an_error_arrives_as_it_is_and_names_the_layer(where, kind, monkeypatch):
    logged: list[str] = []
    monkeypatch.setattr(glog, "error", logged.append)
    settings = f'param_str: "{where} {"stop" if kind == "StopIteration" else ""}"'
    with pytest.raises(Exception, match=f"^broken {where}") as caught:
        net_of(python("Bad", settings), python("Loss", bottom="y", top="l", more="loss_weight: 1")).forward_backward()
    assert caught.type.__name__ == kind
    assert caught.traceback[-1].name == "fail"
    notes = getattr(caught.value, "__notes__", logged)
    assert any('net.prototxt:2: layer "y" (Python)' in note for note in notes)


def test_errors_of_the_package_stay_as_they_are(tmp_path):
    net = file_net(tmp_path / "net.prototxt", python("Loss"))
    net.layers[1].reshape = lambda bottom, top: top[0].reshape(-1)
    with pytest.raises(NetError, match=r'net.prototxt:2: layer "y" .*not negative') as caught:
        net.forward()
    assert not getattr(caught.value, "__notes__", [])


@pytest.mark.parametrize(
    ("module", "layer", "message"),
    [
        (
            "user_layer",
            "Scale",
            r'net.prototxt:2: layer "y" \(Python\): there is no Python module "user_layer" \(did you mean "user_layers"',
        ),
        ("user_layers.sub", "Scale", 'there is no Python module "user_layers.sub"; Python looks in '),
        ("no_such_package_at_all.sub", "Scale", 'there is no Python module "no_such_package_at_all.sub"'),
        ("google.protobuff", "X", r'there is no Python module "google.protobuff" \(did you mean "google.protobuf"'),
        ("user_layers", "Scales", r'"user_layers" has no class "Scales" \(did you mean "Scale"'),
        ("user_layers", "", 'has no class ""'),
        ("user_layers", "NotALayer", '"NotALayer" of the module "user_layers" is no class derived from pycaffe_lite.Layer'),
        ("user_layers", "a_function", "is no class derived"),
        ("", "Scale", 'expected the dotted name of a module.*received ""'),
        ("../user_layers", "Scale", "expected the dotted name of a module"),
        ("./user_layers.py", "Scale", "expected the dotted name of a module"),
        (".user_layers", "Scale", "expected the dotted name of a module"),
        ("user_layers; import os", "Scale", "expected the dotted name of a module"),
    ],
)
def test_what_cannot_be_loaded(module, layer, message):
    with pytest.raises(NetError, match=message):
        net_of(python(layer, module=module))


def test_a_module_that_lacks_what_it_imports_is_not_missing_itself(tmp_path):
    (tmp_path / "needs_more.py").write_text("import no_such_package_at_all")
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_package_at_all'"):
        net_of(python("Scale", module="needs_more"))


# ---- who may refuse -----------------------------------------------------------------------------------------------


def test_a_net_warns_of_what_it_imports(warnings):
    net_of(python("Scale"), python("Loss", bottom="y", top="l"))
    assert len(warnings) == 1
    assert 'imports "user_layers"' in warnings[0]


def test_a_net_without_python_layers_does_not_warn_and_is_never_refused(warnings):
    net_of(allow_python_layers=False)
    assert not warnings


@pytest.fixture
def is_refused():
    """Runs something that has to be refused before anything is imported."""

    def check(run) -> None:
        with pytest.raises(
            NetError, match=r'net.prototxt:2: layer "y" \(Python\): Python layers are refused.*"user_layers"'
        ):
            run()
        assert "user_layers" not in sys.modules

    return check


def test_nets_can_refuse(tmp_path, is_refused):
    path = tmp_path / "net.prototxt"
    is_refused(lambda: net_of(python("Scale"), allow_python_layers=False))
    is_refused(lambda: file_net(path, python("Scale"), allow_python_layers=False))
    solver = tmp_path / "solver.prototxt"
    solver.write_text(f'net: "{path}" base_lr: 0.1 lr_policy: "fixed"')
    is_refused(lambda: caffe.get_solver(solver, allow_python_layers=False))


def test_the_environment_can_refuse(is_refused, monkeypatch):
    monkeypatch.setenv("PYCAFFE_LITE_NO_PYTHON_LAYERS", "1")
    is_refused(lambda: net_of(python("Scale")))
    monkeypatch.setenv("PYCAFFE_LITE_NO_PYTHON_LAYERS", "0")
    net_of(python("Scale"))


@pytest.mark.parametrize("command", ["train", "test", "time"])
def test_commands_can_refuse(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(INPUT + python("Scale") + python("Loss", bottom="y", top="l", more="loss_weight: 1"))
    Path("solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1')
    flags = {
        "train": ["--solver", "solver.prototxt"],
        "test": ["--model", "net.prototxt", "--weights", "net.caffemodel", "--iterations", "1"],
        "time": ["--model", "net.prototxt", "--iterations", "1"],
    }[command]
    caffe.Net("net.prototxt", caffe.TEST).save("net.caffemodel")
    del sys.modules["user_layers"]
    assert cli.main([command, *flags, "--no-python-layers"]) == 1
    assert "Python layers are refused" in capsys.readouterr().err
    assert "user_layers" not in sys.modules
    assert cli.main([command, *flags]) == 0
