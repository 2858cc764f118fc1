"""Python 2 under `pycaffe_lite run`, and in modules of layers: converted in memory, with the results of Python 2."""

from __future__ import annotations

import json
import logging
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite.cli import main
from pycaffe_lite.compat import run
from pycaffe_lite.compat.children import pycaffe_lite_python_2 as python_2
from pycaffe_lite.compat.children.pycaffe_lite_python_2.conversion import Conversion
from pycaffe_lite.compat.children.pycaffe_lite_python_2.evidence import why_python_2

ROOT = str(Path(caffe.__file__).parents[1])


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """A folder of its own, and the process as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(run.old_names, "put_back", lambda: None)
    monkeypatch.setattr(runpy, "run_path", runpy.run_path)
    for name in ("meta_path", "path", "argv"):
        monkeypatch.setattr(sys, name, list(getattr(sys, name)))
    for finder in [finder for finder in sys.meta_path if isinstance(finder, python_2.Finder)]:
        sys.meta_path.remove(finder)  # of a `run` in another test
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("caffe", "helper", "beside", "package", "old_layer"):
            del sys.modules[name]


def write(name: str, text: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def output(capsys, *argv: str) -> str:
    """What a script prints that ends well."""
    status = main(["run", *argv])
    out, err = capsys.readouterr()
    assert status == 0, err
    return out


# ---- what Python 2 prints ------------------------------------------------------------------------------------------

# Programs, and what Python 2.7 printed for them (those with NumPy: by its rules).
PROGRAMS = [
    ("print 'loss', 3", "loss 3"),
    ("print 'a',\nprint 'b'", "a b"),
    ("print", ""),
    ("print ('a')", "a"),
    ("import sys\nprint >>sys.stdout, 'a', 1", "a 1"),
    ("print '%d' % 3", "3"),
    ("try:\n    raise ValueError, 'no'\nexcept (ValueError, KeyError), e:\n    print e", "no"),
    ("exec 'x = 7 / 2'\nprint x", "3"),
    ("def f(x):\n    exec 'print x / 2'\n    return eval(' x / 2')\nprint f(7)", "3\n3"),
    ("print eval('a / 2', {'a': 7}), eval(compile('7 / 2.', '', 'eval'))", "3 3.5"),
    ("names = {}\nexec 'x = 1' in names\nprint names['x']", "1"),
    ("print `3` + `'a'`, 0644, 3L, 1 <> 2, ur'a\\d'", "3'a' 420 3 True a\\d"),
    ("def f((a, b), c):\n    return a + b + c\nprint f((1, 2), 3)", "6"),
    ("print [x for x in 1, 2]", "[1, 2]"),
    ("if True:\n\tprint 'tab'\n        print 'blanks'", "tab\nblanks"),
    ("x = '''\n\tin a text'''\nprint [x]", "['\\n\\tin a text']"),
    ("class A:\n    def next(self):\n        return 3\nprint A().next()", "3"),
    ("class A:\n    def __nonzero__(self):\n        return False\nprint bool(A())", "False"),
    ("print 'C:\\users\\new\\Unix', u'\\u0041', r'\\u', '\\\\u'", "C:\\users\new\\Unix A \\u \\u"),
    ("from __future__ import unicode_literals\nprint '\\u0041'", "A"),
    ("def f(async, await=2): return async + await\nprint f(1), 0777L, 00, 0L", "3 511 0 0"),
    # division
    ("print 7 / 2, -7 / 2, 7 / 2., 7. / 2, True / 2, 7L / 2", "3 -4 3.5 3.5 0 3"),
    ("h = [1, 2, 3, 4, 5]\nprint h[len(h) / 2], range(10)[5 / 2]", "3 2"),
    ("from __future__ import division\nprint 7 / 2", "3.5"),
    ("x = 7\nx /= 2\nprint x", "3"),
    ("x = [7, 7.]\nx[0] /= 2\nx[1] /= 2\nprint x", "[3, 3.5]"),
    ("class A: pass\na = A()\na.x = 9\na.x /= 2\nprint a.x", "4"),
    (
        "class V:\n    def __init__(self, x): self.x = x\n    def __div__(self, y): return V(self.x / y)\n"
        "v = V(9) / 2\nprint v.x\nv /= 2\nprint v.x",
        "4\n2",
    ),
    ("print (lambda a, b=9 / 2: a / b)(8)", "2"),
    ("import numpy as np\nprint np.array([3, -3]) / 2, np.array([3.]) / 2, np.float32(3) / 2", "[ 1 -2] [1.5] 1.5"),
    ("import numpy as np\nx = np.array([3, 5])\ny = x\ny /= 2\nprint x, y is x", "[1 2] True"),
    ("import numpy as np\nx = np.array([3., 5.])\ny = x\ny /= 2\nprint x, y is x", "[1.5 2.5] True"),
    ("import numpy as np\nx = np.int64(7)\nx /= 2\nprint x, np.array([4, 9]) / [2, 2]", "3 [2 4]"),
    # builtins
    ("print map(int, '12'), filter(None, [0, 1]), zip([1], [2]), range(3) + [9]", "[1, 2] [1] [(1, 2)] [0, 1, 2, 9]"),
    ("print map(None, [1, 2], [3]), filter(str.isdigit, 'a1b2'), filter(None, (0, 1))", "[(1, 3), (2, None)] 12 (1,)"),
    ("d = {'a': 1}\nprint d.keys()[0], d.values()[0], d.items()[0], d.has_key('a')", "a 1 ('a', 1) True"),
    ("for k, v in {'a': 1}.iteritems(): print k, v", "a 1"),
    ("k = {2: 1, 1: 1}.keys()\nk.sort()\nprint k", "[1, 2]"),
    ("print sum(x for x in xrange(4)), reduce(lambda a, b: a * b, [2, 3]), cmp(1, 2), unichr(65)", "6 6 -1 A"),
    ("print sorted([1, 3, 2], cmp=lambda a, b: cmp(b, a)), sorted('ab', lambda a, b: cmp(b, a))", "[3, 2, 1] ['b', 'a']"),
    (
        "print isinstance(3, (int, long)), isinstance(u'a', unicode), isinstance('a', basestring), unicode(3)",
        "True True True 3",
    ),
    ("print unicode('a', 'utf-8'), unicode(b'a', 'utf-8') if False else 'a'", "a a"),
    (
        "print round(2.5), round(-0.5), round(0.125, 2), round(5), round(2.675, 2), round(15, -1)",
        "3.0 -1.0 0.13 5.0 2.67 20.0",
    ),
    ("import math\nprint math.floor(5.5) / 2, math.ceil(4.2) / 2", "2.5 2.5"),
    ("from math import floor\nprint floor(5) / 2", "2.5"),
    ("f = file('x.txt', 'w')\nprint isinstance(f, file)\nf.close()", "True"),
    ("with open('x.py', 'w') as f: f.write('print 7 / 2')\nexecfile('x.py')", "3"),
    ("try:\n    raise StandardError('a')\nexcept StandardError, e: print e", "a"),
    ("def f():\n    map = 3\n    return map\nprint f()\nfile = 4\nprint file", "3\n4"),
    # modules
    ("import cPickle, cStringIO\nprint cPickle.load(cStringIO.StringIO(cPickle.dumps([1])))", "[1]"),
    ("from StringIO import StringIO\ns = StringIO()\nprint >>s, 'a'\nprint s.getvalue(),", "a"),
    ("import StringIO\nprint StringIO.StringIO('a\\nb').readlines()", "['a\\n', 'b']"),
    ("import Queue, ConfigParser, urllib2, urlparse, commands, thread\nprint Queue.Queue().empty()", "True"),
    ("import urllib2\nprint urllib2.quote('a b'), issubclass(urllib2.URLError, IOError)", "a%20b True"),
    ("import __builtin__\nprint __builtin__.range(2)", "[0, 1]"),
    ("try:\n    import cPickle as pickle\nexcept ImportError:\n    import pickle\nprint pickle.loads(pickle.dumps(1))", "1"),
]


@pytest.mark.parametrize(("program", "printed"), PROGRAMS, ids=[program.splitlines()[-1][:40] for program, _ in PROGRAMS])
def test_a_program_prints_what_it_did(program, printed, capsys):
    write("old.py", program if why_python_2(program) else f"{program}\nprint ''.strip(),")
    assert output(capsys, "old.py").strip() == printed


def test_pickles_of_python_2(capsys):
    """As CIFAR-10's: the bytes of an array and of a name, written by Python 2."""
    write("batch", b"(dp0\nS'data'\np1\nS'\\xff\\x00'\np2\ns.")
    write(
        "old.py",
        "import cPickle\nwith open('batch', 'rb') as file: print [(k, map(ord, v)) for k, v in cPickle.load(file).items()]",
    )
    assert output(capsys, "old.py") == "[('data', [255, 0])]\n"


