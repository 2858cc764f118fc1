"""One training iteration of the siamese MNIST net, pycaffe_lite against PyTorch on the CPU: `python benchmarks/siamese.py`.

An iteration is forward, backward and update of 64 pairs of 28 x 28 images. Ours is `solver.step(1)` on the net of
examples/siamese, with an Input layer in place of its database. PyTorch runs eagerly, in its best layout (channels_last, both
images of all pairs as one batch of 128) and in its default one (NCHW, two batches of 64). All take turns in one process.

    --seconds 15    how long to measure
    --layers        time our layers one by one instead, in milliseconds; does not need PyTorch
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from _common import forget_openblas_settings, need_torch, print_versions, take_turns  # isort: skip

import numpy as np

from pycaffe_lite import glog
from pycaffe_lite.proto import read_net, read_solver
from pycaffe_lite.proto.caffe_pb2 import TRAIN, LayerParameter
from pycaffe_lite.pycaffe import make_solver

SIAMESE = Path(__file__).parent.parent / "examples" / "siamese"
PAIRS = 64


def make_ours(images: np.ndarray, similar: np.ndarray):
    """The solver of the tutorial on a net whose Input layer holds one batch."""
    param, _ = read_solver(SIAMESE / "mnist_siamese_solver.prototxt")
    net, _ = read_net(SIAMESE / "mnist_siamese_train_test.prototxt")
    data = LayerParameter(name="pair_data", type="Input", top=["pair_data", "sim"])
    for shape in (images.shape, similar.shape):
        data.input_param.shape.add(dim=shape)
    layers = [data, *(layer for layer in net.layer if layer.type != "Data")]
    del net.layer[:]
    net.layer.extend(layers)
    for field in ("net", "test_iter", "test_interval", "display", "snapshot"):
        param.ClearField(field)
    param.net_param.CopyFrom(net)
    param.net_param.state.phase = TRAIN
    solver = make_solver(param)
    solver.net.blobs["pair_data"].data[...] = images
    solver.net.blobs["sim"].data[...] = similar
    return solver


def make_theirs(images: np.ndarray, similar: np.ndarray, best: bool) -> Callable[[], None]:
    """The same iteration in PyTorch: net, loss, and SGD with momentum and twice the rate for biases."""
    import torch
    from torch import nn

    net = nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10), nn.Linear(10, 2),
    )  # fmt: skip
    x, y = torch.tensor(images), torch.tensor(similar)
    a, b = x[:, :1].contiguous(), x[:, 1:].contiguous()
    if best:
        net = net.to(memory_format=torch.channels_last)
        both = torch.cat([a, b]).contiguous(memory_format=torch.channels_last)
    groups = [
        {"params": [p for p in net.parameters() if p.dim() > 1], "lr": 0.01},
        {"params": [p for p in net.parameters() if p.dim() == 1], "lr": 0.02},
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        of_a, of_b = net(both).split(PAIRS) if best else (net(a), net(b))
        square = (of_a - of_b).square().sum(1)
        gap = (1 - (square + 1e-8).sqrt()).relu()
        loss = (y * square + (1 - y) * gap.square()).sum() / (2 * PAIRS)
        loss.backward()
        optimizer.step()

    return step


def compare(solver, images: np.ndarray, similar: np.ndarray, seconds: float) -> None:
    need_torch()
    best, default = "PyTorch, channels_last, 1 x 128", "PyTorch, NCHW, 2 x 64"
    contestants = {
        "pycaffe_lite": lambda: solver.step(1),
        best: make_theirs(images, similar, best=True),
        default: make_theirs(images, similar, best=False),
    }
    for step in contestants.values():
        step()  # compiles kernels

    times = take_turns(contestants, seconds)
    print(f"{len(times[best])} iterations each, in ms")
    print(f"{'':34}  median  fastest tenth")
    for name, values in times.items():
        print(f"{name:34}  {statistics.median(values):6.2f}  {np.quantile(values, 0.1):6.2f}")
    ours = statistics.median(times["pycaffe_lite"])
    for name in (best, default):
        print(f"pycaffe_lite / {name}: {ours / statistics.median(times[name]):.2f}")


def layer_table(solver, seconds: float) -> None:
    """Medians of each layer, forward and backward, taken inside of whole iterations."""
    net, times, begin = solver.net, defaultdict(list), [0.0]
    starts = lambda _: begin.__setitem__(0, time.perf_counter())  # noqa: E731
    net.before_forward(starts)
    net.before_backward(starts)
    net.after_forward(lambda i: times["forward", i].append(time.perf_counter() - begin[0]))
    net.after_backward(lambda i: times["backward", i].append(time.perf_counter() - begin[0]))
    solver.step(3)
    times.clear()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        solver.step(1)
        times["iteration"].append(time.perf_counter() - start)
    median = {key: 1000 * statistics.median(values) for key, values in times.items()}
    print(f"{'layer':24} {'forward':>8} {'backward':>8}   (ms, medians of {len(times['iteration'])} iterations)")
    for i, node in enumerate(net.nodes):
        print(f"{node.name:24} {median['forward', i]:8.3f} {median['backward', i]:8.3f}")
    layers = sum(value for key, value in median.items() if key != "iteration")
    print(f"{'update and the rest':24} {median['iteration'] - layers:17.3f}")
    print(f"{'iteration':24} {median['iteration']:17.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--layers", action="store_true")
    args = parser.parse_args()
    forget_openblas_settings()
    glog.set_min_level(1)
    random = np.random.default_rng(1)
    images = random.random((PAIRS, 2, 28, 28), np.float32)
    similar = (random.random(PAIRS) < 0.1).astype(np.float32)
    solver = make_ours(images, similar)
    solver.step(1)
    print_versions()
    if args.layers:
        layer_table(solver, args.seconds)
    else:
        compare(solver, images, similar, args.seconds)


if __name__ == "__main__":
    main()
