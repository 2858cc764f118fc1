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
    `rtol`: how far the gradient may be off the slope.
    `needs_database`: the layer reads files; it is not run here but in tests of its own.
    `touches_unasked`: backward may change the gradient of a bottom that was not asked for, as Caffe's does: it is the top's
    memory, or scratch.
    """

    type: str
    text: str = ""
    bottoms: Bottoms = lambda rng, n: []
    tops: int = 1
    gradients: tuple[int, ...] | None = (0,)
    phase: int = TRAIN
    rtol: float = 1e-6
    needs_database: bool = False
    touches_unasked: bool = False

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
    Case(
        "Convolution",
        f"convolution_param {{ num_output: 3 kernel_size: 3 pad: 1 stride: 2 group: 3 {FILLERS} }}",
        normal(3, 6, 5),
    ),
    Case("Data", needs_database=True),
    Case("Dropout", "dropout_param { dropout_ratio: 0.3 }", normal(4, 5)),
    Case("Dropout", "", normal(7), phase=TEST),
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
    Case("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }", positive(2, 4, 4)),
    Case("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 3 }", positive(2, 4, 4), gradients=None, phase=TEST),
    Case("Power", "power_param { power: 3 scale: 0.5 shift: 2 }", positive(3, 4)),
    Case("Power", "power_param { power: 0.5 scale: 2 }", positive(3, 4)),
    Case("Power", "power_param { scale: -3 shift: 1 }", normal(3, 4)),
    Case("Power", "power_param { power: 0 }", normal(3)),
    Case("ReLU", "", off_zero(3, 4)),
    Case("ReLU", "relu_param { negative_slope: 0.1 }", off_zero(3, 4)),
    Case("ReLU", "relu_param { negative_slope: -0.5 }", off_zero(3, 4)),
    Case("Sigmoid", "", normal(3, 4)),
    Case("Silence", "", normal(3, count=2), tops=0, gradients=(0, 1)),
    Case("Slice", "", normal(6, 2), tops=3),
    Case("Slice", "slice_param { axis: -1 slice_point: 1 slice_point: 4 }", normal(2, 6), tops=3),
    Case("Slice", "slice_param { slice_dim: 2 slice_point: 3 }", normal(2, 4, 3), tops=2),
    Case("Softmax", "", normal(5, 2)),
    Case("Softmax", "", normal(3, 520)),
    Case("Softmax", "softmax_param { axis: -1 }", normal(2, 3)),
    Case("SoftmaxWithLoss", "", classified(4)),
    Case("SoftmaxWithLoss", "loss_param { ignore_label: 2 }", classified(4, 2, 3)),
    Case("SoftmaxWithLoss", "loss_param { normalization: NONE } softmax_param { axis: -2 }", classified(4, 3)),
    Case("Split", "", normal(3, 2), tops=3),
    Case("Split", "", normal(3), tops=1),
    Case("TanH", "", normal(3, 4)),
]

# ---- normalisation, losses, convolutions ---------------------------------------------------------------------------


def off_margin(classes: int, *inner: int) -> Bottoms:
    """Scores n x classes x inner, none of them near 1 or -1, and n labels."""
    return lambda rng, n: [
        rng.choice([0.2, 1.7], (n, classes, *inner)) * rng.choice([-1, 1], (n, classes, *inner)) * rng.uniform(0.9, 1.1),
        rng.integers(classes * int(np.prod(inner)), size=n).astype(float),
    ]


def probabilities(classes: int) -> Bottoms:
    return lambda rng, n: [rng.uniform(0.1, 1, (n, classes)), rng.integers(classes, size=n).astype(float)]


def with_matrix(bottoms: Bottoms, classes: int) -> Bottoms:
    """`bottoms` and a classes x classes matrix."""
    return lambda rng, n: [*bottoms(rng, n), rng.normal(size=(classes, classes))]


def targets(*shape: int) -> Bottoms:
    """Scores n x shape, and targets from 0 to 1."""
    return lambda rng, n: [rng.normal(size=(n, *shape)), rng.choice([0, 0.3, 1], (n, *shape))]


CASES += [
    Case("BatchNorm", "", normal(3, 4, 2)),
    Case("BatchNorm", "batch_norm_param { eps: 0.1 }", normal(300)),
    Case("BatchNorm", "batch_norm_param { eps: 0.5 use_global_stats: false }", normal(3), phase=TEST),
    Case(
        "Deconvolution",
        f"convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 stride: 2 group: 2 {FILLERS} }}",
        normal(2, 4, 3, count=2),
        tops=2,
        gradients=(0, 1),
    ),
    Case(
        "Deconvolution",
        f"convolution_param {{ num_output: 3 kernel_size: 2 dilation: 2 bias_term: false {FILLERS} }}",
        normal(2, 3, 2, 4),
    ),
    Case(
        "Deconvolution",
        f"convolution_param {{ num_output: 3 kernel_size: 4 pad: 1 stride: 2 group: 3 {FILLERS} }}",
        normal(3, 4, 5),
    ),
    Case("HingeLoss", "", off_margin(4)),
    Case("HingeLoss", "hinge_loss_param { norm: L2 }", off_margin(2, 3, 1)),
    Case("Im2col", "convolution_param { kernel_size: 3 stride: 2 pad: 1 }", normal(2, 6, 5)),
    Case("Im2col", "convolution_param { kernel_size: 2 dilation: 2 axis: 2 }", normal(2, 3, 6)),
    Case("InfogainLoss", "", with_matrix(classified(4), 4)),
    Case("InfogainLoss", "loss_param { ignore_label: 1 normalization: FULL }", with_matrix(classified(3, 2, 2), 3)),
    Case("LRN", "lrn_param { local_size: 3 alpha: 2 }", normal(6, 3, 2)),
    Case("LRN", "lrn_param { alpha: 0.5 beta: 1.2 k: 2 }", normal(2, 1, 70)),
    Case("LRN", "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }", normal(2, 5, 4)),
    Case("MultinomialLogisticLoss", "", probabilities(4)),
    Case("MVN", "", normal(2, 4, 3)),
    Case("MVN", "mvn_param { across_channels: true }", normal(3, 2, 2)),
    Case("MVN", "mvn_param { normalize_variance: false }", normal(2, 3, 2)),
    Case("SigmoidCrossEntropyLoss", "", targets(3, 2)),
    Case("SigmoidCrossEntropyLoss", "loss_param { ignore_label: 1 normalization: VALID }", targets(4)),
    Case("SPP", "spp_param { pyramid_height: 3 }", distinct(2, 7, 6)),
    Case("SPP", "spp_param { pyramid_height: 2 pool: AVE }", normal(2, 5, 6)),
    Case("SPP", "spp_param { pyramid_height: 1 }", distinct(2, 3, 4)),
]

# ---- elementwise, shape, indices -----------------------------------------------------------------------------------


def shapes(*shapes: tuple[int, ...]) -> Bottoms:
    """A normal bottom n x shape for each of `shapes`."""
    return lambda rng, n: [rng.normal(size=(n, *shape)) for shape in shapes]


def fixed(*shape: int) -> Bottoms:
    """A normal bottom n x shape, and one of `shape` alone."""
    return lambda rng, n: [rng.normal(size=(n, *shape)), rng.normal(size=shape)]


def indexed(rows: int, *shape: int) -> Bottoms:
    """n x shape indices below `rows`."""
    return lambda rng, n: [rng.integers(rows, size=(n, *shape)).astype(float)]


def chosen(*shape: int) -> Bottoms:
    """n x shape, and 2 n indices of items."""
    return lambda rng, n: [rng.normal(size=(n, *shape)), rng.integers(max(n, 1), size=2 * n).astype(float)]


def selected(*shapes_: tuple[int, ...]) -> Bottoms:
    """Bottoms n x shape, and a selector that drops every third item."""
    return lambda rng, n: [*shapes(*shapes_)(rng, n), (np.arange(n).reshape(n, 1) % 3 - 1).astype(float)]


CASES += [
    Case("AbsVal", "", off_zero(3, 4)),
    Case("ArgMax", "", distinct(3, 4), gradients=None),
    Case("ArgMax", "argmax_param { top_k: 3 out_max_val: true }", distinct(5), gradients=None),
    Case("ArgMax", "argmax_param { axis: -2 top_k: 2 }", distinct(2, 3, 4), gradients=None),
    Case("ArgMax", "argmax_param { axis: 1 out_max_val: true }", distinct(4, 2), gradients=None),
    Case("BatchReindex", "", chosen(3, 2)),
    Case("Bias", "", normal(3, 4)),
    Case("Bias", "bias_param { axis: -2 num_axes: -1 }", normal(3, 4)),
    Case("Bias", "", fixed(3, 4), gradients=(0, 1)),
    Case("BNLL", "", normal(3, 4)),
    Case("Clip", "clip_param { min: -0.7 max: 1.1 }", off_zero(3, 4)),
    Case("Concat", "", shapes((2, 3), (4, 3), (1, 3)), gradients=(0, 1, 2)),
    Case("Concat", "concat_param { axis: 0 }", shapes((3,), (3,)), gradients=(0, 1)),
    Case("Concat", "concat_param { axis: -1 }", shapes((2, 3), (2, 1)), gradients=(0, 1)),
    Case("Concat", "concat_param { concat_dim: 2 }", normal(2, 3), touches_unasked=True),
    Case("Crop", "", shapes((3, 6, 5), (7, 4, 3)), gradients=(0, 1)),
    Case("Crop", "crop_param { axis: -3 offset: 1 offset: 0 offset: 2 }", shapes((3, 6, 5), (2, 4, 3)), gradients=(0, 1)),
    Case("Crop", "crop_param { axis: 1 offset: 1 }", shapes((3, 6), (2, 4)), gradients=(0, 1)),
    Case("Eltwise", "", normal(3, 2, count=2), gradients=(0, 1)),
    Case("Eltwise", "eltwise_param { coeff: 2 coeff: -1 coeff: 0.5 }", normal(3, 2, count=3), gradients=(0, 1, 2)),
    Case("Eltwise", "eltwise_param { operation: PROD }", normal(3, 2, count=3), gradients=(0, 1, 2)),
    Case(
        "Eltwise",
        "eltwise_param { operation: PROD stable_prod_grad: false }",
        lambda rng, n: [*off_zero(3, 2)(rng, n), *off_zero(3, 2)(rng, n)],
        gradients=(0, 1),
    ),
    Case("Eltwise", "eltwise_param { operation: MAX }", normal(3, 2, count=4), gradients=(0, 1, 2, 3)),
    Case("ELU", "", off_zero(3, 4)),
    Case("ELU", "elu_param { alpha: -0.5 }", off_zero(3, 4)),
    Case("Embed", f"embed_param {{ num_output: 4 input_dim: 5 {FILLERS} }}", indexed(5, 3), gradients=()),
    Case("Embed", f"embed_param {{ num_output: 3 input_dim: 2 bias_term: false {FILLERS} }}", indexed(2), gradients=()),
    Case("Exp", "", normal(3, 4)),
    Case("Exp", "exp_param { base: 2 scale: -0.5 shift: 3 }", normal(3, 4)),
    Case("Filter", "", selected((3,)), gradients=(0,)),
    Case("Filter", "", selected((2, 2), (3,)), tops=2, gradients=(0, 1)),
    Case("Flatten", "", normal(2, 3, 2), touches_unasked=True),
    Case("Flatten", "flatten_param { axis: -3 end_axis: 2 }", normal(2, 3, 2), touches_unasked=True),
    Case("Log", "", positive(3, 4)),
    Case("Log", "log_param { base: 10 scale: -0.5 shift: 3 }", positive(3, 4)),
    Case("Parameter", "parameter_param { shape { dim: 2 dim: 3 } }", gradients=()),
    Case("PReLU", "", off_zero(3, 4)),
    Case("PReLU", "", off_zero(3)),
    Case("PReLU", "prelu_param { channel_shared: true }", off_zero(3, 4, 2)),
    Case("Reduction", "", normal(3, 2)),
    Case("Reduction", "reduction_param { operation: ASUM axis: 1 coeff: 2 }", off_zero(3, 2)),
    Case("Reduction", "reduction_param { operation: SUMSQ axis: -1 coeff: -0.5 }", normal(3, 2)),
    Case("Reduction", "reduction_param { operation: MEAN coeff: 3 }", normal(3, 2)),
    Case("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }", normal(3, 2), touches_unasked=True),
    Case("Reshape", "reshape_param { shape { dim: 2 dim: 0 dim: 2 } axis: 1 }", normal(4, 3), touches_unasked=True),
    Case("Reshape", "reshape_param { shape { dim: -1 dim: 2 } axis: -3 num_axes: 1 }", normal(4, 3), touches_unasked=True),
    Case("Reshape", "reshape_param { shape { dim: 1 dim: 1 } axis: -1 }", normal(4), touches_unasked=True),
    Case("Scale", "", normal(3, 4), touches_unasked=True),
    Case("Scale", "scale_param { bias_term: true }", normal(3), touches_unasked=True),
    Case("Scale", "scale_param { bias_term: true axis: -1 }", normal(2, 300), touches_unasked=True),
    Case("Scale", "scale_param { axis: -2 num_axes: 2 bias_term: true }", normal(2, 3, 4), touches_unasked=True),
    Case("Scale", "scale_param { axis: 0 num_axes: 0 bias_term: true }", normal(3, 4), touches_unasked=True),
    Case("Scale", "scale_param { bias_term: true }", fixed(3, 4), gradients=(0, 1), touches_unasked=True),
    Case("Swish", "", normal(3, 4)),
    Case("Swish", "swish_param { beta: -0.3 }", normal(3, 4)),
    Case("Threshold", "threshold_param { threshold: 0.5 }", off_zero(3, 4), gradients=None),
    Case("Tile", "tile_param { tiles: 3 }", normal(2, 3)),
    Case("Tile", "tile_param { axis: -1 tiles: 2 }", normal(2, 3)),
    Case("Tile", "tile_param { axis: 0 tiles: 2 }", normal(3)),
]

# ---- recurrent layers, Python, data --------------------------------------------------------------------------------


def sequences(*shape: int, static: tuple[int, ...] | None = None, states: tuple[int, ...] = ()) -> Bottoms:
    """x 4 x n x shape, cont 4 x n, perhaps a static input n x static, and a state 1 x n x D for each D in `states`.

    All streams begin at the first step, so that no forward depends on the one before; some begin anew in the middle.
    """

    def bottoms(rng: Random, n: int) -> list[np.ndarray]:
        cont = (rng.random((4, n)) < 0.7).astype(float)
        cont[:1] = 0
        rest = [rng.normal(size=(n, *static))] if static else []
        return [rng.normal(size=(4, n, *shape)), cont, *rest, *(rng.normal(size=(1, n, d)) for d in states)]

    return bottoms


def one_step(d: int) -> Bottoms:
    """c 1 x n x d, gates 1 x n x 4d, cont 1 x n of 0 and 1, between which Caffe's gradient is no slope."""
    return lambda rng, n: [
        rng.normal(size=(1, n, d)),
        rng.normal(size=(1, n, 4 * d)),
        rng.integers(2, size=(1, n)).astype(float),
    ]


RECURRENT = f"recurrent_param {{ num_output: 3 {FILLERS} %s}}"

CASES += [
    Case("HDF5Output", needs_database=True),
    Case("ImageData", needs_database=True),
    Case("LSTM", RECURRENT % "", sequences(2)),
    Case("LSTM", RECURRENT % "", sequences(2, 2, static=(2, 3)), gradients=(0, 2)),
    Case("LSTM", RECURRENT % "expose_hidden: true ", sequences(2, states=(3, 3)), tops=3, gradients=None),
    Case("LSTMUnit", "", one_step(3), tops=2, gradients=(0, 1)),
    Case("MemoryData", needs_database=True),
    Case("Python", needs_database=True),
    Case("RNN", RECURRENT % "", sequences(2)),
    Case("RNN", RECURRENT % "", sequences(2, 2, static=(2, 3)), gradients=(0, 2)),
    Case("RNN", RECURRENT % "expose_hidden: true ", sequences(2, states=(3,)), tops=2, gradients=None),
    Case("WindowData", needs_database=True),
]
