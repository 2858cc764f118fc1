"""Layer and solver types of users: from Python, on the command line, from installed packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import cli, glog, layer, solver
from pycaffe_lite.errors import NetError, SolverError
from pycaffe_lite.solver import solver as solver_registry

ROOT = Path(__file__).parents[1]
NET = """
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 } data_filler { value: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 1 weight_filler { value: 1 } } }
layer { name: "loss" type: "%s" bottom: "ip" top: "loss" loss_weight: 1 python_param { param_str: "3" } }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.5 lr_policy: "fixed" snapshot_after_train: false max_iter: 2 display: 1 type: "%s"'
MODULE = """
import caffe

@caffe.register_layer("Times")
class Times(caffe.Layer):
    exact_bottoms = exact_tops = 1

    def setup(self, bottom, top):
        self.factor = float(self.param_str)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.factor * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = self.factor * top[0].diff

@caffe.register_solver("Constant")
class Constant(caffe.SGDSolver):
    def update(self, blob, history, rate, scale, l2, l1):
        blob.data[...] = rate
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a module and prototxts of its types, as the current one. The types are forgotten after the test."""
    (tmp_path / "my_types.py").write_text(MODULE)
    (tmp_path / "net.prototxt").write_text(NET % "Times")
    (tmp_path / "solver.prototxt").write_text(SOLVER % "Constant")
    monkeypatch.chdir(tmp_path)
    types = [layer._REGISTRY, solver_registry._REGISTRY]
    before = [dict(one) for one in types]
    modules, path, finders = dict(sys.modules), list(sys.path), list(sys.meta_path)
    yield tmp_path
    for registry, known in zip(types, before):
        registry.clear()
        registry.update(known)
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - set(modules):
        if name.partition(".")[0] in ("caffe", "my_types", "broken", "again"):
            del sys.modules[name]


# ---- registering --------------------------------------------------------------------------------------------------


def register(name: str, qualname: str, module: str = __name__) -> type:
    cls = type(qualname, (caffe.Layer,), {"__module__": module, "__qualname__": qualname})
    return caffe.register_layer(name)(cls)


def test_a_class_that_is_defined_again_takes_the_place_of_the_old_one():
    register("Mine", "Mine")
    again = register("Mine", "Mine")
    assert layer.registered_types()["Mine"] is again


@pytest.mark.parametrize(("qualname", "module"), [("Other", __name__), ("Mine", "elsewhere")])
def test_a_name_that_is_taken(qualname, module):
    register("Mine", "Mine")
    with pytest.raises(NetError, match=f'the layer type "Mine" is registered already, by {__name__}.Mine in .*own_types.py'):
        register("Mine", qualname, module)


def test_names_of_this_package_are_taken():
    with pytest.raises(NetError, match=r'layer type "ReLU" is registered already, by pycaffe_lite.layer_types'):
        register("ReLU", "ReLU")
    with pytest.raises(
        SolverError, match=r'solver type "SGD" is registered already, by pycaffe_lite.solver.rules.SGDSolver'
    ):
        caffe.register_solver("SGD")(caffe.SGDSolver)


# ---- from Python --------------------------------------------------------------------------------------------------


class Core(solver.Solver):
    """A rule that knows nothing of pycaffe's face."""

    def update(self, blob, history, rate, scale, l2, l1):
        blob.data[...] -= rate * blob.diff


def test_a_solver_type_that_is_derived_from_pycaffes_face(folder):
    @caffe.register_solver("Mine")
    class Mine(caffe.SGDSolver):
        def update(self, blob, history, rate, scale, l2, l1):
            blob.data[...] = 7

    Path("net.prototxt").write_text(NET % "Power")
    Path("solver.prototxt").write_text(SOLVER % "Mine")
    with caffe.get_solver("solver.prototxt") as made, Mine("solver.prototxt") as direct:
        for one in (made, direct):
            assert type(one) is Mine
            one.step(1)
            assert (one.net.params["ip"][0].data == 7).all()


def test_a_solver_type_that_is_derived_from_the_core(folder):
    caffe.register_solver("Core")(Core)
    Path("net.prototxt").write_text(NET % "Power")
    Path("solver.prototxt").write_text(SOLVER % "Core")
    with caffe.get_solver("solver.prototxt") as made:
        assert isinstance(made, Core)
        assert isinstance(made.net, caffe.Net)
        made.step(1)
        np.testing.assert_allclose(made.net.params["ip"][0].data, 1 - 0.5 * 4)
    assert cli.main(["check", "solver.prototxt"]) == 0


