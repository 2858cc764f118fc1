"""What `pycaffe_lite run` puts into the Python processes that a script starts, so that they know `caffe` too.

Python imports a module `sitecustomize` when it starts. `run` puts the folder of this one in front of PYTHONPATH, which
all processes inherit that the script, or they, start: by `subprocess`, by `multiprocessing` ("spawn" and "forkserver"),
kernels of notebooks. (Those that `python -E` or `-I` starts do not read PYTHONPATH, nor those with another environment.)

Most such processes never ask for Caffe. So nothing is loaded here but a finder, which loads pycaffe_lite, the one that
runs the script, at the first `import caffe`. Another `sitecustomize` that this one hides is run afterwards.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

import pycaffe_lite_old_names  # type: ignore[import-not-found]  # which is beside this file

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
        sys.meta_path.remove(self)  # the package's own finders take over
        return importlib.util.find_spec(fullname)


sys.meta_path.insert(0, _Finder("pycaffe_lite", "caffe"))
sys.meta_path.append(_Finder("caffe_pb2"))  # the last one, as a script may have its own
pycaffe_lite_old_names.put_back()

sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != HERE]
_next = PathFinder.find_spec("sitecustomize")
if _next is not None and _next.loader is not None:
    sys.modules["sitecustomize"] = importlib.util.module_from_spec(_next)
    _next.loader.exec_module(sys.modules["sitecustomize"])
