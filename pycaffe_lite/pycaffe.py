"""The face that pycaffe scripts know: Net with its dictionaries and keyword inputs, the solvers, modes and seeds."""

from __future__ import annotations

import functools
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import glog, net, rng, solver
from .blob import Blob, shape_text
from .device import cuda_problem
from .errors import DeviceError, NetError, did_you_mean, located
from .layer import Layer, registered_types
from .layer_types.memory_data import MemoryData
from .layer_types.python import Python
from .net import weights as weight_files
from .proto import Source, read_net, read_solver
from .proto.caffe_pb2 import NetParameter, SolverParameter
from .proto.upgrade import default_snapshot_prefix

Path = str | os.PathLike


class Net(net.Net):
    """A net from a prototxt file: `Net(file, phase, level=0, stages=None, weights=None)` or `Net(file, weights, phase)`.

    `blobs`, `params` and `layer_dict` are ordered by creation. Raises `CaffeError` with file, line and layer; with
    `allow_python_layers=False` also for a net that has Python layers, which run any code they name.
    """

    def __init__(self, network_file: Path, *args: Any, allow_python_layers: bool = True, **kwargs: Any):
        phase, weights, level, stages = _net_arguments(*args, **kwargs)
        param, source = read_net(network_file)
        param.state.phase = phase
        param.state.level = level
        param.state.stage.extend(stages or ())
        super().__init__(param, source, allow_python_layers=allow_python_layers)
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def from_param(cls, param: NetParameter, source: Source | None = None, *, allow_python_layers: bool = True) -> Net:
        """The net of a NetParameter, in the state that it says."""
        made = cls.__new__(cls)
        net.Net.__init__(made, param, source, allow_python_layers=allow_python_layers)
        return made

    # ---- what is in the net ---------------------------------------------------------------------------------------

    @property
    def params(self) -> OrderedDict[str, list[Blob]]:
        """Layer name to the layer's parameters, for layers that have any."""
        return OrderedDict((node.name, node.layer.blobs) for node in self.nodes if node.layer.blobs)

    @property
    def layers(self) -> list[Layer]:
        """The layers in order; for a Python layer the object of the user's class."""
        return [node.layer.user if isinstance(node.layer, Python) else node.layer for node in self.nodes]

    @property
    def layer_dict(self) -> OrderedDict[str, Layer]:
        return OrderedDict(zip(self._layer_names, self.layers, strict=True))

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((node.name, list(node.top_names)) for node in self.nodes)

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((node.name, list(node.bottom_names)) for node in self.nodes)

    @property
    def _layer_names(self) -> list[str]:
        return [node.name for node in self.nodes]

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blob_names)

    # ---- running --------------------------------------------------------------------------------------------------

    def forward(
        self, blobs: Sequence[str] | None = None, start: str | None = None, end: str | None = None, **kwargs: Any
    ) -> dict[str, np.ndarray]:
        """Runs the layers from `start` to `end` (names, included) and returns the outputs, and `blobs`, by name.

        Keyword arguments give the inputs of the net, all of them, in arrays of the inputs' batch size. The arrays returned
        are views: copy what must outlive the next forward.
        """
        if kwargs:
            self._set_inputs(kwargs)
        first = self.layer_index(start) if start is not None else 0
        last = self.layer_index(end) if end is not None else None
        self.forward_layers(first, last)
        names = self.nodes[last].top_names if last is not None else self.outputs
        return self._views(dict.fromkeys([*names, *(blobs or ())]), "data")

    def _set_inputs(self, arrays: dict[str, Any]) -> None:
        if set(arrays) != set(self.inputs):
            raise NetError(f"expected the inputs {', '.join(self.inputs) or 'none'}, received {', '.join(arrays)}")
        for name, array in arrays.items():
            _assign(self.blobs[name].data, array, f'input "{name}"')

    def backward(
        self, diffs: Sequence[str] | None = None, start: str | None = None, end: str | None = None, **kwargs: Any
    ) -> dict[str, np.ndarray]:
        """Runs backward from `start` down to `end` (names, included) and returns the inputs' gradients, and `diffs`.

        Keyword arguments give the gradients of outputs (any of them).
        """
        unknown = [name for name in kwargs if name not in self.outputs]
        if unknown:
            hint = did_you_mean(unknown[0], self.outputs)
            raise NetError(f'"{unknown[0]}" is no output of the net{hint}; the outputs are {", ".join(self.outputs)}')
        for name, array in kwargs.items():
            _assign(self.blobs[name].diff, array, f'the gradient of output "{name}"')
        first = self.layer_index(start) if start is not None else None
        last = self.layer_index(end) if end is not None else 0
        self.backward_layers(first, last)
        names = self.nodes[last].bottom_names if end is not None else self.inputs
        return self._views(dict.fromkeys([*names, *(diffs or ())]), "diff")

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Gives the first layer, a MemoryData, what it hands out: `data` N x C x H x W and `labels` N (or N x 1 x 1 x 1).

        N is a multiple of the layer's batch size. Both are contiguous arrays of float32, which are not copied: what is
        written to them later is seen by later forwards.
        """
        first = self.nodes[0] if self.nodes else None
        if first is None or not isinstance(first.layer, MemoryData):
            kind = first.layer.type if first else "none"
            raise NetError(f"set_input_arrays needs a net whose first layer is a MemoryData, received {kind}")
        with located(first.where):
            first.layer.set_arrays(data, labels)

    def _views(self, names: dict[str, None], kind: str) -> dict[str, np.ndarray]:
        for name in names:
            if name not in self.blobs:
                raise NetError(f'the net has no blob "{name}"{did_you_mean(name, self.blobs)}')
        return {name: getattr(self.blobs[name], kind) for name in names}

    def before_forward(self, callback: Callable[[int], Any]) -> None:
        """Calls `callback(index)` before each layer runs forward."""
        self._before_forward.append(callback)

    def after_forward(self, callback: Callable[[int], Any]) -> None:
        self._after_forward.append(callback)

    def before_backward(self, callback: Callable[[int], Any]) -> None:
        self._before_backward.append(callback)

    def after_backward(self, callback: Callable[[int], Any]) -> None:
        self._after_backward.append(callback)

    # ---- parameters -----------------------------------------------------------------------------------------------

    def copy_from(self, path: Path) -> None:
        """Copies the parameters of a .caffemodel or HDF5 model into the layers with the same names."""
        weight_files.copy_from(self, path)

    def share_with(self, other: net.Net) -> None:
        """Makes the parameters of the layers with equal names the same memory as `other`'s."""
        weight_files.share_with(self, other)

    def save(self, path: Path, write_diff: bool = False) -> None:
        """Writes a binary .caffemodel."""
        weight_files.save(self, path, write_diff)

    def save_hdf5(self, path: Path, write_diff: bool = False) -> None:
        """Writes an HDF5 model."""
        weight_files.save_hdf5(self, path, write_diff)

    def load_hdf5(self, path: Path) -> None:
        """Copies the parameters of an HDF5 model."""
        weight_files.copy_from(self, path)


