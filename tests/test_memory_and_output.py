"""MemoryData, which hands out arrays of the caller, and HDF5Output, which writes them to a file."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import glog
from pycaffe_lite.errors import CaffeError, NetError

MEMORY = """layer {{ name: "in" type: "MemoryData" top: "data" top: "label" {more}
  memory_data_param {{ {settings} }} }}
layer {{ name: "use" type: "Power" bottom: "data" top: "data" power_param {{ scale: -1 }} }}
"""
SIZES = "batch_size: 2 channels: 3 height: 4 width: 5"


@pytest.fixture
def build(tmp_path):
    def build(text: str) -> caffe.Net:
        (tmp_path / "net.prototxt").write_text(text)
        return caffe.Net(tmp_path / "net.prototxt", caffe.TEST)

    return build


def memory(settings: str = SIZES, more: str = "") -> str:
    return MEMORY.format(settings=settings, more=more)


def arrays(items: int) -> tuple[np.ndarray, np.ndarray]:
    data = np.random.default_rng(items).normal(size=(items, 3, 4, 5)).astype(np.float32)
    return data, np.arange(items, dtype=np.float32)


# ---- MemoryData ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [2, 6])
def test_batches_wrap_around(build, items):
    net = build(memory())
    assert [net.blobs[name].shape for name in ("data", "label")] == [(2, 3, 4, 5), (2,)]
    data, labels = arrays(items)
    net.set_input_arrays(data, labels)
    for k in range(5):
        net.forward()
        at = [(2 * k + i) % items for i in range(2)]
        np.testing.assert_array_equal(net.blobs["data"].data, -data[at])
        np.testing.assert_array_equal(net.blobs["label"].data, labels[at].reshape(2, 1, 1, 1))
    np.testing.assert_array_equal(data, arrays(items)[0])  # the layer above, in place, did not touch them


def test_new_arrays_begin_anew_and_later_changes_are_seen(build):
    net = build(memory())
    net.set_input_arrays(*arrays(6))
    net.forward()
    data, labels = arrays(4)
    net.set_input_arrays(data, labels.reshape(4, 1, 1, 1))
    data[0] = 7
    labels[1] = 9
    assert np.all(net.forward()["data"][0] == -7)
    assert net.blobs["label"].data.ravel().tolist() == [0, 9]


def test_transform_param_has_no_effect_and_a_warning_says_so(build, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(glog, "warning", lines.append)
    net = build(memory(more="transform_param { scale: 2 }"))
    data, labels = arrays(2)
    net.set_input_arrays(data, labels)
    np.testing.assert_array_equal(net.forward()["data"], -data)
    assert len(lines) == 1
    assert "transform_param" in lines[0]


def bad(data=None, labels=None):
    good = arrays(4)
    return good[0] if data is None else data, good[1] if labels is None else labels


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (arrays(3), "a multiple of the batch size, 2 items, received 3"),
        (arrays(0), "a multiple of the batch size, 2 items, received 0"),
        (bad(np.zeros((4, 2, 4, 5), np.float32)), r"data of shape 4 x 3 x 4 x 5 \(240\), received 4 x 2 x 4 x 5"),
        (bad(np.zeros((4, 60), np.float32)), "received 4 x 60"),
        (bad(np.float32(1)), "expected data in an array, received float32"),
        (bad(None, [0, 1, 2, 3]), "expected labels in an array, received list"),
        (bad(arrays(4)[0].astype(float)), "data of float32, received float64"),
        (bad(None, np.arange(4)), "labels of float32, received int64"),
        (bad(None, np.zeros(2, np.float32)), r"labels of shape 4 \(4\), received 2"),
        (bad(None, np.zeros((4, 1), np.float32)), r"labels of shape 4 x 1 x 1 x 1 \(4\), received 4 x 1 \(4\)"),
        (bad(arrays(8)[0][::2]), "expected contiguous data"),
        (bad(None, arrays(8)[1][::2]), "expected contiguous labels"),
    ],
)
def test_arrays_that_do_not_fit(build, given, message):
    with pytest.raises(NetError, match=f'net.prototxt:1: layer "in" .*{message}'):
        build(memory()).set_input_arrays(*given)


def test_forward_before_any_array(build):
    with pytest.raises(NetError, match=r'layer "in" .*give them with Net.set_input_arrays'):
        build(memory()).forward()


def test_a_net_without_memory_data_in_front(build):
    net = build('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }')
    with pytest.raises(NetError, match="first layer is a MemoryData, received Input"):
        net.set_input_arrays(*arrays(2))


@pytest.mark.parametrize("name", ["batch_size", "channels", "height", "width"])
def test_sizes_are_needed(build, name):
    with pytest.raises(NetError, match="batch_size, channels, height and width above 0, received"):
        build(memory(re.sub(rf"{name}: \d", "", SIZES)))


# ---- HDF5Output ---------------------------------------------------------------------------------------------------

OUTPUT = """
layer {{ name: "a" type: "Input" top: "a" input_param {{ shape {{ {a} }} }} }}
layer {{ name: "b" type: "Input" top: "b" input_param {{ shape {{ {b} }} }} }}
layer {{ name: "out" type: "HDF5Output" bottom: "a" bottom: "b" hdf5_output_param {{ file_name: "{path}" }} }}
"""


def output(path: Path | str, a: tuple[int, ...] = (3, 2), b: tuple[int, ...] = (3,)) -> str:
    dims = [" ".join(f"dim: {dim}" for dim in shape) for shape in (a, b)]
    return OUTPUT.format(a=dims[0], b=dims[1], path=path)


@pytest.mark.parametrize(("a", "b"), [((3, 2), (3,)), ((2, 3, 4, 5), (2, 1, 2)), ((), (1, 1))])
def test_writes_two_data_sets_of_four_axes(build, tmp_path, a, b):
    path = tmp_path / "out.h5"
    net = build(output(path, a, b))
    assert not path.exists()
    values = {}
    for name in ("a", "b"):
        blob = net.blobs[name]
        blob.data[...] = np.random.default_rng(len(name)).normal(size=blob.shape)
        values[name] = blob.data.reshape(blob.shape + (1,) * (4 - len(blob.shape)))
    net.forward()
    with h5py.File(path) as file:  # complete as soon as forward returns
        assert sorted(file) == ["data", "label"]
        assert file["data"].dtype == np.float32
        np.testing.assert_array_equal(file["data"], values["a"])
        np.testing.assert_array_equal(file["label"], values["b"])


def test_an_old_file_stays_until_the_first_forward_which_is_the_only_one(build, tmp_path):
    path = tmp_path / "out.h5"
    path.write_bytes(b"old")
    net = build(output(path))
    assert path.read_bytes() == b"old"
    net.forward()
    written = path.read_bytes()
    assert written != b"old"
    with pytest.raises(NetError, match=r'layer "out" .*was written by the first forward'):
        net.forward()
    assert path.read_bytes() == written


def test_bottoms_get_a_gradient_of_zero(build, tmp_path):
    net = build("force_backward: true" + output(tmp_path / "out.h5"))
    net.forward()
    net.blobs["a"].diff[...] = 5
    net.backward()
    assert not net.blobs["a"].diff.any()


@pytest.mark.parametrize(
    ("path", "a", "message"),
    [
        ("", (3, 2), "expected the name of a file"),
        ("nowhere/out.h5", (3, 2), '"nowhere/out.h5" cannot be written: there is no such folder'),
        ("out.h5", (2, 2), r"as many rows, received 2 x 2 \(4\) and 3"),
        ("out.h5", (3, 1, 1, 1, 1), "at most 4 axes"),
    ],
)
def test_what_cannot_be_written(build, tmp_path, monkeypatch, path, a, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CaffeError, match=f'layer "out" .*{message}'):
        build(output(path, a))
    assert not Path("out.h5").exists()


def test_a_file_that_the_system_refuses(build, tmp_path):
    (tmp_path / "out.h5").mkdir()
    net = build(output(tmp_path / "out.h5"))
    with pytest.raises(CaffeError, match=r"out.h5: cannot be written: it exists and is not a regular file"):
        net.forward()
