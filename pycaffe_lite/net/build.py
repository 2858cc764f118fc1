"""Turns a filtered and split NetParameter into connected layers with blobs and parameters (Net::Init)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import glog, layer_types  # noqa: F401  registers the types
from .. import layer as layer_registry
from ..blob import Blob, shape_text
from ..device import start_threads
from ..errors import CaffeError, NetError, located
from ..layer import Layer
from ..proto import Source
from ..proto.caffe_pb2 import LayerParameter, NetParameter, ParamSpec
from . import splits


@dataclass
class InPlace:
    """A blob of the net before and after a layer in place, if its old values are still needed (see in_place.py).

    The layer with index `start` is the first to write `before`, or to read it if it is a copy of a source. The layer with
    index `end` makes `after` of it. `blob` has the name. one_gradient: `after` uses the memory of the gradient of `before`.
    """

    before: Blob
    after: Blob
    blob: Blob
    start: int
    end: int
    one_gradient: bool


@dataclass
class Node:
    """A layer and its place in the net."""

    layer: Layer
    name: str
    where: str  # file, line, name and type, for errors
    bottom_names: list[str] = field(default_factory=list)
    top_names: list[str] = field(default_factory=list)
    bottom: list[Blob] = field(default_factory=list)
    top: list[Blob] = field(default_factory=list)
    bottom_needs_backward: list[bool] = field(default_factory=list)
    needs_backward: bool = False
    param_ids: list[int] = field(default_factory=list)  # indices into Graph.params
    shapes: list[tuple[int, ...]] = field(default_factory=list)  # of bottoms and tops, at the last forward
    in_place: list[InPlace] = field(default_factory=list)  # its tops that have the name of a bottom, but other memory
    copies: list[tuple[Blob, Blob]] = field(default_factory=list)  # values to copy before forward, from and to

    def reshape(self) -> None:
        """Shapes the tops. A loss weight lies in a top's gradient, and is written again if that has changed."""
        for source, target in self.copies:
            target.reshape_like(source)
        self.layer.reshape(self.bottom, self.top)
        for pair in self.in_place:
            if pair.one_gradient:
                pair.after.share_diff(pair.before)
        before = dict(enumerate(self.shapes[len(self.bottom) :]))
        for i, (blob, weight) in enumerate(zip(self.top, self.layer.loss_weights)):
            if weight and (blob.shape != before.get(i) or self._overwrites_gradient(blob)):
                blob.diff[...] = weight

    def _overwrites_gradient(self, top: Blob) -> bool:
        """Whether backward writes to the gradient of the top, as if it worked in place."""
        return any(top.shares_memory(blob) for blob in self.bottom) or any(top is pair.blob for pair in self.in_place)

    def forward(self) -> None:
        for source, target in self.copies:
            target.data_out[...] = source.data_in
        self.layer.forward(self.bottom, self.top)

    def backward(self) -> None:
        """Runs backward. A blob that the layer overwrites has the gradient of its old values afterwards."""
        self.layer.backward(self.top, self.bottom_needs_backward, self.bottom)
        for pair in self.in_place:
            if not pair.blob.shares_memory(pair.before):
                pair.blob.diff_out[...] = pair.before.diff_in
        for source, copy in self._copied_sources():
            if not source.shares_memory(copy):
                source.diff_out[...] = copy.diff_in

    def _copied_sources(self) -> Iterator[tuple[Blob, Blob]]:
        """Blobs of sources of which this layer reads copies, with the copies, if it computes their gradient."""
        needed = [blob for blob, needs in zip(self.bottom, self.bottom_needs_backward, strict=True) if needs]
        for source, copy in self.copies:
            is_source = not any(source is pair.before for pair in self.in_place)
            if is_source and any(copy is blob for blob in needed):
                yield source, copy

    def remember_shapes(self) -> None:
        self.shapes = [blob.shape for blob in (*self.bottom, *self.top)]

    def check_shapes(self) -> None:
        """Raises `NetError` if shapes have changed since the last forward: layers keep data of that shape for backward.

        Only axes of size 1 at the end may differ, since a later layer that works in place may have added them.
        """
        blobs = (*self.bottom, *self.top)
        if [blob.shape for blob in blobs] == self.shapes:
            return
        for blob, shape in zip(blobs, self.shapes, strict=True):
            if _without_ones(blob.shape) != _without_ones(shape):
                raise NetError(f"a blob was {shape_text(shape)} in the last forward and is now {blob}: run forward first")


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the axes of 1 at its end."""
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


@dataclass
class Param:
    """A parameter blob of one layer. Params that share a name have the same `learnable`."""

    blob: Blob
    node: Node
    index: int  # in the layer
    name: str  # "" if it has none
    owner: int | None  # index in Graph.params of the param whose memory this one uses
    learnable: int  # index into Graph.learnable

    @property
    def label(self) -> str:
        """Its name, or its index in the layer."""
        return self.name or str(self.index)


@dataclass
class Learnable:
    """A parameter that the solver updates. If several layers share it, it is updated once."""

    blob: Blob
    lr_mult: float | None = None  # None: no layer set it, which means 1
    decay_mult: float | None = None


@dataclass
class Graph:
    """The connected net."""

    nodes: list[Node] = field(default_factory=list)
    blobs: dict[str, Blob] = field(default_factory=dict)  # in order of creation
    blob_names: list[str] = field(default_factory=list)  # of all blobs; "(automatic)" may occur several times
    params: list[Param] = field(default_factory=list)
    learnable: list[Learnable] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    loss_weights: dict[str, float] = field(default_factory=dict)
    in_place: list[InPlace] = field(default_factory=list)  # of all layers


AUTOMATIC = "(automatic)"


def build(net: NetParameter, source: Source, dtype: Any = np.float32, allow_python_layers: bool = True) -> Graph:
    """Creates, connects and sets up the layers of `net` (filtered, with splits), and decides what needs a gradient.

    Without `allow_python_layers`, a net with Python layers is refused before their modules are imported.
    """
    _warn_of_python_layers(net, source, allow_python_layers)
    start_threads()
    builder = Builder(net, source, np.dtype(dtype))
    for param in net.layer:
        builder.add(param)
    builder.skip_what_no_loss_needs()
    if net.force_backward:
        builder.force_backward()
    for node in builder.graph.nodes:
        node.layer.needs_backward = node.needs_backward
    builder.graph.outputs = sorted(builder.available)
    return builder.graph


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Like `located`, and adds the place to other errors, such as a Python layer's, as a note (before 3.11: in the log)."""
    try:
        with located(where):
            yield
    except CaffeError:
        raise
    except Exception as error:
        if sys.version_info >= (3, 11):
            error.add_note(where)
        else:
            glog.error(f"{where}: {type(error).__name__}: {error}")
        raise


