"""Two classifiers on data out of HDF5: a linear one, and one with a hidden layer, on classes that no line divides.

    python examples/hdf5_classification/demo.py [--iterations N]

Draws the data, writes them to examples/hdf5_classification/data, trains both nets, and prints their test accuracies.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import h5py
import numpy as np

import pycaffe_lite as caffe

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = Path("examples/hdf5_classification")  # paths in prototxts begin at the root of the repository
DATA = EXAMPLE / "data"
TRAIN, TEST = 7500, 2500  # rows
CORNERS = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]])  # the first two are class 0, the others class 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--iterations", type=int, help="for each net (default: as its solver says)")
    iterations = parser.parse_args().iterations
    os.chdir(ROOT)
    write_data()
    for solver in ("solver.prototxt", "nonlinear_solver.prototxt"):
        print(f"{solver}: {train(solver, iterations):.1%} of the test set are right")


def make_classes(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows, count x 4 of float32, and their labels, 0 or 1, count of float32.

    The first two columns are a point near one of the four corners of a square; points near opposite corners are of one
    class. One corner is further out, so that a line does better than chance. The other two columns say nothing.
    """
    corner = rng.integers(0, 4, count)
    centre = CORNERS * np.where(np.arange(4) == 0, 2.5, 1.0)[:, None]
    points = centre[corner] + rng.normal(0, 0.5, (count, 2))
    rows = np.hstack([points, rng.normal(0, 1, (count, 2))])
    return rows.astype(np.float32), (corner >= 2).astype(np.float32)


def write_data() -> None:
    """Two files of training data and one for testing, each with the lists that name them."""
    DATA.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for split, files, count in (("train", 2, TRAIN), ("test", 1, TEST)):
        paths = [DATA / f"{split}_{i}.h5" for i in range(files)]
        for path in paths:
            rows, labels = make_classes(count // files, rng)
            with h5py.File(path, "w") as file:  # a data set for each top of the HDF5Data layer, of the same name
                file.create_dataset("data", data=rows, compression="gzip")
                file.create_dataset("label", data=labels)
        (DATA / f"{split}.txt").write_text("".join(f"{path.as_posix()}\n" for path in paths))


def train(file: str, iterations: int | None = None) -> float:
    """Trains, by default for as long as the solver says, and gives the accuracy on the test set."""
    solver = caffe.get_solver(str(EXAMPLE / file))
    solver.step(iterations or solver.param.max_iter)
    net = solver.test_nets[0]
    net.share_with(solver.net)
    return float(np.mean([float(net.forward()["accuracy"]) for _ in range(solver.param.test_iter[0])]))


if __name__ == "__main__":
    main()
