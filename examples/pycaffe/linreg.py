"""Trains linreg.prototxt, whose loss is a layer in Python.

pycaffe_lite run examples/pycaffe/linreg.py [ITERATIONS]
"""

import os
import sys
import tempfile

import caffe

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "layers"))  # where pyloss is


def main(iterations=100):
    """The loss before and after training."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "solver.prototxt")
        with open(path, "w") as file:
            file.write(f'train_net: "{HERE}/linreg.prototxt"\n')
            file.write('base_lr: 0.05 lr_policy: "fixed" momentum: 0.9 random_seed: 1 snapshot_after_train: false\n')
        solver = caffe.get_solver(path)
    losses = []
    for _ in range(iterations):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data[0]))
    print(f"loss of the first iteration {losses[0]:.4f}, of the last {losses[-1]:.4f}")
    return losses[0], losses[-1]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
