"""The examples run as they stand in the repository, on small data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import pycaffe_lite as caffe
from pycaffe_lite.data.mnist import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, write_idx

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture
def clone(tmp_path):
    """The repository's examples and data folders with 300 + 200 random digits as MNIST."""
    for folder in ("examples", "data"):
        leave = shutil.ignore_patterns(
            "*-ubyte*",
            "*.bin",
            "*.tar.gz",
            "*.binaryproto",
            "*_leveldb",
            "*_lmdb",
            "*.caffemodel*",
            "*.solverstate*",
            "logs",
            "*.png",
        )
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=leave)
    rng = np.random.default_rng(0)
    for images, labels, count in ((TRAIN_IMAGES, TRAIN_LABELS, 300), (TEST_IMAGES, TEST_LABELS, 200)):
        write_idx(tmp_path / "data/mnist" / images, rng.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(tmp_path / "data/mnist" / labels, rng.integers(0, 10, count, np.uint8))
    return tmp_path


def run(clone, *command):
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def shorten(solver: Path, iterations: int) -> None:
    """The same solver, for so many iterations."""
    schedule = ("max_iter", "test_iter", "test_interval")
    lines = [line for line in solver.read_text().splitlines() if not line.startswith(schedule)]
    solver.write_text("\n".join([*lines, f"max_iter: {iterations} test_iter: 2 test_interval: {iterations}"]))


def test_siamese_scripts(clone):
    """create -> train -> resume, with the paths of the tutorial."""
    run(clone, "examples/siamese/create_mnist_siamese.sh")
    shorten(clone / "examples/siamese/mnist_siamese_solver.prototxt", 4)
    log = run(clone, "examples/siamese/train_mnist_siamese.sh")
    assert "Iteration 4, Testing net (#0)" in log
    assert "Test net output #0: loss = " in log
    state = "examples/siamese/mnist_siamese_iter_4.solverstate"
    assert (clone / state).exists()
    shorten(clone / "examples/siamese/mnist_siamese_solver.prototxt", 6)
    run(clone, "examples/siamese/train_mnist_siamese.sh", f"--snapshot={state}")
    assert (clone / "examples/siamese/mnist_siamese_iter_6.caffemodel").exists()


def test_lenet_scripts(clone):
    run(clone, "examples/mnist/create_mnist.sh")
    shorten(clone / "examples/mnist/lenet_solver.prototxt", 3)
    log = run(clone, "examples/mnist/train_lenet.sh")
    assert "Test net output #0: accuracy = " in log


def test_notebook(clone, monkeypatch):
    """Every cell runs, on the weights of a net that never learned."""
    folder = clone / "examples/siamese"
    monkeypatch.chdir(folder)
    caffe.Net("mnist_siamese.prototxt", caffe.TEST).save("mnist_siamese_iter_0.caffemodel")
    notebook = nbformat.read(folder / "mnist_siamese.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    text = "".join(str(cell.get("outputs")) for cell in notebook.cells)
    assert text.count("image/png") == 3
    assert "same digit, closer than 1" in text


OLD_BRANCH = """
layers {{ name: "conv1{p}" type: CONVOLUTION bottom: "data{p}" top: "conv1{p}" blobs_lr: 1 blobs_lr: 2
  param: "conv1_w" param: "conv1_b"
  convolution_param {{ num_output: 20 kernel_size: 5 weight_filler {{ type: "xavier" }} }} }}
layers {{ name: "pool1{p}" type: POOLING bottom: "conv1{p}" top: "pool1{p}"
  pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }} }}
layers {{ name: "ip1{p}" type: INNER_PRODUCT bottom: "pool1{p}" top: "ip1{p}" blobs_lr: 1 blobs_lr: 2
  param: "ip1_w" param: "ip1_b" inner_product_param {{ num_output: 2 weight_filler {{ type: "xavier" }} }} }}
"""


def test_older_spelling(clone, monkeypatch):
    """The tutorial as it was first published: V1 layers, transformation in data_param, slice_dim, no backend."""
    run(clone, "examples/siamese/create_mnist_siamese.sh")
    monkeypatch.chdir(clone)
    Path("old.prototxt").write_text(
        """layers { name: "pair_data" type: DATA top: "pair_data" top: "sim"
        data_param { source: "examples/siamese/mnist_siamese_train_leveldb" scale: 0.00390625 batch_size: 64 } }
        layers { name: "slice_pair" type: SLICE bottom: "pair_data" top: "data" top: "data_p"
          slice_param { slice_dim: 1 slice_point: 1 } }"""
        + OLD_BRANCH.format(p="")
        + OLD_BRANCH.format(p="_p")
        + """layers { name: "loss" type: CONTRASTIVE_LOSS bottom: "ip1" bottom: "ip1_p" bottom: "sim" top: "loss"
          contrastive_loss_param { margin: 1 } }"""
    )
    net = caffe.Net("old.prototxt", caffe.TRAIN)
    loss = net.forward()["loss"]
    assert 0 < loss < 1
    assert net.blobs["pair_data"].data.max() < 1  # scaled
    assert np.shares_memory(net.params["conv1"][0].data, net.params["conv1_p"][0].data)
    assert [learnable.lr_mult for learnable in net.learnable] == [1, 2, 1, 2]
    net.close()
