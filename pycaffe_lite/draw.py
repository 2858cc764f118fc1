"""Pictures of nets, with the names and arguments of pycaffe's `caffe.draw` (python/caffe/draw.py).

Graphviz draws if both pydot and the `dot` program are installed (`pip install pydot`, `apt-get install graphviz`). Otherwise
Matplotlib does (`plots/picture.py`), so there is always a picture. A `caffe_net` is a NetParameter in the present format
(`layer`, not `layers`); a `phase` is `caffe_pb2.TRAIN`, `caffe_pb2.TEST` or None for all layers.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import Any

from . import glog, layer_types  # noqa: F401  registers the types
from .errors import CaffeError, NetError, did_you_mean
from .layer import WindowSizes, class_of, sides_text
from .proto import caffe_pb2

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": "#6495ED", "style": "rounded,filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "rounded,filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}

RANKDIRS = ("LR", "TB", "BT", "RL")
DOT_SECONDS = 60

_NO_LABEL = '""'


def get_pooling_types_dict() -> dict[int, str]:
    """The names of the pooling methods: `{0: "MAX", 1: "AVE", 2: "STOCHASTIC"}`."""
    return {value: name for name, value in caffe_pb2.PoolingParameter.PoolMethod.items()}


def get_edge_label(layer: caffe_pb2.LayerParameter) -> str:
    """The label of the edge to a layer's top: batch size or number of outputs, else the empty dot string `""`."""
    if batch_size := _own_value(layer, "batch_size"):
        return f"Batch {batch_size}"
    return str(_own_value(layer, "num_output") or _NO_LABEL)


def get_layer_lr_mult(layer: caffe_pb2.LayerParameter) -> tuple[float, float]:
    """The learning rate multipliers of weights and bias; 1 if the layer gives none.

    Raises `ValueError` for a layer that does not learn weights and a bias, `NetError` for one with more than two `param`
    entries.
    """
    if not class_of(layer.type).weights_and_bias:
        raise ValueError(f"a {layer.type} layer has no learning rate multipliers")
    if len(layer.param) > 2:
        raise NetError(f'layer "{layer.name}" ({layer.type}): {len(layer.param)} param entries, at most 2 expected')
    weights, bias = [param.lr_mult for param in layer.param] + [1.0] * (2 - len(layer.param))
    return weights, bias


def get_layer_label(layer: caffe_pb2.LayerParameter, rankdir: str, display_lrm: bool = False) -> str:
    """A layer's label as a quoted dot string: name, type, kernel size, stride and pad, and multipliers if requested.

    The parts are on separate lines if `rankdir` is horizontal, else on one line.
    """
    separator = " " if rankdir in ("TB", "BT") else r"\n"
    parts = [_escaped(part) for group in _descriptors(layer, display_lrm) for part in group]
    return f'"{separator.join(parts)}"'


def choose_color_by_layertype(layertype: str) -> str:
    """The fill colour of a layer type as `#RRGGBB`; it shows whether the type learns, and whether it has a window."""
    kind = class_of(layertype)
    has_window = kind.window_of(caffe_pb2.LayerParameter()) is not None
    if kind.weights_and_bias:
        return "#FF5050" if has_window else "#CC33FF"
    return "#FF9900" if has_window else LAYER_STYLE_DEFAULT["fillcolor"]


