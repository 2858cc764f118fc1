"""The layers of a prototxt as a list: name, type, learning rate multipliers, bottoms, tops, and sizes of windows.

The table is that of Caffe's tools/extra/summarize.py. A parameter is shown as `x2.0` for its learning rate multiplier and as
`Dx0.0` for its decay multiplier; a convolution or pooling as kernel/stride+pad, number of outputs and /groups. Blobs are
coloured on a terminal: a top that no layer reads is underlined, a bottom that no layer produces is red. No layer is built;
`net/summary.py` makes the table of a built net.
"""

from __future__ import annotations

import re
from itertools import cycle

import numpy as np

from .. import layer_types  # noqa: F401  registers the types
from ..layer import WindowSizes, class_of, sides_text
from ..proto.caffe_pb2 import LayerParameter, NetParameter, ParamSpec

COLORS = ("92", "93", "94", "95", "97", "96", "42", "43;30", "100", "44", "103;30", "107;30")
RED = "41"
UNDERLINED = "1;4"

_CODE = re.compile(r"\033\[[\d;]+m")


def table(net: NetParameter) -> list[list[str]]:
    """A row for each layer of the file, whatever its phase, with coloured blobs."""
    unread: set[str] = set()
    for layer in net.layer:
        unread |= set(layer.top)
        unread -= set(layer.bottom)
    colors: dict[str, str] = {}
    palette = cycle(COLORS)
    rows = []
    for layer in net.layer:
        kind = class_of(layer.type).imported_class(layer) or layer.type
        bottoms = [_colored(name, colors.get(name, RED)) for name in layer.bottom]
        for name in layer.top:
            if name not in colors:
                colors[name] = next(palette)
        tops = [_top(layer, i, name in unread, colors[name]) for i, name in enumerate(layer.top)]
        rows.append([layer.name, kind, _params(layer), ", ".join(bottoms), "->", ", ".join(tops), _sizes(layer)])
    return rows


def aligned(rows: list[list[str]], max_width: int) -> list[str]:
    """The rows in columns as narrow as possible. A cell longer than `max_width` takes up the free space in
    the next columns before it moves them."""
    widths = [min(max(map(_length, column)) + 1, max_width) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        line, end = "", 0
        for cell, width in zip(row, widths, strict=True):
            end += width
            line += f"{cell} "
            line += " " * (end - _length(line))
        lines.append(line.rstrip())
    return lines


def without_colors(text: str) -> str:
    """A line without colours, for files."""
    return _CODE.sub("", text)


def _length(text: str) -> int:
    return len(without_colors(text))


def _colored(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m"


def _top(layer: LayerParameter, index: int, unread: bool, color: str) -> str:
    name = layer.top[index]
    if unread:
        name = f"\033[{UNDERLINED}m{name}"
    if index < len(layer.loss_weight):
        name = f"{_number(layer.loss_weight[index])} * {name}"
    return _colored(name, color)


def _params(layer: LayerParameter) -> str:
    texts = [_param(param) for param in layer.param]
    return f"({', '.join(texts)})" if any(texts) else ""


def _param(param: ParamSpec) -> str:
    parts = [param.name] if param.name else []
    if param.lr_mult != 1:
        parts.append(f"x{_number(param.lr_mult)}")
    if param.decay_mult != 1:
        parts.append(f"Dx{_number(param.decay_mult)}")
    return " ".join(parts)


def _number(value: float) -> str:
    """A float of the file, with the digits that the file has."""
    return str(np.float32(value))


def _sizes(layer: LayerParameter) -> str:
    """For a layer with a window: its sizes, the number of outputs and of groups."""
    kind = class_of(layer.type)
    window = kind.window_of(layer)
    if window is None:
        return ""
    outputs, groups = kind.own_value(layer, "num_output"), kind.own_value(layer, "group")
    return _window(window) + (f" {outputs}" if outputs else "") + (f"/{groups}" if groups > 1 else "")


def _window(window: WindowSizes) -> str:
    """kernel/stride+pad, without a stride of 1 and a pad of 0."""
    if not window.kernel:
        return "global"
    stride, pad = sides_text(window.stride), sides_text(window.pad)
    return sides_text(window.kernel) + (f"/{stride}" if stride != "1" else "") + (f"+{pad}" if pad != "0" else "")
