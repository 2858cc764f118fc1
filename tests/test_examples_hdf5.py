"""examples/hdf5_classification: its prototxts, its data, and what the demo learns from them."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import glog
from pycaffe_lite.cli import check

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLE = Path("examples/hdf5_classification")
ORIGINALS = REPOSITORY / EXAMPLE
NETS = {"train_val": 10, "nonlinear_train_val": 282, "nonlinear_auto_train": 282, "nonlinear_auto_test": 282}
SOLVERS = {"solver": 10, "nonlinear_solver": 282}  # parameters


def load_demo(folder: Path):
    spec = importlib.util.spec_from_file_location("hdf5_demo", folder / EXAMPLE / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    return demo


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """The demo in a copy of the example, whose data it has written."""
    shutil.copytree(ORIGINALS, tmp_path / EXAMPLE, ignore=shutil.ignore_patterns("data", "__pycache__"))
    monkeypatch.chdir(tmp_path)
    demo = load_demo(tmp_path)
    assert tmp_path == demo.ROOT
    demo.write_data()
    yield demo
    glog.set_min_level(0)


def test_all_prototxts_are_known():
    assert {file.stem for file in ORIGINALS.glob("*.prototxt")} == {*NETS, *SOLVERS}


def test_no_complaints(demo, capsys):
    files = sorted(map(str, EXAMPLE.glob("*.prototxt")))
    assert check.main(files) == 0
    assert capsys.readouterr().out.splitlines() == [f"{file}: no errors, no warnings" for file in files]


@pytest.mark.parametrize("name", NETS)
def test_nets(demo, name):
    for phase in caffe.TRAIN, caffe.TEST:
        net = caffe.Net(str(EXAMPLE / f"{name}.prototxt"), phase)
        assert sum(blob.count for blobs in net.params.values() for blob in blobs) == NETS[name]
        assert net.blobs["data"].shape == (10, 4)
        net.close()


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers(demo, name):
    solver = caffe.get_solver(str(EXAMPLE / f"{name}.prototxt"))
    assert sum(learnable.blob.count for learnable in solver.net.learnable) == SOLVERS[name]
    losses = []
    for _ in range(200):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    assert np.mean(losses[-50:]) < 0.9 * np.mean(losses[:10])
    for net in (solver.net, *solver.test_nets):
        net.close()


def test_data(demo):
    lists = {split: (demo.DATA / f"{split}.txt").read_text().split() for split in ("train", "test")}
    assert len(lists["train"]) == 2
    counts = dict.fromkeys(lists, 0)
    for split, paths in lists.items():
        for path in paths:
            with h5py.File(path) as file:
                assert file["data"].shape == (len(file["label"]), 4)
                assert set(file["label"][:]) == {0, 1}
                counts[split] += len(file["label"])
    assert counts == {"train": demo.TRAIN, "test": demo.TEST}


def test_no_line_divides_the_classes(demo):
    """The best line, by least squares, is better than chance and worse than the two lines that made the classes."""
    rows, labels = demo.make_classes(4000, np.random.default_rng(1))
    with_one = np.hstack([rows, np.ones((len(rows), 1))])
    weights = np.linalg.lstsq(with_one, 2 * labels - 1, rcond=None)[0]
    assert 0.6 < ((with_one @ weights > 0) == labels).mean() < 0.8
    assert ((rows[:, 0] * rows[:, 1] < 0) == labels).mean() > 0.93


def test_demo(demo):
    """As a person runs it, from another folder, with fewer iterations: the hidden layer is what helps."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE.resolve() / "demo.py"), "--iterations=1000"],
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "GLOG_minloglevel": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    right = [
        float(percent) for percent in re.findall(r"solver\.prototxt: ([0-9.]+)% of the test set are right", done.stdout)
    ]
    assert len(right) == 2
    assert 60 < right[0] < 80
    assert 90 < right[1] < 99.9
