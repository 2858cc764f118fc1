"""Modules of Python layers that say `import caffe`: they get this package, and the program around them keeps its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pycaffe_lite as caffe
from pycaffe_lite.check import check

REPOSITORY = Path(caffe.__file__).parents[1]
EXAMPLE = Path(__file__).parents[1] / "examples/pycaffe"

LAYER = '''
import multiprocessing

import caffe
import helper
from caffe import layers as L, params as P
from caffe.proto import caffe_pb2
import caffe.io


def child(text):
    """What runs in a process that multiprocessing starts: it imports this module anew."""
    return f"{caffe.__name__} {text} {helper.name()}"


class Double(caffe.Layer):
    def setup(self, bottom, top):
        import caffe.draw

        assert caffe.Layer is helper.caffe.Layer
        assert caffe_pb2.LayerParameter is type(self.param)
        assert callable(caffe.draw.draw_net) and callable(caffe.io.load_image) and L and P
        if self.param_str:
            with multiprocessing.get_context(self.param_str).Pool(1) as pool:
                print("child:", pool.apply(child, ("says",)))

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = (1 + caffe.TEST) * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        pass
'''
HELPER = """
import caffe

def name():
    return caffe.__name__
"""
LAZY = """
import pycaffe_lite

class Lazy(pycaffe_lite.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        import caffe
        from caffe.proto.caffe_pb2 import LayerParameter
        top[0].data[...] = caffe is pycaffe_lite and LayerParameter is type(self.param)
"""
NET = """
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 3 } data_filler { value: 2 } } }
layer { name: "y" type: "Python" bottom: "x" top: "y" python_param { module: "%s" layer: "%s" param_str: "%s" } }
"""
OTHER = "class Layer: pass\nclass Net: pass\n"


@pytest.fixture
def run(tmp_path):
    """Runs a program in a folder that has the modules, and returns what it printed, and its log."""
    (tmp_path / "my_layers.py").write_text(LAYER)
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "lazy_layers.py").write_text(LAZY)
    (tmp_path / "net.prototxt").write_text(NET % ("my_layers", "Double", ""))
    (tmp_path / "lazy.prototxt").write_text(NET % ("lazy_layers", "Lazy", ""))

    def run(program: str, *folders: str | Path, status: int = 0) -> tuple[str, str]:
        (tmp_path / "program.py").write_text(textwrap.dedent(program))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [REPOSITORY, *folders]))}
        command = [sys.executable, "-W", "error", "program.py"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=240)
        assert done.returncode == status, done.stderr
        return done.stdout, done.stderr

    return run


@pytest.fixture
def other_caffe(tmp_path) -> Path:
    """A folder with another caffe, as of a build of BVLC's."""
    folder = tmp_path / "build"
    (folder / "caffe").mkdir(parents=True)
    (folder / "caffe/__init__.py").write_text(OTHER)
    return folder


def test_a_program_that_never_says_caffe(run):
    run(
        """
        import sys
        path = list(sys.path)
        import pycaffe_lite
        assert sys.path == path and "caffe" not in sys.modules
        net = pycaffe_lite.Net("net.prototxt", pycaffe_lite.TEST)
        assert net.forward()["y"].tolist() == [4, 4, 4]
        added = [folder for folder in sys.path if folder not in path]
        assert len(added) == 1 and sys.path[-1:] == added
        import caffe
        assert caffe is pycaffe_lite
        """
    )


def test_the_current_folder_is_searched_last(run, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "net.prototxt").write_text(NET % ("local_layers", "Local", ""))
    (folder / "local_layers.py").write_text(LAZY.replace("Lazy", "Local") + "\nimport beside")
    (folder / "beside.py").write_text("")
    run(
        """
        import os, sys
        os.chdir("elsewhere")
        path = list(sys.path)
        from pycaffe_lite import cli
        assert cli.main(["time", "--model", "net.prototxt", "--iterations", "1"]) == 0
        assert sys.path == path
        """
    )


def test_an_import_that_comes_late(run):
    run(
        """
        import pycaffe_lite
        assert pycaffe_lite.Net("lazy.prototxt", pycaffe_lite.TEST).forward()["y"].tolist() == [1]
        """
    )


def test_processes_that_a_layer_starts(run, tmp_path):
    (tmp_path / "net.prototxt").write_text(NET % ("my_layers", "Double", "spawn"))
    out, _ = run(
        """
        if __name__ == "__main__":
            import pycaffe_lite
            pycaffe_lite.Net("net.prototxt", pycaffe_lite.TEST)
        """
    )
    assert out == "child: pycaffe_lite says pycaffe_lite\n"


def test_another_caffe_that_is_installed_stands_behind(run, other_caffe):
    _, log = run(
        """
        import sys
        import pycaffe_lite
        net = pycaffe_lite.Net("net.prototxt", pycaffe_lite.TEST)
        pycaffe_lite.Net("net.prototxt", pycaffe_lite.TEST)
        assert net.forward()["y"].tolist() == [4, 4, 4]
        assert pycaffe_lite.Net("lazy.prototxt", pycaffe_lite.TEST).forward()["y"].tolist() == [1]
        """,
        other_caffe,
    )
    assert log.count(f"and not the caffe at {other_caffe}") == 1


