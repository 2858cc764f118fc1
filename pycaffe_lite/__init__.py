"""pycaffe_lite: Caffe in Python, with nothing to compile.

    import pycaffe_lite as caffe

    net = caffe.Net("deploy.prototxt", "weights.caffemodel", caffe.TEST)
    out = net.forward(data=images)

The names are pycaffe's. They are loaded when first used, so that `pycaffe_lite --help` does not wait for a compiler.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import glog
from .proto.caffe_pb2 import TEST, TRAIN

if TYPE_CHECKING:
    from . import classifier as classifier
    from . import coord_map as coord_map
    from . import detector as detector
    from . import draw as draw
    from . import io as io
    from . import net_spec as net_spec
    from . import proto as proto
    from . import pycaffe as _caffe  # noqa: F401
    from . import pycaffe as pycaffe
    from ._modes import (
        NCCL,
        Timer,
        has_nccl,
        init_log,
        log,
        set_device,
        set_mode_cpu,
        set_mode_gpu,
        set_multiprocess,
        set_random_seed,
        set_solver_count,
        set_solver_rank,
        solver_count,
        solver_rank,
    )
    from .blob import Blob
    from .classifier import Classifier
    from .detector import Detector
    from .errors import CaffeError
    from .layer import Layer
    from .net_spec import NetSpec, layers, params, to_proto
    from .pycaffe import (
        AdaDeltaSolver,
        AdaGradSolver,
        AdamSolver,
        NesterovSolver,
        Net,
        RMSPropSolver,
        SGDSolver,
        get_solver,
        layer_type_list,
    )

__version__ = "0.1.0"

_HOME = {
    "AdaDeltaSolver": "pycaffe",
    "AdaGradSolver": "pycaffe",
    "AdamSolver": "pycaffe",
    "Blob": "blob",
    "CaffeError": "errors",
    "Classifier": "classifier",
    "Detector": "detector",
    "Layer": "layer",
    "NCCL": "_modes",
    "NesterovSolver": "pycaffe",
    "Net": "pycaffe",
    "NetSpec": "net_spec",
    "RMSPropSolver": "pycaffe",
    "SGDSolver": "pycaffe",
    "Timer": "_modes",
    "get_solver": "pycaffe",
    "has_nccl": "_modes",
    "init_log": "_modes",
    "layer_type_list": "pycaffe",
    "layers": "net_spec",
    "log": "_modes",
    "params": "net_spec",
    "set_device": "_modes",
    "set_mode_cpu": "_modes",
    "set_mode_gpu": "_modes",
    "set_multiprocess": "_modes",
    "set_random_seed": "_modes",
    "set_solver_count": "_modes",
    "set_solver_rank": "_modes",
    "solver_count": "_modes",
    "solver_rank": "_modes",
    "to_proto": "net_spec",
}

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "CaffeError",
    "Classifier",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "__version__",
    "classifier",
    "detector",
    "get_solver",
    "has_nccl",
    "init_log",
    "install_as_caffe",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "net_spec",
    "params",
    "proto",
    "pycaffe",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]


# `import pycaffe_lite as caffe; caffe.io.datum_to_array(...)` works in pycaffe
_MODULES = ("classifier", "coord_map", "detector", "draw", "io", "net_spec", "proto", "pycaffe")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name == "_caffe":  # pycaffe's extension module, which scripts reach for although it is private
        return importlib.import_module(".pycaffe", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# ---- under the name of caffe --------------------------------------------------------------------------------------


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
        return __name__ + odd.get(name, name.removeprefix("caffe"))
