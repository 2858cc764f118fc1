"""The house: who may import whom, how long a file may be, which names are taken. Read from the source, nothing runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pycaffe_lite

PACKAGE = Path(pycaffe_lite.__file__).parent
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}

# From the ground floor to the roof. A name is a file or a folder of the package; a file imports its own level or below.
LEVELS = [
    ["device", "proto", "errors", "glog", "files", "rng", "user_code"],
    ["blob", "filler", "ops", "plots"],
    ["layer", "data"],
    ["layer_types"],
    ["net"],
    ["solver"],
    ["check"],
    ["__init__", "_modes", "classifier", "coord_map", "detector", "draw", "io", "net_spec", "own_types", "pycaffe"],
    ["compat"],
    ["__main__", "cli"],
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
APART = {"device": "proto", "proto": "device"}
DEVICE_ONLY = {"cupy", "llvmlite", "numba"}
TAKEN = {"layers", "params", "log"}  # a pycaffe script uses them as attributes of the package
LINES = 500


def home(file: str) -> str:
    """The name in LEVELS that a file belongs to."""
    return file.partition("/")[0].removesuffix(".py")


def imports(file: str) -> Iterator[str]:
    """Absolute dotted names of all that a file imports, wherever in it, but for what only the type checker sees."""
    tree = TREES[file]
    hidden = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and ast.unparse(guard.test) == "TYPE_CHECKING"
        for node in ast.walk(guard)
    }
    folders = ["pycaffe_lite", *file.split("/")[:-1]]
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(folders[: len(folders) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def own_imports(file: str) -> set[str]:
    """The names in LEVELS that a file imports from."""
    found = set()
    for name in imports(file):
        package, *rest = name.split(".")
        if package == "pycaffe_lite":
            inside = rest and (f"{rest[0]}.py" in FILES or f"{rest[0]}/__init__.py" in FILES)
            found.add(rest[0] if inside else "__init__")
    return found


# ---- the reader itself --------------------------------------------------------------------------------------------


def test_imports_are_found(monkeypatch):
    source = """
import numba.core
from . import blas
from .. import glog, __version__
from ..proto.caffe_pb2 import TEST as T
if TYPE_CHECKING:
    from ..solver import Solver
def f():
    from ..net import Net
    import pycaffe_lite as caffe
"""
    monkeypatch.setitem(TREES, "device/x.py", ast.parse(source))
    found = set(imports("device/x.py"))
    assert found == {
        "numba.core",
        "pycaffe_lite.device.blas",
        "pycaffe_lite.glog",
        "pycaffe_lite.__version__",
        "pycaffe_lite.proto.caffe_pb2.TEST",
        "pycaffe_lite.net.Net",
        "pycaffe_lite",
    }
    assert own_imports("device/x.py") == {"device", "glog", "__init__", "proto", "net"}


# ---- the rules ----------------------------------------------------------------------------------------------------


def test_a_file_has_a_level():
    assert not {home(file) for file in FILES} - set(LEVEL)


def test_a_file_imports_its_own_level_or_below():
    above = {file: {name for name in own_imports(file) if LEVEL[name] > LEVEL[home(file)]} for file in FILES}
    assert not {file: names for file, names in above.items() if names}


def test_device_and_proto_do_not_see_each_other():
    assert not [file for file in FILES if APART.get(home(file)) in own_imports(file)]


def test_only_device_imports_compilers():
    others = {file: {name.partition(".")[0] for name in imports(file)} for file in FILES if home(file) != "device"}
    assert not {file: names & DEVICE_ONLY for file, names in others.items() if names & DEVICE_ONLY}


def test_a_file_is_not_long():
    lengths = {file: len(path.read_text(encoding="utf-8").splitlines()) for file, path in FILES.items()}
    assert not {file: length for file, length in lengths.items() if length > LINES}


def test_no_module_takes_a_name_of_pycaffe():
    modules = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir()}
    assert not TAKEN & modules


def test_every_module_has_a_docstring():
    assert not [file for file, tree in TREES.items() if not ast.get_docstring(tree)]


def test_every_public_class_and_function_has_a_docstring():
    """Not in the files that hold one thing, a command or a layer: there the module's docstring describes it. Not loops."""
    files = [file for file in FILES if home(file) not in ("cli", "layer_types")]
    public = [
        (file, node)
        for file in files
        for node in TREES[file].body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and not node.name.startswith("_")
        and not {"kernel", "elementwise", "elementwise(numpy=True)"} & set(map(ast.unparse, node.decorator_list))
    ]
    assert len(public) > 100
    assert not [f"{file}: {node.name}" for file, node in public if not ast.get_docstring(node)]
