"""What reading costs: training the siamese MNIST net from its database, against the same net fed by a constant.

`python benchmarks/reading.py` writes the pairs of the tutorial to databases in a temporary folder: LevelDB as we write it,
LevelDB compressed as real Caffe does, and LMDB. Four solvers then train turn about in one process: the net of
examples/siamese with its Data layer on each of them, and with an Input layer that holds one batch of 64 pairs.

A turn is some iterations without a break, of which the first are not timed: what was read ahead while the others had their
turn would hide the cost. Four iterations are timed together, because reading ahead comes in bursts. On a machine that is
not quite idle, the fastest fifth tells more than the median.

    --mnist FOLDER    the idx files of MNIST, plain or gzipped; without it digits are drawn
    --seconds 40      how long to measure
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np
import plyvel

from pycaffe_lite import cli, glog
from pycaffe_lite.data.database import open_database
from pycaffe_lite.device import num_threads
from pycaffe_lite.proto import read_net, read_solver
from pycaffe_lite.proto.caffe_pb2 import TRAIN, LayerParameter, NetParameter
from pycaffe_lite.pycaffe import make_solver

SIAMESE = Path(__file__).resolve().parent.parent / "examples" / "siamese"
CONSTANT, BACKENDS = "constant input", ("leveldb", "lmdb")
DATABASES = {"LevelDB": "leveldb", "LevelDB of Caffe": "compressed", "LMDB": "lmdb"}
PAIRS, SHAPE = 64, (64, 2, 28, 28)
WARM_UP, TOGETHER, TIMED = 6, 4, 6  # iterations before, and of TIMED pieces of a turn


def write_databases(mnist: str | None) -> None:
    """`leveldb` and `lmdb` in the current folder, and `compressed`, a LevelDB as real Caffe writes it. 60000 pairs each."""
    if mnist is None:
        cli.main(["synthetic_digits", "--to=mnist"])
    for backend in BACKENDS:
        files = []
        for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
            plain = Path(mnist or "mnist", name)
            files.append(str(plain if plain.exists() else plain.with_name(f"{name}.gz")))
        if cli.main(["convert_mnist_siamese_data", *files, backend, f"--backend={backend}"]):
            raise SystemExit("the databases could not be written")
    with open_database("leveldb") as source, closing(plyvel.DB("compressed", create_if_missing=True)) as target:
        for key, value in source.cursor().take(source.count()):
            target.put(key, value)


def make(backend: str | None):
    """The solver of the tutorial on a database, or on a constant batch."""
    param, _ = read_solver(SIAMESE / "mnist_siamese_solver.prototxt")
    net, _ = read_net(SIAMESE / "mnist_siamese_train_test.prototxt")
    (data,) = [layer for layer in net.layer if layer.type == "Data" and layer.include[0].phase == TRAIN]
    if backend:
        data.data_param.source = backend
    else:
        data = LayerParameter(name=data.name, type="Input", top=data.top)
        for shape in (SHAPE, SHAPE[:1]):
            data.input_param.shape.add(dim=shape)
    net = NetParameter(name=net.name, layer=[data, *(layer for layer in net.layer if layer.type != "Data")])
    for field in ("net", "test_iter", "test_interval", "display", "snapshot"):
        param.ClearField(field)
    param.net_param.CopyFrom(net)
    param.net_param.state.phase = TRAIN
    return make_solver(param)


def raw_rate(solver, seconds: float) -> float:
    """Batches a second that the reader of a solver's Data layer makes, with nothing else to do."""
    read, count, begin = solver.net.layers[0]._reader.read, 0, time.perf_counter()
    while time.perf_counter() < begin + seconds:
        read()
        count += 1
    return count / (time.perf_counter() - begin)


def take_turns(solvers: dict, seconds: float) -> dict[str, list[float]]:
    """Times of an iteration in ms, each the mean of `TOGETHER`."""
    times: dict[str, list[float]] = defaultdict(list)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, solver in solvers.items():
            solver.step(WARM_UP)
            for _ in range(TIMED):
                begin = time.perf_counter()
                solver.step(TOGETHER)
                times[name].append(1000 * (time.perf_counter() - begin) / TOGETHER)
    return times


def measure(seconds: float) -> None:
    rates = {}
    for name, backend in DATABASES.items():
        solver = make(backend)
        rates[name] = raw_rate(solver, 1)
        solver.close()
    solvers = {CONSTANT: make(None), **{name: make(backend) for name, backend in DATABASES.items()}}
    random = np.random.default_rng(1)
    images, similar = solvers[CONSTANT].net.blobs["pair_data"], solvers[CONSTANT].net.blobs["sim"]
    images.data[...] = random.random(SHAPE, np.float32)
    similar.data[...] = random.random(PAIRS) < 0.1
    for solver in solvers.values():
        solver.step(2)  # compiles kernels
    times = take_turns(solvers, seconds)
    count = TOGETHER * len(times[CONSTANT])
    print(f"{count} iterations each of {PAIRS} pairs on {num_threads()} threads, in ms, and how much slower")
    print(f"{'':16}  fastest fifth            median            reading alone")
    for name, values in times.items():
        line = f"{name:16}"
        for part in (0.2, 0.5):
            own, constant = np.quantile(values, part), np.quantile(times[CONSTANT], part)
            line += f"  {own:6.2f} {100 * (own / constant - 1):+6.1f} %    "
        print(line + (f"{rates[name]:8.0f} batches/s" if name in rates else ""))
    for solver in solvers.values():
        solver.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=os.path.abspath, metavar="FOLDER")
    parser.add_argument("--seconds", type=float, default=40)
    args = parser.parse_args()
    glog.set_min_level(1)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            write_databases(args.mnist)
            measure(args.seconds)
        finally:
            os.chdir(here)


if __name__ == "__main__":
    main()
