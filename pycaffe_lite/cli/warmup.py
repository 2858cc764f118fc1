"""Compile kernels in advance: pycaffe_lite warmup [NET.prototxt ...] [--cache-dir FOLDER]

    pycaffe_lite warmup                                     kernels of most nets, and of all update rules
    pycaffe_lite warmup deploy.prototxt --forward-only      kernels that this net needs to run

A kernel is compiled when it first runs on a machine, which takes seconds. A container would compile its kernels after every
start. Compile them when you build the image instead, on the same kind of processor that will run it:

    RUN pycaffe_lite warmup deploy.prototxt --cache-dir /opt/kernels
    ENV PYCAFFE_LITE_CACHE_DIR=/opt/kernels

Later the folder may be read-only. A net is set up as for a run, so its data must be present; if not, give the deploy
prototxt. Layers that write files (HDF5Output) are left out. The number of threads is that of this machine
(NUMBA_NUM_THREADS).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tqdm import tqdm

from .. import glog
from ..blob import Blob
from ..check.net import lacks_sources
from ..device import ahead, cache
from ..errors import DeviceError
from ..layer import class_of
from ..net import Net
from ..proto import Source, prototxt, read_net
from ..proto.caffe_pb2 import TEST, TRAIN, NetParameter
from ..solver.arena import Arena
from ..solver.rules import SGDSolver
from ._flags import Flags, add_state_flags, stages

GROUP = "ours"

# Without a net, these layers run on many images, on one image, which threads share, and on a size that one thread computes.
SHAPES = (16, 32, 32, 32), (1, 32, 32, 32), (1, 4, 8, 8)
CONVOLUTION = 'weight_filler { type: "xavier" }'
LAYERS = [
    f'type: "Convolution" convolution_param {{ num_output: 48 kernel_size: 3 pad: 1 {CONVOLUTION} }}',
    f'type: "Convolution" convolution_param {{ num_output: 48 kernel_size: 1 {CONVOLUTION} }}',
    f'type: "Convolution" convolution_param {{ num_output: 32 kernel_size: 3 {CONVOLUTION} }}',  # see ops/convolution/turned
    f'type: "Convolution" convolution_param {{ num_output: 4 group: 4 kernel_size: 3 {CONVOLUTION} }}',
    f'type: "Deconvolution" convolution_param {{ num_output: 4 kernel_size: 4 stride: 2 {CONVOLUTION} }}',
    'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }',
    'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 }',
    f'type: "InnerProduct" inner_product_param {{ num_output: 64 {CONVOLUTION} }}',
    'type: "LRN"',
    'type: "BatchNorm"',
    'type: "Scale" scale_param { bias_term: true }',
    'type: "Dropout"',
    'type: "Softmax"',
    'type: "Power" power_param { power: 2 }',
    'type: "Power" power_param { scale: 2 }',
    *(f'type: "{name}"' for name in ("Bias", "ELU", "PReLU", "ReLU", "Sigmoid", "Swish", "TanH")),
    *(f'bottom: "data" type: "Eltwise" eltwise_param {{ operation: {name} }}' for name in ("SUM", "MAX", "PROD")),
    'bottom: "data" type: "Concat"',
]
IN_PLACE = ['type: "BatchNorm"', 'type: "Scale" scale_param { bias_term: true }', 'type: "ReLU"']


class Run(NamedTuple):
    """A net in one phase, its source, and the update rules whose kernels are needed."""

    param: NetParameter
    source: Source
    rules: tuple[type[SGDSolver], ...]


def main(argv: list[str]) -> int:
    flags = Flags("warmup", __doc__)
    flags.add_argument("nets", nargs="*", metavar="NET", help="prototxt of a net; none: what most nets need")
    flags.flag("cache-dir", metavar="FOLDER", help="where compiled kernels are kept (PYCAFFE_LITE_CACHE_DIR when they run)")
    flags.add_argument("--forward-only", action="store_true", help="leave out what only training needs")
    flags.flag("processes", type=int, metavar="N", help="how many compile at once (default: one for each core)")
    add_state_flags(flags)
    values = flags.parse(argv)
    if values.minloglevel is None:
        glog.set_min_level(1)
    with _cache_folder(getattr(values, "cache-dir")):
        begin = time.perf_counter()
        kernels = list(dict.fromkeys(kernel for run in _runs(values) for kernel in _needed_by(run, values)))
        jobs = ahead.missing(kernels)
        with tqdm(total=sum(len(job.signatures) for job in jobs), unit="kernel", disable=None) as bar:
            for job in ahead.compile_in_processes(jobs, values.processes) if jobs else ():
                bar.update(len(job.signatures))
        left = sum(len(job.signatures) for job in ahead.missing(kernels))
        if left:
            raise DeviceError(f"{left} of {len(kernels)} kernels could not be kept in {cache.root()}; can it be written to?")
        compiled = sum(len(job.signatures) for job in jobs)
        seconds = time.perf_counter() - begin
        print(f"compiled {compiled} of {len(kernels)} kernels in {seconds:.1f} s; they are kept in {cache.root()}")
    return 0


@contextmanager
def _cache_folder(folder: str | None) -> Iterator[None]:
    """In the block, this process and the processes that it starts keep compiled kernels in `folder`."""
    name = cache.VARIABLES[0]
    before = os.environ.get(name)
    if folder:
        os.makedirs(folder, exist_ok=True)
        os.environ[name] = os.path.abspath(folder)
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before
        elif folder:
            del os.environ[name]


def _runs(values: argparse.Namespace) -> Iterator[Run]:
    nets = [read_net(path) for path in values.nets] or [(_usual_net(shape), Source("")) for shape in SHAPES]
    rules: tuple[type[SGDSolver], ...] = (SGDSolver,)
    if not values.nets:
        rules += tuple(SGDSolver.__subclasses__())
    for param, source in nets:
        param.state.level = values.level
        param.state.stage.extend(stages(values))
        phases = [phase for phase in (TEST, TRAIN) if not lacks_sources(param, phase)] or [TEST]
        for phase in phases:
            if phase == TRAIN and values.forward_only and len(phases) > 1:
                continue
            run = NetParameter()
            run.CopyFrom(param)
            del run.layer[:]
            run.layer.extend(layer for layer in param.layer if not class_of(layer.type).writes_files)
            run.state.phase = phase
            run.force_backward = phase == TRAIN and not values.forward_only
            yield Run(run, source, rules if run.force_backward else ())


def _usual_net(shape: tuple[int, ...]) -> NetParameter:
    """A net with all `LAYERS`, each on an input of that shape."""
    sizes = " ".join(f"dim: {size}" for size in shape)
    text = f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {sizes} }} }} }}'
    for i, layer in enumerate(LAYERS):
        text += f' layer {{ name: "{i}" bottom: "data" top: "{i}" {layer} }}'
    for i, layer in enumerate(IN_PLACE):
        text += f' layer {{ name: "in place {i}" bottom: "0" top: "0" {layer} }}'
    param = NetParameter()
    prototxt.parse(text, param)
    return param


def _needed_by(run: Run, values: argparse.Namespace) -> list[ahead.Needed]:
    """The kernels of a forward pass, and if there are rules, of a backward pass and an update by each rule."""
    net = Net(run.param, run.source, allow_python_layers=not values.no_python_layers)
    try:
        with ahead.needed() as kernels:
            net.forward_layers()
            if run.rules:
                net.backward_layers()
            if run.rules:
                groups = Arena(net.learnable, net.all_params, history_sets=0).groups
                for blob in (*(group.blob for group in groups), *(one.blob for one in net.learnable)):
                    for rule in run.rules:
                        _update(rule, blob)
        return kernels
    finally:
        net.close()


def _update(rule: type[SGDSolver], blob: Blob) -> None:
    """Calls a rule with a parameter, or a group of them, in place of its gradient and history too."""
    arrays = tuple(blob.data_in.reshape(-1) for _ in range(2 + rule.history_sets))
    rule.rule(*arrays, out=arrays, **dict.fromkeys(rule.rule.numbers, 0))