def test_files_without_b(capsys):
    """Python 2 on Linux wrote and read bytes in files of text: pickles, messages, images."""
    lines = [
        "import cPickle, hashlib, os, sys",
        "with open('p', 'w') as f: cPickle.dump({'a': [1]}, f)",
        "with open('p', 'r') as f: print cPickle.load(f)",
        "with open('b', 'w') as f:",
        "    f.write('text ')",
        "    f.write(b'\\xff\\x00')",
        "    print >>f, 'end'",
        "with open('b') as f: print len(f.read()), isinstance(f, file)",
        "with open('t', 'w') as f: f.write('a\\nb')",
        "with open('t', 'rU') as f: print [line for line in f], f.read() == ''",
        "with open('t', 'a') as f: f.write('c')",
        "with file('t') as f: print [f.read(1), f.readline(), f.read()]",
    ]
    write("old.py", "\n".join(lines))
    assert output(capsys, "old.py").splitlines() == ["{'a': [1]}", "11 True", "['a\\n', 'b'] True", "['a', '\\n', 'bc']"]
    assert Path("b").read_bytes() == b"text \xff\x00end\n"


def test_an_image_from_a_stringio(capsys):
    """As in Caffe's web demo."""
    write("old.py", "import caffe\nfrom StringIO import StringIO\nfrom PIL import Image\ns = StringIO()\n"
          "Image.new('L', (4, 3)).save(s, 'PNG')\nprint caffe.io.load_image(StringIO(s.getvalue())).shape")  # fmt: skip
    assert output(capsys, "old.py") == "(3, 4, 3)\n"


