"""Whole nets in float64: the gradient that backward finds is the slope of the loss that forward finds."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pycaffe_lite import rng
from pycaffe_lite.blob import Blob
from pycaffe_lite.net import Net
from pycaffe_lite.proto.caffe_pb2 import NetParameter
from pycaffe_lite.proto.prototxt import parse

STEP = 1e-6

FILLERS = 'weight_filler { type: "xavier" } bias_filler { type: "gaussian" std: 0.1 }'
INPUT = 'layer {{ name: "{0}" type: "Input" top: "{0}" input_param {{ shape {{ {1} }} }} }}'


def inputs(**shapes: tuple[int, ...]) -> str:
    return "".join(INPUT.format(name, " ".join(f"dim: {dim}" for dim in shape)) for name, shape in shapes.items())


def branch(suffix: str, bottom: str) -> str:
    """The layers of the siamese tutorial's branch, small; the parameters have names, so that branches share them."""
    return f"""
    layer {{ name: "conv{suffix}" type: "Convolution" bottom: "{bottom}" top: "conv{suffix}"
      param {{ name: "conv_w" }} param {{ name: "conv_b" }}
      convolution_param {{ num_output: 3 kernel_size: 3 {FILLERS} }} }}
    layer {{ name: "pool{suffix}" type: "Pooling" bottom: "conv{suffix}" top: "pool{suffix}"
      pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
    layer {{ name: "ip{suffix}" type: "InnerProduct" bottom: "pool{suffix}" top: "ip{suffix}"
      param {{ name: "ip_w" }} param {{ name: "ip_b" }} inner_product_param {{ num_output: 5 {FILLERS} }} }}
    layer {{ name: "relu{suffix}" type: "ReLU" bottom: "ip{suffix}" top: "ip{suffix}" }}
    layer {{ name: "feat{suffix}" type: "InnerProduct" bottom: "ip{suffix}" top: "feat{suffix}"
      param {{ name: "feat_w" }} param {{ name: "feat_b" }}
      inner_product_param {{ num_output: 2 weight_filler {{ type: "gaussian" }} }} }}
    """


SIAMESE = (
    inputs(pairs=(4, 2, 8, 8), sim=(4,))
    + 'layer { name: "slice" type: "Slice" bottom: "pairs" top: "left" top: "right" slice_param { slice_point: 1 } }'
    + branch("", "left")
    + branch("_p", "right")
    + 'layer { name: "loss" type: "ContrastiveLoss" bottom: "feat" bottom: "feat_p" bottom: "sim" top: "loss" '
    + "contrastive_loss_param { margin: 9 legacy_version: %s } }"
)

LENET = (
    inputs(data=(3, 1, 12, 12), label=(3,))
    + f"""
    layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
      convolution_param {{ num_output: 4 kernel_size: 3 {FILLERS} }} }}
    layer {{ name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param {{ kernel_size: 2 stride: 2 }} }}
    layer {{ name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
      convolution_param {{ num_output: 4 kernel_size: 3 group: 2 pad: 1 {FILLERS} }} }}
    layer {{ name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2"
      pooling_param {{ pool: AVE kernel_size: 3 stride: 2 }} }}
    layer {{ name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1" inner_product_param {{ num_output: 6 {FILLERS} }} }}
    layer {{ name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" relu_param {{ negative_slope: 0.1 }} }}
    layer {{ name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param {{ num_output: 5 {FILLERS} }} }}
    layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }}
    """
)

# A weight used forth and back, blobs used up to three times, layers in place, and three losses, one in the middle.
TIED = (
    inputs(data=(3, 6))
    + f"""
    layer {{ name: "code" type: "InnerProduct" bottom: "data" top: "code" param {{ name: "w" }}
      inner_product_param {{ num_output: 4 {FILLERS} }} }}
    layer {{ name: "code_s" type: "Sigmoid" bottom: "code" top: "code" }}
    layer {{ name: "size" type: "Power" bottom: "code" top: "size" power_param {{ power: 2 scale: 0.5 shift: 1 }}
      loss_weight: 0.3 }}
    layer {{ name: "back" type: "InnerProduct" bottom: "code" top: "back" param {{ name: "w" share_mode: PERMISSIVE }}
      inner_product_param {{ num_output: 6 transpose: true {FILLERS} }} }}
    layer {{ name: "back_t" type: "TanH" bottom: "back" top: "back" }}
    layer {{ name: "miss" type: "EuclideanLoss" bottom: "back" bottom: "data" top: "miss" loss_weight: 2 }}
    layer {{ name: "again" type: "EuclideanLoss" bottom: "code" bottom: "size" top: "again" }}
    """
)