def test_the_parameters_of_a_layer_have_the_type_of_the_net():
    @caffe.register_layer("Adds")
    class Adds(caffe.Layer):
        def setup(self, bottom, top):
            self.blobs.add_blob(3)

        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].shape)

        def forward(self, bottom, top):
            top[0].data[...] = bottom[0].data + self.blobs[0].data

    param = caffe.proto.caffe_pb2.NetParameter()
    param.layer.add(name="x", type="Input", top=["x"]).input_param.shape.add(dim=[2, 3])
    param.layer.add(name="y", type="Adds", bottom=["x"], top=["y"])
    net = caffe.pycaffe.net.Net(param, dtype=np.float64)
    net.forward_layers()
    assert [p.blob.dtype for p in net.learnable] == [np.float64]


def test_unknown_types(folder):
    Path("net.prototxt").write_text(NET % "Xyzzy")
    with pytest.raises(NetError, match='unknown layer type "Xyzzy"; --import names a module with types of your own'):
        caffe.Net("net.prototxt", caffe.TEST)
    Path("solver.prototxt").write_text(SOLVER % "Adan")
    with pytest.raises(SolverError, match=r'^solver.prototxt: unknown solver type "Adan" \(did you mean "Adam"\?\); there'):
        caffe.get_solver("solver.prototxt")


# ---- on the command line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["my_types", "my_types.py", "./my_types.py"])
@pytest.mark.parametrize(
    "command",
    [
        ["train", "--solver", "solver.prototxt"],
        ["time", "--model", "net.prototxt", "--iterations", "1"],
        ["summary", "net.prototxt"],
        ["check", "solver.prototxt", "net.prototxt"],
        ["draw_net", "net.prototxt", "net.png"],
    ],
    ids=lambda command: command[0],
)
def test_import(command, given, capsys):
    path = list(sys.path)
    assert cli.main([*command, "--import", given]) == 0, capsys.readouterr().err
    assert sys.path == path


def test_import_of_test_and_of_several(folder, capsys):
    (folder / "again.py").write_text("import my_types\n")
    net = caffe.Net((NET % "Power"), caffe.TEST)
    net.save("w.caffemodel")
    command = ["test", "--model", "net.prototxt", "--weights", "w.caffemodel", "--iterations", "1"]
    assert cli.main([*command, "--import", "my_types", "--import=again.py"]) == 0, capsys.readouterr().err


def test_every_command_that_builds_a_net_has_the_flag(capsys):
    for command in ["train", "test", "time", "summary", "check", "classify", "detect", "extract_features", "draw_net"]:
        with pytest.raises(SystemExit) as end:
            cli.main([command, "--help"])
        assert end.value.code == 0
        assert "--import MODULE" in capsys.readouterr().out, command


