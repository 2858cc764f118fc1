"""The interface of pycaffe: Net with its dictionaries and keyword inputs, the solvers, modes and seeds."""

from __future__ import annotations

import functools
import itertools
import numbers
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import draw, net, solver
from ._modes import (  # noqa: F401  this is `caffe._caffe` too: what pycaffe's extension module holds is here
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
    use_gpu_or_warn,
)
from .blob import Blob, shape_text
from .errors import NetError, did_you_mean, located
from .layer import BlobVec, Layer, registered_types  # noqa: F401
from .layer_types.data.memory_data import MemoryData
from .layer_types.python import Python
from .net import summary as summaries
from .net import weights as weight_files
from .proto import Source
from .proto.caffe_pb2 import LayerParameter, NetParameter, SolverParameter  # noqa: F401
from .proto.given import GivenNet, GivenSolver, Path, net_param, solver_param
from .solver import Solver, rules

if TYPE_CHECKING:
    from typing_extensions import Self


class InputError(NetError, ValueError):
    """Arrays or layer names that do not fit the net. pycaffe raises a ValueError for them."""


class BlobError(NetError, KeyError):
    """A name that no blob of the net has. pycaffe raises a KeyError for it."""


class Net(net.Net):
    """A net from a prototxt file: `Net(file, phase, level=0, stages=None, weights=None)` or `Net(file, weights, phase)`.

    Instead of the file, prototxt text (a `str` with a line break or a brace), a NetParameter or a NetSpec is accepted.
    `blobs`, `params` and `layer_dict` are in the order of creation. `with Net(...) as net:` ends threads and closes
    databases at the end of the block, like `net.close()`.

    Raises `CaffeError` with file, line and layer; with `allow_python_layers=False` also for a net that has Python layers,
    which run any code they name.
    """

    # Set on each instance; as in pycaffe, editors and scripts find them on the class too.
    blobs: dict[str, Blob] = {}
    inputs: list[str] = []
    outputs: list[str] = []
    blob_loss_weights: dict[str, float] = {}

    def __init__(
        self,
        network_file: GivenNet,
        *args: Any,
        allow_python_layers: bool = True,
        **kwargs: Any,
    ):
        phase, weights, level, stages = _net_arguments(*args, **kwargs)
        param, source = net_param(network_file)
        param.state.phase = phase
        param.state.level = level
        param.state.stage.extend([stages] if isinstance(stages, str) else stages or ())
        super().__init__(param, source, allow_python_layers=allow_python_layers)
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def from_param(cls, param: NetParameter, source: Source | None = None, *, allow_python_layers: bool = True) -> Net:
        """The net of a NetParameter, in the state that the message gives."""
        instance = cls.__new__(cls)
        net.Net.__init__(instance, param, source, allow_python_layers=allow_python_layers)
        return instance

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what is in the net ---------------------------------------------------------------------------------------

    @property
    def params(self) -> OrderedDict[str, list[Blob]]:
        """Layer name to the layer's parameters, for layers that have any."""
        return OrderedDict((node.name, node.layer.blobs) for node in self.nodes if node.layer.blobs)

    @property
    def layers(self) -> list[Layer]:
        """The layers in order; for a Python layer this is the object of the user's class."""
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

    # Private names that old scripts use. Ids are indices of blobs in the order of creation.

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blob_names)

    @property
    def _blobs(self) -> list[Blob]:
        return list(self.blobs.values())

    @property
    def _blob_loss_weights(self) -> list[float]:
        return [self.blob_loss_weights[name] for name in self.blob_names]

    @property
    def _inputs(self) -> list[int]:
        return [self.blob_names.index(name) for name in self.inputs]

    @property
    def _outputs(self) -> list[int]:
        return [self.blob_names.index(name) for name in self.outputs]

    def _bottom_ids(self, layer: int) -> list[int]:
        return [self.blob_names.index(name) for name in self.nodes[layer].bottom_names]

    def _top_ids(self, layer: int) -> list[int]:
        return [self.blob_names.index(name) for name in self.nodes[layer].top_names]

    def _forward(self, start: int, end: int) -> float:
        return self.forward_layers(start, end)

    def _backward(self, start: int, end: int) -> None:
        self.backward_layers(start, end)

    def _set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        self.set_input_arrays(data, labels)

    def summary(self) -> summaries.Summary:
        """The layers with shapes, parameters, multiply-adds and memory; printing it gives a table."""
        return summaries.summarize(self)

    # A notebook shows the table: Jupyter prefers HTML to SVG. For the picture: `IPython.display.SVG(net._repr_svg_())`.

    def _repr_html_(self) -> str:
        """The table of `summary`."""
        return self.summary()._repr_html_()

    def _repr_svg_(self) -> str:
        """The picture of `draw`, from top to bottom."""
        return draw.draw_net(summaries.without_splits(self), "TB", "svg").decode()

    # ---- running --------------------------------------------------------------------------------------------------

    def forward(
        self, blobs: Sequence[str] | None = None, start: str | None = None, end: str | None = None, **kwargs: Any
    ) -> dict[str, np.ndarray]:
        """Runs the layers from `start` to `end` (names, included) and returns the outputs, and `blobs`, by name.

        Keyword arguments set the inputs of the net, all of them, as arrays of the inputs' batch size. The returned arrays
        are views: copy what you need after the next forward.
        """
        if kwargs:
            self._set_inputs(kwargs)
        first = self._layer_at(start) if start is not None else 0
        last = self._layer_at(end) if end is not None else None
        self.forward_layers(first, last)
        names = self.nodes[last].top_names if last is not None else self.outputs
        return self._views(dict.fromkeys([*names, *(blobs or ())]), "data")

    def _set_inputs(self, arrays: dict[str, Any]) -> None:
        if set(arrays) != set(self.inputs):
            raise InputError(f"expected the inputs {', '.join(self.inputs) or 'none'}, received {', '.join(arrays)}")
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
            raise InputError(f'"{unknown[0]}" is no output of the net{hint}; the outputs are {", ".join(self.outputs)}')
        for name, array in kwargs.items():
            _assign(self.blobs[name].diff, array, f'the gradient of output "{name}"')
        first = self._layer_at(start) if start is not None else None
        last = self._layer_at(end) if end is not None else 0
        self.backward_layers(first, last)
        names = self.nodes[last].bottom_names if end is not None else self.inputs
        return self._views(dict.fromkeys([*names, *(diffs or ())]), "diff")

    def forward_all(self, blobs: Sequence[str] | None = None, **kwargs: Any) -> dict[str, np.ndarray]:
        """Runs `forward` on inputs of any length, batch after batch; returns the outputs, and `blobs`, of all batches.

        The last batch is padded with zeros, whose outputs are removed. Outputs without a batch axis (losses) have one value
        for each batch.
        """
        outs = [_copies(self.forward(blobs, None, None, **batch)) for batch in self._batch(kwargs)]
        return self._gathered(outs, kwargs)

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **kwargs: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Runs `forward` and `backward` on inputs and output gradients of any length; returns outputs and gradients."""
        inputs = self._batch({name: array for name, array in kwargs.items() if name in self.inputs})
        gradients = self._batch({name: array for name, array in kwargs.items() if name not in self.inputs})
        outs, grads = [], []
        for input_batch, gradient_batch in itertools.zip_longest(inputs, gradients):
            outs.append(_copies(self.forward(blobs, None, None, **(input_batch or {}))))
            grads.append(_copies(self.backward(diffs, None, None, **(gradient_batch or {}))))
        return self._gathered(outs, kwargs), self._gathered(grads, kwargs)

    def _batch(self, blobs: dict[str, Any]) -> Iterator[dict[str, np.ndarray]]:
        """Cuts equally long arrays into batches of the net's size; the last one is padded with zeros."""
        arrays = {name: np.asarray(array) for name, array in blobs.items()}
        lengths = sorted({len(array) for array in arrays.values()})
        if len(lengths) > 1:
            raise InputError(f"expected arrays of one length, received lengths {', '.join(map(str, lengths))}")
        size = self._batch_size()
        for start in range(0, max(lengths, default=0), size):
            batch = {name: array[start : start + size] for name, array in arrays.items()}
            yield {name: np.pad(a, [(0, size - len(a))] + [(0, 0)] * (a.ndim - 1)) for name, a in batch.items()}

    def _batch_size(self) -> int:
        """The first dimension of the first blob, as in pycaffe."""
        first = next(iter(self.blobs.values()), None)
        return max(first.shape[0], 1) if first is not None and first.num_axes else 1

    def _gathered(self, batches: list[dict[str, np.ndarray]], arrays: dict[str, Any]) -> dict[str, np.ndarray]:
        """The batches' arrays joined, without the padding of the last batch."""
        length, size = len(next(iter(arrays.values()), ())), self._batch_size()
        joined = {name: np.concatenate([np.atleast_1d(b[name]) for b in batches]) for name in (batches or [{}])[0]}
        return {name: a[:length] if len(a) == len(batches) * size else a for name, a in joined.items()}

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Sets the arrays of the first layer, a MemoryData: `data` N x C x H x W and `labels` N (or N x 1 x 1 x 1).

        N is a multiple of the layer's batch size. Both are contiguous arrays of float32. They are not copied, so later
        forwards see what is written to them.
        """
        first = self.nodes[0] if self.nodes else None
        if first is None or not isinstance(first.layer, MemoryData):
            kind = first.layer.type if first else "none"
            raise NetError(f"set_input_arrays needs a net whose first layer is a MemoryData, received {kind}")
        with located(first.where):
            first.layer.set_arrays(data, labels)

    def _views(self, names: dict[str, None], kind: str) -> dict[str, np.ndarray]:
        views = {}
        for name in names:
            if name not in self.blobs:
                raise BlobError(f'the net has no blob "{name}"{did_you_mean(name, self.blobs)}')
            with located(f'blob "{name}"'):  # the memory of an input may be allocated here
                views[name] = getattr(self.blobs[name], kind)
        return views

    def _layer_at(self, name: str) -> int:
        try:
            return self.layer_index(name)
        except NetError as error:
            raise InputError(error.message) from None

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
        """Makes layers use the memory of the parameters in `other`'s layers of the same name."""
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