def _warn_of_python_layers(net: NetParameter, source: Source, allow: bool) -> None:
    layers = [layer for layer in net.layer if _imported_module(layer)]
    if not layers:
        return
    modules = ", ".join(dict.fromkeys(f'"{_imported_module(layer)}"' for layer in layers))
    if not allow or os.environ.get("PYCAFFE_LITE_NO_PYTHON_LAYERS", "0") not in ("", "0"):
        raise NetError(f"Python layers are refused, this one would import {modules}", source.where(layers[0]))
    glog.warning(f"a net with Python layers: it imports {modules}, whose code runs as part of this program")


def _imported_module(layer: LayerParameter) -> str:
    return layer_registry.class_of(layer.type).imported_class(layer).rpartition(".")[0]


class Builder:
    """Adds layers to a graph one after the other."""

    def __init__(self, net: NetParameter, source: Source, dtype: np.dtype):
        self.net, self.source, self.dtype = net, source, dtype
        self.graph = Graph()
        self.available: set[str] = set()  # tops that no layer has read yet
        self.needs_backward: dict[str, bool] = {}  # by blob name
        self.owners: dict[str, int] = {}  # parameter name -> index in Graph.params

    def add(self, original: LayerParameter) -> None:
        param = LayerParameter()
        param.CopyFrom(original)
        if not param.HasField("phase"):
            param.phase = self.net.state.phase
        where = self.source.where(param)
        with placed(where):
            if param.propagate_down and len(param.propagate_down) != len(param.bottom):
                raise NetError(
                    f"propagate_down is given once for each bottom or not at all: "
                    f"expected {len(param.bottom)}, received {len(param.propagate_down)}"
                )
            layer = layer_registry.create(param)
            _note_engine(param, where)
            layer.dtype = layer.blobs.dtype = self.dtype
            node = Node(layer, param.name, where)
            self._connect_bottoms(node)
            self._connect_tops(node)
            set_up(node)
            self.graph.nodes.append(node)
            for name, weight in zip(node.top_names, layer.loss_weights, strict=True):
                self.graph.loss_weights[name] = weight
            self._add_params(node)
        if node.needs_backward:
            self.needs_backward.update(dict.fromkeys(node.top_names, True))

    # ---- blobs ----------------------------------------------------------------------------------------------------

    def _connect_bottoms(self, node: Node) -> None:
        propagate_down = node.layer.param.propagate_down
        for i, name in enumerate(node.layer.param.bottom):
            self.available.remove(name)
            node.bottom_names.append(name)
            node.bottom.append(self.graph.blobs[name])
            node.needs_backward |= self.needs_backward[name]
            node.bottom_needs_backward.append(propagate_down[i] if propagate_down else self.needs_backward[name])

    def _connect_tops(self, node: Node) -> None:
        layer, tops = node.layer, list(node.layer.param.top)
        if AUTOMATIC in tops:
            raise NetError(f'the name "{AUTOMATIC}" is kept for tops that have none')
        if layer.auto_tops:
            needed = max(layer.min_tops or 0, layer.exact_tops or 0)
            tops += [AUTOMATIC] * (needed - len(tops))
        for i, name in enumerate(tops):
            in_place = name != AUTOMATIC and i < len(node.bottom_names) and name == node.bottom_names[i]
            if in_place:
                blob = node.bottom[i]
            else:
                if name in self.graph.blobs and name != AUTOMATIC:
                    raise NetError(splits.produced_twice(self.net, self.source, node.layer.param, name))
                blob = Blob((0,), dtype=self.dtype)
                self.graph.blobs[name] = blob
                self.graph.blob_names.append(name)
                self.needs_backward[name] = False
            node.top_names.append(name)
            node.top.append(blob)
            if name != AUTOMATIC:
                self.available.add(name)
            if layer.is_input:
                self.graph.inputs.append(name)

    # ---- parameters -----------------------------------------------------------------------------------------------

    def _add_params(self, node: Node) -> None:
        layer, specs = node.layer, node.layer.param.param
        if len(specs) > len(layer.blobs):
            raise NetError(
                f"expected at most {len(layer.blobs)} param entries (one for each parameter), received {len(specs)}"
            )
        layer.param_propagate_down = []
        for i in range(len(layer.blobs)):
            spec = specs[i] if i < len(specs) else ParamSpec()
            layer.param_propagate_down.append(spec.lr_mult != 0)
            node.needs_backward |= spec.lr_mult != 0
            self._add_param(node, i, spec)

    def _add_param(self, node: Node, index: int, spec: ParamSpec) -> None:
        blob, params = node.layer.blobs[index], self.graph.params
        owner = self.owners.get(spec.name) if spec.name else None
        if owner is None:
            if spec.name:
                self.owners[spec.name] = len(params)
            learnable = len(self.graph.learnable)
            self.graph.learnable.append(Learnable(blob))
        else:
            share(blob, spec, params[owner])
            learnable = params[owner].learnable
        for multiplier in ("lr_mult", "decay_mult"):
            self._merge(multiplier, spec, learnable, owner)
        node.param_ids.append(len(params))
        params.append(Param(blob, node, index, spec.name, owner, learnable))

    def _merge(self, name: str, spec: ParamSpec, learnable: int, owner: int | None) -> None:
        """Sets the multipliers of a shared parameter. Several layers may give one, but not different values."""
        if not spec.HasField(name):
            return
        value, before = getattr(spec, name), getattr(self.graph.learnable[learnable], name)
        if owner is not None and before is not None and before != value:
            first = self.graph.params[owner].node.name
            raise NetError(
                f'param "{spec.name}" has {name} {value:g} here and {before:g} in layer "{first}", which shares it'
            )
        setattr(self.graph.learnable[learnable], name, value)

    # ---- gradients ------------------------------------------------------------------------------------------------

    def skip_what_no_loss_needs(self) -> None:
        """Turns backward off for layers without a loss above them, or cut off by `propagate_down: false`."""
        under_loss: set[str] = set()
        cut_off: set[str] = set()
        for node in reversed(self.graph.nodes):
            contributes, skips = False, True
            for name, weight in zip(node.top_names, node.layer.loss_weights, strict=True):
                contributes |= weight != 0 or name in under_loss
                skips &= name in cut_off
            if node.needs_backward and skips:
                node.bottom_needs_backward = [False] * len(node.bottom)
                node.needs_backward = False
            node.needs_backward &= contributes
            for i, name in enumerate(node.bottom_names):
                if contributes:
                    under_loss.add(name)
                else:
                    node.bottom_needs_backward[i] = False
                if not node.bottom_needs_backward[i]:
                    cut_off.add(name)

    def force_backward(self) -> None:
        for node in self.graph.nodes:
            node.needs_backward = True
            node.bottom_needs_backward = [
                needs or node.layer.allow_force_backward(i) for i, needs in enumerate(node.bottom_needs_backward)
            ]
            node.layer.param_propagate_down = [True] * len(node.layer.blobs)


