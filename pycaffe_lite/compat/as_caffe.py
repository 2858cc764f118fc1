"""This package under the name of caffe, for scripts that say `import caffe`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .. import glog

PACKAGE = __name__.partition(".")[0]


def install_as_caffe() -> None:
    """From now on, in this process, `import caffe` and `from caffe.proto import caffe_pb2` mean this package.

    A real Caffe that is installed, or was imported before, is out of sight. `import caffe_pb2`, as of scripts that expect
    Caffe's `proto` folder on `sys.path`, means this package's where no other is found. For processes that this one starts
    see `pycaffe_lite run`.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == "caffe"]:
        del sys.modules[name]
    if not any(isinstance(finder, _CaffeImporter) for finder in sys.meta_path):
        sys.meta_path.insert(0, _CaffeImporter("caffe"))
        sys.meta_path.append(_CaffeImporter("caffe_pb2"))


class _CaffeImporter(MetaPathFinder, Loader):
    """Puts the modules of this package, the very same objects, into `sys.modules` under the names of caffe's."""

    def __init__(self, root: str):
        self._root = root

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] != self._root or importlib.util.find_spec(self._own(fullname)) is None:
            return None
        return ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        glog.read_environment()  # which a script may set before its `import caffe`, when this package is loaded already
        sys.modules[module.__name__] = importlib.import_module(self._own(module.__name__))

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def _own(self, name: str) -> str:
        odd = {"caffe._caffe": ".pycaffe", "caffe_pb2": ".proto.caffe_pb2"}
        return PACKAGE + odd.get(name, name.removeprefix("caffe"))
