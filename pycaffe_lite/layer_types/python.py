"""Python: a layer that is computed by a Python class of yours   (python_layer.hpp).

    class Scale(caffe.Layer):
        def setup(self, bottom, top):       # once; self.param_str, self.phase; parameters by self.blobs.add_blob(2, 3)
        def reshape(self, bottom, top):     # before every forward: top[0].reshape(*bottom[0].shape)
        def forward(self, bottom, top):     # top[0].data[...] = ...
        def backward(self, top, propagate_down, bottom):    # bottom[0].diff[...] = ..., self.blobs[0].diff[...] += ...

bottom, top: any number, with the shapes that `reshape` gives them.   Parameters: those that `setup` adds.

A top has a loss weight only if the prototxt gives one. Such a net runs code that its file names, so it logs a warning, and
can be refused: see `allow_python_layers` of Net.

`python_param`:
- `module` (required): the module to import, from `sys.path` (which includes PYTHONPATH), else from the current folder.
  `import caffe` in it means pycaffe_lite.
- `layer` (required): the name of a class in this module that is derived from `pycaffe_lite.Layer`.
- `param_str` (default ""): any text, for the class to read.
- `share_in_parallel` (default false): no effect.

Differences from Caffe: an error that the class raises is passed on unchanged, with the layer's place in its notes. A class
may take part in exact resume, with `save_state` and `load_state`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import NetError, did_you_mean
from ..layer import Blobs, Layer, register
from ..proto.caffe_pb2 import LayerParameter, PythonParameter
from ..user_code import modules
from ..user_code.caffe_name import caffe_is_this_package


@register("Python")
class Python(Layer):
    """Passes every call on to `user`, an object of the user's class, whose attributes may have any names."""

    is_result = True  # its outputs may be meant for a person
    can_overwrite = True
    stays_in_place = True  # the class may change only some values of a top that is its bottom

    def __init__(self, param: LayerParameter):
        super().__init__(param)
        self.user = _load_class(param.python_param)(param)

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        user: Any = self.user
        self.blobs.dtype = user.dtype = self.dtype
        user.blobs, user.phase, user.param_str = self.blobs, self.phase, self.param.python_param.param_str
        user.param_str_ = user.param_str  # the name until 2015, which many layers still use
        with caffe_is_this_package():  # some layers import caffe here
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
    module = modules.load(param.module)
    cls = getattr(module, param.layer, None)
    if isinstance(cls, type) and issubclass(cls, Layer):
        return cls
    classes = [name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, Layer)]
    hint = did_you_mean(param.layer, classes)
    if cls is None:
        raise NetError(f'the module "{param.module}" has no class "{param.layer}"{hint}')
    label = f'"{param.layer}" of the module "{param.module}"'
    if isinstance(cls, type) and (file := modules.of_another_caffe(cls)):
        raise NetError(
            f"{label} is derived from the Layer of another caffe, {file}: the program imported the module before this net "
            f"did; call pycaffe_lite.install_as_caffe() first"
        )
    raise NetError(f"{label} is no class derived from pycaffe_lite.Layer{hint}")
