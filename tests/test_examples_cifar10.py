"""examples/cifar10 on twenty drawn images: its prototxts as they stand, its solvers and scripts with less to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import glog
from pycaffe_lite.cli import check, synthetic_cifar10

REPOSITORY = Path(__file__).resolve().parent.parent
ORIGINALS = REPOSITORY / "examples/cifar10"
EXAMPLE = Path("examples/cifar10")
COUNT = 20  # images of each set, and of each batch where it is made smaller

NETS = {  # parameters that are learned, and all
    "cifar10_quick_train_test": (145_578, 145_578),
    "cifar10_quick": (145_578, 145_578),
    "cifar10_full_train_test": (89_578, 89_578),
    "cifar10_full": (89_578, 89_578),
    "cifar10_full_sigmoid_train_test": (89_578, 89_578),
    "cifar10_full_sigmoid_train_test_bn": (89_450, 89_709),
}
SOLVERS = {  # learning rate, iterations
    "cifar10_quick_solver": (0.001, 4000),
    "cifar10_quick_solver_lr1": (0.0001, 5000),
    "cifar10_full_solver": (0.001, 60000),
    "cifar10_full_solver_lr1": (0.0001, 65000),
    "cifar10_full_solver_lr2": (0.00001, 70000),
    "cifar10_full_sigmoid_solver": (0.001, 60000),
    "cifar10_full_sigmoid_solver_bn": (0.001, 60000),
}


def run(folder: Path, script: str, *flags: str) -> str:
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([folder / script, *flags], cwd="/", env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A copy of the example with the databases, made by its script. There batches have all images, and a test is one."""
    folder = tmp_path_factory.mktemp("clone")
    leave = shutil.ignore_patterns("*db", "*.caffemodel*", "*.solverstate*", "*.binaryproto", "*.log")
    shutil.copytree(ORIGINALS, folder / EXAMPLE, ignore=leave)
    synthetic_cifar10.write(folder / "data/cifar10", 1, COUNT, COUNT)
    run(folder, "examples/cifar10/create_cifar10.sh")
    for file in (folder / EXAMPLE).glob("*_train_test*.prototxt"):
        file.write_text(re.sub("batch_size: [0-9]+", f"batch_size: {COUNT}", file.read_text()))
    for file in (folder / EXAMPLE).glob("*_solver*.prototxt"):
        file.write_text(re.sub("test_iter: [0-9]+", "test_iter: 1", file.read_text()))
    return folder


@pytest.fixture(autouse=True)
def in_the_clone(clone, monkeypatch):
    monkeypatch.chdir(clone)
    yield
    glog.set_min_level(0)


def shorten(solver: str, iterations: int) -> None:
    """The same solver, for so many iterations."""
    path = EXAMPLE / solver
    path.write_text(re.sub("max_iter: [0-9]+", f"max_iter: {iterations}", path.read_text()))


def test_all_prototxts_are_known():
    assert {file.stem for file in ORIGINALS.glob("*.prototxt")} == {*NETS, *SOLVERS}


def test_no_complaints(capsys):
    files = sorted(map(str, ORIGINALS.glob("*.prototxt")))
    assert check.main(files) == 0
    assert capsys.readouterr().out.splitlines() == [f"{file}: no errors, no warnings" for file in files]


@pytest.mark.parametrize("name", NETS)
def test_nets(name):
    """As they stand, with batches of 100 and more."""
    net = caffe.Net(str(ORIGINALS / f"{name}.prototxt"), caffe.TRAIN)
    learned = sum(learnable.blob.count for learnable in net.learnable if learnable.lr_mult != 0)
    assert (learned, sum(blob.count for blobs in net.params.values() for blob in blobs)) == NETS[name]
    batch = {"cifar10_full_sigmoid_train_test": 111}.get(name, 100 if "train_test" in name else 1)
    assert net.blobs["data"].shape == (batch, 3, 32, 32)
    assert net.blobs["pool3"].shape == (batch, 64, 4, 4)  # poolings round up: 32, 16, 8, 4
    net.close()


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers(name):
    """On a batch that is always the same the loss falls, though by little at the smallest rate."""
    solver = caffe.get_solver(str(EXAMPLE / f"{name}.prototxt"))
    assert (solver.param.base_lr, solver.param.max_iter) == (pytest.approx(SOLVERS[name][0]), SOLVERS[name][1])
    assert Path(solver.param.snapshot_prefix).parent == EXAMPLE
    losses = []
    for _ in range(8):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    assert losses[0] == pytest.approx(np.log(10), abs=0.2)
    assert losses[-1] < losses[0] - 1e-6, losses
    solver.net.close()
    for net in solver.test_nets:
        net.close()


def test_the_trained_net_fits_the_deploy_net():
    for name in "quick", "full":
        net = caffe.Net(str(EXAMPLE / f"cifar10_{name}_train_test.prototxt"), caffe.TRAIN)
        net.save(f"{name}.caffemodel")
        deploy = caffe.Net(str(EXAMPLE / f"cifar10_{name}.prototxt"), f"{name}.caffemodel", caffe.TEST)
        out = deploy.forward(data=np.zeros((1, 3, 32, 32), np.float32))["prob"]
        assert out.shape == (1, 10)
        assert out.sum() == pytest.approx(1)
        np.testing.assert_array_equal(deploy.params["conv3"][0].data, net.params["conv3"][0].data)
        net.close()


@pytest.mark.skipif(shutil.which("sh") is None, reason="no sh")
@pytest.mark.parametrize(
    ("script", "solvers", "last"),
    [
        ("train_quick.sh", {"quick_solver": 4000, "quick_solver_lr1": 5000}, "quick_iter_3.caffemodel.h5"),
        (
            "train_full.sh",
            {"full_solver": 60000, "full_solver_lr1": 65000, "full_solver_lr2": 70000},
            "full_iter_4.caffemodel.h5",
        ),
        ("train_full_sigmoid.sh", {"full_sigmoid_solver": 60000}, "full_sigmoid_iter_2.caffemodel"),
        ("train_full_sigmoid_bn.sh", {"full_sigmoid_solver_bn": 60000}, "full_sigmoid_bn_iter_2.caffemodel"),
    ],
)
def test_scripts(clone, script, solvers, last):
    """Each solver goes on from the snapshot of the one before it: two iterations, then one more."""
    path = clone / EXAMPLE / script
    for at, (solver, iterations) in enumerate(solvers.items(), start=2):
        shorten(f"cifar10_{solver}.prototxt", at)
        path.write_text(path.read_text().replace(f"iter_{iterations}.", f"iter_{at}."))
    log = run(clone, f"examples/cifar10/{script}", "--sigint_effect=stop")
    assert (clone / EXAMPLE / f"cifar10_{last}").exists()
    assert log.count("Optimization Done") == len(solvers)
    assert "Test net output #0: accuracy = " in log
