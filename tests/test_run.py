"""`import caffe` means this package: `install_as_caffe`, and `pycaffe_lite run`."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import pycaffe_lite
from pycaffe_lite import glog
from pycaffe_lite.cli import main
from pycaffe_lite.compat import run
from pycaffe_lite.proto import caffe_pb2

ROOT = str(Path(pycaffe_lite.__file__).parents[1])
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
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(run.old_names, "put_back", lambda: None)
    monkeypatch.setattr(runpy, "run_path", runpy.run_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("caffe", "caffe_pb2", "neighbour")]:
        del sys.modules[name]


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`pycaffe_lite run` in a process of its own, which finds this package, as its children do not."""
    start = f"import sys; sys.path.insert(0, {ROOT!r}); from pycaffe_lite.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", start, "run", *arguments],
        env={**os.environ, "PYTHONPATH": "", **environment},
        timeout=100,
        capture_output=True,
        text=True,
    )


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
    done = process("script.py")
    assert (done.returncode, done.stderr) == (7, "")


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
    "lines",
    [
        "d = {1: 2}\n    names = d.keys()\n    names.sort()",
        "numbers = map(int, '12')\n    x = 3\n    numbers[0]",
        "pairs = zip([1], [2])\n    x = 3\n    len(pairs)",
        "try:\n        {}.iteritems()\n    except AttributeError: {}.iteritems()",
        "import sys\n    x = 3\n    x if sys.version_info < (3,) else xrange(3)",
    ],
)
def test_what_only_stops_when_it_runs(lines, capsys):
    """Python 2 that its text does not show (tests/test_python_2.py has what it shows)."""
    write("old.py", f"def main():\n    {lines}\nmain()\n")
    assert main(["run", "old.py"]) == 1
    *frames, said = capsys.readouterr().err.splitlines()
    assert any('old.py", line 4, in main' in frame for frame in frames)
    assert said.startswith("error: this is Python 2")
    assert said.endswith("python -m fissix -w old.py")


@pytest.mark.parametrize("line", ["unknown", "import no_such_module", "[].items()", "1 + ''"])
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


def test_so_does_one_that_imports_it_by_its_own_name(capsys, monkeypatch):
    monkeypatch.setattr(glog, "_seen", {"GLOG_minloglevel": "0"})
    monkeypatch.setenv("GLOG_minloglevel", "0")
    lines = (
        "import os\nos.environ['GLOG_minloglevel'] = '1'\nimport pycaffe_lite as caffe\ncaffe.log('one')\ncaffe.log('two')"
    )
    write("script.py", lines)
    assert main(["run", "script.py"]) == 0
    assert capsys.readouterr().err == ""


def test_an_error_of_the_script_shows_its_lines_only(capsys):
    write("script.py", "import caffe\ndef f():\n    caffe.Net('missing.prototxt', caffe.TEST)\nf()\n")
    assert main(["run", "script.py"]) == 1
    err = capsys.readouterr().err
    assert 'script.py", line 3, in f' in err
    assert "missing.prototxt" in err.splitlines()[-1]
    assert "runpy" not in err


def test_the_mean_of_imagenet_is_caffes(capsys):
    load = "np.load(os.path.join(os.path.dirname(caffe.__file__), 'imagenet/ilsvrc_2012_mean.npy'))"
    write("script.py", f"import os, caffe, numpy as np\n{load}")
    assert main(["run", "script.py"]) == 1
    assert "np.array([104.007, 116.669, 122.679])" in capsys.readouterr().err.splitlines()[-1]


def test_what_is_not_there(capsys):
    assert main(["run", "missing.py"]) == 1
    assert "there is no script missing.py" in capsys.readouterr().err
    assert main(["run"]) == 2
    assert "run -m module" in capsys.readouterr().err
    assert main(["run", "--help"]) == 0
    assert "run script.py args" in capsys.readouterr().out


# ---- caffe_pb2 without a package ------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["", "os.path.dirname(caffe.__file__) + '/proto'"])
def test_caffe_pb2_is_the_same_one(folder, capsys):
    find = f"sys.path.insert(0, {folder})" if folder else ""
    write("script.py", f"import os, sys, caffe\n{find}\nimport caffe_pb2\nassert caffe_pb2 is caffe.proto.caffe_pb2")
    assert main(["run", "script.py"]) == 0
    assert caffe_pb2.Datum.__module__ == "pycaffe_lite.proto.caffe_pb2"


