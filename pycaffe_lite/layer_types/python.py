"""Python: a layer that a class of yours computes   (python_layer.hpp).

    class Scale(caffe.Layer):
        def setup(self, bottom, top):       # once; self.param_str, self.phase; parameters by self.blobs.add_blob(2, 3)
        def reshape(self, bottom, top):     # before every forward: top[0].reshape(*bottom[0].shape)
        def forward(self, bottom, top):     # top[0].data[...] = ...
        def backward(self, top, propagate_down, bottom):    # bottom[0].diff[...] = ..., self.blobs[0].diff[...] += ...

bottom, top: any number, of the shapes that `reshape` gives them.   Parameters: those that `setup` adds.

A top has a loss weight only where the prototxt gives one. Such a net runs code that its file names, so it logs a warning,
and can be refused: see `allow_python_layers` of Net.

`python_param`:
- `module` (required): the module that Python imports (from `sys.path`, to which PYTHONPATH adds).
- `layer` (required): the name of a class in it that is derived from `pycaffe_lite.Layer`.
- `param_str` (default ""): any text, for the class to read.
- `share_in_parallel` (default false): no effect.

Differences from Caffe: an error that the class raises arrives as it is, with the layer's place in its notes. A class may
take part in exact resume, with `save_state` and `load_state`.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import NetError, did_you_mean
from ..layer import Blobs, Layer, register
from ..proto.caffe_pb2 import LayerParameter, PythonParameter


@register("Python")
class Python(Layer):
    """Passes everything on to `user`, an object of the user's class, which may use any names for attributes of its own."""

    is_result = True  # whatever it computes may be meant to be looked at

    def __init__(self, param: LayerParameter):
        super().__init__(param)
        self.user = _load_class(param.python_param)(param)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        user: Any = self.user
        self.blobs.dtype = user.dtype = self.dtype
        user.blobs, user.phase, user.param_str = self.blobs, self.phase, self.param.python_param.param_str
        user.param_str_ = user.param_str  # its name until 2015, which many layers still use
        user.setup(bottom, top)
        self.param_propagate_down = [True] * len(self.blobs)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.user.reshape(bottom, top)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        self.user.forward(bottom, top)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        self.user.backward(top, propagate_down, bottom)

    def save_state(self) -> dict[str, Any]:
        return self.user.save_state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.user.load_state(state)

    def close(self) -> None:
        self.user.close()

    @classmethod
    def imported_class(cls, param: LayerParameter) -> str:
        return f"{param.python_param.module}.{param.python_param.layer}"


def _load_class(param: PythonParameter) -> type[Layer]:
    module = _load_module(param.module)
    found = getattr(module, param.layer, None)
    if isinstance(found, type) and issubclass(found, Layer):
        return found
    classes = [name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, Layer)]
    hint = did_you_mean(param.layer, classes)
    if found is None:
        raise NetError(f'the module "{param.module}" has no class "{param.layer}"{hint}')
    raise NetError(f'"{param.layer}" of the module "{param.module}" is no class derived from pycaffe_lite.Layer{hint}')


def _load_module(name: str) -> Any:
    if not all(part.isidentifier() for part in name.split(".")):
        raise NetError(f'expected the dotted name of a module in python_param.module, received "{name}"')
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, but not what it imports
        hint = did_you_mean(name, _modules_beside(name))
        raise NetError(f'there is no Python module "{name}"{hint}; Python looks in sys.path, set PYTHONPATH') from error


def _modules_beside(name: str) -> Iterable[str]:
    """The modules of the package that `name` belongs to; without a package, those that can be imported."""
    package, _, _ = name.rpartition(".")
    path = getattr(sys.modules.get(package), "__path__", [] if package else None)
    return [module.name for module in pkgutil.iter_modules(path, f"{package}." if package else "")]
