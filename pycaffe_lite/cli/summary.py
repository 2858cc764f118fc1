"""Shows the layers of a net with output shapes, parameters, multiply-adds and memory: pycaffe_lite summary net.prototxt

Shared parameters count once. Multiply-adds are those of one forward pass over the batch, in products of weights and inputs.
Memory is that of the tops' values. As for running the net, the data of the phase must be present; `check -v` shows shapes
without data.

`--written` shows the layers as the file has them instead, of all phases and without data: learning rate multipliers,
bottoms, tops, sizes of windows. This is the table of Caffe's tools/extra/summarize.py; `summarize` is another name for it.
"""

from __future__ import annotations

import argparse
import sys

from .. import glog
from ..errors import NetError
from ..net import Net, weights
from ..net.listing import aligned, table, without_colors
from ..net.summary import summarize
from ..proto import caffe_pb2, read_net
from ._flags import Flags, add_state_flags, stages

GROUP = "look"

PHASES = {"TRAIN": caffe_pb2.TRAIN, "TEST": caffe_pb2.TEST}


def main(argv: list[str]) -> int:
    flags = Flags("summary", __doc__)
    flags.add_argument("net", nargs="?", default="", help="prototxt of the net")
    flags.flag("model", default="", metavar="FILE", help="the same as NET, as in test and time")
    flags.add_argument(
        "--written", action="store_true", help="show the layers as the file has them, without building the net"
    )
    flags.flag("phase", default="TEST", choices=PHASES, help="phase of the net (default: TEST)")
    flags.flag("weights", metavar="FILE", help="a trained model: shows the mean absolute value of each layer's parameters")
    add_state_flags(flags)
    values = flags.parse(argv)
    if values.minloglevel is None:
        glog.set_min_level(1)
    if bool(values.net) == bool(values.model):
        raise NetError(f"summary needs one net, as NET or --model; received {'two' if values.net else 'none'}")
    path = values.net or values.model
    if values.written:
        print_written(path)
    else:
        print(_summary(path, values))
    return 0


def print_written(path: str, max_width: int = 30) -> None:
    """Prints the layers of a prototxt as it has them, in colours on a terminal. `max_width`: of a column."""
    net, _ = read_net(path)
    for line in aligned(table(net), max_width):
        print(line if sys.stdout.isatty() else without_colors(line))


def _summary(path: str, values: argparse.Namespace) -> str:
    param, source = read_net(path)
    param.state.phase = PHASES[values.phase]
    param.state.level = values.level
    param.state.stage.extend(stages(values))
    net = Net(param, source, allow_python_layers=not values.no_python_layers)
    try:
        if values.weights:
            weights.copy_from(net, values.weights)
        return str(summarize(net, with_weights=bool(values.weights)))
    finally:
        net.close()