def test_what_is_typed(capsys, monkeypatch):
    answers = iter(["name", "[3]"])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(answers))
    monkeypatch.setitem(sys.modules[f"{python_2.__name__}.meaning"].BUILTINS, "raw_input", input)
    write("old.py", "print raw_input('? '), input()[0]")
    assert output(capsys, "old.py") == "name 3\n"


# ---- which files are converted -------------------------------------------------------------------------------------

PYTHON_3 = [
    "print(7 / 2)",
    "import sys\nif sys.version_info[0] < 3:\n    input = raw_input",
    "try:\n    import cPickle as pickle\nexcept ImportError:\n    import pickle",
    "try:\n    xrange\nexcept NameError:\n    xrange = range\nfor i in xrange(3): pass",
    "from six.moves import xrange\nfor i in xrange(3): pass",
    "import six\nfor k, v in six.iteritems({}): pass",
    "unicode = str\nprint(unicode(3))",
    "def f(file, long=3): return file, long",
    "import pandas\npandas.DataFrame().keys()[0]",
    "class A:\n    def iteritems(self): return []\nA().iteritems()",
    "text_type = str if PY3 else unicode",
    "def keys(): return [1]\nclass A: pass\nA.keys = keys\nA.keys()[0]",
    "from .cPickle import x",
    "import sys\nnew = sys.version_info > (3,)\ndef f(x): return isinstance(x, str if new else unicode)",
    "class A:\n    def __unicode__(self): return unicode(3)",
    "try:\n    from itertools import izip as zip\nexcept ImportError: pass",
    "import urllib.request\nurllib.request.urlopen('x')",
    "import string\ndef f(string): return string.join([])",
    "from numba import types\nx = types.ListType",
    "match = 3",
]
PYTHON_2 = [
    "for i in xrange(3): pass",
    "x = raw_input()",
    "import cPickle",
    "from StringIO import StringIO",
    "def f(d):\n    return d.has_key(1)",
    "for k, v in net.params.iteritems(): pass",
    "x = map(int, '12')[0]",
    "n = len(zip([1], [2]))",
    "x = net.blobs.keys()[0]",
    "if isinstance(x, (int, long)): pass",
    "from itertools import izip",
    "import urllib\nurllib.urlretrieve('a', 'b')",
    "import sys\nn = sys.maxint",
    "try:\n    xrange(3)\nexcept ValueError: pass",
]


@pytest.mark.parametrize("text", PYTHON_3)
def test_what_runs_in_python_3_is_left_alone(text):
    assert why_python_2(text) is None