@pytest.mark.parametrize(
    ("given", "text", "words"),
    [
        ("my_type", "", '--import my_type: there is no Python module "my_type" (did you mean "my_types"?)'),
        ("my_type.py", "", '--import my_type.py: there is no file "my_type.py" (did you mean "my_types.py"?); relative'),
        ("my types", "", 'expected the dotted name of a module in --import, received "my types"'),
        ("broken", "x = 1\n1 / 0\n", "broken.py:2: ZeroDivisionError: division by zero"),
        ("broken.py", "x = 1\n1 / 0\n", "broken.py:2: ZeroDivisionError: division by zero"),
        ("broken.py", "import nowhere_at_all\n", "broken.py:1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("broken.py", "print 1\n", "broken.py:1: SyntaxError"),
        ("json.py", "", 'a module "json" is loaded already'),
    ],
)
def test_errors_of_import_are_one_line(folder, given, text, words, capsys):
    (folder / "broken.py").write_text(text)
    (folder / "json.py").write_text("")
    assert cli.main(["time", "--model", "net.prototxt", "--import", given]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert words in error
    assert "broken" not in sys.modules


# ---- from installed packages --------------------------------------------------------------------------------------


@pytest.fixture
def installed(folder, monkeypatch):
    """What an installed package with types looks like: its module, and its metadata with entry points."""
    (folder / "site/theirs-1.0.dist-info").mkdir(parents=True)
    (folder / "site/theirs.py").write_text((folder / "my_types.py").read_text() + "print('theirs is imported')\n")
    (folder / "site/theirs_broken.py").write_text("1 / 0\n")
    metadata = folder / "site/theirs-1.0.dist-info"
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    entries = "[pycaffe_lite.layers]\na = theirs_broken\nb = theirs\n[pycaffe_lite.solvers]\nb = theirs\n"
    (metadata / "entry_points.txt").write_text(entries)

    def run(program: str) -> tuple[str, str]:
        path = os.pathsep.join([str(Path(caffe.__file__).parents[1]), str(folder / "site")])
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return run


def test_installed_types_are_loaded_when_one_is_unknown(installed):
    out, log = installed(
        "import pycaffe_lite as caffe\n"
        "caffe.Net('''layer { name: 'x' type: 'Input' top: 'x' }''', caffe.TEST)\n"
        "print('known')\n"
        "s = caffe.get_solver('solver.prototxt'); s.step(1)\n"
        "print(s.net.params['ip'][0].data.ravel().tolist())\n"
    )
    assert out == "known\ntheirs is imported\n[0.5, 0.5, 0.5]\n"
    assert "cannot be loaded" not in log  # of layers nobody was asked: the module with the solver brought the layer


def test_installed_types_are_listed(installed):
    out, log = installed("import pycaffe_lite as caffe; print('Times' in caffe.layer_type_list())")
    assert out == "theirs is imported\nTrue\n"
    assert log.count("the layer types of theirs (theirs_broken) cannot be loaded: ZeroDivisionError") == 1


# ---- the example --------------------------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The repository's example, in a folder of its own."""
    shutil.copytree(ROOT / "examples/own_types", tmp_path / "examples/own_types")
    return tmp_path / "examples/own_types"


def test_the_example_on_the_command_line(example, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(glog, "info", lines.append)
    text = (example / "readme.md").read_text()
    (command,) = [line.split()[1:] for line in text.splitlines() if line.startswith("    pycaffe_lite")]
    assert cli.main(command) == 0
    losses = [float(line.split("loss = ")[1]) for line in lines if line.startswith("Iteration") and "loss = " in line]
    assert losses[-1] < 0.1 * losses[0]


def test_the_example_from_python(example, monkeypatch):
    monkeypatch.syspath_prepend(example)
    text = (example / "readme.md").read_text()
    names: dict = {}
    exec(text.partition("```python\n")[2].partition("```")[0], names)
    made = names["solver"]
    assert type(made).__name__ == "Lion"
    assert made.iter == 500
    assert made.net.blobs["loss"].data < 0.1


def test_the_gradient_of_the_example(example, monkeypatch):
    monkeypatch.syspath_prepend(example)
    import my_types  # type: ignore[import-not-found]

    x = np.linspace(-2, 2, 9)
    made = my_types.Softsign(caffe.proto.caffe_pb2.LayerParameter(power_param={"scale": 3}))
    bottom, top = [caffe.Blob((9,), dtype=np.float64)], [caffe.Blob((9,), dtype=np.float64)]
    made.setup(bottom, top)
    made.reshape(bottom, top)

    def forward(values):
        bottom[0].data[...] = values
        made.forward(bottom, top)
        return top[0].data.copy()

    numeric = (forward(x + 1e-6) - forward(x - 1e-6)) / 2e-6
    forward(x)
    top[0].diff[...] = 1
    made.backward(top, [True], bottom)
    np.testing.assert_allclose(bottom[0].diff, numeric, atol=1e-5)


@pytest.mark.parametrize(("name", "cls"), [("", caffe.Layer), (3, caffe.Layer), ("Mine", object), ("Mine", "text")])
def test_only_layers_can_be_registered_as_layers(name, cls):
    with pytest.raises(caffe.CaffeError, match="expected a name and a class derived from Layer, received"):
        caffe.register_layer(name)(cls)


def test_only_solvers_can_be_registered_as_solvers():
    with pytest.raises(caffe.CaffeError, match="expected a name and a class derived from Solver, received"):
        caffe.register_solver("Mine")(caffe.Layer)