def _copies(views: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: view.copy() for name, view in views.items()}


def _assign(target: np.ndarray, array: Any, name: str) -> None:
    """Writes an array with the batch size of `target`. As in pycaffe, NumPy may broadcast its other axes."""
    array = np.asarray(array)
    try:
        if array.shape[:1] != target.shape[:1]:
            raise ValueError
        target[...] = array
    except ValueError:
        shape = shape_text(target.shape)
        raise InputError(f"{name} is {shape}, received an array of shape {array.shape}; reshape the net first") from None


def _net_arguments(*args: Any, **kwargs: Any) -> tuple[Any, Path | None, int, Sequence[str] | None]:
    """Handles both forms of pycaffe's constructor; returns phase, weights, level and stages."""
    form = _by_weights if args and not isinstance(args[0], numbers.Integral) else _by_phase
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


class _SolverFace(Solver):
    """A solver of any rule as scripts see it: made from a file, with nets of pycaffe's interface."""

    # Set on each instance; see Net.
    net: Net = None  # type: ignore[assignment]
    test_nets: list[Net] = []
    param = SolverParameter()
    iter = 0

    def __init__(
        self,
        solver_file: GivenSolver,
        where: str = "",
        make_net: Callable[..., Any] | None = None,
        *,
        allow_python_layers: bool = True,
    ):
        param, read_from = solver_param(solver_file)
        where = where or read_from
        face = functools.partial(Net.from_param, allow_python_layers=allow_python_layers)
        super().__init__(param, where, make_net or face)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_callback(self, on_start: Callable[[], Any] | NCCL, on_gradients_ready: Callable[[], Any] | None = None) -> None:
        """Calls `on_start()` before the passes of each step, and `on_gradients_ready()` before its update.

        An `NCCL` may be given instead of both.
        """
        if isinstance(on_start, NCCL):
            super().add_callback(on_start.on_start, on_start.on_gradients_ready)
        elif on_gradients_ready is None:
            raise TypeError("add_callback takes (on_start, on_gradients_ready) or an NCCL")
        else:
            super().add_callback(on_start, on_gradients_ready)

    def share_weights(self, other: Net) -> None:
        """Makes the train net use the memory of another net's parameters."""
        weight_files.share_with(self.net, other)


