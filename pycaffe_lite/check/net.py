"""Finds every error of a net in one phase: it sets the layers up one by one, and continues after a failure.

It fills no parameters, reads no batches and imports no modules of Python layers. After a layer that failed, or whose shapes
depend on data or code, shapes are unknown. Layers with unknown bottoms are checked for names and counts only.

Layers that were not read completely are doubtful: only their types and bottoms are checked, and they may produce any blob
whose name is in text that was not read.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from .. import filler
from .. import layer as layer_registry
from ..blob import Blob
from ..errors import CaffeError, NetError, located
from ..layer import Layer, class_of
from ..layer_types.data._batches import Batches
from ..net.build import AUTOMATIC, Builder, Node, set_up
from ..net.filter import filter_net
from ..net.splits import insert_splits, is_inserted
from ..proto import Source
from ..proto.caffe_pb2 import FillerParameter, LayerParameter, NetParameter, Phase
from ..proto.recovery import MAX_ERRORS
from ..user_code import modules
from . import data_layers
from .findings import Findings

MAX_FILLED = 1 << 20  # a larger parameter is not filled as a whole
_SMALL = (4096, 2, 16, 16)  # the shape that is filled in its place, to find errors of the filler
_NO_SUCH = "?"  # prefix of the names of layers and blobs that replace unknown bottoms


class Row(NamedTuple):
    """A top in the table of shapes."""

    layer: str
    type: str
    top: str
    shape: tuple[int, ...] | None  # None if unknown


class Checked(NamedTuple):
    """The results of a walk besides errors: all tops, and the layers that read data."""

    rows: list[Row]
    sources: list[LayerParameter]


def check_net(net: NetParameter, source: Source, findings: Findings) -> Checked:
    """Checks an upgraded net in its state. It may be of a file with errors."""
    filtered = filter_net(_without_double_rules(net, source, findings), source)
    doubtful = {top for layer in net.layer if source.is_doubtful(layer) for top in layer.top}
    _produce(source.skipped | doubtful, filtered)
    linter = _Linter(_with_splits(filtered, source, findings), source, findings)
    for param in linter.net.layer:
        linter.add(param)
    if not source.faults:
        linter.warn_of_unread_blobs()
    return Checked(list(linter.rows()), linter.sources)


def lacks_sources(net: NetParameter, phase: Phase) -> bool:
    """Whether a bottom in this phase is produced only in the other phase, for which the net is then made."""
    state = NetParameter()
    state.CopyFrom(net)
    state.state.phase = phase
    try:
        layers = filter_net(state, Source()).layer
    except NetError:
        return False
    tops = {top for layer in layers for top in layer.top}
    everywhere = {top for layer in net.layer for top in layer.top}
    return any(bottom in everywhere - tops for layer in layers for bottom in layer.bottom)


def _without_double_rules(net: NetParameter, source: Source, findings: Findings) -> NetParameter:
    """A copy without layers that have both include and exclude rules, for which `filter_net` would raise."""
    single = NetParameter()
    single.CopyFrom(net)
    for layer in single.layer:
        if layer.include and layer.exclude:
            findings.error(NetError("include and exclude rules on one layer; use one kind", source.where(layer)))
            layer.ClearField("exclude")
    return single


def _produce(blobs: set[str], net: NetParameter) -> None:
    """Renames bottoms with one of these names that no layer produces, and adds layers that produce them, in front."""
    produced: set[str] = set()
    missing: set[str] = set()
    for layer in net.layer:
        for i, bottom in enumerate(layer.bottom):
            if bottom in blobs - produced:
                layer.bottom[i] = f"{_NO_SUCH} {bottom}"
                missing.add(layer.bottom[i])
        produced.update(layer.top)
    _add_in_front(net, missing)


def _add_in_front(net: NetParameter, tops: Iterable[str]) -> None:
    """Adds a layer for each of these tops."""
    layers = [*(LayerParameter(name=top, type="Input", top=[top]) for top in sorted(tops)), *net.layer]
    del net.layer[:]
    net.layer.extend(layers)


def _with_splits(net: NetParameter, source: Source, findings: Findings) -> NetParameter:
    """The net with splits. A bottom that no layer produces is renamed, and an added layer produces it."""
    for count in range(MAX_ERRORS):
        try:
            return insert_splits(net, source)
        except NetError as error:
            findings.error(error)
            name = f"{_NO_SUCH}{count}"
            _first_unknown_bottom(net, name)
            _add_in_front(net, [name])
    raise NetError("there are too many errors", source.where())


def _first_unknown_bottom(net: NetParameter, name: str) -> None:
    produced: set[str] = set()
    for layer in net.layer:
        for i, bottom in enumerate(layer.bottom):
            if bottom not in produced:
                layer.bottom[i] = name
                return
        produced.update(layer.top)


class _Linter(Builder):
    def __init__(self, net: NetParameter, source: Source, findings: Findings):
        super().__init__(net, source, np.dtype(np.float32))
        self.findings = findings
        self.unknown: set[str] = set()  # blobs of unknown shape
        self.doubtful: set[str] = set()  # blobs of layers that were not read completely
        self.sources: list[LayerParameter] = []
        self.walked: list[LayerParameter] = []

    def add(self, original: LayerParameter) -> None:
        param = LayerParameter()
        param.CopyFrom(original)
        if not param.HasField("phase"):
            param.phase = self.net.state.phase
        self.walked.append(param)
        where = self.source.where(param)
        try:
            with located(where):
                self._add(param, where)
        except CaffeError as error:
            self.findings.error(error)
            self._give_up(param)
        except Exception as error:  # a user's type may raise anything
            self.findings.error(NetError(f"cannot be set up ({type(error).__name__}: {error})", where))
            self._give_up(param)

    def _add(self, param: LayerParameter, where: str) -> None:
        if self.source.is_doubtful(param):
            if param.type and param.type not in self.source.skipped:
                layer_registry.check_type(param.type)
            self._give_up(param)
            self.doubtful.update(param.top)
            return
        if param.propagate_down and len(param.propagate_down) != len(param.bottom):
            counts = f"expected {len(param.bottom)}, received {len(param.propagate_down)}"
            raise NetError(f"propagate_down is given once for each bottom or not at all: {counts}")
        if unknown := _why_not_set_up(param):
            self.findings.warning(unknown, where)
            self._give_up(param)
            return
        layer = layer_registry.create(param)
        node = Node(layer, param.name, where)
        self._connect_bottoms(node)
        self._make_room(set(param.top).difference(param.bottom))
        self._connect_tops(node)
        layer.check_counts(len(node.bottom), len(node.top))
        if self.unknown.intersection(node.bottom_names) or param.name.startswith(_NO_SUCH):
            self.unknown.update(node.top_names)
        elif isinstance(layer, Batches):
            self._shape_data(node, layer, where)
        else:
            self._set_up(node)

    def _shape_data(self, node: Node, layer: Batches, where: str) -> None:
        original = LayerParameter()
        original.CopyFrom(layer.param)
        shapes = data_layers.shapes(layer, node.bottom, node.top, self.findings, where)
        self.sources.append(original)
        for name, blob, shape in zip(node.top_names, node.top, shapes, strict=True):
            if shape is None:
                self.unknown.add(name)
            else:
                blob.reshape(shape)

    def _set_up(self, node: Node) -> None:
        layer, param = node.layer, node.layer.param
        setattr(layer, "fill", functools.partial(_fill, layer))  # noqa: B010  mypy knows it as a method
        if len(param.loss_weight) == len(node.top):
            param.loss_weight[:] = [0] * len(node.top)  # a loss weight would be written to a gradient as large as the top
        set_up(node)
        self._add_params(node)

    def _make_room(self, tops: set[str]) -> None:
        """Forgets tops that a doubtful layer has too, or may have: what was not read may tell the two apart."""
        for name in tops & self.graph.blobs.keys() & (self.doubtful | self.source.skipped):
            self.unknown.discard(name)
            del self.graph.blobs[name]

    def _give_up(self, param: LayerParameter) -> None:
        """Registers the tops of a failed layer, with unknown shapes."""
        self.available.difference_update(param.bottom)
        for name in param.top:
            if name not in self.graph.blobs:
                self.graph.blobs[name] = Blob((0,))
                self.needs_backward[name] = False
            self.available.add(name)
            self.unknown.add(name)

    def rows(self) -> Iterator[Row]:
        for param in self.walked:
            if is_inserted(param) or param.name.startswith(_NO_SUCH):
                continue
            for top in param.top:
                yield Row(param.name, param.type, top, None if top in self.unknown else self.graph.blobs[top].shape)

    def warn_of_unread_blobs(self) -> None:
        """Warns of tops that no layer reads, except results. In a net without a loss the last tops are results."""
        producer = {top: param for param in self.walked for top in param.top}
        trains = any(_is_loss(param) for param in self.walked)
        for name in sorted(self.available - {AUTOMATIC}):
            param = producer[name]
            if _is_result(param) or name.startswith(_NO_SUCH):
                continue
            is_source = not param.bottom and class_of(param.type).exact_bottoms == 0
            if trains or is_source:
                hint = 'a layer of type "Silence" would say that this is meant'
                self.findings.warning(f'nobody reads its top "{name}"; {hint}', self.source.where(param))


def _why_not_set_up(param: LayerParameter) -> str:
    """Why a layer cannot be set up: it needs user code, which is not run, or a missing file; else an empty string."""
    kind = class_of(param.type)
    if name := kind.imported_class(param):
        return _user_class_note(name)
    missing = ((field, path) for field, path in kind.files_for_setup(param) if not os.path.exists(path))
    return next((data_layers.missing_file(field, path) for field, path in missing), "")


def _user_class_note(name: str) -> str:
    """The message for a user's class, `module.Class`, whose module is found but not run."""
    module, _, layer = name.rpartition(".")
    modules.check_name(module)
    spec = modules.find(module)
    if spec is None:
        return modules.missing_module_text(module)
    return modules.missing_name_text(spec, layer) or f"{name} is not imported, what it computes is not checked"


def _is_loss(param: LayerParameter) -> bool:
    return any(param.loss_weight) if param.loss_weight else class_of(param.type).is_loss


def _is_result(param: LayerParameter) -> bool:
    """Whether other layers need not read its tops: losses, even with weight 0, scores, layers for one phase or stage."""
    chosen = bool(param.loss_weight or param.include)
    return _is_loss(param) or chosen or class_of(param.type).is_result or is_inserted(param)


def _fill(layer: Layer, blob: Blob, param: FillerParameter) -> None:
    """Replaces `Layer.fill`: fills another, smaller blob, to find the errors that a filler raises."""
    shape = blob.shape
    if blob.count > MAX_FILLED:
        shape = tuple(min(dim, limit) for dim, limit in zip(blob.shape, (*_SMALL, *[1] * len(blob.shape))))
    filler.fill(param, layer.new_blob(shape), layer.rng)
