"""How much memory known nets take: ceilings a few percent above what was measured, weights included.

In TEST nothing is kept for a backward that cannot come, and layers in place take no memory of their own.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

import pycaffe_lite as caffe
from pycaffe_lite.proto.caffe_pb2 import NetParameter
from pycaffe_lite.proto.prototxt import parse

MODELS = Path(__file__).parent.parent / "examples" / "models"
MEGABYTE = 1e6


def memory_of(model: str, batch: int, training: bool) -> float:
    """Megabytes that a net holds after a forward pass, or in training after forward and backward, with all gradients."""
    param = NetParameter(force_backward=training)
    parse((MODELS / model / "deploy.prototxt").read_text(), param)
    tracemalloc.start()
    try:
        with caffe.Net(param, caffe.TRAIN if training else caffe.TEST) as net:
            for name in net.inputs:
                net.blobs[name].reshape(batch, *net.blobs[name].shape[1:])
            net.forward()
            if training:
                net.backward()
            return tracemalloc.get_traced_memory()[0] / MEGABYTE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("model", "batch", "training", "ceiling"),
    [
        ("resnet50", 4, False, 445),
        ("resnet50", 1, True, 450),
        ("bvlc_googlenet", 4, False, 375),
        ("bvlc_reference_caffenet", 1, False, 300),
        ("bvlc_reference_caffenet", 1, True, 590),
        ("mobilenet_v1", 4, False, 190),
        ("squeezenet_v1.1", 4, False, 255),
    ],
)
def test_a_net_stays_below_its_ceiling(model, batch, training, ceiling):
    assert memory_of(model, batch, training) < ceiling