class SGDSolver(_SolverFace, rules.SGDSolver):
    """Stochastic gradient descent with momentum, as a prototxt file describes it.

    Instead of the file, text (a `str` with a line break or a brace) or a SolverParameter is accepted. `net` and `test_nets`
    are pycaffe's `Net`s. `with SGDSolver(...) as solver:` closes the nets at the end of the block, like `solver.close()`.
    Raises `CaffeError` with file and line.
    """


class NesterovSolver(SGDSolver, rules.NesterovSolver):
    """Nesterov's accelerated gradient."""


class AdaGradSolver(SGDSolver, rules.AdaGradSolver):
    """AdaGrad."""


class RMSPropSolver(SGDSolver, rules.RMSPropSolver):
    """RMSProp."""


class AdaDeltaSolver(SGDSolver, rules.AdaDeltaSolver):
    """AdaDelta."""


class AdamSolver(SGDSolver, rules.AdamSolver):
    """Adam."""


_FACES: dict[type[Solver], type[_SolverFace]] = {
    rules.SGDSolver: SGDSolver,
    rules.NesterovSolver: NesterovSolver,
    rules.AdaGradSolver: AdaGradSolver,
    rules.RMSPropSolver: RMSPropSolver,
    rules.AdaDeltaSolver: AdaDeltaSolver,
    rules.AdamSolver: AdamSolver,
}


def get_solver(solver_file: GivenSolver, *, allow_python_layers: bool = True) -> _SolverFace:
    """The solver that a prototxt file (or text, or a SolverParameter) describes, of the class for its `type`."""
    return make_solver(*solver_param(solver_file), allow_python_layers=allow_python_layers)


def make_solver(param: SolverParameter, where: str = "", *, allow_python_layers: bool = True) -> _SolverFace:
    """The solver that a SolverParameter describes."""
    cls = _with_face(solver.find(param.type, where))
    return cls(param, where, allow_python_layers=allow_python_layers)


def _with_face(cls: type[Solver]) -> type[_SolverFace]:
    """The class with the interface of this file: one of those above for this package's solvers, else a new class."""
    if issubclass(cls, _SolverFace):
        return cls
    if cls in _FACES:
        return _FACES[cls]
    return type(cls.__name__, (_SolverFace, cls), {"__doc__": cls.__doc__, "__module__": cls.__module__})


def layer_type_list() -> list[str]:
    """The names of all layer types."""
    return list(registered_types(installed=True))


def __getattr__(name: str) -> Any:
    """Gives `caffe.pycaffe._Net_forward`, pycaffe's name for the function that becomes `Net.forward`."""
    short = name.removeprefix("_Net_")
    for member in (short, f"_{short}") if name.startswith("_Net_") else ():
        if member in vars(Net):
            return vars(Net)[member]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
