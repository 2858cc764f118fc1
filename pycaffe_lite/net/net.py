"""Net: a graph of layers that runs forward and backward (Caffe's net.cpp)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import glog
from ..blob import Blob, shape_text
from ..device import array_module, serial_blas
from ..errors import NetError, did_you_mean
from ..ops import scratch
from ..proto import Source
from ..proto.caffe_pb2 import NetParameter
from .build import InPlace, Learnable, Node, Param, build, placed
from .filter import filter_net
from .in_place import separate
from .splits import insert_splits

Callback = Callable[[int], Any]


class Net:
    """The net that `param` describes in the state `param.state` (phase, level, stages).

    `source` is the origin of `param`, for errors. `dtype` is float32, or float64 in tests that check gradients.
    Raises `NetError` for a net that cannot be built. Also for a net with Python layers, which run any code they name, if
    `allow_python_layers` is False or the environment has PYCAFFE_LITE_NO_PYTHON_LAYERS=1.

    - `nodes`: the layers with their bottoms and tops, in order.
    - `blobs`: name to Blob, in order of creation. `inputs`, `outputs`: names of blobs; no layer reads an output.
    - `params`: every parameter of every layer; `learnable`: those that a solver updates, with shared ones once.
    """

    def __init__(
        self,
        param: NetParameter,
        source: Source | None = None,
        dtype: Any = np.float32,
        *,
        allow_python_layers: bool = True,
    ):
        source = source or Source("")
        scratch.open_net(self)
        self.name = param.name
        self.phase = param.state.phase
        self.debug_info = param.debug_info
        graph = build(insert_splits(filter_net(param, source), source), source, dtype, allow_python_layers)
        separate(graph)
        self.nodes: list[Node] = graph.nodes
        self._in_place = graph.in_place
        self.blobs: dict[str, Blob] = graph.blobs
        self.blob_names: list[str] = graph.blob_names
        self.learnable: list[Learnable] = graph.learnable
        self.all_params: list[Param] = graph.params
        self.inputs: list[str] = graph.inputs
        self.outputs: list[str] = graph.outputs
        self.blob_loss_weights: dict[str, float] = graph.loss_weights
        self._index = {node.name: i for i, node in reversed(list(enumerate(self.nodes)))}
        self._before_forward: list[Callback] = []
        self._after_forward: list[Callback] = []
        self._before_backward: list[Callback] = []
        self._after_backward: list[Callback] = []
        for node in self.nodes:
            node.remember_shapes()
            glog.info(_describe(node))
        glog.info(f"Network initialization done: {self.name or 'net'}, outputs {', '.join(self.outputs) or 'none'}")

    # ---- running --------------------------------------------------------------------------------------------------

    def forward_layers(self, start: int = 0, end: int | None = None, in_pass: bool = False) -> float:
        """Runs the layers from index `start` to index `end` (included; the last by default) and returns their loss:
        the loss weight of each top times the sum of its elements, summed over all tops.

        in_pass: the caller runs the layers before and behind these too, and uses no blob in between.
        """
        layers = self._range(start, end)
        with serial_blas(), np.errstate(all="ignore"):  # if a net diverges, its loss shows it
            if in_pass:
                return self._run_forward(layers)
            if not (self._before_forward or self._after_forward):
                return self._run_forward_alone(layers)
            loss = 0.0
            for i in layers:
                _call(self._before_forward, i)
                loss += self._run_forward_alone(range(i, i + 1))
                _call(self._after_forward, i)
            return loss

    def _run_forward_alone(self, layers: range) -> float:
        """Runs layers between which no program looks at blobs. Before and behind them it may."""
        for pair in self._cut_before(layers.start):
            _copy(pair.blob, pair.before)
        loss = self._run_forward(layers)
        for pair in self._cut_before(layers.stop):
            _copy(pair.before, pair.blob)
        return loss

    def _run_forward(self, layers: range) -> float:
        loss = 0.0
        for i in layers:
            loss += self._forward_layer(self.nodes[i])
        return loss

    def _cut_before(self, layer: int) -> list[InPlace]:
        """The pairs of blobs whose first one is in use before this layer, and has the values of the name.

        If a run starts or ends here, a program may write or read the blob of that name, as if there were only one.
        """
        return [pair for pair in self._in_place if pair.start < layer <= pair.end]

    def _forward_layer(self, node: Node) -> float:
        layer = node.layer
        with placed(node.where):
            node.reshape()
            node.forward()
        node.remember_shapes()
        loss = 0.0
        for blob, weight in zip(node.top, layer.loss_weights, strict=True):
            if weight:
                data = blob.data_in
                loss += float(array_module(data).vdot(data, blob.diff_in))
        if self.debug_info:
            self._debug_forward(node)
        return loss

    def backward_layers(self, start: int | None = None, end: int = 0) -> None:
        """Runs backward from the layer with index `start` (the last by default) down to index `end` (included)."""
        with serial_blas(), np.errstate(all="ignore"):
            for i in reversed(self._range(end, start)):
                _call(self._before_backward, i)
                node = self.nodes[i]
                if node.needs_backward:
                    with placed(node.where):
                        node.check_shapes()
                        node.backward()
                    if self.debug_info:
                        self._debug_backward(node)
                _call(self._after_backward, i)
        if self.debug_info:
            self._debug_all_params()

    def forward_backward(self) -> float:
        """One forward and one backward pass over the whole net; returns the loss."""
        loss = self.forward_layers()
        self.backward_layers()
        return loss

    def reshape(self) -> None:
        """Shapes all blobs for the present shapes of the inputs."""
        for node in self.nodes:
            with placed(node.where):
                node.reshape()

    def clear_param_diffs(self) -> None:
        """Zeroes the gradients of all parameters; backward adds to them."""
        for learnable in self.learnable:
            learnable.blob.diff_out[...] = 0

    def close(self) -> None:
        """Ends background threads and closes databases. The blobs stay readable."""
        for node in self.nodes:
            node.layer.close()
        scratch.close_net(self)

    def find(self, name: str) -> Node | None:
        """The first layer with that name, or None."""
        return self.nodes[self._index[name]] if name in self._index else None

    def layer_index(self, name: str) -> int:
        """The index of the layer with that name; an unknown name is an error."""
        if name not in self._index:
            raise NetError(f'the net has no layer "{name}"{did_you_mean(name, self._index)}')
        return self._index[name]

    def _range(self, start: int, end: int | None) -> range:
        last = len(self.nodes) - 1
        end = last if end is None else end
        if self.nodes and not (0 <= start <= last and 0 <= end <= last):
            raise NetError(f"layer indices go from 0 to {last}, received {start} and {end}")
        return range(start, end + 1)

    # ---- debug_info: the lines that Caffe prints -------------------------------------------------------------------

    def _debug_forward(self, node: Node) -> None:
        for name, blob in zip(node.top_names, node.top, strict=True):
            glog.info(f"    [Forward] Layer {node.name}, top blob {name} data: {_mean_abs(blob.data_in)}")
        for i in node.param_ids:
            param = self.all_params[i]
            glog.info(f"    [Forward] Layer {node.name}, param blob {param.label} data: {_mean_abs(param.blob.data_in)}")

    def _debug_backward(self, node: Node) -> None:
        for name, blob, needed in zip(node.bottom_names, node.bottom, node.bottom_needs_backward, strict=True):
            if needed:
                glog.info(f"    [Backward] Layer {node.name}, bottom blob {name} diff: {_mean_abs(blob.diff_in)}")
        for i, (blob, needed) in enumerate(zip(node.layer.blobs, node.layer.param_propagate_down, strict=True)):
            if needed:
                glog.info(f"    [Backward] Layer {node.name}, param blob {i} diff: {_mean_abs(blob.diff_in)}")

    def _debug_all_params(self) -> None:
        data = [learnable.blob.data_in for learnable in self.learnable]
        diff = [learnable.blob.diff_in for learnable in self.learnable]
        l1 = ", ".join(f"{sum(float(abs(a).sum()) for a in arrays):g}" for arrays in (data, diff))
        l2 = ", ".join(f"{sum(float((a * a).sum()) for a in arrays) ** 0.5:g}" for arrays in (data, diff))
        glog.info(f"    [Backward] All net params (data, diff): L1 norm = ({l1}); L2 norm = ({l2})")

    def debug_update(self) -> None:
        """Logs data and gradient of every parameter before an update, as Caffe's UpdateDebugInfo."""
        for param in self.all_params:
            diff = f"diff: {_mean_abs(param.blob.diff_in)}"
            if param.owner is None:
                parameter = f"param {param.label} data: {_mean_abs(param.blob.data_in)};"
            else:
                owner = self.all_params[param.owner]
                parameter = f"param blob {param.label} (owned by layer {owner.node.name}, param {owner.label})"
            glog.info(f"    [Update] Layer {param.node.name}, {parameter} {diff}")


def _copy(source: Blob, target: Blob) -> None:
    target.reshape_like(source)
    target.data_out[...] = source.data_in


def _call(callbacks: list[Callback], index: int) -> None:
    for callback in callbacks:
        callback(index)


def _mean_abs(array: Any) -> str:
    return f"{float(abs(array).sum()) / max(array.size, 1):g}"


def _describe(node: Node) -> str:
    def side(names: list[str], blobs: list[Blob]) -> str:
        return ", ".join(f"{name} {shape_text(blob.shape)}" for name, blob in zip(names, blobs, strict=True))

    arrow = " -> ".join(filter(None, (side(node.bottom_names, node.bottom), side(node.top_names, node.top))))
    return f"Setting up {node.name} ({node.layer.type}): {arrow}"