def test_a_scripts_own_caffe_pb2_wins(capsys):
    write("caffe_pb2.py", "mine = True")
    write("script.py", "import caffe, caffe_pb2; assert caffe_pb2.mine")
    assert main(["run", "script.py"]) == 0


# ---- processes that the script starts -------------------------------------------------------------------------------

CHILDREN = """
import multiprocessing, os, subprocess, sys
import caffe

def child(queue):
    import caffe_pb2
    queue.put(caffe.__name__ if caffe_pb2 is caffe.proto.caffe_pb2 else "another caffe_pb2")

if __name__ == "__main__":
    for method in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context(method)
        queue = context.SimpleQueue()
        process = context.Process(target=child, args=(queue,))
        process.start()
        process.join()
        print("nothing" if queue.empty() else queue.get(), flush=True)
    program = "import caffe_pb2, caffe; print(caffe.__name__, caffe_pb2.TEST)"
    subprocess.check_call([sys.executable, "-c", program], cwd="elsewhere")
    os.system(sys.executable + " other.py")
"""


def test_children_know_caffe():
    """So do those that would not find this package. A `caffe` that is in front of their path is not taken."""
    write("elsewhere/caffe/__init__.py", "raise SystemExit('the wrong caffe')")
    write("script.py", CHILDREN)
    write("other.py", "import sys; sys.path.insert(0, 'elsewhere'); import caffe; print(caffe.__name__)")
    done = process("script.py")
    *others, by_code, by_file = done.stdout.splitlines()
    assert (done.stderr, done.returncode) == ("", 0)
    assert set(others) == {"pycaffe_lite"}
    assert (by_code, by_file) == ("pycaffe_lite 1", "pycaffe_lite")


def test_children_that_do_not_ask_for_caffe_do_not_load_it():
    """They have the `sitecustomize` that they would have without `run`, and nothing new on their path."""
    write("site/sitecustomize.py", "import sys; sys.mine = __name__")
    write("script.py", "import subprocess, sys; sys.exit(subprocess.call([sys.executable, 'child.py']))")
    write(
        "child.py",
        "import sys; print(sys.mine, 'pycaffe_lite' in sys.modules, any(p.endswith('children') for p in sys.path))",
    )
    done = process("script.py", PYTHONPATH=os.path.abspath("site"))
    assert (done.stdout, done.stderr) == ("sitecustomize False False\n", "")


def test_the_path_of_children(monkeypatch, capsys):
    write("script.py", "import os; print(os.environ['PYTHONPATH'])")
    folder = str(Path(run.__file__).with_name("children"))
    for before, after in (("", folder), ("x", f"{folder}{os.pathsep}x"), (folder, folder)):
        monkeypatch.setenv("PYTHONPATH", before)
        assert main(["run", "script.py"]) == 0
        assert capsys.readouterr().out == after + "\n"


# ---- names that are gone --------------------------------------------------------------------------------------------

