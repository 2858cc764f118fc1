"""Where a message came from: the file, and the line of each layer, for errors that come up long after the file was read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import Place
from .caffe_pb2 import LayerParameter, V1LayerParameter


@dataclass
class Source:
    """Where a message came from. `name`: the file, as the user wrote it, or empty where there is none."""

    name: str = ""
    _layers: dict[str, list[tuple[tuple, int]]] = field(default_factory=dict)

    def where(self, layer: Any = None) -> Place:
        """`net.prototxt:41: layer "ip2" (InnerProduct)`: the place of a layer, for an error; without a layer, the file.

        `layer` is a LayerParameter of the net. The line is that of the `layer` keyword. Where a name occurs more than once
        (in TRAIN and in TEST), the layer with the same tops and rules is meant, else the first.
        """
        if layer is None:
            return Place(self.name)
        if not self.name:
            return Place(layer=label(layer))
        lines = self._layers.get(named_part(layer).name, [])
        same = [line for mark, line in lines if mark == _mark(layer)]
        line = next(iter(same or [line for _, line in lines]), 0)
        return Place(self.name, line, label(layer))

    def add(self, layer: LayerParameter | V1LayerParameter, line: int) -> None:
        """Says on which line a layer stands."""
        self._layers.setdefault(named_part(layer).name, []).append((_mark(layer), line))


def _mark(layer: Any) -> tuple:
    """What tells layers of one name apart."""
    return tuple(layer.top), tuple(rule.SerializeToString() for rule in (*layer.include, *layer.exclude))


def named_part(layer: Any) -> Any:
    """The message with the layer's name and type: in the V0 format that is a message inside the one with the tops."""
    return layer.layer if isinstance(layer, V1LayerParameter) and layer.HasField("layer") else layer


def label(layer: Any) -> str:
    """`layer "ip2" (InnerProduct)`, of a layer of any generation."""
    layer = named_part(layer)
    kind = layer.type
    if isinstance(layer, V1LayerParameter):
        kind = V1LayerParameter.LayerType.Name(layer.type) if layer.HasField("type") else ""
    return f'layer "{layer.name}" ({kind})' if kind else f'layer "{layer.name}"'