def build(text: str) -> Net:
    rng.set_seed(1)
    param = NetParameter()
    source = parse(text, param)
    return Net(param, source, dtype=np.float64)


def random_batch(net: Net, seed: int) -> None:
    random = np.random.default_rng(seed)
    for name in net.inputs:
        blob = net.blobs[name]
        labels = {"label": 5, "sim": 2}
        blob.data[...] = np.arange(blob.count) % labels[name] if name in labels else random.normal(size=blob.shape)


def slope(net: Net, blobs: list[Blob], directions: list[np.ndarray]) -> float:
    """The derivative of the loss along a direction in the space of `blobs`, by central difference."""
    starts = [blob.data.copy() for blob in blobs]
    losses = []
    for step in (STEP, -STEP):
        for blob, start, direction in zip(blobs, starts, directions, strict=True):
            blob.data[...] = start + step * direction
        losses.append(net.forward_layers())
    for blob, start in zip(blobs, starts, strict=True):
        blob.data[...] = start
    return (losses[0] - losses[1]) / (2 * STEP)


def check(net: Net, blobs: list[Blob], rtol: float, batches: int = 1) -> None:
    """Compares both for each blob alone, and for all together. With several `batches` the gradients add up."""
    net.clear_param_diffs()
    for seed in range(batches):
        random_batch(net, seed)
        net.forward_backward()
    gradients = [blob.diff.copy() for blob in blobs]
    random = np.random.default_rng(9)
    directions = [random.normal(size=blob.shape) for blob in blobs]
    chosen = [[i] for i in range(len(blobs))] + [list(range(len(blobs)))]
    for choice in chosen:
        along = [directions[i] for i in choice]
        numeric = 0.0
        for seed in range(batches):
            random_batch(net, seed)
            numeric += slope(net, [blobs[i] for i in choice], along)
        analytic = sum(float(np.vdot(gradients[i], directions[i])) for i in choice)
        assert abs(numeric - analytic) <= rtol * abs(numeric) + 1e-8, (choice, numeric, analytic)
    assert analytic != 0


@pytest.mark.parametrize(
    ("text", "learnable", "rtol"),
    [
        (SIAMESE % "true", 6, 1e-6),
        (SIAMESE % "false", 6, 1e-2),  # Caffe's gradient divides by the distance plus 0.0001
        (LENET, 8, 1e-6),
        (TIED, 3, 1e-6),
    ],
    ids=["siamese, legacy", "siamese", "lenet", "tied"],
)
def test_gradients_of_parameters(text, learnable, rtol):
    net = build(text)
    blobs = [one.blob for one in net.learnable]
    assert len(blobs) == learnable
    check(net, blobs, rtol)
    check(net, blobs, rtol, batches=2)


@pytest.mark.parametrize(("text", "name"), [(SIAMESE % "true", "pairs"), (LENET, "data"), (TIED, "data")])
def test_gradients_of_inputs(text, name):
    net = build("force_backward: true " + text)
    check(net, [net.blobs[name]], 1e-6)


def test_a_shared_gradient_is_the_sum_of_those_of_separate_branches():
    shared, separate = build(SIAMESE % "true"), build(re.sub(r'param { name: "\w+" }', "", SIAMESE % "true"))
    assert (len(shared.learnable), len(separate.learnable)) == (6, 12)
    for i, one in enumerate(shared.learnable):
        separate.learnable[i].blob.data[...] = separate.learnable[i + 6].blob.data[...] = one.blob.data
    for net in (shared, separate):
        random_batch(net, 0)
        net.forward_backward()
    for i, one in enumerate(shared.learnable):
        total = separate.learnable[i].blob.diff + separate.learnable[i + 6].blob.diff
        np.testing.assert_allclose(one.blob.diff, total, rtol=1e-12, atol=1e-15)