@pytest.mark.parametrize("text", PYTHON_2)
def test_what_python_3_can_parse_and_not_run(text):
    assert why_python_2(text).startswith("line ")


def test_a_module_of_an_old_name_is_the_one_that_is_there(monkeypatch, capsys):
    write("Queue.py", "mine = True")
    monkeypatch.syspath_prepend(os.getcwd())
    assert why_python_2("import Queue") is None
    write("old.py", "import Queue\nprint Queue.mine")
    assert output(capsys, "old.py") == "True\n"
    del sys.modules["Queue"]


def test_files_that_are_converted_are_logged_and_no_others(capsys, caplog, monkeypatch):
    """A script, a module beside it, a package on PYTHONPATH with an import that is relative without saying so."""
    caplog.set_level(logging.INFO, "pycaffe_lite")
    write("s/old.py", "import helper, beside\nprint helper.f(7), beside.f(7)")
    write("s/helper.py", "from package.one import f")
    write("s/beside.py", "def f(x):\n    return x / 2\n")
    write("lib/package/__init__.py", "")
    write("lib/package/one.py", "import two\ndef f(x):\n    print 'one',\n    return two.f(x)\n")
    write("lib/package/two.py", "def f(x):\n    print 'two',\n    return x / 2\n")
    monkeypatch.syspath_prepend("lib")
    assert output(capsys, "s/old.py") == "one two 3 3.5\n"
    said = [record.getMessage() for record in caplog.records]
    assert [text.partition(" is Python 2 (line ")[0] for text in said] == [
        os.path.join("s", "old.py"), os.path.join("lib", "package", "one.py"), os.path.join("lib", "package", "two.py")
    ]  # fmt: skip
    assert not list(Path("lib").rglob("*.pyc"))[1:]  # of __init__.py at most: Python must not take the others for its own


def test_installed_packages_and_this_one_are_left_to_python(tmp_path, monkeypatch):
    write("site-packages/helper.py", "print 'x'")
    monkeypatch.syspath_prepend("site-packages")
    assert python_2.Finder().find_spec("helper") is None
    assert python_2.Finder().find_spec("numpy") is None
    assert python_2.Finder().find_spec("pycaffe_lite.io") is None


def test_a_module_as_main(capsys):
    write("package/__init__.py", "")
    write("package/__main__.py", "import sys\nprint 'main', sys.argv[1:], map(int, '12')[0]")
    write("package/tool.py", "print __name__, xrange")
    assert output(capsys, "-m", "package", "-x") == "main ['-x'] 1\n"
    assert output(capsys, "-m", "package.tool") == "__main__ <class 'range'>\n"


def test_other_code_sees_nothing_of_it(capsys):
    """Python 3 that converted code calls, and converted code that Python 3 calls."""
    write("old.py", "import helper\nprint helper.f(), helper.g(lambda x: x / 2)")
    write("helper.py", "def f():\n    return type(map(int, '1')).__name__\ndef g(h):\n    return h(7), 7 / 2\n")
    assert output(capsys, "old.py") == "map (3, 3.5)\n"
    assert not hasattr(__builtins__, "xrange")


CHILDREN = """
import multiprocessing, helper
def child(x):
    return helper.half(x), x / 2
if __name__ == '__main__':
    for method in multiprocessing.get_all_start_methods():
        print multiprocessing.get_context(method).Pool(1).map(child, [7])
"""


def test_processes_that_it_starts():
    write("old.py", CHILDREN)
    write("helper.py", "def half(x):\n    print '',\n    return x / 2\n")
    start = f"import sys; sys.path.insert(0, {ROOT!r}); from pycaffe_lite.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "run", "-minloglevel=1", "old.py"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": ""}, timeout=100, capture_output=True, text=True)
    assert (done.stderr, done.returncode) == ("", 0)
    assert {line.strip() for line in done.stdout.splitlines()} == {"[(3, 3)]"}


def test_the_cache_of_the_user_is_not_written(tmp_path):
    """fissix would keep its grammar there, as a pickle."""
    write("old.py", "print 'x'")
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "PYTHONPATH": ROOT}
    environment.pop("XDG_CACHE_HOME", None)
    command = [sys.executable, "-m", "pycaffe_lite", "run", "old.py"]
    done = subprocess.run(command, env=environment, timeout=100, capture_output=True, text=True)
    assert (done.stdout, done.stderr.count("\n")) == ("x\n", 1)
    assert not (tmp_path / "home").exists()