def _assign(target: np.ndarray, array: Any, what: str) -> None:
    """Writes an array with the batch size of `target`. Its other axes may be of those that NumPy repeats, as in pycaffe."""
    array = np.asarray(array)
    try:
        if array.shape[:1] != target.shape[:1]:
            raise ValueError
        target[...] = array
    except ValueError:
        shape = shape_text(target.shape)
        raise NetError(f"{what} is {shape}, received an array of shape {array.shape}; reshape the net first") from None


def _net_arguments(*args: Any, **kwargs: Any) -> tuple[Any, Path | None, int, Sequence[str] | None]:
    """Sorts out pycaffe's two constructors, and returns phase, weights, level and stages."""
    form = _by_weights if args and not isinstance(args[0], int) else _by_phase
    try:
        return form(*args, **kwargs)
    except TypeError:
        message = "Net takes (file, phase, level=0, stages=None, weights=None) or (file, weights, phase)"
        raise TypeError(message) from None


def _by_phase(phase: Any, level: int = 0, stages: Sequence[str] | None = None, weights: Path | None = None) -> tuple:
    return phase, weights, level, stages


def _by_weights(weights: Path, phase: Any, level: int = 0, stages: Sequence[str] | None = None) -> tuple:
    return phase, weights, level, stages


# ---- solvers ------------------------------------------------------------------------------------------------------


def get_solver(solver_file: Path, *, allow_python_layers: bool = True) -> solver.Solver:
    """The solver that a prototxt file describes, of the class that its `type` names."""
    param, source = read_solver(solver_file)
    param.snapshot_prefix = default_snapshot_prefix(param, solver_file)
    return make_solver(param, source.where(), allow_python_layers=allow_python_layers)


def make_solver(param: SolverParameter, where: str = "", *, allow_python_layers: bool = True) -> solver.Solver:
    """The solver that a SolverParameter describes, with nets that have pycaffe's face."""
    if param.HasField("solver_mode") and param.solver_mode == SolverParameter.GPU:
        use_gpu_or_warn()
    return solver.create(param, where, functools.partial(Net.from_param, allow_python_layers=allow_python_layers))


# ---- devices and seeds --------------------------------------------------------------------------------------------


def use_gpu_or_warn() -> None:
    """Says once, loudly, that work which asked for a GPU goes on on the CPU."""
    if not getattr(use_gpu_or_warn, "said", False):
        glog.warning(f"*** The GPU was asked for, but {cuda_problem()}. GOING ON ON THE CPU. ***")
        use_gpu_or_warn.said = True  # type: ignore[attr-defined]


def set_mode_cpu() -> None:
    """Runs nets on the CPU, as is the default."""


def set_mode_gpu() -> None:
    """Asks for the GPU; without CUDA the work goes on on the CPU after one loud warning."""
    use_gpu_or_warn()


def set_device(device_id: int) -> None:
    """Chooses a CUDA device."""
    if device_id < 0:
        raise DeviceError(f"device ids start at 0, received {device_id}")
    use_gpu_or_warn()


def set_random_seed(seed: int) -> None:
    """Restarts all random streams from `seed`."""
    rng.set_seed(seed)


def layer_type_list() -> list[str]:
    """The names of all layer types."""
    return list(registered_types())
