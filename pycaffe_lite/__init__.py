"""pycaffe_lite: Caffe in Python, with nothing to compile.

    import pycaffe_lite as caffe

    net = caffe.Net("deploy.prototxt", "weights.caffemodel", caffe.TEST)
    out = net.forward(data=images)

The names are those of pycaffe. They are loaded when first used, so `pycaffe_lite --help` does not wait for a compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
    from .compat.as_caffe import install_as_caffe
    from .detector import Detector
    from .errors import CaffeError
    from .layer import Layer
    from .net_spec import NetSpec, layers, params, to_proto
    from .own_types import register_layer, register_solver
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
    "install_as_caffe": "compat.as_caffe",
    "layer_type_list": "pycaffe",
    "layers": "net_spec",
    "log": "_modes",
    "params": "net_spec",
    "register_layer": "own_types",
    "register_solver": "own_types",
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
    "register_layer",
    "register_solver",
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
    if name == "_caffe":  # pycaffe's extension module; it is private, but scripts use it
        return importlib.import_module(".pycaffe", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
