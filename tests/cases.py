"""The table of layer cases: at least one for each registered type. `test_layers` runs every check on every case.

A new layer type needs its file in `layer_types/` and an entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pycaffe_lite.proto.caffe_pb2 import TEST, TRAIN

Random = np.random.Generator
Bottoms = Callable[[Random, int], list[np.ndarray]]


@dataclass(frozen=True)
class Case:
    """One layer as the checks run it.

    `text`: what stands in `layer { }` besides type, bottoms and tops.   `bottoms(rng, n)`: bottoms for a batch of n, near
    which the layer is smooth.   `gradients`: the bottoms that get one; None: the type has no backward at all.
    `in_place`: the layer may write its top over its bottom.   `rtol`: how far the gradient may be off the slope.
    `needs_database`: the layer reads files; it is not run here but in tests of its own.
    """

    type: str
    text: str = ""
    bottoms: Bottoms = lambda rng, n: []
    tops: int = 1
    gradients: tuple[int, ...] | None = (0,)
    in_place: bool = False
    phase: int = TRAIN
    rtol: float = 1e-6
    needs_database: bool = False

    @property
    def id(self) -> str:
        return f"{self.type} {self.text}".strip()


def normal(*shape: int, count: int = 1) -> Bottoms:
    """`count` bottoms of n x shape, from the normal distribution."""
    return lambda rng, n: [rng.normal(size=(n, *shape)) for _ in range(count)]


def off_zero(*shape: int) -> Bottoms:
    """n x shape, both signs, nowhere near 0."""
    return lambda rng, n: [rng.uniform(0.1, 2, (n, *shape)) * rng.choice([-1, 1], (n, *shape))]


def positive(*shape: int) -> Bottoms:
    return lambda rng, n: [rng.uniform(0.5, 2, (n, *shape))]


def distinct(*shape: int) -> Bottoms:
    """n x shape, no two values near each other: no maximum changes under a small step."""
    return lambda rng, n: [rng.permutation(n * int(np.prod(shape))).reshape(n, *shape) / 10]


def classified(classes: int, *inner: int) -> Bottoms:
    """Scores n x classes x inner, and labels n x inner."""
    return lambda rng, n: [rng.normal(size=(n, classes, *inner)), rng.integers(classes, size=(n, *inner)).astype(float)]


def pairs(rng: Random, n: int) -> list[np.ndarray]:
    """Features n x 4 twice, and which pairs are similar. Distances are 0.2 to 0.8 and 2.2 to 2.8, off all margins."""
    a, direction = rng.normal(size=(n, 4)), rng.normal(size=(n, 4))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    distance = rng.uniform(0.2, 0.8, (n, 1)) + 2 * (np.arange(n) % 3 == 2).reshape(n, 1)
    return [a, a + distance * direction, (np.arange(n) % 2).astype(float)]


FILLERS = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'

CASES = [
    Case("Accuracy", "", classified(4), gradients=None),
    Case("Accuracy", "accuracy_param { top_k: 2 axis: -2 ignore_label: 1 }", classified(5, 3), tops=2, gradients=None),
    Case("ContrastiveLoss", "", pairs, gradients=(0, 1), rtol=1e-3),  # Caffe's formula has an epsilon
    Case("ContrastiveLoss", "contrastive_loss_param { margin: 0.9 legacy_version: true }", pairs, gradients=(0, 1)),
    Case("Convolution", f"convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 stride: 2 {FILLERS} }}", normal(3, 6, 5)),
    Case(
        "Convolution",
        f"convolution_param {{ num_output: 6 kernel_size: 2 dilation: 2 group: 2 {FILLERS} }}",
        normal(4, 6, 5, count=2),
        tops=2,
        gradients=(0, 1),
    ),
    Case("Data", needs_database=True),
    Case("Dropout", "dropout_param { dropout_ratio: 0.3 }", normal(4, 5), in_place=True),
    Case("Dropout", "", normal(7), in_place=True, phase=TEST),
    Case("DummyData", 'dummy_data_param { shape { dim: 3 dim: 2 } data_filler { type: "gaussian" } }', gradients=None),
    Case("DummyData", "dummy_data_param { num: 2 channels: 3 channels: 1 height: 1 width: 2 }", tops=2, gradients=None),
    Case("EuclideanLoss", "", normal(3, 2, count=2), gradients=(0, 1)),
    Case("HDF5Data", needs_database=True),
    Case("InnerProduct", f"inner_product_param {{ num_output: 4 {FILLERS} }}", normal(3, 2)),
    Case("InnerProduct", f"inner_product_param {{ num_output: 4 axis: 2 transpose: true {FILLERS} }}", normal(3, 2)),
    Case("Input", "input_param { shape { dim: 2 dim: 3 } }", gradients=None),
    Case("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", distinct(2, 6, 5)),
    Case("Pooling", "pooling_param { pool: AVE kernel_h: 3 kernel_w: 2 stride: 2 }", normal(2, 6, 5)),
    Case("Pooling", "pooling_param { pool: AVE global_pooling: true }", normal(2, 3, 4)),
    Case("Power", "power_param { power: 3 scale: 0.5 shift: 2 }", positive(3, 4), in_place=True),
    Case("Power", "power_param { power: 0.5 scale: 2 }", positive(3, 4), in_place=True),
    Case("Power", "power_param { scale: -3 shift: 1 }", normal(3, 4), in_place=True),
    Case("Power", "power_param { power: 0 }", normal(3), in_place=True),
    Case("ReLU", "", off_zero(3, 4), in_place=True),
    Case("ReLU", "relu_param { negative_slope: 0.1 }", off_zero(3, 4), in_place=True),
    Case("ReLU", "relu_param { negative_slope: -0.5 }", off_zero(3, 4), in_place=True),
    Case("Sigmoid", "", normal(3, 4), in_place=True),
    Case("Silence", "", normal(3, count=2), tops=0, gradients=(0, 1)),
    Case("Slice", "", normal(6, 2), tops=3),
    Case("Slice", "slice_param { axis: -1 slice_point: 1 slice_point: 4 }", normal(2, 6), tops=3),
    Case("Slice", "slice_param { slice_dim: 2 slice_point: 3 }", normal(2, 4, 3), tops=2),
    Case("Softmax", "", normal(5, 2), in_place=True),
    Case("Softmax", "softmax_param { axis: -1 }", normal(2, 3), in_place=True),
    Case("SoftmaxWithLoss", "", classified(4)),
    Case("SoftmaxWithLoss", "loss_param { ignore_label: 2 }", classified(4, 2, 3)),
    Case("SoftmaxWithLoss", "loss_param { normalization: NONE } softmax_param { axis: -2 }", classified(4, 3)),
    Case("Split", "", normal(3, 2), tops=3),
    Case("Split", "", normal(3), tops=1),
    Case("TanH", "", normal(3, 4), in_place=True),
]