def get_pydot_graph(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> Any:
    """The net as a `pydot.Dot`: layers as records, blobs as octagons, a double arrow to each layer that works in place.

    `label_edges` writes `get_edge_label` on the edges to tops. Raises `CaffeError` if pydot is not installed.
    """
    _check_rankdir(rankdir)
    pydot = _pydot()
    graph = pydot.Dot(_quoted(caffe_net.name or "Net"), graph_type="digraph", rankdir=rankdir)
    graph.set_node_defaults(fontname="Helvetica", fontsize="11")
    graph.set_edge_defaults(fontname="Helvetica", fontsize="9", color='"#66737f"')
    nodes, edges = _graph(caffe_net, phase)
    for i, node in enumerate(nodes):
        if node.blob is not None:
            graph.add_node(pydot.Node(f"n{i}", label=_quoted(node.blob), **_dot_style(BLOB_STYLE)))
        for n, layer in enumerate(node.layers):
            color = NEURON_LAYER_STYLE["fillcolor"] if node.is_blob else choose_color_by_layertype(layer.type)
            style = _dot_style({**LAYER_STYLE_DEFAULT, "fillcolor": color})
            name = f"n{i}_{n}" if node.is_blob else f"n{i}"
            graph.add_node(pydot.Node(name, label=get_layer_label(layer, rankdir, display_lrm), **style))
            if node.is_blob:
                label = get_edge_label(layer) if label_edges else _NO_LABEL
                graph.add_edge(pydot.Edge(f"n{i}", name, dir="both", label=label))
    for a, b in edges:
        label = get_edge_label(nodes[a].layers[0]) if label_edges and not nodes[a].is_blob else _NO_LABEL
        graph.add_edge(pydot.Edge(f"n{a}", f"n{b}", label=_quoted(label.strip('"'))))
    return graph


def draw_net(
    caffe_net: caffe_pb2.NetParameter,
    rankdir: str,
    ext: str = "png",
    phase: int | None = None,
    display_lrm: bool = False,
) -> bytes:
    """The picture of a net as the bytes of an image file. `ext`: its format (png, pdf, svg, ...).

    `raw` gives the graph as text for Graphviz (needs pydot). If `dot` fails or takes longer than a minute, a warning
    is logged and Matplotlib draws. Raises `CaffeError` for an unknown `rankdir` or format.
    """
    _check_rankdir(rankdir)
    if ext == "raw" or (shutil.which("dot") and importlib.util.find_spec("pydot")):
        text = get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm).to_string().encode()
        if ext == "raw":
            return text
        try:
            return _run_dot(text, ext)
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "stderr", None) or str(error).encode()
            glog.warning(f"dot failed ({reason.decode(errors='replace').strip()}): drawing with Matplotlib")
    return _draw_with_matplotlib(caffe_net, rankdir, ext, phase, display_lrm)


