"""Sizes for which there is no memory: an error that says which layer asked for how much, from every place that allocates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import pycaffe_lite as caffe
from pycaffe_lite import cli
from pycaffe_lite.blob import Blob
from pycaffe_lite.data import images
from pycaffe_lite.device import aligned_zeros, host_memory
from pycaffe_lite.errors import CaffeError, NetError

DUMMY = 'layer { name: "i" type: "DummyData" top: "i" dummy_data_param { shape { dim: 1 dim: 20000 } } }\n'
LOSS = 'layer { name: "l" type: "Reduction" bottom: "ip" top: "l" loss_weight: 1 }\n'


def inner_product(outputs: int, filler: str = "constant") -> str:
    param = f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "{filler}" }} }}'
    return DUMMY + f'layer {{ name: "ip" type: "InnerProduct" bottom: "i" top: "ip" {param} }}\n' + LOSS


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small_machine(monkeypatch):
    """Of 1 MB, of which half is used."""
    monkeypatch.setattr(host_memory, "LARGE", 0)
    monkeypatch.setattr(host_memory, "_total", lambda: 10**6)
    monkeypatch.setattr(host_memory, "_available", lambda: 5 * 10**5)


# ---- what there is -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's files")
def test_what_is_known_of_the_memory(monkeypatch, tmp_path):
    assert host_memory.LARGE < host_memory._available() < 2**63 - 1
    assert host_memory.LARGE < host_memory._total() < 2**63 - 1
    (tmp_path / "limit").write_text("12345\n")
    monkeypatch.setattr(host_memory, "_CONTAINER", str(tmp_path / "limit"))
    assert host_memory._total() == 12345
    (tmp_path / "limit").write_text("max\n")
    monkeypatch.setattr(host_memory, "_SYSTEM", str(tmp_path / "none"))
    assert host_memory._available() > host_memory._total() > 12345
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:    20 kB\nSwapFree:   3 kB\n")
    monkeypatch.setattr(host_memory, "_SYSTEM", str(tmp_path / "meminfo"))
    assert host_memory._available() == 23 * 1024


def test_a_blob_beyond_the_machine(small_machine):
    Blob(249_999)
    with pytest.raises(NetError, match=r"^not enough memory for a blob of 2 x 125001 \(0\.0 GiB\)$"):
        Blob(2, 125_001)
    blob = Blob(3)
    with pytest.raises(NetError, match="not enough memory"):
        blob.reshape(250_001)
    assert blob.shape == (3,)


def test_memory_that_others_use(small_machine):
    blob = Blob(200_000)  # is not allocated yet
    for act in (lambda: blob.data, lambda: blob.diff, lambda: aligned_zeros(800_000, np.uint8)):
        with pytest.raises(NetError, match=r"^not enough memory for 800000 bytes \(0\.0 GiB\)$"):
            act()
    aligned_zeros(400_000, np.uint8)


def test_what_the_system_refuses(monkeypatch):
    monkeypatch.setattr(host_memory, "LARGE", 2**62)
    with pytest.raises(NetError, match=r"^not enough memory for 1152921504606846976 bytes \(1073741824\.0 GiB\)$"):
        aligned_zeros(2**60, np.uint8)


# ---- who asked -----------------------------------------------------------------------------------------------------

NETS = {
    "a blob": ('layer { name: "i" type: "Input" top: "i" input_param { shape { dim: 300000 } } }', "a blob of 300000 "),
    "MemoryData": (
        'layer { name: "i" type: "MemoryData" top: "i" top: "j" '
        "memory_data_param { batch_size: 300000 channels: 1 height: 1 width: 1 } }",
        "a blob of 300000 x 1 x 1 x 1 ",
    ),
    "weights": (inner_product(20), "a blob of 20 x 20000 "),
    "a filler": (inner_product(5, "gaussian"), "the values of the gaussian filler, 5 x 20000 in float64 "),
    "constants": (inner_product(10), "800000 bytes "),
    "columns": (
        'layer { name: "i" type: "DummyData" top: "i" dummy_data_param { shape { dim: 1 dim: 3 dim: 100 dim: 100 } } }\n'
        'layer { name: "c" type: "Im2col" bottom: "i" top: "c" convolution_param { kernel_size: 4 } }',
        "a blob of 1 x 48 x 97 x 97 ",
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_the_layer_is_named(name, small_machine):
    text, purpose = NETS[name]
    Path("net.prototxt").write_text(text)
    line, layer = (1, '"i"') if "\n" not in text else (2, '"c"' if name == "columns" else '"ip"')
    with pytest.raises(NetError, match=rf"^net\.prototxt:{line}: layer {layer} \(\w+\): not enough memory for {purpose}\("):
        caffe.Net("net.prototxt", caffe.TRAIN).forward()


def test_the_blob_of_an_input_is_named(small_machine):
    net = caffe.Net('layer { name: "in" type: "Input" top: "i" input_param { shape { dim: 200000 } } }', caffe.TEST)
    with pytest.raises(NetError, match=r'^blob "i": not enough memory for 800000 bytes'):
        net.forward()


def test_the_solver_and_its_largest_layer_are_named(small_machine):
    Path("net.prototxt").write_text(inner_product(5))
    Path("s.prototxt").write_text('net: "net.prototxt" base_lr: 1 lr_policy: "fixed" type: "Adam" snapshot_prefix: "s"')
    largest = r'the largest 5 x 20000 \(100000\) of net\.prototxt:2: layer "ip" \(InnerProduct\)'
    with pytest.raises(CaffeError, match=rf"^s\.prototxt: not enough memory for parameters, .*, {largest} \(0\.0 GiB\)$"):
        caffe.get_solver("s.prototxt")


def test_history_that_is_allocated_with_the_first_update(small_machine, monkeypatch):
    Path("net.prototxt").write_text(inner_product(5))
    Path("s.prototxt").write_text('net: "net.prototxt" base_lr: 1 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "s"')
    monkeypatch.setattr(host_memory, "_total", lambda: 10**7)
    solver = caffe.get_solver("s.prototxt")
    solver.net.forward()
    solver.net.backward()
    monkeypatch.setattr(host_memory, "_available", lambda: 10**5)
    with pytest.raises(NetError, match=r"^s\.prototxt: not enough memory for 4\d\d\d\d\d bytes"):
        solver.apply_update()


def test_the_image_is_named(monkeypatch, capsys):
    Image.new("RGB", (4, 4)).save("a.png")
    Path("list.txt").write_text("a.png 0\n")

    def resize(*args):
        raise MemoryError("Unable to allocate 6.7 GiB")

    monkeypatch.setattr(images, "resize", resize)
    assert cli.main(["convert_imageset", "--resize_height=2", "--resize_width=2", "./", "list.txt", "db"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == 'error: list.txt:1: image "./a.png": there is not enough memory (Unable to allocate 6.7 GiB)'


# ---- a process that may have 6 GB ----------------------------------------------------------------------------------

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
from pycaffe_lite import cli
sys.exit(cli.main(sys.argv[1:]))
"""
HUGE = {
    "Input": 'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2147483647 dim: 1 } } }',
    "DummyData": 'layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 1500000000 } } }',
    "HDF5Data": 'layer { name: "d" type: "HDF5Data" top: "x" hdf5_data_param { source: "h5.txt" batch_size: 536870911 } }',
    "ImageData": 'layer { name: "d" type: "ImageData" top: "x" top: "y" image_data_param { source: "list.txt" '
    "new_height: 25000 new_width: 28000 } }",
    "WindowData": 'layer { name: "d" type: "WindowData" top: "x" top: "y" transform_param { crop_size: 26000 } '
    'window_data_param { source: "windows.txt" batch_size: 1 fg_fraction: 1 } }',
}


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.parametrize("name", HUGE)
def test_commands_end_in_one_line(name):
    Image.new("RGB", (4, 4)).save("a.png")
    Path("list.txt").write_text("a.png 0\n")
    Path("windows.txt").write_text("# 0\na.png\n3\n4\n4\n1\n1 1 0 0 3 3\n")
    with h5py.File("a.h5", "w") as file:
        file["x"] = np.zeros((2, 4), np.float32)
    Path("h5.txt").write_text("a.h5\n")
    Path("net.prototxt").write_text(HUGE[name])
    Path("s.prototxt").write_text('net: "net.prototxt" base_lr: 1 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "s"')
    command = [sys.executable, "-c", LIMITED, "train", "--solver=s.prototxt", "-minloglevel=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'error: net.prototxt:1: layer "d" ({name}): ')
    assert "not enough memory" in line
    assert "GiB" in line
