"""Score a trained net: pycaffe_lite test --model net.prototxt --weights model.caffemodel [--iterations 50]"""

from __future__ import annotations

import numpy as np

from .. import glog
from ..errors import NetError
from ..net import weights
from ..proto.caffe_pb2 import TEST
from ..pycaffe import Net
from ..solver import output_elements, output_values
from ._flags import Flags, add_state_flags, refuse_gpu, stages

GROUP = "train and test"


def main(argv: list[str]) -> int:
    flags = Flags("test", __doc__)
    flags.flag("model", default="", metavar="FILE", help="the net's prototxt (needed)")
    flags.flag("weights", default="", metavar="FILES", help="the trained model (needed); several with commas")
    flags.flag("iterations", type=int, metavar="N", default=50, help="number of batches (default 50)")
    flags.flag("gpu", default="", metavar="IDS", help="CUDA device")
    add_state_flags(flags)
    values = flags.parse(argv)
    if not values.model or not values.weights:
        raise NetError("test needs --model, the prototxt of a net, and --weights, its trained model")
    if values.iterations < 1:
        raise NetError(f"--iterations is at least 1, received {values.iterations}")
    refuse_gpu(values)
    glog.info("Use CPU.")
    allow = not values.no_python_layers
    net = Net(values.model, TEST, level=values.level, stages=stages(values), allow_python_layers=allow)
    try:
        weights.copy_from(net, *filter(None, values.weights.split(",")))
        score(net, values.iterations)
    finally:
        net.close()
    return 0


def score(net: Net, iterations: int) -> None:
    """Runs so many batches and logs each output, the mean loss, and the mean of each output."""
    glog.info(f"Running for {iterations} iterations.")
    names = list(output_elements(net))
    losses, scores = [], []
    for i in range(iterations):
        losses.append(net.forward_layers())
        scores.append(output_values(net))
        for name, value in zip(names, scores[-1]):
            glog.info(f"Batch {i}, {name} = {value:g}")
    glog.info(f"Loss: {np.mean(losses):g}")
    for name, value in zip(names, np.mean(scores, axis=0)):
        weight = net.blob_loss_weights[name]
        loss = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
        glog.info(f"{name} = {value:g}{loss}")