# ---- what is wrong -------------------------------------------------------------------------------------------------


def test_tracebacks_have_the_lines_of_the_file(capsys):
    lines = [
        "def f((a, b)):",  # the conversion adds a line here
        "    '''text",
        "    of two lines'''",
        "    # a comment",
        "    c = (a +",
        "         b)",
        "    return c / 0",
        "print 'before'",
        "f((1, 2))",
    ]
    write("helper.py", "\n".join(lines))
    write("old.py", "print 'x'\nimport helper")
    assert main(["run", "old.py"]) == 1
    err = capsys.readouterr().err.splitlines()
    places = [line.partition("line ")[2] for line in err if line.startswith("  File")]
    assert places == ["2, in <module>", "9, in <module>", "7, in f"]
    assert "    return c / 0" in err
    assert err[-1].startswith("ZeroDivisionError")


def test_a_long_traceback(capsys):
    write("old.py", "def f(): return f()\nprint f()")
    assert main(["run", "old.py"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("RecursionError")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("x = (1,\n", 1, "'(' was never closed"),
        ("print 'a'\nx = 1 +* 2\n", 2, "invalid syntax"),
        ("print 'a'\nfoo bar\n", 2, 'invalid syntax at "bar"'),
        ("def f():\n    return 1\n  return 2\n", 3, "unindent"),
        ("print 'a'\nf(a=1, 2)\n", 2, "positional argument follows keyword argument"),
        ("print 'a'\nbreak\n", 2, "'break' outside loop"),
        ("x = 1\n\x00", 2, "\\x00"),
        ("print 'a'\nx = '", 2, "unterminated"),
    ],
)
def test_what_is_no_python_at_all(text, line, words, capsys):
    write("bad.py", text)
    write("old.py", "import bad")
    for script in ("bad.py", "old.py"):
        assert main(["run", script]) == 1
        (said,) = [said for said in capsys.readouterr().err.splitlines() if "converted in memory" not in said]
        assert said.startswith("error: ")
        assert f"bad.py:{line}: " in said
        assert words in said
        assert "neither Python 3." in said
        sys.modules.pop("bad", None)


def test_bytes_that_are_no_text(capsys):
    write("bad.py", b"# caf\xe9\nprint 'x'\n")
    assert main(["run", "bad.py"]) == 1
    assert "error: bad.py" in capsys.readouterr().err
    write("old.py", b"# -*- coding: latin-1 -*-\nprint len(u'caf\xe9')\n")
    assert output(capsys, "old.py") == "4\n"


def test_a_syntax_error_of_evaluated_text_has_its_traceback(capsys):
    write("old.py", "print 'a'\neval('1 +')")
    assert main(["run", "old.py"]) == 1
    assert 'old.py", line 2, in <module>' in capsys.readouterr().err


# ---- notebooks -----------------------------------------------------------------------------------------------------


