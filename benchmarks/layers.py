"""Single layers of well-known nets, pycaffe_lite against PyTorch on the CPU: `python benchmarks/layers.py`.

Forward and backward of our layer and of PyTorch's eager operation in its default layout (NCHW) take turns in one process;
printed are medians. A layer is in place where those nets have it in place, and so is PyTorch's operation if it can be.

    --only conv,pool    kinds of layers: conv, depthwise, deconv, pool, lrn, bn, relu, prelu, eltwise, concat, softmax
    --net FCN           one net: AlexNet, GoogLeNet, ResNet-50, MobileNet, FCN
    --batch 1,16        batch sizes
    --threads 2         default: the number of cores
    --seconds 1         how long to measure each case

GFLOP/s counts multiplications and additions of products of matrices only. GB/s counts what an ideal layer moves: bottoms,
tops and parameters, each read or written once, and in backward their gradients, too.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

try:
    import torch  # before pycaffe_lite: see _common
    import torch.nn.functional as F
except ImportError:
    raise SystemExit("this comparison needs PyTorch: pip install 'pycaffe-lite[bench]'") from None

import numba
import numpy as np
from _common import forget_openblas_settings, print_versions, take_turns
from google.protobuf import text_format

from pycaffe_lite import glog
from pycaffe_lite.device import serial_blas
from pycaffe_lite.net import Net
from pycaffe_lite.proto.caffe_pb2 import TRAIN, NetParameter

Shape = tuple[int, ...]
BOUNDS = {"depthwise": 2.5}  # what a layer may take at most, as a multiple of PyTorch's time
BOUND = 1.5
ANY_BATCH = 1, 1024


@dataclass(frozen=True)
class Case:
    """`layers`: the inside of each `layer { }` but for its bottom and top. `shapes`: of the bottoms, without the batch.

    `theirs(x, p)`: the same in PyTorch, of bottoms and parameters. `in_place`: all layers write over the first bottom.
    `work`: multiplications and additions of one item's forward. `batches`: the smallest and the largest that make sense and
    fit into memory.
    """

    net: str
    kind: str
    name: str
    layers: Sequence[str]
    shapes: Sequence[Shape]
    theirs: Callable[[list[torch.Tensor], list[torch.Tensor]], torch.Tensor]
    in_place: bool = False
    work: int = 0
    batches: tuple[int, int] = ANY_BATCH


def conv(net, name, c, size, out, kernel, stride=1, pad=0, group=1, batches=ANY_BATCH) -> Case:
    text = f'type: "Convolution" convolution_param {{ num_output: {out} kernel_size: {kernel} stride: {stride} pad: {pad} '
    text += f'group: {group} weight_filler {{ type: "xavier" }} }}'
    windows = ((size + 2 * pad - kernel) // stride + 1) ** 2
    return Case(
        net,
        "depthwise" if group == c else "conv",
        f"{name} {c}x{size}x{size} -> {out}, {kernel}x{kernel}{f' /{stride}' * (stride > 1)}{f' g{group}' * (group > 1)}",
        [text],
        [(c, size, size)],
        lambda x, p: F.conv2d(x[0], p[0], p[1], stride, pad, 1, group),
        work=2 * windows * out * c // group * kernel * kernel,
        batches=batches,
    )


def deconv(net, name, c, size, kernel, stride, group=1, batches=ANY_BATCH) -> Case:
    text = f'type: "Deconvolution" convolution_param {{ num_output: {c} kernel_size: {kernel} stride: {stride} '
    text += f'group: {group} bias_term: false weight_filler {{ type: "bilinear" }} }}'
    return Case(
        net,
        "deconv",
        f"{name} {c}x{size}x{size}, {kernel}x{kernel} /{stride}{f' g{group}' * (group > 1)}",
        [text],
        [(c, size, size)],
        lambda x, p: F.conv_transpose2d(x[0], p[0], None, stride, groups=group),
        work=2 * size * size * c * c // group * kernel * kernel,
        batches=batches,
    )


def pool(net, name, c, size, kernel, stride, pad=0, method="MAX") -> Case:
    text = f'type: "Pooling" pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad} }}'
    theirs = F.max_pool2d if method == "MAX" else F.avg_pool2d
    return Case(
        net,
        "pool",
        f"{name} {method} {c}x{size}x{size}, {kernel}x{kernel} /{stride}",
        [text],
        [(c, size, size)],
        lambda x, p: theirs(x[0], kernel, stride, pad, ceil_mode=True),
    )


def simple(net, kind, name, text, shapes, theirs, in_place=False, batches=ANY_BATCH) -> Case:
    sizes = " + ".join("x".join(map(str, shape)) for shape in shapes)
    return Case(net, kind, f"{name} {sizes}", [text], shapes, theirs, in_place, batches=batches)


def lrn(net, name, *shape) -> Case:
    text = 'type: "LRN" lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }'
    return simple(net, "lrn", name, text, [shape], lambda x, p: F.local_response_norm(x[0], 5, 0.0001, 0.75, 1.0))


def batch_norm(net, name, *shape, batches=ANY_BATCH) -> Case:
    layers = ['type: "BatchNorm"', 'type: "Scale" scale_param { bias_term: true }']
    mean, variance = torch.zeros(shape[0]), torch.ones(shape[0])
    return Case(
        net,
        "bn",
        f"{name} {'x'.join(map(str, shape))}",
        layers,
        [shape],
        lambda x, p: F.batch_norm(x[0], mean, variance, p[-2], p[-1], training=True),
        in_place=True,
        batches=batches,
    )


def relu(net, name, *shape) -> Case:
    theirs = lambda x, p: F.relu(x[0], inplace=not torch.is_grad_enabled())  # noqa: E731  no leaf can be overwritten
    return simple(net, "relu", name, 'type: "ReLU"', [shape], theirs, in_place=True)


def prelu(net, name, *shape) -> Case:
    # in place again and again, values shall neither vanish nor grow: the slope is -1
    text = 'type: "PReLU" prelu_param { filler { value: -1 } }'
    return simple(net, "prelu", name, text, [shape], lambda x, p: F.prelu(x[0], p[0]), in_place=True)


def eltwise(net, name, *shape, batches=ANY_BATCH) -> Case:
    return simple(net, "eltwise", name, 'type: "Eltwise"', [shape] * 2, lambda x, p: x[0] + x[1], batches=batches)


def concat(net, name, channels, size) -> Case:
    shapes = [(c, size, size) for c in channels]
    return simple(net, "concat", name, 'type: "Concat"', shapes, lambda x, p: torch.cat(x, 1))


def softmax(net, name, *shape, batches=ANY_BATCH) -> Case:
    return simple(net, "softmax", name, 'type: "Softmax"', [shape], lambda x, p: F.softmax(x[0], 1), batches=batches)


CASES = [
    conv("AlexNet", "conv1", 3, 227, 96, 11, 4),
    conv("AlexNet", "conv2", 96, 27, 256, 5, pad=2, group=2),
    conv("AlexNet", "conv3", 256, 13, 384, 3, pad=1),
    conv("AlexNet", "conv5", 384, 13, 256, 3, pad=1, group=2),
    relu("AlexNet", "relu1", 96, 55, 55),
    lrn("AlexNet", "norm1", 96, 55, 55),
    pool("AlexNet", "pool1", 96, 55, 3, 2),
    softmax("AlexNet", "prob", 1000),
    conv("GoogLeNet", "conv1", 3, 224, 64, 7, 2, 3),
    conv("GoogLeNet", "conv2", 64, 56, 192, 3, pad=1),
    conv("GoogLeNet", "3a/5x5", 16, 28, 32, 5, pad=2),
    conv("GoogLeNet", "4a/1x1", 480, 14, 192, 1),
    lrn("GoogLeNet", "norm2", 192, 56, 56),
    pool("GoogLeNet", "pool1", 64, 112, 3, 2),
    pool("GoogLeNet", "3a/pool", 192, 28, 3, 1, 1),
    pool("GoogLeNet", "pool5", 1024, 7, 7, 1, method="AVE"),
    concat("GoogLeNet", "3a", (64, 128, 32, 32), 28),
    concat("GoogLeNet", "5b", (384, 384, 128, 128), 7),
    conv("ResNet-50", "2a/2b", 64, 56, 64, 3, pad=1),
    conv("ResNet-50", "3a/1", 256, 56, 512, 1, 2),
    conv("ResNet-50", "4b/2b", 256, 14, 256, 3, pad=1),
    conv("ResNet-50", "5b/2c", 512, 7, 2048, 1),
    batch_norm("ResNet-50", "conv1", 64, 112, 112),
    batch_norm("ResNet-50", "2a/2c", 256, 56, 56),
    batch_norm("ResNet-50", "5a/2c", 2048, 7, 7),
    batch_norm("ResNet-50", "behind ip", 2048, batches=(2, 1024)),
    relu("ResNet-50", "2a", 256, 56, 56),
    prelu("ResNet-50", "2a", 256, 56, 56),
    eltwise("ResNet-50", "2a", 256, 56, 56),
    eltwise("ResNet-50", "5a", 2048, 7, 7),
    conv("MobileNet", "2_1/dw", 32, 112, 32, 3, 1, 1, 32),
    conv("MobileNet", "2_2/dw", 64, 112, 64, 3, 2, 1, 64),
    conv("MobileNet", "4_1/dw", 256, 28, 256, 3, 1, 1, 256),
    conv("MobileNet", "5_1/dw", 512, 14, 512, 3, 1, 1, 512),
    conv("MobileNet", "5_6/dw", 512, 14, 512, 3, 2, 1, 512),
    conv("MobileNet", "6/dw", 1024, 7, 1024, 3, 1, 1, 1024),
    conv("MobileNet", "5_1/sep", 512, 14, 512, 1),
    conv("FCN", "fc7", 4096, 16, 4096, 1, batches=(1, 1)),
    conv("FCN", "score_fr", 4096, 16, 21, 1),
    deconv("FCN", "upscore2", 21, 16, 4, 2),
    deconv("FCN", "upscore8", 21, 70, 16, 8, batches=(1, 4)),
    deconv("FCN", "upscore8", 21, 70, 16, 8, 21, batches=(1, 4)),
    deconv("FCN", "upscore32", 21, 16, 64, 32, batches=(1, 4)),
    eltwise("FCN", "fuse_pool3", 21, 70, 70),
    softmax("FCN", "prob", 21, 500, 500, batches=(1, 4)),
]


def make_ours(case: Case, bottoms: list[np.ndarray]) -> Net:
    """A net of Input and the layers of the case."""
    names = [f"x{i}" for i in range(len(bottoms))]
    tops = [names[0] if case.in_place else f"y{i}" for i in range(len(case.layers))]
    text = 'force_backward: true layer { type: "Input" name: "data" input_param { '
    text += " ".join(f"shape {{ {' '.join(f'dim: {d}' for d in x.shape)} }}" for x in bottoms)
    text += f" }} {' '.join(f'top: {name!r}' for name in names)} }}"
    for i, layer in enumerate(case.layers):
        below = names if i == 0 else [tops[i - 1]]
        text += f" layer {{ {layer} name: 'layer{i}' {' '.join(f'bottom: {name!r}' for name in below)} top: {tops[i]!r} }}"
    param = text_format.Parse(text, NetParameter())
    param.state.phase = TRAIN
    net = Net(param)
    for name, x in zip(names, bottoms, strict=True):
        net.blobs[name].data[...] = x
    return net


def forward(net: Net) -> None:
    """What a net does for each layer, without what it does once for all of them."""
    for node in net.nodes[1:]:
        node.layer.reshape(node.bottom, node.top)
        node.layer.forward(node.bottom, node.top)


def backward(net: Net) -> None:
    for node in reversed(net.nodes[1:]):
        node.layer.backward(node.top, node.bottom_needs_backward, node.bottom)


def measure(case: Case, batch: int, seconds: float) -> dict[str, float]:
    """Medians in ms of "ours forward", "ours backward", "theirs forward", "theirs backward"; and "flop" and "bytes" of
    one forward and one backward."""
    rng = np.random.default_rng(1)
    bottoms = [rng.normal(size=(batch, *shape)).astype(np.float32) for shape in case.shapes]
    net = make_ours(case, bottoms)
    params = [blob for node in net.nodes for blob in node.layer.blobs]
    x = [torch.tensor(array, requires_grad=True) for array in bottoms]
    p = [torch.tensor(blob.data, requires_grad=True) for blob in params]
    overwritten = [array.detach().clone() for array in x]
    y = case.theirs(x, p)
    top = net.nodes[-1].top[0]
    forward(net)
    np.testing.assert_allclose(top.data, y.detach().numpy(), 1e-3, 1e-4, err_msg=case.name)
    dy = torch.randn(y.shape)
    top.diff[...] = dy.numpy()

    def theirs_forward() -> None:
        with torch.no_grad():
            case.theirs(overwritten, p)

    def theirs_backward() -> None:
        for array in (*x, *p):
            array.grad = None
        y.backward(dy, retain_graph=True)

    contestants: dict[str, Callable[[], object]] = {
        "ours forward": lambda: forward(net),
        "ours backward": lambda: backward(net),
        "theirs forward": theirs_forward,
        "theirs backward": theirs_backward,
    }
    for step in contestants.values():
        step()  # compiles kernels
    times = take_turns(contestants, seconds, warm_up=1, timed=3)
    result = {name: statistics.median(values) for name, values in times.items()}
    moved = 4 * (sum(array.size for array in bottoms) + y.numel())
    weights = 4 * sum(blob.count for blob in params)
    return result | {"flop": batch * case.work, "bytes": moved + weights}


def report(case: Case, batch: int, m: dict[str, float]) -> str:
    """One row of the table: times of ours, then ratios, then what ours makes of the machine."""
    ours, theirs = (m[f"{who} forward"] + m[f"{who} backward"] for who in ("ours", "theirs"))
    forward, backward = (m[f"ours {way}"] / m[f"theirs {way}"] for way in ("forward", "backward"))
    ratio, bound = ours / theirs, BOUNDS.get(case.kind, BOUND)
    flops = 3 * m["flop"] / ours / 1e6 if m["flop"] else math.nan
    return (
        f"| {case.net} | {case.kind} | {case.name} | {batch} | {m['ours forward']:.3f} | {m['ours backward']:.3f} "
        f"| {forward:.2f} | {backward:.2f} | {ratio:.2f}{' !' * (ratio > bound)} "
        f"| {f'{flops:.0f}' if m['flop'] else ''} | {3 * m['bytes'] / ours / 1e6:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--net", default="")
    parser.add_argument("--batch", default="1,16")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, default=1)
    args = parser.parse_args()
    forget_openblas_settings()
    glog.set_min_level(1)
    if args.threads:
        numba.set_num_threads(args.threads)
    kinds, batches = args.only.split(",") if args.only else None, [int(batch) for batch in args.batch.split(",")]
    cases = [c for c in CASES if (not kinds or c.kind in kinds) and args.net in ("", c.net)]
    if not cases:
        raise SystemExit(f"no case for --only {args.only} --net {args.net}")
    measure(relu("", "", 8, 64, 64), 1, 0)  # starts Numba's threads
    print_versions()
    print("\n| net | kind | layer | batch | forward ms | backward ms | ratio forward | backward | both | GFLOP/s | GB/s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    missed = []
    with serial_blas():
        for case in cases:
            for batch in sorted({min(max(batch, case.batches[0]), case.batches[1]) for batch in batches}):
                row = report(case, batch, measure(case, batch, args.seconds))
                missed += [case.name] if "!" in row else []
                print(row, flush=True)
    print(f"\n{len(missed)} rows miss their bound (marked !)" if missed else "\nall within their bounds")


if __name__ == "__main__":
    main()
