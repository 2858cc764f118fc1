"""Measure the layers of a net: pycaffe_lite time --model net.prototxt [--iterations 50]"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .. import glog
from ..errors import NetError
from ..proto import caffe_pb2
from ..pycaffe import Net
from ._flags import Flags, add_state_flags, refuse_gpu, stages

GROUP = "train and test"

MOST = 10**6  # iterations, whose times are kept


def main(argv: list[str]) -> int:
    flags = Flags("time", __doc__)
    flags.flag("model", default="", metavar="FILE", help="the net's prototxt (needed)")
    flags.flag("weights", default="", metavar="FILE", help="a trained model, if timing should run on one")
    flags.flag("phase", choices=["TRAIN", "TEST"], default="TRAIN", help="phase of the net (default TRAIN)")
    flags.flag("iterations", type=int, metavar="N", default=50, help="how often (default 50)")
    flags.flag("gpu", default="", metavar="IDS", help="CUDA device")
    add_state_flags(flags)
    values = flags.parse(argv)
    if not values.model:
        raise NetError("time needs --model, the prototxt of a net")
    if not 1 <= values.iterations <= MOST:
        raise NetError(f"--iterations is from 1 to {MOST}, received {values.iterations}")
    refuse_gpu(values)
    glog.info("Use CPU.")
    phase = caffe_pb2.Phase.Value(values.phase)
    net = Net(
        values.model,
        phase,
        level=values.level,
        stages=stages(values),
        weights=values.weights or None,
        allow_python_layers=not values.no_python_layers,
    )
    try:
        measure(net, values.iterations)
    finally:
        net.close()
    return 0


def measure(net: Net, iterations: int) -> None:
    """Logs the mean time of each layer, forward and backward, and of whole passes, in milliseconds."""
    glog.info("Performing Forward")
    glog.info(f"Initial loss: {net.forward_layers():g}")
    glog.info("Performing Backward")
    net.backward_layers()
    glog.info("*** Benchmark begins ***")
    glog.info(f"Testing for {iterations} iterations.")
    forward, backward = (np.zeros((iterations, len(net.nodes))) for _ in range(2))
    begin = time.perf_counter()
    for i in range(iterations):
        for layer in range(len(net.nodes)):
            forward[i, layer] = _milliseconds(net.forward_layers, layer, layer, True)
        for layer in reversed(range(len(net.nodes))):
            backward[i, layer] = _milliseconds(net.backward_layers, layer, layer)
        glog.info(f"Iteration: {i + 1} forward-backward time: {forward[i].sum() + backward[i].sum():g} ms.")
    total = 1000 * (time.perf_counter() - begin)
    glog.info("Average time per layer: ")
    for layer, node in enumerate(net.nodes):
        glog.info(f"{node.name:>10}\tforward: {forward[:, layer].mean():g} ms.")
        glog.info(f"{node.name:>10}\tbackward: {backward[:, layer].mean():g} ms.")
    glog.info(f"Average Forward pass: {forward.sum() / iterations:g} ms.")
    glog.info(f"Average Backward pass: {backward.sum() / iterations:g} ms.")
    glog.info(f"Average Forward-Backward: {total / iterations:g} ms.")
    glog.info(f"Total Time: {total:g} ms.")
    glog.info("*** Benchmark ends ***")


def _milliseconds(run, *args: Any) -> float:
    begin = time.perf_counter()
    run(*args)
    return 1000 * (time.perf_counter() - begin)