def notebook(path: str, *cells: str) -> None:
    code = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    written = {"cells": [{**code, "source": cell} for cell in cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    write(path, json.dumps(written))


def test_a_notebook(capsys, caplog):
    caplog.set_level(logging.INFO, "pycaffe_lite")
    cells = [
        "%matplotlib inline\nimport sys, helper\nprint 'x', helper.f(7)",
        "%%time\nprint 7 / 2",
        "if 1:\n\twords = !echo hi\n        print words[0]",
        "%%writefile tabs.txt\n\ttab\n        blanks",
        "for i in xrange(3):\n\tprint i / 2,\n        print i,",
        "file = 3\nfile, 5 / 2",
        "file",
        "from __future__ import division, print_function",
        "print(5 / 2, end='.\\n')",
        "def f():\n    raise ValueError, 'no'\nf()",
    ]
    notebook("old.ipynb", *cells)
    write("helper.py", "def f(x):\n    print 'helper',\n    return x / 2\n")
    assert main(["run", "old.ipynb"]) == 1
    out, err = capsys.readouterr()
    for printed in ("helper x 3\n", "]%%time\n3\n".replace("]", "] "), "\nhi\n", "0 0 0 1 1 2", "\n2.5.\n"):
        assert printed in out
    assert "----> 2     raise ValueError('no')" in err
    assert [record.getMessage().partition(" (cell 1: ")[0] for record in caplog.records] == ["old.ipynb is Python 2"]
    done = json.loads(Path("old.nbconvert.ipynb").read_text())["cells"]
    assert ["".join(cell["source"]) for cell in done] == cells
    results = [done[at]["outputs"][-1]["data"]["text/plain"] for at in (5, 6)]
    assert Path("tabs.txt").read_text() == "\ttab\n        blanks\n"
    assert ["".join(result) for result in results] == ["(3, 2)", "3"]


def test_a_notebook_in_python_3_is_left_alone(capsys):
    notebook(
        "new.ipynb",
        "from six.moves import xrange",
        "for i in xrange(1): print(7 / 2)",
        "await __import__('asyncio').sleep(0)",
    )
    assert "3.5\n" in output(capsys, "new.ipynb")


def test_a_notebook_that_is_no_python(capsys):
    notebook("old.ipynb", "print 'x'", " ", "%matplotlib inline\nx = 1\nfoo bar")
    assert main(["run", "old.ipynb"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (said,) = err.splitlines()
    assert said.startswith('error: old.ipynb: cell 2 of 2, line 3: invalid syntax at "bar" (neither Python 3.')
    notebook("old.ipynb", "def f():\n    return 1\n  return 2")
    assert main(["run", "old.ipynb"]) == 1
    assert "error: old.ipynb: cell 1 of 1, line 3: unindent does not match" in capsys.readouterr().err
    assert not Path("old.nbconvert.ipynb").exists()


# ---- layers --------------------------------------------------------------------------------------------------------

LAYER = """
import caffe
class Old(caffe.Layer):
    def setup(self, bottom, top):
        print 'setup', 7 / 2
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data / map(int, '2')[0]
    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = top[0].diff / 2
"""
NET = """
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 3 } data_filler { value: 3 } } }
layer { name: "y" type: "Python" bottom: "x" top: "y" python_param { module: "old_layer" layer: "%s" } }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 snapshot_after_train: false'


@pytest.fixture
def layer_files():
    """A net with a layer whose module is Python 2, in the current folder, where layers are found."""
    write("old_layer.py", LAYER)
    write("net.prototxt", NET % "Old")
    write("solver.prototxt", SOLVER)


def test_a_layer_in_commands(layer_files, capsys):
    assert main(["train", "--solver=solver.prototxt"]) == 0
    assert "setup 3\n" in capsys.readouterr().out
    assert not [finder for finder in sys.meta_path if isinstance(finder, python_2.Finder)]


def test_a_layer_in_a_script(layer_files, capsys):
    write("new.py", "import caffe\nprint(caffe.Net('net.prototxt', caffe.TRAIN).forward()['y'])")
    assert output(capsys, "new.py") == "setup 3\n[1.5 1.5 1.5]\n"


def test_check_reads_the_layer(layer_files, capsys):
    assert main(["check", "net.prototxt"]) == 0
    assert "is no Python" not in capsys.readouterr().out
    write("net.prototxt", NET % "Odl")
    main(["check", "net.prototxt"])
    assert 'the module "old_layer" has no class "Odl" (did you mean "Old"?)' in capsys.readouterr().out


def test_a_program_of_its_own_gets_one_error(layer_files):
    with pytest.raises(caffe.CaffeError, match=r"old_layer.py:5: .*pycaffe_lite run script.py"):
        caffe.Net("net.prototxt", caffe.TRAIN)
    write("old_layer.py", "x = = 1")
    assert main(["train", "--solver=solver.prototxt"]) == 1


def test_division_of_arrays_without_conversion_of_their_kind():
    """Each kind of number that divides or is divided."""
    divide = sys.modules[f"{python_2.__name__}.meaning"].divide
    integers = [7, True, np.int8(7), np.uint8(7), np.array([7, 8]), np.array(7)]
    for a in integers:
        for b in integers:
            assert np.asarray(divide(a, b)).dtype.kind in "iu"
        for b in (2.0, np.float32(2), np.array([2.0])):
            assert np.asarray(divide(a, b)).dtype.kind == np.asarray(divide(b, a)).dtype.kind == "f"


def test_a_conversion_keeps_features_of_the_future():
    cells = Conversion()
    assert cells.text("print 'x'") == "print('x')\n"
    cells.text("from __future__ import print_function")
    assert cells.text("print('x', file=f)") == "print('x', file=f)\n"
