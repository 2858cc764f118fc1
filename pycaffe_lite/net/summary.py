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

HEADER = ("layer", "type", "output", "parameters", "multiply-adds", "memory")
MEAN = "mean |w|"


@dataclass(frozen=True)
class LayerSummary:
    """One layer. Shared parameters count where they are first used.

    multiply_adds: of one forward pass over the batch, in the products of weights and inputs. memory: bytes of the tops'
    values; their gradients take as much again, and a top in the memory of a bottom takes none. weights: the mean absolute
    value of the layer's own parameters, NaN where it has none.
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
    """The layers of a net in order, but for the Split layers that the net puts in. `str` of it is the table.

    with_weights: shows the mean absolute values of parameters as well.
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
        """The table in a notebook."""
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
    """The table of a net as it is shaped now."""
    seen: set[int] = set()
    layers = [_summary_of(net, node, seen) for node in net.nodes if not _is_put_in(node)]
    return Summary(
        name=net.name or "net",
        layers=layers,
        parameters=sum(layer.parameters for layer in layers),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        memory=sum(layer.memory for layer in layers),
        parameter_memory=sum(one.blob.count * one.blob.dtype.itemsize for one in net.learnable),
        with_weights=with_weights,
    )


def _is_put_in(node: Node) -> bool:
    return node.layer.type == "Split" and node.name.endswith("_split")


def without_splits(net: Net) -> NetParameter:
    """The layers of a net as they were written, to be drawn: without the Split layers that were put in, and weights."""
    drawn, split = NetParameter(name=net.name), {}
    for node in net.nodes:
        if _is_put_in(node):
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
        multiply_adds=multiply_adds(node),
        memory=sum(blob.count * blob.dtype.itemsize for blob in fresh),
        weights=_mean_abs(own),
    )


def _mean_abs(blobs: list[Blob]) -> float:
    count = sum(blob.count for blob in blobs)
    return float(sum(np.abs(blob.data).sum(dtype=float) for blob in blobs)) / count if count else math.nan


def multiply_adds(node: Node) -> int:
    """The multiply-adds of one forward pass over the batch, of layers that multiply by weights; of others 0.

    Convolution: each value of the top is a sum over one kernel of C / group x kernel weights. Deconvolution: the same the
    other way round. InnerProduct, RNN, LSTM: the weights, once for each item (and step). Scale, BatchNorm, PReLU: one for
    each value.
    """
    kind, blobs = node.layer.type, node.layer.blobs
    if kind in ("Scale", "BatchNorm", "PReLU"):
        return node.top[0].count
    if not blobs or not blobs[0].count:
        return 0
    if kind == "Convolution":
        return sum(top.count for top in node.top) * blobs[0].count_from(1)
    if kind == "Deconvolution":
        return sum(bottom.count for bottom in node.bottom) * blobs[0].count_from(1)
    if kind == "InnerProduct":
        return node.bottom[0].count * (node.top[0].count // _items(node))
    if kind in ("RNN", "LSTM"):
        return sum(_uses(node, i) * blob.count for i, blob in enumerate(blobs) if blob.num_axes == 2)
    return 0


def _items(node: Node) -> int:
    """How many vectors an InnerProduct multiplies by its weights."""
    axis = node.bottom[0].axis(node.layer.param.inner_product_param.axis)
    return max(node.bottom[0].count_from(0, axis), 1)


def _uses(node: Node, index: int) -> int:
    """How often a recurrent layer multiplies by its weights number `index`: those of a static input once for each stream."""
    steps, streams = node.bottom[0].shape[:2]
    return streams if index == 2 and getattr(node.layer, "has_static", False) else steps * streams


# ---- text ---------------------------------------------------------------------------------------------------------


def _rows_of(layer: LayerSummary, with_weights: bool) -> list[list[str]]:
    """A line for the layer with its first top, and one for each further top."""
    count = f"{layer.parameters:,}" if layer.parameters else f"of {', '.join(layer.shares)}" if layer.shares else ""
    shapes = [" x ".join(map(str, shape)) or "scalar" for _, shape in layer.tops] or [""]
    first = [layer.name, layer.type, shapes[0], count, f"{layer.multiply_adds:,}" if layer.multiply_adds else ""]
    first.append(_bytes(layer.memory) if layer.memory else "")
    if with_weights:
        first.append("" if not layer.parameters else f"{layer.weights:.4g}")
    return [first, *([["", "", shape, *[""] * (len(first) - 3)] for shape in shapes[1:]])]


def _aligned(row: list[str], widths: list[int]) -> str:
    """Words to the left, numbers to the right."""
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
