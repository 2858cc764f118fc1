"""Lists the layers of a net: name, type, learning rate multipliers, bottoms, tops, and sizes of kernels.

The table is that of Caffe's tools/extra/summarize.py. A parameter is shown as `x2.0` where its learning rate, and as
`Dx0.0` where its decay is multiplied; a convolution or pooling as kernel/stride+pad, number of outputs and /groups. On a
terminal blobs have colours: a top that nobody reads is underlined, a bottom that nobody produces is red.
"""

from __future__ import annotations

import argparse
import re
import sys
from itertools import cycle

import numpy as np

from ..proto import read_net
from ..proto.caffe_pb2 import ConvolutionParameter, LayerParameter, NetParameter, ParamSpec, PoolingParameter

COLORS = ("92", "93", "94", "95", "97", "96", "42", "43;30", "100", "44", "103;30", "107;30")
RED = "41"
UNDERLINED = "1;4"

_CODE = re.compile(r"\033\[[\d;]+m")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="pycaffe_lite summarize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("filename", help="prototxt of the net")
    parser.add_argument("-w", "--max-width", type=int, default=30, help="maximum width of a column (default: 30)")
    args = parser.parse_args(argv)

    net, _ = read_net(args.filename)
    for line in aligned(table(net), args.max_width):
        print(line if sys.stdout.isatty() else _CODE.sub("", line))
    return 0


def table(net: NetParameter) -> list[list[str]]:
    """A row for each layer of the file, whatever its phase; blobs in colours."""
    unread: set[str] = set()
    for layer in net.layer:
        unread |= set(layer.top)
        unread -= set(layer.bottom)
    colors: dict[str, str] = {}
    palette = cycle(COLORS)
    rows = []
    for layer in net.layer:
        bottoms = [_colored(name, colors.get(name, RED)) for name in layer.bottom]
        for name in layer.top:
            if name not in colors:
                colors[name] = next(palette)
        tops = [_top(layer, i, name in unread, colors[name]) for i, name in enumerate(layer.top)]
        rows.append([layer.name, _type(layer), _params(layer), ", ".join(bottoms), "->", ", ".join(tops), _sizes(layer)])
    return rows


def aligned(rows: list[list[str]], max_width: int) -> list[str]:
    """The rows in columns as narrow as possible. A longer cell than `max_width` does not move the columns after it, where
    that is possible."""
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


def _length(text: str) -> int:
    return len(_CODE.sub("", text))


def _colored(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m"


def _top(layer: LayerParameter, index: int, unread: bool, color: str) -> str:
    name = layer.top[index]
    if unread:
        name = f"\033[{UNDERLINED}m{name}"
    if index < len(layer.loss_weight):
        name = f"{_number(layer.loss_weight[index])} * {name}"
    return _colored(name, color)


def _type(layer: LayerParameter) -> str:
    python = layer.python_param
    return f"{python.module}.{python.layer}" if layer.type == "Python" else layer.type


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
    """A float of the file, with the digits that it was written with."""
    return str(np.float32(value))


def _sizes(layer: LayerParameter) -> str:
    if layer.type in ("Convolution", "Deconvolution"):
        param = layer.convolution_param
        groups = f"/{param.group}" if param.group != 1 else ""
        return f"{_window(param)} {param.num_output}{groups}"
    if layer.type == "Pooling":
        return "global" if layer.pooling_param.global_pooling else _window(layer.pooling_param)
    return ""


def _window(param: ConvolutionParameter | PoolingParameter) -> str:
    """kernel/stride+pad, each as `3`, or as `3x5` where it is different for each axis; without stride 1 and pad 0."""
    kernel, stride, pad = (_sides(param, *names) for names in (("kernel_size", "kernel"), ("stride",) * 2, ("pad",) * 2))
    return kernel + (f"/{stride}" if stride not in ("", "1") else "") + (f"+{pad}" if pad not in ("", "0") else "")


def _sides(param: ConvolutionParameter | PoolingParameter, name: str, prefix: str) -> str:
    if param.HasField(f"{prefix}_h") or param.HasField(f"{prefix}_w"):
        return f"{getattr(param, f'{prefix}_h')}x{getattr(param, f'{prefix}_w')}"
    value = getattr(param, name)
    sides = [value] if isinstance(value, int) else list(value)
    return str(sides[0]) if len(set(sides)) == 1 else "x".join(map(str, sides))
