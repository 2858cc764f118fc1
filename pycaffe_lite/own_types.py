"""Layer and solver types that users define, for prototxts to use by name.

    import pycaffe_lite as caffe

    @caffe.register_layer("Softsign")
    class Softsign(caffe.Layer):
        def reshape(self, bottom, top): ...
        def forward(self, bottom, top): ...
        def backward(self, top, propagate_down, bottom): ...

    @caffe.register_solver("Lion")
    class Lion(caffe.SGDSolver):
        def update(self, blob, history, rate, scale, l2, l1): ...

A type is registered when its module is imported: by a script, by `--import` on the command line, or from an installed
package with entry points `pycaffe_lite.layers` or `pycaffe_lite.solvers`. docs/python.md says more.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import layer_types  # noqa: F401  this package's own types come first: nobody takes their names
from .layer import register as register_layer
from .solver import register as register_solver
from .user_code import modules

__all__ = ["import_types", "register_layer", "register_solver"]


def import_types(names: Iterable[str]) -> None:
    """Imports the modules of a command's `--import`: dotted names or paths of .py files. Raises `CaffeError`."""
    for module in names:
        modules.load_types(module)