def _note_engine(param: LayerParameter, where: str) -> None:
    """Logs that `engine: CUDNN` has no effect, because there is only one implementation."""
    for _, value in param.ListFields():
        field = getattr(value, "DESCRIPTOR", None) and value.DESCRIPTOR.fields_by_name.get("engine")
        if field and value.engine:
            glog.info(f"{where}: engine {field.enum_type.values_by_number[value.engine].name} is ignored, there is but one")


def set_up(node: Node) -> None:
    """Runs a layer's `setup` and first `reshape`, and puts its loss weights into the diffs of its tops."""
    layer, weights = node.layer, node.layer.param.loss_weight
    layer.check_counts(len(node.bottom), len(node.top))
    if weights and len(weights) != len(node.top):
        raise NetError(
            f"loss_weight is given once for each top or not at all: expected {len(node.top)}, received {len(weights)}"
        )
    before = {id(blob): blob.shape for blob in node.bottom}
    layer.setup(node.bottom, node.top)
    layer.reshape(node.bottom, node.top)
    for name, blob in zip(node.top_names, node.top, strict=True):
        shape = before.get(id(blob), blob.shape)
        if _without_ones(shape) != _without_ones(blob.shape):
            raise NetError(
                f'a layer that makes {blob} of {shape_text(shape)} cannot work in place: give "{name}" a name of its own'
            )
    layer.loss_weights = list(weights) or [float(layer.is_loss and i == 0) for i in range(len(node.top))]
    for blob, weight in zip(node.top, layer.loss_weights, strict=True):
        if weight:
            blob.diff[...] = weight


def share(blob: Blob, spec: ParamSpec, owner: Param) -> None:
    """Makes `blob` use the owner's memory for values and gradient."""
    if spec.share_mode == ParamSpec.PERMISSIVE:
        if blob.count != owner.blob.count:
            raise NetError(
                f'param "{spec.name}" is shared PERMISSIVE and needs as many elements as in its owner, '
                f'layer "{owner.node.name}": expected {owner.blob}, received {blob}'
            )
    elif blob.shape != owner.blob.shape:
        raise NetError(
            f'param "{spec.name}" needs the shape that it has in its owner, layer "{owner.node.name}": '
            f"expected {owner.blob}, received {blob}"
        )
    blob.share_data(owner.blob)
    blob.share_diff(owner.blob)