def test_another_caffe_that_the_program_has_imported_stays(run, other_caffe):
    _, log = run(
        """
        import sys
        import caffe
        import pycaffe_lite
        path = list(sys.path)
        net = pycaffe_lite.Net("net.prototxt", pycaffe_lite.TEST)
        assert net.forward()["y"].tolist() == [4, 4, 4]
        assert sys.modules["caffe"] is caffe and caffe is not pycaffe_lite
        assert not [name for name in sys.modules if name.startswith("caffe.")]
        assert sys.path == path
        """,
        other_caffe,
    )
    assert log.count(f"and not the caffe at {other_caffe}") == 1


def test_a_module_that_another_caffe_was_imported_in(run, other_caffe, tmp_path):
    (tmp_path / "old_layers.py").write_text("import caffe\nclass Old(caffe.Layer): pass\n")
    (tmp_path / "net.prototxt").write_text(NET % ("old_layers", "Old", ""))
    run(
        """
        import caffe, old_layers
        import pycaffe_lite
        try:
            pycaffe_lite.Net("net.prototxt", pycaffe_lite.TEST)
        except pycaffe_lite.CaffeError as error:
            assert "derived from the Layer of another caffe, " in str(error), error
            assert caffe.__file__ in str(error) and "install_as_caffe" in str(error), error
        else:
            raise AssertionError
        """,
        other_caffe,
    )


def test_a_folder_of_that_name_is_no_caffe(run, tmp_path):
    (tmp_path / "caffe/src").mkdir(parents=True)
    _, log = run(
        """
        import pycaffe_lite
        assert pycaffe_lite.Net("net.prototxt", pycaffe_lite.TEST).forward()["y"].tolist() == [4, 4, 4]
        """
    )
    assert "not the caffe at" not in log


def test_install_as_caffe_before_and_after(run):
    run(
        """
        import sys
        import pycaffe_lite
        pycaffe_lite.Net("net.prototxt", pycaffe_lite.TEST)
        pycaffe_lite.install_as_caffe()
        from caffe.proto import caffe_pb2
        import caffe
        assert caffe is pycaffe_lite and caffe_pb2 is pycaffe_lite.proto.caffe_pb2
        path = list(sys.path)
        pycaffe_lite.Net("net.prototxt", pycaffe_lite.TEST)
        assert sys.path == path
        """
    )


# ---- Caffe's own example -------------------------------------------------------------------------------------------


def test_linreg_on_the_command_line(run, tmp_path):
    (tmp_path / "solver.prototxt").write_text(
        f'train_net: "{EXAMPLE}/linreg.prototxt" base_lr: 0.05 lr_policy: "fixed" max_iter: 3 snapshot_after_train: false'
    )
    out, log = run(
        f"""
        from pycaffe_lite.cli import main
        assert main(["train", "--solver", "solver.prototxt"]) == 0
        assert main(["time", "--model", "{EXAMPLE}/linreg.prototxt", "--iterations", "2"]) == 0
        assert main(["summary", "{EXAMPLE}/linreg.prototxt"]) == 0
        """,
        EXAMPLE / "layers",
    )
    assert "Optimization Done" in log
    assert "EuclideanLossLayer" in out or "Python" in out


# ---- check ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def warnings_of(tmp_path, monkeypatch):
    """The warnings of `check` of a net with one Python layer, in a folder with modules that must not run."""
    (tmp_path / "my_layers.py").write_text("1 / 0\nclass Double: pass\nTwice = Double\n")
    (tmp_path / "layers_of_mine").mkdir()
    (tmp_path / "layers_of_mine/__init__.py").write_text("1 / 0\n")
    (tmp_path / "layers_of_mine/inner.py").write_text("1 / 0\ntry:\n    from x import *\nexcept ImportError: pass\n")
    (tmp_path / "broken_layers.py").write_text("print 'Python 2'\n")
    monkeypatch.syspath_prepend(tmp_path)

    def warnings_of(module: str, layer: str) -> list[str]:
        (tmp_path / "net.prototxt").write_text(NET % (module, layer, ""))
        findings, _ = check(str(tmp_path / "net.prototxt"), [caffe.TEST])
        assert not findings.errors
        return [line.partition("(Python): ")[2] for line in findings.warnings]

    return warnings_of


@pytest.mark.parametrize(
    ("module", "layer"),
    [("my_layers", "Double"), ("my_layers", "Twice"), ("layers_of_mine.inner", "FromElsewhere")],
)
def test_check_finds_a_module_without_running_it(warnings_of, module, layer):
    assert warnings_of(module, layer) == [f"{module}.{layer} is not imported, what it computes is not checked"]


@pytest.mark.parametrize(
    ("module", "layer", "words"),
    [
        ("my_layer", "Double", 'there is no Python module "my_layer" (did you mean "my_layers"?); Python looks in {folder}'),
        ("layers_of_mine.iner", "X", '"layers_of_mine.iner" (did you mean "layers_of_mine.inner"?); Python looks in'),
        ("my_layers.inner", "X", 'there is no Python module "my_layers.inner"; Python looks in'),
        ("my_layers", "Duoble", 'the module "my_layers" has no class "Duoble" (did you mean "Double"?)'),
        ("broken_layers", "X", "broken_layers.py is no Python of this version"),
    ],
)
def test_check_tells_of_modules_and_classes_that_are_not_there(warnings_of, tmp_path, module, layer, words):
    (warning,) = warnings_of(module, layer)
    assert words.format(folder=tmp_path) in warning
