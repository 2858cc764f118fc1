"""pycaffe_lite: Caffe in Python, with nothing to compile.

    import pycaffe_lite as caffe

    net = caffe.Net("deploy.prototxt", "weights.caffemodel", caffe.TEST)
    out = net.forward(data=images)

The names are pycaffe's. They are loaded when first used, so that `pycaffe_lite --help` does not wait for a compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .proto.caffe_pb2 import TEST, TRAIN

if TYPE_CHECKING:
    from .blob import Blob
    from .errors import CaffeError
    from .layer import Layer
    from .pycaffe import Net, get_solver, layer_type_list, set_device, set_mode_cpu, set_mode_gpu, set_random_seed

__version__ = "0.1.0"

_HOME = {
    "Blob": "blob",
    "CaffeError": "errors",
    "Layer": "layer",
    "Net": "pycaffe",
    "get_solver": "pycaffe",
    "layer_type_list": "pycaffe",
    "set_device": "pycaffe",
    "set_mode_cpu": "pycaffe",
    "set_mode_gpu": "pycaffe",
    "set_random_seed": "pycaffe",
}

__all__ = [
    "TEST",
    "TRAIN",
    "Blob",
    "CaffeError",
    "Layer",
    "Net",
    "__version__",
    "get_solver",
    "layer_type_list",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_random_seed",
]


_MODULES = ("draw", "io", "proto")  # `import pycaffe_lite as caffe; caffe.io.datum_to_array(...)` works in pycaffe


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
