"""`import caffe` means this package: `install_as_caffe`, and `pycaffe_lite run`."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import pycaffe_lite
from pycaffe_lite.cli import main

SCRIPT = """
import sys
import caffe, caffe.io
from caffe import layers as L
from caffe.proto import caffe_pb2
from caffe._caffe import Net
import neighbour
print(caffe.__name__, caffe.Net is Net, caffe_pb2.TEST == caffe.TEST, L.ReLU(L.Input()).fn.type_name, caffe.io.__name__)
print(__name__, sys.argv[1:], neighbour.value)
"""
OUTPUT = "pycaffe_lite True True ReLU pycaffe_lite.io\n__main__ ['a', '--flag', '-x=1'] 3\n"


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """A folder of its own, and nothing of `caffe` afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("caffe", "neighbour")]:
        del sys.modules[name]


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_script(capsys):
    write("old/script.py", SCRIPT)
    write("old/neighbour.py", "value = 3")
    assert main(["run", "old/script.py", "a", "--flag", "-x=1"]) == 0
    assert capsys.readouterr().out == OUTPUT


def test_a_module(capsys):
    write("old/__init__.py", "")
    write("old/script.py", SCRIPT)
    write("neighbour.py", "value = 3")
    assert main(["run", "-m", "old.script", "a", "--flag", "-x=1"]) == 0
    assert capsys.readouterr().out == OUTPUT


def test_a_process_of_its_own():
    """A folder `caffe` beside the script, or one that was put in front of the path, is not what is imported."""
    write("caffe/__init__.py", "raise SystemExit('the wrong caffe')")
    write("script.py", "import sys; sys.path.insert(0, '.'); import caffe; sys.exit(7 if caffe.TEST == 1 else 8)")
    done = subprocess.run([sys.executable, "-m", "pycaffe_lite", "run", "script.py"], timeout=100, capture_output=True)
    assert (done.returncode, done.stderr) == (7, b"")


def test_from_code(monkeypatch):
    monkeypatch.setitem(sys.modules, "caffe", sys)  # as if another had been imported
    pycaffe_lite.install_as_caffe()
    pycaffe_lite.install_as_caffe()
    assert importlib.import_module("caffe") is pycaffe_lite
    assert importlib.import_module("caffe.proto.caffe_pb2") is importlib.import_module("pycaffe_lite.proto.caffe_pb2")
    assert pycaffe_lite.__spec__.name == "pycaffe_lite"
    with pytest.raises(ModuleNotFoundError, match=r"caffe\.nothing"):
        importlib.import_module("caffe.nothing")


@pytest.mark.parametrize(
    "line",
    [
        "print 'loss', 3",
        "print x",
        "raise ValueError, 'no'",
        "try:\n    pass\nexcept ValueError, e:\n    pass",
        "x = 0644",
        "if 1 <> 2: pass",
        "exec 'x = 1'",
        "x = `3`",
        "x = 3L",
    ],
)
def test_python_2_gets_one_sentence(line, capsys):
    write("old.py", f"x = 1\n{line}\n")
    assert main(["run", "old.py"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "old.py:" in said
    assert "this is Python 2" in said
    assert "python -m fissix -w" in said


@pytest.mark.parametrize(
    "line",
    [
        "for i in xrange(3): pass",
        "raw_input()",
        "import cPickle",
        "from itertools import izip",
        "{}.iteritems()",
        "{}.has_key(1)",
        "{1: 2}.keys()[0]",
        "map(int, '12')[0]",
        "len(zip([1], [2]))",
    ],
)
def test_so_does_what_stops_when_it_runs(line, capsys):
    write("old.py", f"def main():\n    {line}\nmain()\n")
    assert main(["run", "old.py"]) == 1
    *frames, said = capsys.readouterr().err.splitlines()
    assert any('old.py", line 2, in main' in frame for frame in frames)
    assert said.startswith("error: this is Python 2")
    assert said.endswith("old.py")


@pytest.mark.parametrize("line", ["unknown", "import no_such_module", "[].iteritems()", "1 + ''"])
def test_other_errors_are_not_taken_for_python_2(line, capsys):
    write("new.py", line)
    assert main(["run", "new.py"]) == 1
    assert "Python 2" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [["-log_dir=logs", "-alsologtostderr=false"], ["-noalsologtostderr", "--log_dir", "logs", "-minloglevel", "0"]],
)
def test_flags_of_the_log_stand_before_the_script(flags, capsys):
    write("script.py", "import sys; import caffe; caffe.log(' '.join(sys.argv))")
    assert main(["run", *flags, "script.py", "-logtostderr"]) == 0
    assert main([*flags, "run", "script.py"]) == 0
    assert capsys.readouterr().err == ""
    logged = "".join(path.read_text() for path in Path("logs").glob("*.log.INFO.*"))
    assert "] script.py -logtostderr" in logged
    assert main(["run", "script.py", "again"]) == 0  # the flags were that run's only
    assert "] script.py again" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "-log_dri=logs", "script.py"])
    assert 'did you mean "log_dir"' in capsys.readouterr().err


def test_a_script_hides_the_log_before_it_imports_caffe(capsys, monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "0")
    lines = "import os\nos.environ['GLOG_minloglevel'] = '1'\nimport caffe\ncaffe.log('info')\ncaffe.set_mode_cpu()"
    write("script.py", lines)
    assert main(["run", "script.py"]) == 0
    write("script.py", "import caffe\ncaffe.log('and again')")
    assert main(["run", "-minloglevel=0", "script.py"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "and again" in line


def test_another_syntax_error_is_shown_as_it_is():
    write("broken.py", "x = (1,\n")
    with pytest.raises(SyntaxError, match="never closed"):
        main(["run", "broken.py"])


def test_an_error_of_the_script_shows_its_lines_only(capsys):
    write("script.py", "import caffe\ndef f():\n    caffe.Net('missing.prototxt', caffe.TEST)\nf()\n")
    assert main(["run", "script.py"]) == 1
    err = capsys.readouterr().err
    assert 'script.py", line 3, in f' in err
    assert "missing.prototxt" in err.splitlines()[-1]
    assert "runpy" not in err


def test_what_is_not_there(capsys):
    assert main(["run", "missing.py"]) == 1
    assert "there is no script missing.py" in capsys.readouterr().err
    assert main(["run"]) == 2
    assert "run -m module" in capsys.readouterr().err
    assert main(["run", "--help"]) == 0
    assert "run script.py args" in capsys.readouterr().out