OLD_NAMES = """
import collections, inspect, time, unittest
import numpy as np

class Test(unittest.TestCase):
    def runTest(self):
        self.assertEquals(1, 1)
        self.assertItemsEqual([1, 2], [2, 1])
        with self.assertRaisesRegexp(ValueError, "no"):
            raise ValueError("no")

assert unittest.TextTestRunner().run(Test()).wasSuccessful()
assert np.zeros(2, np.int).dtype == np.dtype(int) and np.float is float and np.object is object
assert np.bool(1) and np.product([2, 3]) == 6 and np.NaN != np.NaN and np.row_stack([[1], [2]]).shape == (2, 1)
assert np.in1d([[1, 2]], [2]).tolist() == [False, True] and np.asscalar(np.ones(1)) == 1
data = np.fromstring(np.arange(3, dtype=np.uint8).tostring(), np.uint8)
data += 1
assert data.tolist() == [1, 2, 3] and np.fromstring("1 2", int, sep=" ").tolist() == [1, 2]
assert inspect.getargspec(lambda a, b=2: 0).defaults == (2,)
assert issubclass(dict, collections.Mapping) and collections.OrderedDict
assert time.clock() <= time.clock()

import fractions, itertools, os, string, sys, types, urllib
from itertools import ifilter, imap, izip, izip_longest
from urllib import quote, urlencode, urlopen, urlretrieve
assert fractions.gcd(12, 18) == 6 and sys.maxint >= 2**31 - 1 and os.getcwdu() == os.getcwd()
assert list(izip([1], imap(abs, [-2]))) == [(1, 2)] and list(itertools.izip_longest([1], [])) == [(1, None)]
assert string.letters.startswith("abc") and string.join(["a", "b"]) == "a b" and string.upper("a") == "A"
assert isinstance("", types.StringTypes) and urllib.quote("a b") == quote("a b") == "a%20b"
assert urlencode({"a": 1}) == "a=1" and not hasattr(urllib, "nothing")
sys.setdefaultencoding("utf-8")
"""
IMAGES = """
import numpy as np
import scipy.misc, scipy.ndimage
from PIL import Image, ImageDraw, ImageFont
from scipy.misc import imread, imresize, imsave, logsumexp, toimage

assert Image.ANTIALIAS == Image.LANCZOS and Image.CUBIC == Image.BICUBIC and Image.LINEAR == Image.BILINEAR
assert Image.fromstring("L", (1, 1), b"a").tostring() == b"a"
width, height = ImageDraw.Draw(Image.new("L", (9, 9))).textsize("two", font=ImageFont.load_default())
assert (width, height) == ImageFont.load_default().getsize("two") and width > height > 0

# the numbers of SciPy 1.1
a = (np.arange(12) * 20).reshape(3, 4).astype(np.uint8)
assert imresize(a, 50, "nearest").tolist() == [[100, 140]]
assert imresize(a, 0.5).tolist() == scipy.misc.imresize(a, np.int64(50), interp="bilinear").tolist() == [[94, 126]]
assert imresize(a, (2, 3), "bicubic").tolist() == imresize(a, [2, 3], "cubic").tolist() == [[29, 55, 81], [139, 165, 191]]
assert imresize(a, (4, 2), "lanczos").tolist() == [[7, 45], [47, 85], [135, 173], [175, 213]]
f = (np.arange(12) - 3.5).reshape(3, 4)
assert imresize(f, (2, 2)).tolist() == [[51, 88], [167, 204]] and imresize(f, 50).dtype == np.uint8
found = imresize(f, (2, 2), mode="F")
assert found.dtype == np.float32 and np.allclose(found, [[-1.2857144, 0.2857143], [3.7142859, 5.2857141]])
found = np.asarray(toimage(f, cmin=0, cmax=5, low=10, high=90)).tolist()
assert found == [[10, 10, 10, 10], [18, 34, 50, 66], [82, 90, 90, 90]]
assert toimage(np.zeros((3, 4, 5))).size == (5, 4) and toimage(np.zeros((4, 5, 3))).size == (5, 4)
assert toimage(np.zeros((4, 5, 4))).mode == "RGBA" and toimage(a, pal=np.zeros((256, 3))).mode == "P"
imsave("q.png", f)
assert imread("q.png").tolist() == [[0, 23, 46, 70], [93, 116, 139, 162], [185, 209, 232, 255]]
assert imread(open("q.png", "rb"), flatten=True).dtype == np.float32 and imread("q.png", mode="RGB").shape == (3, 4, 3)
assert (scipy.ndimage.imread("q.png") == imread("q.png")).all()
Image.new("P", (2, 1)).save("p.png")
Image.new("1", (2, 1), 1).save("1.png")
assert imread("p.png").shape == (1, 2, 3) and imread("1.png").tolist() == [[255, 255]]
for wrong in (lambda: toimage(np.zeros((2, 2, 2))), lambda: toimage(1j * f), lambda: imresize(a, 50, "linear"),
              lambda: toimage(f, cmin=3, cmax=1), lambda: toimage(f, high=256), lambda: toimage(f, mode="RGB"),
              lambda: toimage(np.zeros((4, 5, 3)), mode="RGBA")):
    try:
        wrong()
    except ValueError:
        continue
    raise AssertionError
"""
YAML = """
class SafeLoader: pass
def load(stream, Loader): return stream, Loader
def load_all(stream, Loader): return stream, Loader
"""


@pytest.mark.parametrize("loaded", ["", "import collections, inspect, unittest, numpy", "a child"])
def test_old_names(loaded):
    write("script.py", OLD_NAMES)
    write("parent.py", "import subprocess, sys; sys.exit(subprocess.call([sys.executable, 'script.py']))")
    write("first.py", f"{loaded}\nimport script")
    done = process("parent.py" if loaded == "a child" else "first.py")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("scipy_misc", ["as installed", "gone"])
