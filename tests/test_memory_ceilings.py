"""How much memory nets take, against what their blobs, parameters and history need: a copy too many shows here."""

from __future__ import annotations

import tracemalloc

import pytest
from google.protobuf import text_format

from pycaffe_lite import solver as solvers
from pycaffe_lite.net import Net
from pycaffe_lite.proto.caffe_pb2 import TEST, NetParameter, SolverParameter

TRAIN = """
layer { name: "data" type: "DummyData" top: "x" top: "label"
        dummy_data_param { shape { dim: 16 dim: 3 dim: 64 dim: 64 } shape { dim: 16 } } }
layer { name: "conv1" type: "Convolution" bottom: "x" top: "conv1"
        convolution_param { num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
        convolution_param { num_output: 32 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "ip1" type: "InnerProduct" bottom: "conv2" top: "ip1"
        inner_product_param { num_output: 64 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip1" bottom: "label" top: "loss" }
"""
SCRATCH = 8 << 20  # bytes: columns of convolutions, and masks of pooling
MARGIN = 1.1


@pytest.fixture
def traced():
    """Counts what NumPy allocates, too."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


def size(blobs, kinds: int) -> int:
    return sum(kinds * blob.count * blob.dtype.itemsize for blob in {id(blob): blob for blob in blobs}.values())


@pytest.mark.usefixtures("traced")
def test_training_takes_the_memory_of_blobs_parameters_and_history():
    param = text_format.Parse('base_lr: 0.01 lr_policy: "fixed" momentum: 0.9', SolverParameter())
    text_format.Parse(TRAIN, param.net_param)
    made = solvers.create(param)
    made.step(2)
    _, peak = tracemalloc.get_traced_memory()
    needed = size(made.net.blobs.values(), 2) + size((one.blob for one in made.net.learnable), 3)
    assert peak < MARGIN * needed + SCRATCH
    assert peak > needed / 2, "what is measured is not what is needed"


@pytest.mark.usefixtures("traced")
def test_a_net_that_is_only_run_takes_no_memory_for_gradients():
    param = text_format.Parse(TRAIN, NetParameter())
    param.state.phase = TEST
    net = Net(param)
    net.forward_layers()
    _, peak = tracemalloc.get_traced_memory()
    needed = size(net.blobs.values(), 1) + size((one.blob for one in net.learnable), 1)
    assert needed / 2 < peak < MARGIN * needed + SCRATCH
