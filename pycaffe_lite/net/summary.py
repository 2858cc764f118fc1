"""A net as a table: its layers with the shapes of their tops, parameters, multiply-adds and memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

import numpy as np

from ..blob import Blob
from ..proto.caffe_pb2 import NetParameter
from . import Net
from .build import Node
from .splits import is_inserted

HEADER = ("layer", "type", "output", "parameters", "multiply-adds", "memory")
MEAN = "mean |w|"


@dataclass(frozen=True)
class LayerSummary:
    """One layer. Shared parameters count for the layer that uses them first.

    multiply_adds: in one forward pass over the batch, as `Layer.multiply_adds` counts them. memory: bytes of the tops'
    values. Their gradients take the same again, and a top that shares a bottom's memory takes none. weights: the mean
    absolute value of the layer's own parameters, NaN if it has none.
    """

    name: str
    type: str
    tops: list[tuple[str, tuple[int, ...]]]
    parameters: int
    shares: list[str]
    multiply_adds: int
    memory: int
    weights: float


@dataclass(frozen=True)
class Summary:
    """The layers of a net in order, without the Split layers that the net inserts. `str` gives the table.

    with_weights: also shows the mean absolute values of parameters.
    """

    name: str
    layers: list[LayerSummary]
    parameters: int
    multiply_adds: int
    memory: int
    parameter_memory: int
    with_weights: bool = False

    def __str__(self) -> str:
        rows = [self._header(), *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [_aligned(row, widths) for row in rows]
        rule = "-" * max(map(len, lines))
        return "\n".join([self.name, rule, lines[0], rule, *lines[1:], rule, *self._totals()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        body = [_html_row("th", self._header()), *(_html_row("td", row) for row in self._rows())]
        totals = "<br>".join(map(escape, self._totals()))
        return f"<b>{escape(self.name)}</b><table>{''.join(body)}</table><p>{totals}</p>"

    def _header(self) -> list[str]:
        return [*HEADER, *([MEAN] if self.with_weights else [])]

    def _rows(self) -> list[list[str]]:
        return [row for layer in self.layers for row in _rows_of(layer, self.with_weights)]

    def _totals(self) -> list[str]:
        return [
            f"parameters:     {self.parameters:,} ({_bytes(self.parameter_memory)})",
            f"multiply-adds:  {self.multiply_adds:,}",
            f"memory of tops: {_bytes(self.memory)}, in training as much again for gradients",
        ]


def summarize(net: Net, with_weights: bool = False) -> Summary:
    """The table of a net with its present shapes."""
    seen: set[int] = set()
    layers = [_summary_of(net, node, seen) for node in net.nodes if not is_inserted(node.layer.param)]
    return Summary(
        name=net.name or "net",
        layers=layers,
        parameters=sum(layer.parameters for layer in layers),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        memory=sum(layer.memory for layer in layers),
        parameter_memory=sum(param.blob.count * param.blob.dtype.itemsize for param in net.learnable),
        with_weights=with_weights,
    )


def without_splits(net: Net) -> NetParameter:
    """The layers of a net as the user wrote them, for pictures: without inserted Split layers and weights."""
    drawn, split = NetParameter(name=net.name), {}
    for node in net.nodes:
        if is_inserted(node.layer.param):
            split.update(dict.fromkeys(node.top_names, node.bottom_names[0]))
            continue
        layer = drawn.layer.add()
        layer.CopyFrom(node.layer.param)
        layer.ClearField("blobs")
        layer.bottom[:] = [split.get(name, name) for name in layer.bottom]
    return drawn


def _summary_of(net: Net, node: Node, seen: set[int]) -> LayerSummary:
    params = [net.all_params[i] for i in node.param_ids]
    owners = [net.all_params[param.owner].node.name for param in params if param.owner is not None]
    own = [param.blob for param in params if param.owner is None]
    seen.update(map(id, node.bottom))
    fresh = [blob for blob in node.top if id(blob) not in seen]
    return LayerSummary(
        name=node.name,
        type=node.layer.type,
        tops=[(name, blob.shape) for name, blob in zip(node.top_names, node.top, strict=True)],
        parameters=sum(blob.count for blob in own),
        shares=list(dict.fromkeys(owners)),
        multiply_adds=node.layer.multiply_adds(node.bottom, node.top),
        memory=sum(blob.count * blob.dtype.itemsize for blob in fresh),
        weights=_mean_abs(own),
    )


def _mean_abs(blobs: list[Blob]) -> float:
    count = sum(blob.count for blob in blobs)
    return float(sum(np.abs(blob.data).sum(dtype=float) for blob in blobs)) / count if count else math.nan


# ---- text ---------------------------------------------------------------------------------------------------------


def _rows_of(layer: LayerSummary, with_weights: bool) -> list[list[str]]:
    """A row for the layer with its first top, and a row for each further top."""
    count = f"{layer.parameters:,}" if layer.parameters else f"of {', '.join(layer.shares)}" if layer.shares else ""
    shapes = [" x ".join(map(str, shape)) or "scalar" for _, shape in layer.tops] or [""]
    first = [layer.name, layer.type, shapes[0], count, f"{layer.multiply_adds:,}" if layer.multiply_adds else ""]
    first.append(_bytes(layer.memory) if layer.memory else "")
    if with_weights:
        first.append("" if not layer.parameters else f"{layer.weights:.4g}")
    return [first, *([["", "", shape, *[""] * (len(first) - 3)] for shape in shapes[1:]])]


def _aligned(row: list[str], widths: list[int]) -> str:
    """Aligns words to the left and numbers to the right."""
    words = [cell.ljust(width) for cell, width in zip(row[:3], widths)]
    numbers = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:])]
    return "  ".join(words + numbers).rstrip()


def _html_row(tag: str, row: list[str]) -> str:
    cells = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
    return f"<tr>{cells}</tr>"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:,.4g} GiB"
