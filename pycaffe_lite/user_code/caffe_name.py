"""This package under the name `caffe`, for users' modules that say `import caffe` and mean the Caffe that runs them.

Before such a module is loaded, the folder `named_caffe` is added to `sys.path`. It has a package `caffe`, which is
this package. So `import caffe` works at the top of the module, later in its functions, in what it imports, and in processes
that `multiprocessing` starts. Programs without such modules see no change.

Another installed caffe comes after it, because classes derived from its `Layer` could not run here. If the program has
imported another caffe already, the program keeps it, and it is hidden only while a module is loaded.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from .. import glog

PACKAGE = __name__.partition(".")[0]
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "named_caffe")

_lock = threading.RLock()
_loading = 0  # how many modules are being loaded
_hidden: dict[str, ModuleType] = {}  # the modules of another caffe that are hidden meanwhile
_said: set[str] = set()  # the places of other caffes that the log has mentioned


class CaffeImporter(MetaPathFinder, Loader):
    """Puts the modules of this package, as the same objects, into `sys.modules` under names of caffe."""

    def __init__(self, root: str):
        self._root = root

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Finds `root` and its submodules."""
        if fullname.partition(".")[0] != self._root or importlib.util.find_spec(self._own(fullname)) is None:
            return None
        return ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        """Replaces the new, empty module by that of this package."""
        glog.read_environment()  # a script may set variables before its `import caffe`, when this package is loaded already
        sys.modules[module.__name__] = importlib.import_module(self._own(module.__name__))

    def create_module(self, spec: ModuleSpec) -> None:
        """Returns None: Python creates the module."""
        return None

    def _own(self, name: str) -> str:
        odd = {"caffe._caffe": ".pycaffe", "caffe_pb2": ".proto.caffe_pb2"}
        return PACKAGE + odd.get(name, name.removeprefix("caffe"))


class _Submodules(CaffeImporter):
    """Finds `caffe.io` and other submodules if `caffe` is this package."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname == self._root or not _is_this_package(sys.modules.get(self._root)):
            return None
        return super().find_spec(fullname, path, target)


def stand_in() -> None:
    """Makes this package the module `caffe` in this process."""
    if not any(isinstance(finder, _Submodules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Submodules("caffe"))
    sys.modules["caffe"] = importlib.import_module(PACKAGE)
    glog.read_environment()


@contextmanager
def caffe_is_this_package() -> Iterator[None]:
    """In the block `import caffe` means this package; afterwards too, unless the program has another caffe."""
    global _loading
    with _lock:
        _loading += 1
        if _loading == 1:
            _hide_other()
    try:
        yield
    finally:
        with _lock:
            _loading -= 1
            if not _loading and _hidden:
                _bring_back_other()


def _hide_other() -> None:
    other = sys.modules.get("caffe")
    if other is not None and not _is_this_package(other):
        _hidden.update((name, sys.modules.pop(name)) for name in _caffe_modules())
        _say_once(str(getattr(other, "__file__", None)), "which the program goes on with")
    if FOLDER in sys.path or any(type(finder) is CaffeImporter for finder in sys.meta_path):
        return  # this function or install_as_caffe has done it already
    spec = PathFinder.find_spec("caffe")
    if spec is None or spec.origin is None:  # no caffe, or a folder of that name without Python code, such as a clone
        sys.path.append(FOLDER)
        return
    sys.path.insert(_position(spec.origin), FOLDER)
    if not _hidden:
        _say_once(spec.origin, "which a program has to import first to have both")


def _bring_back_other() -> None:
    for name in _caffe_modules():
        del sys.modules[name]
    sys.modules.update(_hidden)
    _hidden.clear()
    with suppress(ValueError):  # processes that this one starts must get the program's caffe too
        sys.path.remove(FOLDER)


def _caffe_modules() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "caffe"]


def _is_this_package(module: ModuleType | None) -> bool:
    return module is not None and module is sys.modules.get(PACKAGE)


def _position(origin: str) -> int:
    """The index in `sys.path` of the folder that holds the file of a package."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(origin)))
    return next((i for i, entry in enumerate(sys.path) if os.path.abspath(entry) == folder), 0)


def _say_once(place: str, remark: str) -> None:
    if place not in _said:
        _said.add(place)
        glog.warning(f"modules of layers and solvers import {PACKAGE} as caffe, and not the caffe at {place}, {remark}")