def test_old_names_of_images(scipy_misc):
    """SciPy's present `scipy.misc` is empty and warns; a later SciPy has none."""
    gone = "import scipy.ndimage, scipy.special\nscipy.__path__ = []\n" if scipy_misc == "gone" else ""
    write("script.py", gone + IMAGES)
    done = process("script.py", PYTHONWARNINGS="error::DeprecationWarning")
    assert done.returncode == 0, done.stderr


def test_yaml_loads_safely():
    write("yaml.py", YAML)
    write(
        "script.py",
        "import yaml\nassert yaml.load(1) == yaml.load_all(1) == (1, yaml.SafeLoader)\nassert yaml.load(1, 2) == (1, 2)",
    )
    done = process("script.py")
    assert done.returncode == 0, done.stderr


def test_names_that_are_there_stay():
    code = "import numpy, unittest; numpy.int = numpy.clock = 3; unittest.TestCase.assertEquals = 4"
    check = "assert (numpy.int, unittest.TestCase.assertEquals, numpy.float) == (3, 4, float)"
    folder = str(Path(run.__file__).with_name("children"))
    program = (
        f"import sys; sys.path.insert(0, {folder!r}); {code}; import pycaffe_lite_old_names as o; o.put_back(); {check}"
    )
    subprocess.run([sys.executable, "-c", program], timeout=100, check=True)


# ---- notebooks ------------------------------------------------------------------------------------------------------


def notebook(path: str, *cells: str) -> None:
    code = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    metadata = {"kernelspec": {"name": "python2", "display_name": "Python 2"}}
    text = [{"cell_type": "markdown", "metadata": {}, "source": "# Title"}]
    written = {"cells": text + [{**code, "source": cell} for cell in cells], "metadata": metadata}
    write(path, json.dumps({**written, "nbformat": 4, "nbformat_minor": 4}))


def test_a_notebook(capsys):
    notebook(
        "deep/a.ipynb", "import caffe, os, sys\nprint(caffe.__name__)", " ", "os.path.basename(os.getcwd()), sys.executable"
    )
    before = Path("deep/a.ipynb").read_bytes()
    assert main(["run", "deep/a.ipynb"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "[1/2] import caffe, os, sys",
        "pycaffe_lite",
        "[2/2] os.path.basename(os.getcwd()), sys.executable",
        "wrote " + os.path.join("deep", "a.nbconvert.ipynb"),
    ]
    _, first, _, last = json.loads(Path("deep/a.nbconvert.ipynb").read_text())["cells"]
    assert "".join(first["outputs"][0]["text"]) == "pycaffe_lite\n"
    assert "".join(last["outputs"][0]["data"]["text/plain"]) == repr(("deep", sys.executable))
    assert Path("deep/a.ipynb").read_bytes() == before


def test_a_notebook_that_fails(capsys):
    notebook("a.ipynb", "1", "x = 0\n1 / x", "print('never')")
    assert main(["run", "a.ipynb"]) == 1
    out, err = capsys.readouterr()
    assert "----> 2 1 / x" in err
    assert "ZeroDivisionError" in err
    assert "\x1b" not in err
    assert "never" not in out
    _, _, failed, _ = json.loads(Path("a.nbconvert.ipynb").read_text())["cells"]
    assert failed["outputs"][0]["ename"] == "ZeroDivisionError"
    notebook("b.ipynb", "import os; os._exit(1)")
    assert main(["run", "b.ipynb"]) == 1
    assert "error: b.ipynb: the kernel died in cell 1 of 1" in capsys.readouterr().err


def test_what_is_no_notebook(capsys, monkeypatch):
    for text in ("no JSON", "{}", "[]"):
        write("a.ipynb", text)
        assert main(["run", "a.ipynb"]) == 1
        assert "error: a.ipynb is no notebook" in capsys.readouterr().err
    assert main(["run", "a.ipynb", "x"]) == 1
    assert "error: a notebook takes no arguments, received x" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "nbclient", None)
    assert main(["run", "a.ipynb"]) == 1
    assert "pip install nbclient ipykernel" in capsys.readouterr().err
    assert not Path("a.nbconvert.ipynb").exists()


def test_what_scripts_of_pycaffe_import():
    """pycaffe required six; nothing here does, so that nothing but this list brings it."""
    assert '"six>=' in Path(__file__).parent.with_name("pyproject.toml").read_text()
