"""Shows the layers of a net with output shapes, parameters, multiply-adds and memory.

Shared parameters count once. Multiply-adds are those of one forward pass over the batch, in products of weights and inputs.
Memory is that of the tops' values. As for running the net, the data of the phase must be present; `check -v` shows shapes
without data.
"""

from __future__ import annotations

import argparse

from .. import glog
from ..net import Net, weights
from ..net.summary import summarize
from ..proto import caffe_pb2, read_net
from ._flags import Flags, add_state_flags, stages

PHASES = {"TRAIN": caffe_pb2.TRAIN, "TEST": caffe_pb2.TEST}


def main(argv: list[str]) -> int:
    flags = Flags("summary", __doc__)
    flags.add_argument("net", help="prototxt of the net")
    flags.flag("phase", default="TEST", choices=PHASES, help="phase of the net (default: TEST)")
    flags.flag("weights", metavar="FILE", help="a trained model: shows the mean absolute value of each layer's parameters")
    add_state_flags(flags)
    values = flags.parse(argv)
    if values.minloglevel is None:
        glog.set_min_level(1)
    print(_summary(values))
    return 0


def _summary(values: argparse.Namespace) -> str:
    param, source = read_net(values.net)
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
