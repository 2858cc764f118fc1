"""Draws shapes, and trains a net to say which labels each has: red, green or blue, and round or square.

    pycaffe_lite run examples/pycaffe/multilabel.py [ITERATIONS]

The images reach the net by a data layer in Python (layers/shapes_datalayer.py); the net is written with NetSpec, its solver
with tools.CaffeSolver.
"""

import json
import os
import sys
import tempfile

import caffe
import numpy as np
from caffe import layers as L
from caffe import params as P
from PIL import Image, ImageDraw

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [HERE, os.path.join(HERE, "layers")]
from tools import CaffeSolver  # noqa: E402 - it lies in a folder that the line above names

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (50, 50, 230)}
LABELS = [*COLOURS, "round", "square"]
SIZE = 32


def draw(folder, count, rng):
    """Images of one shape each, and labels.txt."""
    lines = []
    for i in range(count):
        colour, shape = rng.choice(list(COLOURS)), rng.choice(["round", "square"])
        image = Image.new("RGB", (SIZE, SIZE), tuple(rng.integers(100, 156, 3).tolist()))
        x, y, size = rng.integers(2, 10), rng.integers(2, 10), rng.integers(14, 20)
        pen = ImageDraw.Draw(image)
        (pen.ellipse if shape == "round" else pen.rectangle)([x, y, x + size, y + size], fill=COLOURS[colour])
        image.save(os.path.join(folder, f"{i}.png"))
        lines.append(f"{i}.png {colour} {shape}\n")
    with open(os.path.join(folder, "labels.txt"), "w") as file:
        file.writelines(lines)


def net(folder, batch_size):
    """Two convolutions and a score for each label; a label is there where its score is above 0."""
    settings = {"folder": folder, "batch_size": batch_size, "size": [SIZE, SIZE], "labels": LABELS}
    n = caffe.NetSpec()
    n.data, n.label = L.Python(ntop=2, module="shapes_datalayer", layer="ShapesDataLayer", param_str=json.dumps(settings))
    top = L.Power(n.data, scale=1 / 128)
    for outputs in (8, 16):
        top = L.Convolution(top, num_output=outputs, kernel_size=5, weight_filler={"type": "xavier"})
        top = L.Pooling(L.ReLU(top, in_place=True), pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.score = L.InnerProduct(top, num_output=len(LABELS), weight_filler={"type": "xavier"})
    n.loss = L.SigmoidCrossEntropyLoss(n.score, n.label)
    return n.to_proto()


def hits(net, batches):
    """The share of labels that are right."""
    right = []
    for _ in range(batches):
        net.forward()
        right.append(np.mean((net.blobs["score"].data > 0) == (net.blobs["label"].data > 0)))
    return float(np.mean(right))


def main(iterations=200):
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for split, count in (("train", 300), ("test", 100)):
            os.mkdir(os.path.join(folder, split))
            draw(os.path.join(folder, split), count, rng)
            with open(os.path.join(folder, f"{split}.prototxt"), "w") as file:
                file.write(str(net(os.path.join(folder, split), batch_size=20)))
        settings = CaffeSolver(os.path.join(folder, "train.prototxt"), os.path.join(folder, "test.prototxt"))
        settings.sp.update(base_lr=0.01, random_seed=1, snapshot=0, test_interval=iterations + 1, test_iter=[5])
        settings.sp["snapshot_prefix"] = os.path.join(folder, "multilabel")
        settings.write(os.path.join(folder, "solver.prototxt"))
        solver = caffe.get_solver(os.path.join(folder, "solver.prototxt"))
        test = solver.test_nets[0]
        test.share_with(solver.net)
        before = hits(test, 5)
        solver.step(iterations)
        after = hits(test, 5)
    print(f"labels that are right: {before:.1%} before, {after:.1%} after {iterations} iterations")
    return before, after


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
