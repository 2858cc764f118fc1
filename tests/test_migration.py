"""The migration guide: its commands and its Python run, and its Transformer computes what OpenCV's blobFromImage does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import pycaffe_lite as caffe
from pycaffe_lite import cli, glog

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs/migration.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
MEAN, SCALE = np.array([103.94, 116.78, 123.68]), 0.017

LAYERS = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 5 stride: 3 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: AVE global_pooling: true } }
layer { name: "ip" type: "InnerProduct" bottom: "pool1" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
"""
DEPLOY = (
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 24 dim: 20 } } }'
    + LAYERS
    + 'layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }'
)
NET = (
    'layer { name: "d" type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "list.txt" batch_size: 2 } }'
    + LAYERS
    + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }'
)
SOLVER = 'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 4 snapshot_prefix: "lenet"'
SCRIPT = """
import sys
import caffe
net = caffe.Net("deploy.prototxt", sys.argv[1], caffe.TEST)
print(net.forward()["prob"].shape)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    with h5py.File("data.h5", "w") as file:
        file["data"], file["label"] = rng.normal(size=(4, 3, 24, 20)), np.arange(4) % 3
    files = {"list.txt": "data.h5\n", "deploy.prototxt": DEPLOY, "net.prototxt": NET, "solver.prototxt": SOLVER}
    for name, text in {**files, "old_script.py": SCRIPT}.items():
        Path(name).write_text(text)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 5, 3)).astype(np.uint8))
    coarse.resize((50, 72), Image.Resampling.BICUBIC).save("cat.png")
    yield
    glog.set_min_level(0)


def run_blocks(code: list[str]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in code:
        exec(compile(block, "migration.md", "exec"), names)
    return names


@pytest.fixture
def guide() -> dict[str, Any]:
    """The names that the guide's Python leaves behind."""
    net = caffe.Net("deploy.prototxt", caffe.TEST)
    for name in ("net.caffemodel", "lenet_iter_4.caffemodel"):
        net.save(name)
    return run_blocks(BLOCKS)


def test_the_commands_run(capsys):
    commands = re.findall(r"^    pycaffe_lite (.+)$", GUIDE, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["check", "train", "test", "run"]
    for command in commands:
        assert cli.main(command.split()) == 0, command
    assert capsys.readouterr().out.splitlines()[-1] == "(1, 3)"


def test_the_python_runs(guide, capsys):
    assert guide["prob"].shape == (1, 3)
    assert guide["conv1"].shape == (1, 4, 106, 106)
    assert guide["names"] == ["data", "conv1", "relu1", "pool1", "ip", "prob"]
    assert guide["outputs"] == ["prob"]
    assert guide["weights"].shape == (4, 3, 5, 5)


def test_commands_of_the_table_exist():
    rows = re.findall(r"^\| `(?:build|python|tools|scripts|data)/.* \| (.*) \|$", GUIDE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(?:pycaffe_lite )?(\w+)[^`]*`", row)}
    assert len(named) > 10
    assert named <= set(cli.command_names())


def test_files_that_are_linked_exist():
    targets = re.findall(r"\]\((?!http|#)([^)#]+)\)", GUIDE)
    assert targets
    for target in targets:
        assert (ROOT / "docs" / target).exists(), target


@pytest.mark.parametrize("swap", [False, True], ids=["BGR", "swapRB"])
def test_the_transformer_computes_what_blob_from_image_does(swap, guide):
    """By OpenCV's formula: (image - mean) * scalefactor, the mean in the order of the blob's channels."""
    Image.open("cat.png").resize((20, 24)).save("small.png")
    transformer = guide["transformer"]
    if swap:
        del transformer.channel_swap["data"]
    pixels = np.asarray(Image.open("small.png"), float)[:, :, :: 1 if swap else -1]
    expected = ((pixels - MEAN) * SCALE).transpose(2, 0, 1)
    found = transformer.preprocess("data", caffe.io.load_image("small.png"))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(20, 24), (50, 72), (25, 36), (64, 31), (100, 100)], ids=str)
@pytest.mark.parametrize("crop", [False, True], ids=["whole", "crop"])
@pytest.mark.parametrize("swap", [False, True], ids=["BGR", "swapRB"])
def test_the_guide_against_opencv(size, crop, swap, guide):
    cv2 = pytest.importorskip("cv2")
    expected = cv2.dnn.blobFromImage(cv2.imread("cat.png"), SCALE, size, MEAN, swap, crop)
    net, transformer = guide["net"], guide["transformer"]
    net.blobs["data"].reshape(1, 3, size[1], size[0])
    transformer.inputs = {"data": net.blobs["data"].data.shape}
    if swap:
        del transformer.channel_swap["data"]
    found = transformer.preprocess("data", guide["opencv_image"]("cat.png", *size, crop))
    np.testing.assert_allclose(found[np.newaxis], expected, atol=1.01 * SCALE)


def test_the_importer_of_opencv_computes_the_same(guide):
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("this is OpenCV 5")
    blob = cv2.dnn.blobFromImage(cv2.imread("cat.png"), SCALE, (20, 24), MEAN)
    there = cv2.dnn.readNetFromCaffe("deploy.prototxt", "net.caffemodel")
    there.setInput(blob)
    here = caffe.Net("deploy.prototxt", "net.caffemodel", caffe.TEST)
    np.testing.assert_allclose(here.forward(data=blob)["prob"], there.forward(), rtol=1e-4)
    here.forward(end="conv1")
    np.testing.assert_allclose(here.blobs["conv1"].data, there.forward("conv1"), rtol=1e-3, atol=1e-5)
