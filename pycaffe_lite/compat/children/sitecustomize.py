"""`pycaffe_lite run` loads this in the Python processes that a script starts, so that they know `caffe` too.

Python imports a module `sitecustomize` when it starts. `run` puts the folder of this module in front of PYTHONPATH. All
processes of the script inherit it: those from `subprocess`, from `multiprocessing` ("spawn" and "forkserver"), and kernels
of notebooks. (Processes with `python -E`, `-I` or another environment do not read it.)

Most of these processes never import Caffe. So this module only installs finders: one loads the pycaffe_lite that runs the
script at the first `import caffe`, one converts modules in Python 2. If another `sitecustomize` is hidden by this one, it is
run afterwards.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

import pycaffe_lite_old_names  # type: ignore[import-not-found]  # which are beside this file
import pycaffe_lite_python_2  # type: ignore[import-not-found]

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.dirname(os.path.dirname(HERE))


class _Finder:
    def __init__(self, *names: str):
        self._names = names

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname not in self._names:
            return None
        if fullname == "pycaffe_lite":
            return PathFinder.find_spec(fullname, [os.path.dirname(PACKAGE)])
        from pycaffe_lite import install_as_caffe

        install_as_caffe()
        sys.meta_path.remove(self)  # the package's own finders replace it
        return importlib.util.find_spec(fullname)


sys.meta_path.insert(0, _Finder("pycaffe_lite", "caffe"))
sys.meta_path.append(_Finder("caffe_pb2"))  # at the end, since a script may have its own
pycaffe_lite_python_2.install()
pycaffe_lite_old_names.put_back()

sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != HERE]
_next = PathFinder.find_spec("sitecustomize")
if _next is not None and _next.loader is not None:
    sys.modules["sitecustomize"] = importlib.util.module_from_spec(_next)
    _next.loader.exec_module(sys.modules["sitecustomize"])
