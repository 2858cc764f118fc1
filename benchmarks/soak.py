"""Trains for hours and watches what the process holds: `python benchmarks/soak.py` (two hours; `--seconds 60` for a look).

The siamese net of the tutorial trains on pairs of noise from a database of this script's own, with a test every 50
iterations and a snapshot every 100, of which three stay, and every 1000 iterations the run is closed and resumed in the same
process. Samples of resident memory, open files and threads are taken once a second. After a first quarter to warm up,
memory may grow by 2 % from the second quarter to the last, and files and threads not at all; else the exit status is 1.
Linux only.

    --seconds 7200    how long
    --backend lmdb    or leveldb
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pycaffe_lite import glog
from pycaffe_lite.data.database_writer import create_database
from pycaffe_lite.data.datum import encode_datum
from pycaffe_lite.proto import read_solver
from pycaffe_lite.pycaffe import make_solver

SIAMESE = Path(__file__).resolve().parent.parent / "examples" / "siamese"
RECORDS = 2000
TOLERANCE = 0.02  # of memory


class Sample(NamedTuple):
    megabytes: float  # resident
    files: int
    threads: int


def sample() -> Sample:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = len(os.listdir("/proc/self/fd"))
    return Sample(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, files, threading.active_count())


def write_inputs(backend: str) -> None:
    """The databases, and the net and solver of the tutorial made to read them, in the current folder."""
    draws = np.random.default_rng(1)
    for kind in ("train", "test"):
        with create_database(kind, backend) as database:
            for i in range(RECORDS):
                image = draws.integers(0, 256, (2, 28, 28), dtype=np.uint8)
                database.put(b"%08d" % i, encode_datum(image, int(draws.integers(2))))
    net = (SIAMESE / "mnist_siamese_train_test.prototxt").read_text()
    for kind in ("train", "test"):
        net = net.replace(f"examples/siamese/mnist_siamese_{kind}_leveldb", kind)
    Path("net.prototxt").write_text(net)
    Path("solver.prototxt").write_text(
        'net: "net.prototxt" test_iter: 5 test_interval: 50 base_lr: 0.001 momentum: 0.9 lr_policy: "fixed" '
        'max_iter: 1000000000 snapshot: 100 snapshot_prefix: "soak" random_seed: 1 solver_mode: CPU'
    )


def run(seconds: float) -> list[Sample]:
    """Trains for so long, and returns a sample for each second."""
    samples: list[Sample] = []
    start = time.monotonic()
    end, state, done = start + seconds, "", 0
    while time.monotonic() < end:
        param, source = read_solver("solver.prototxt")
        solver = make_solver(param, source.where())
        solver.keep_snapshots, solver.on_nan = 3, "stop"
        if state:
            solver.restore(state)
        for _ in range(1000):
            solver.step(1)
            if time.monotonic() - start >= len(samples) + 1:
                samples.append(sample())
            if time.monotonic() >= end:
                break
        done, state = solver.iter, solver.last_snapshot
        solver.close()
    print(f"{done} iterations in {time.monotonic() - start:.0f} s")
    return samples


def judge(samples: list[Sample]) -> bool:
    """Prints the quarters, and says whether the last one holds no more than the second."""
    size = len(samples) // 4
    quarters = [samples[i * size : (i + 1) * size] for i in range(4)]
    for number, quarter in enumerate(quarters, 1):
        memory, files, threads = ([getattr(one, name) for one in quarter] for name in Sample._fields)
        print(
            f"quarter {number}: {statistics.median(memory):7.1f} MB resident (most {max(memory):.1f}), "
            f"{min(files)} to {max(files)} files, {min(threads)} to {max(threads)} threads"
        )
    memory_before, memory_after = (statistics.median(one.megabytes for one in quarters[i]) for i in (1, 3))
    most_before, most_after = (tuple(max(column) for column in list(zip(*quarters[i]))[1:]) for i in (1, 3))
    change = memory_after / memory_before - 1
    print(f"memory changed by {100 * change:+.2f} %, most files and threads {most_before} -> {most_after}")
    return change <= TOLERANCE and most_after == most_before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=7200)
    parser.add_argument("--backend", choices=["lmdb", "leveldb"], default="lmdb")
    arguments = parser.parse_args()
    glog.set_min_level(2)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            write_inputs(arguments.backend)
            is_flat = judge(run(max(arguments.seconds, 8)))
        finally:
            os.chdir(here)
    print("flat" if is_flat else "NOT flat")
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
