"""Where a message came from: the file and the line of each layer, for errors that occur long after reading."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import Place
from .caffe_pb2 import LayerParameter, V1LayerParameter


@dataclass
class Source:
    """The origin of a message. `name`: the file name as the user wrote it, or empty if there is no file.

    If the text has errors and was read nevertheless (`recovery`): `faults` is their number, `faults_outside` the number of
    those outside of layers, `skipped` the words that were not read, among them perhaps names of blobs, and `is_doubtful`
    knows the layers that were not read completely.
    """

    name: str = ""
    faults: int = 0
    faults_outside: int = 0
    skipped: set[str] = field(default_factory=set)
    _layers: dict[str, list[tuple[tuple, int]]] = field(default_factory=dict)
    _doubtful: dict[str, list[tuple]] = field(default_factory=dict)

    def where(self, layer: Any = None) -> Place:
        """`net.prototxt:41: layer "ip2" (InnerProduct)`: the place of a layer, for an error; without a layer, the file.

        `layer` is a LayerParameter of the net. The line is that of the `layer` keyword. If several layers have this name (in
        TRAIN and in TEST), the layer with the same tops and rules is used, else the first.
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
        """Stores the line of a layer."""
        self._layers.setdefault(named_part(layer).name, []).append((_mark(layer), line))

    def doubt(self, layer: LayerParameter | V1LayerParameter) -> None:
        """Notes that a layer was not read completely."""
        self._doubtful.setdefault(named_part(layer).name, []).append(_mark(layer))

    def is_doubtful(self, layer: Any) -> bool:
        """Whether the layer, in the present format, was not read completely."""
        return _mark(layer) in self._doubtful.get(named_part(layer).name, [])


def _mark(layer: Any) -> tuple:
    """The parts that distinguish layers with the same name."""
    return tuple(layer.top), tuple(rule.SerializeToString() for rule in (*layer.include, *layer.exclude))


def named_part(layer: Any) -> Any:
    """The message with the layer's name and type. In the V0 format it is inside the message with the tops."""
    return layer.layer if isinstance(layer, V1LayerParameter) and layer.HasField("layer") else layer


def label(layer: Any) -> str:
    """`layer "ip2" (InnerProduct)`, for a layer of any format."""
    layer = named_part(layer)
    kind = layer.type
    if isinstance(layer, V1LayerParameter):
        kind = V1LayerParameter.LayerType.Name(layer.type) if layer.HasField("type") else ""
    return f'layer "{layer.name}" ({kind})' if kind else f'layer "{layer.name}"'