def draw_net_to_file(
    caffe_net: caffe_pb2.NetParameter,
    filename: str | os.PathLike,
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Writes the picture of a net to a file. Its extension gives the format, as for `draw_net`; `.raw` is dot text."""
    ext = os.path.splitext(filename)[1][1:].lower()
    if not ext:
        raise CaffeError(f'"{os.fspath(filename)}" has no extension that says which image format to write, such as .png')
    picture = draw_net(caffe_net, rankdir, ext, phase, display_lrm)
    with open(filename, "wb") as file:
        file.write(picture)


# --------------------------------------------------------------------------------------------- the net as nodes and edges


@dataclass
class _Node:
    """A layer (then `blob` is None), or a blob and the layers that work on it in place."""

    blob: str | None
    layers: list[caffe_pb2.LayerParameter] = field(default_factory=list)

    @property
    def is_blob(self) -> bool:
        return self.blob is not None


class _Builder:
    """Builds an acyclic graph from layers in the order of the file."""

    def __init__(self) -> None:
        self.nodes: list[_Node] = []
        self.edges: list[tuple[int, int]] = []
        self.inputs: list[list[int]] = []  # for each node
        self.blobs: dict[str, int] = {}  # blob name: the node with its present value

    def add(self, layer: caffe_pb2.LayerParameter) -> None:
        bottoms = [self._present(name) for name in layer.bottom]
        if len(bottoms) == 1 and list(layer.bottom) == list(layer.top):
            self.nodes[bottoms[0]].layers.append(layer)
            return
        i = self._node(_Node(None, [layer]))
        for bottom in dict.fromkeys(bottoms):
            self._connect(bottom, i)
        for top in dict.fromkeys(layer.top):
            if top not in self.blobs or self._depends(i, self.blobs[top]):
                self.blobs[top] = self._node(_Node(top))
            self._connect(i, self.blobs[top])

    def _present(self, name: str) -> int:
        if name not in self.blobs:
            self.blobs[name] = self._node(_Node(name))
        return self.blobs[name]

    def _node(self, node: _Node) -> int:
        self.nodes.append(node)
        self.inputs.append([])
        return len(self.nodes) - 1

    def _connect(self, a: int, b: int) -> None:
        self.edges.append((a, b))
        self.inputs[b].append(a)

    def _depends(self, i: int, other: int) -> bool:
        """Whether node i depends on `other`: then its top of that name is a new value. Else two phases share the blob."""
        seen, stack = {i}, [i]
        while stack:
            for j in self.inputs[stack.pop()]:
                if j == other:
                    return True
                if j not in seen:
                    seen.add(j)
                    stack.append(j)
        return False


def _graph(net: caffe_pb2.NetParameter, phase: int | None) -> tuple[list[_Node], list[tuple[int, int]]]:
    builder = _Builder()
    for layer in net.layer:
        if phase is None or _in_phase(layer, phase):
            builder.add(layer)
    return builder.nodes, builder.edges


def _in_phase(layer: caffe_pb2.LayerParameter, phase: int) -> bool:
    """Whether a layer may be in the net of that phase. Levels and stages in its rules are ignored."""
    if layer.include and layer.exclude:
        raise NetError(f'layer "{layer.name}" ({layer.type}): give include rules or exclude rules, not both')
    if any(rule.HasField("phase") and rule.phase == phase for rule in layer.exclude):
        return False
    return not layer.include or any(not rule.HasField("phase") or rule.phase == phase for rule in layer.include)


def _check_rankdir(rankdir: str) -> None:
    if rankdir not in RANKDIRS:
        raise CaffeError(f'rankdir is "{rankdir}", expected LR, TB, BT or RL{did_you_mean(rankdir, RANKDIRS)}')


# ----------------------------------------------------------------------------------------------------------------- labels


def _descriptors(layer: caffe_pb2.LayerParameter, display_lrm: bool) -> list[list[str]]:
    """The parts of a layer's label, grouped by line."""
    kind = class_of(layer.type)
    groups = [[layer.name], [f"({layer.type} {kind.variant(layer)}".rstrip() + ")"]]
    if window := kind.window_of(layer):
        groups.append(_window_parts(window))
    if display_lrm and kind.weights_and_bias:
        weights, bias = get_layer_lr_mult(layer)
        if weights or bias:
            groups.append([f"lr mult: {weights:.1f}, {bias:.1f}"])
    return groups


def _window_parts(window: WindowSizes) -> list[str]:
    kernel = sides_text(window.kernel) if window.kernel else "global"
    return [f"kernel size: {kernel}", f"stride: {sides_text(window.stride)}", f"pad: {sides_text(window.pad)}"]


def _own_value(layer: caffe_pb2.LayerParameter, field: str) -> int:
    return class_of(layer.type).own_value(layer, field)


# ------------------------------------------------------------------------------------------------- Graphviz and Matplotlib


def _pydot() -> Any:
    try:
        import pydot
    except ImportError as error:
        raise CaffeError("the graph for Graphviz needs the package pydot: pip install pydot") from error
    return pydot


def _run_dot(text: bytes, ext: str) -> bytes:
    return subprocess.run(["dot", f"-T{ext}"], input=text, capture_output=True, timeout=DOT_SECONDS, check=True).stdout


def _escaped(text: str) -> str:
    return re.sub(r'([\\"{}|<>])', r"\\\1", text)


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _dot_style(style: dict[str, str]) -> dict[str, str]:
    return {key: _quoted(value) for key, value in style.items()}


def _draw_with_matplotlib(
    net: caffe_pb2.NetParameter, rankdir: str, ext: str, phase: int | None, display_lrm: bool
) -> bytes:
    from .plots.picture import Box, drawing

    nodes, edges = _graph(net, phase)
    pictures = []
    for node in nodes:
        boxes = [] if node.blob is None else [Box([node.blob], BLOB_STYLE["fillcolor"], octagon=True)]
        for layer in node.layers:
            color = NEURON_LAYER_STYLE["fillcolor"] if node.is_blob else choose_color_by_layertype(layer.type)
            boxes.append(Box(_picture_lines(layer, rankdir, display_lrm), color))
        pictures.append(boxes)
    return drawing(pictures, edges, rankdir, net.name, ext)


def _picture_lines(layer: caffe_pb2.LayerParameter, rankdir: str, display_lrm: bool) -> list[str]:
    """The lines of a layer's label: one part per line if the picture is horizontal, else one group per line."""
    groups = _descriptors(layer, display_lrm)
    for name, title in (("num_output", "num_output"), ("batch_size", "batch size")):
        if value := _own_value(layer, name):
            groups.append([f"{title}: {value}"])
    groups += [[f"phase: {caffe_pb2.Phase.Name(rule.phase)}"] for rule in layer.include if rule.HasField("phase")]
    if rankdir in ("TB", "BT"):
        return ["   ".join(group) for group in groups]
    return [part for group in groups for part in group]
