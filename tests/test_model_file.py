"""Models, means and solver states as binary protobuf: what is read, what is written, what is refused."""

import json
import os
import struct
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycaffe_lite.errors import ModelFileError
from pycaffe_lite.proto import caffe_pb2, model_file
from pycaffe_lite.proto.model_file import (
    LayerBlobs,
    RawBlob,
    decode_blob,
    encode_blob,
    is_hdf5,
    raw,
    read_layers,
    read_message,
    write_message,
)

KIT = Path(os.environ.get("PYCAFFE_LITE_CONFORMANCE", ""))
needs_kit = pytest.mark.skipif(not KIT.name, reason="PYCAFFE_LITE_CONFORMANCE names no conformance kit")


def raw_blob(**fields):
    """As a file has it: written by the ordinary classes, whose wire format is protobuf's own."""
    return raw.BlobProto.FromString(caffe_pb2.BlobProto(**fields).SerializeToString())


def shape(*dims):
    return caffe_pb2.BlobShape(dim=dims)


def unpacked(number, values, code="f"):
    """A repeated field with a tag for each value."""
    wire_type = 5 if code == "f" else 1
    return b"".join(struct.pack(f"<B{code}", number << 3 | wire_type, value) for value in values)


def packed(number, values, code="f"):
    payload = struct.pack(f"<{len(values)}{code}", *values)
    return bytes([number << 3 | 2, len(payload)]) + payload


def small_model():
    net = caffe_pb2.NetParameter(name="small")
    ip = net.layer.add(name="ip", type="InnerProduct", bottom=["x"], top=["y"])
    ip.param.add(lr_mult=2)
    ip.blobs.add(shape=shape(2, 3), data=range(6), diff=range(6, 12))
    ip.blobs.add(shape=shape(2), data=[1, -1])
    net.layer.add(name="loss", type="SoftmaxWithLoss", bottom=["y", "label"])
    return net


# ---- Blobs ----


def test_blob_with_shape():
    blob = decode_blob(raw_blob(shape=shape(2, 3), data=range(6), diff=range(6, 12)))
    assert isinstance(blob, RawBlob)
    assert (blob.shape, blob.legacy) == ((2, 3), False)
    assert blob.data.dtype == blob.diff.dtype == np.float32
    assert blob.data.tolist() == [0, 1, 2, 3, 4, 5]
    assert blob.diff.tolist() == [6, 7, 8, 9, 10, 11]


def test_blob_of_old_form_wins_over_shape():
    blob = decode_blob(raw_blob(num=1, channels=1, height=1, width=2, shape=shape(7), data=[1, 2]))
    assert (blob.shape, blob.legacy, blob.data.tolist(), blob.diff) == ((1, 1, 1, 2), True, [1, 2], None)


def test_double_wins_over_single():
    blob = decode_blob(raw_blob(shape=shape(2), double_data=[0.1, 0.2], data=[1, 2, 3], double_diff=[0.3, 0.4]))
    assert blob.data.dtype == blob.diff.dtype == np.float64
    assert (blob.data.tolist(), blob.diff.tolist()) == ([0.1, 0.2], [0.3, 0.4])


def test_scalar_and_empty_blob():
    assert decode_blob(raw_blob(data=[5])).shape == ()
    empty = decode_blob(raw_blob(shape=shape(0, 3)))
    assert (empty.shape, empty.data.size, empty.diff) == ((0, 3), 0, None)


@pytest.mark.parametrize(
    "wire",
    [
        unpacked(5, [1, 2, 3]),
        packed(5, [1, 2]) + packed(5, [3]),
        packed(5, [1]) + packed(5, [2]) + packed(5, [3]),
        packed(5, []) + packed(5, [1, 2, 3]),
        unpacked(8, [1, 2, 3], "d"),
        packed(8, [1], "d") + packed(8, [2, 3], "d"),
    ],
    ids=bytes.hex,
)
@pytest.mark.parametrize(
    "diff", [b"", packed(6, [4, 5, 6]), unpacked(6, [4, 5, 6]), packed(6, [4, 5]) + packed(6, [6])], ids=bytes.hex
)
def test_other_spellings_of_an_array(wire, diff):
    blob = decode_blob(raw.BlobProto.FromString(caffe_pb2.BlobProto(shape=shape(3)).SerializeToString() + wire + diff))
    assert blob.data.tolist() == [1, 2, 3]
    assert (blob.diff.tolist() if diff else blob.diff) == ([4, 5, 6] if diff else None)


def test_unpacked_gradients_beside_packed_values():
    wire = caffe_pb2.BlobProto(shape=shape(2), data=[1, 2]).SerializeToString() + unpacked(6, [3, 4])
    assert decode_blob(raw.BlobProto.FromString(wire)).diff.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": shape(2, 3), "data": range(5)}, r"shape \[2, 3\] does not fit the 5 values"),
        ({"shape": shape(2), "data": [1, 2], "diff": [1]}, "does not fit the 1 gradients"),
        ({"data": []}, r"shape \[\] does not fit the 0 values"),
        ({"shape": shape(-1, -2), "data": [1, 2]}, "no negative length"),
        ({"num": -1, "data": [1]}, "no negative length"),
        ({"shape": shape(2**62, 2**62, 16), "data": [1]}, "does not fit the 1 values"),
        ({"shape": shape(2**40)}, "does not fit the 0 values"),
        ({"shape": shape(*[1] * 33), "data": [1]}, "32 axes"),
        ({"num": 3}, None),
    ],
)
def test_shape_that_does_not_fit(fields, message):
    blob = raw_blob(**fields)
    if message is None:  # channels, height and width are 0 if not given
        assert decode_blob(blob).shape == (3, 0, 0, 0)
    else:
        with pytest.raises(ModelFileError, match=message):
            decode_blob(blob)


@pytest.mark.parametrize("wire", [b"\x2a\x05\0\0\0\0\0", b"\x2a\x02\0\0\x2a\x02\0\0", b"\x42\x04\0\0\0\0"])
def test_values_cut_within_a_number(wire):
    with pytest.raises(ModelFileError, match="values of the blob are damaged"):
        decode_blob(raw.BlobProto.FromString(wire))


@pytest.mark.parametrize("dims", [(), (0, 3), (4,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", ">f4"])
def test_encode_and_decode(dims, dtype):
    array = np.random.default_rng(1).integers(-9, 9, dims).astype(dtype)
    message = raw_blob(num=9, data=[1, 2], double_data=[3])
    encode_blob(message, array, diff=-array)
    blob = decode_blob(message)
    assert (blob.shape, blob.legacy) == (dims, False)
    if array.size:
        assert blob.data.dtype == blob.diff.dtype == (np.float64 if dtype == "f8" else np.float32)
        np.testing.assert_array_equal(blob.diff.reshape(dims), -array)
    np.testing.assert_array_equal(blob.data.reshape(dims), array)
    ordinary = caffe_pb2.BlobProto.FromString(message.SerializeToString())
    assert list(ordinary.double_data if dtype == "f8" else ordinary.data) == array.ravel().tolist()


def test_encode_in_any_memory_order():
    message = raw.BlobProto()
    encode_blob(message, np.arange(6).reshape(2, 3).T[::-1])
    assert decode_blob(message).data.tolist() == [2, 5, 1, 4, 0, 3]
    with pytest.raises(ValueError, match="shape"):
        encode_blob(message, np.zeros(2), np.zeros(3))


# ---- Files ----


def test_model_and_back(tmp_path):
    path = tmp_path / "small.caffemodel"
    write_message(path, small_model())
    ip, loss = read_layers(path)
    assert (ip.name, ip.type) == ("ip", "InnerProduct")
    assert [blob.shape for blob in ip.blobs] == [(2, 3), (2,)]
    assert ip.blobs[1].data.tolist() == [1, -1]
    assert loss == LayerBlobs("loss", "SoftmaxWithLoss", [])

    net = read_message(path, "NetParameter")
    encode_blob(net.layer[0].blobs[1], np.float32([3, 4]))
    write_message(path, net)
    ordinary = caffe_pb2.NetParameter.FromString(path.read_bytes())
    expected = small_model()
    expected.layer[0].blobs[1].data[:] = [3, 4]
    assert ordinary == expected


def test_model_without_layers(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(model_file.glog.logger, "propagate", True)
    path = tmp_path / "small.caffemodel"
    for fields in ({"name": "bare"}, {"state": {"phase": caffe_pb2.TEST}}):
        write_message(path, caffe_pb2.NetParameter(**fields))
        assert read_layers(path) == []
        assert "small.caffemodel is a model without layers" in caplog.text
        caplog.clear()
    assert read_message(path, "NetParameter").state.phase == caffe_pb2.TEST


def test_raw_layer_from_ordinary_one():
    layer = raw.LayerParameter.FromString(small_model().layer[0].SerializeToString())
    assert layer.param[0].lr_mult == 2
    assert decode_blob(layer.blobs[1]).data.tolist() == [1, -1]


def test_three_generations(tmp_path):
    path = tmp_path / "a.caffemodel"
    data = {"num": 1, "channels": 1, "height": 1, "width": 2, "data": [1, 2]}
    net = caffe_pb2.NetParameter()
    net.layer.add(name="ignored beside old ones")
    net.layers.add(name="one", type=caffe_pb2.V1LayerParameter.INNER_PRODUCT).blobs.add(**data)
    net.layers.add(layer={"name": "two", "type": "conv", "blobs": [data]})
    write_message(path, net)
    layers = read_layers(path)
    assert [(layer.name, layer.type) for layer in layers] == [("one", "INNER_PRODUCT"), ("two", "conv")]
    for layer in layers:
        assert (layer.blobs[0].shape, layer.blobs[0].data.tolist()) == ((1, 1, 1, 2), [1, 2])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("BlobProto", caffe_pb2.BlobProto(shape=shape(1), data=[1])),
        ("BlobProtoVector", caffe_pb2.BlobProtoVector(blobs=[caffe_pb2.BlobProto(shape=shape(1), data=[1])])),
        ("SolverState", caffe_pb2.SolverState(iter=7, learned_net="a", history=[caffe_pb2.BlobProto(data=[1])])),
    ],
)
def test_other_kinds(tmp_path, kind, message):
    path = tmp_path / "file"
    write_message(path, message)
    assert read_message(path, kind).SerializeToString() == message.SerializeToString()


def test_name_that_is_no_utf8(tmp_path):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(b"\xa2\x06\x04\x0a\x02\xce\xd2")
    try:
        layers = read_layers(path)
    except ModelFileError:  # protobuf without its native code
        return
    assert [type(layer.name) for layer in layers] == [str]


WRONG_FILES = {
    "random": (b"\xff\x00\x9c\x11 no protobuf", "damaged, cut short, or of another kind"),
    "fields nobody knows": (b"\xf8\x3f\x01", "damaged, cut short, or of another kind"),
    "a name and what nobody knows": (b"\x0a\x01x\xf8\x3f\x01", "damaged, cut short, or of another kind"),
    "prototxt": (b'name: "LeNet"\nlayer {\n', "this is text"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "web page": (b"\n<!DOCTYPE html><html>", "web page"),
    "gzip": (b"\x1f\x8b\x08\x00", "unpack it first"),
    "hdf5": (b"\x89HDF\r\n\x1a\n\0\0", "HDF5"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_wrong_file_says_what_it_is(tmp_path, name):
    content, message = WRONG_FILES[name]
    path = tmp_path / "a.caffemodel"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=f"a.caffemodel: expected a NetParameter.*{message}"):
        read_layers(path)


def test_empty_file(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(model_file.glog.logger, "propagate", True)
    path = tmp_path / "a.caffemodel"
    path.touch()
    with pytest.raises(ModelFileError, match="the file is empty"):
        read_message(path, "NetParameter")
    assert read_layers(path) == []
    assert "without layers" in caplog.text


def test_file_that_cannot_be_opened(tmp_path, monkeypatch):
    (tmp_path / "lenet_iter_1000.caffemodel").touch()
    with pytest.raises(ModelFileError, match=r'no such file \(did you mean "lenet_iter_1000.caffemodel"\?\)'):
        read_layers(tmp_path / "lenet_iter_100.caffemodel")
    with pytest.raises(ModelFileError, match=r"/none/a: there is no such file$"):
        read_message(tmp_path / "none" / "a", "BlobProto")
    for path in (tmp_path, os.devnull):
        with pytest.raises(ModelFileError, match="not a regular file"):
            read_message(path, "BlobProto")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ModelFileError, match="cannot be read: Permission denied"):
        is_hdf5(tmp_path / "lenet_iter_1000.caffemodel")


def test_error_names_file_layer_and_blob(tmp_path):
    net = small_model()
    net.layer[0].blobs[1].data.append(1)
    path = tmp_path / "a.caffemodel"
    write_message(path, net)
    with pytest.raises(ModelFileError) as caught:
        read_layers(path)
    expected = f'{path}: layer "ip" (InnerProduct), blob 1: shape [2] does not fit the 3 values of the blob'
    assert str(caught.value) == expected


def test_limit_of_protobuf(tmp_path, monkeypatch):
    path = tmp_path / "a.caffemodel"
    write_message(path, small_model())
    old = path.read_bytes()
    monkeypatch.setattr(model_file, "MAX_BYTES", 100)
    with pytest.raises(ModelFileError, match=r"a.caffemodel: more than the 2 GiB .* use HDF5"):
        write_message(path, small_model())
    with pytest.raises(ModelFileError, match="more than the 2 GiB"):
        read_layers(path)
    assert path.read_bytes() == old


def test_message_that_is_not_complete(tmp_path):
    net = small_model()
    net.layer[1].clip_param.min = 1
    with pytest.raises(ModelFileError, match=r"without layer\[1\]\.clip_param\.max"):
        write_message(tmp_path / "a", net)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("user_block", [0, 512, 2048])
def test_hdf5_is_known_by_its_content(tmp_path, user_block):
    with h5py.File(tmp_path / "a.caffemodel", "w", userblock_size=user_block) as file:
        file["x"] = [1]
    assert is_hdf5(tmp_path / "a.caffemodel")
    write_message(tmp_path / "b.h5", small_model())
    assert not is_hdf5(tmp_path / "b.h5")
    (tmp_path / "empty").touch()
    assert not is_hdf5(tmp_path / "empty")


# ---- Damaged files ----


def read_anything(path, content):
    """Whatever the bytes are: a result or a ModelFileError."""
    path.write_bytes(content)
    for read in (read_layers, *(lambda path, kind=kind: read_message(path, kind) for kind in ("BlobProto", "SolverState"))):
        with suppress(ModelFileError):
            read(path)


def test_model_cut_at_every_byte(tmp_path):
    content = small_model().SerializeToString()
    path = tmp_path / "a.caffemodel"
    whole = 0
    for length in range(len(content)):
        path.write_bytes(content[:length])
        try:
            layers = read_layers(path)
        except ModelFileError:
            continue
        # Only a cut between two layers, or before the first, can go unnoticed.
        whole += 1
        assert [layer.name for layer in layers] in ([], ["ip"])
    assert whole == 3


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
def test_random_bytes(tmp_path, content):
    read_anything(tmp_path / "a", content)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_model_with_some_bytes_changed(tmp_path, data):
    content = bytearray(small_model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read_anything(tmp_path / "a", bytes(content))


# ---- The kit ----


@needs_kit
def test_kit_models():
    for case in json.loads((KIT / "nets" / "manifest.json").read_text())["cases"]:
        layers = read_layers(KIT / "nets" / case["weights"])
        assert not is_hdf5(KIT / "nets" / case["weights"])
        assert is_hdf5(KIT / "nets" / case["weights_hdf5"])
        saved = case["structure"]["saved_layers"]
        assert [(layer.name, layer.type) for layer in layers] == [(layer["name"], layer["type"]) for layer in saved]
        for layer, want in zip(layers, saved, strict=True):
            assert [list(blob.shape) for blob in layer.blobs] == want["blob_shapes"]
            with h5py.File(KIT / "nets" / case["weights_hdf5"]) as file:
                for i in file["data"][layer.name]:
                    blob = layer.blobs[int(i)]
                    np.testing.assert_array_equal(blob.data.reshape(blob.shape), file["data"][layer.name][i][()])


@needs_kit
def test_kit_old_weights():
    folder = KIT / "upgrade"
    case = next(case for case in json.loads((folder / "manifest.json").read_text())["cases"] if case["id"] == "old_weights")
    want = np.load(folder / case["npz"])
    types = set()
    for name in case["files"]:
        layers = {layer.name: layer for layer in read_layers(folder / name)}
        types.add(layers["ip"].type)
        for key in want.files:
            _, layer, i = key.split("/")
            blob = layers[layer].blobs[int(i)]
            assert blob.legacy
            np.testing.assert_array_equal(blob.data, want[key].ravel())
    assert types == {"InnerProduct", "INNER_PRODUCT", "innerproduct"}


@needs_kit
def test_kit_means():
    folder = KIT / "data"
    cases = json.loads((folder / "manifest.json").read_text())["cases"]
    for case in [case for case in cases if case.get("kind") == "blobproto"]:
        blob = decode_blob(read_message(folder / case["file"], "BlobProto"))
        arrays = np.load(folder / case["npz"])
        assert any(np.array_equal(blob.data.reshape(blob.shape).squeeze(), arrays[key].squeeze()) for key in arrays.files)


@needs_kit
def test_kit_solver_state():
    state = read_message(KIT / "solvers" / "snapshots" / "adam_bn_iter_10.solverstate", "SolverState")
    assert state.iter == 10
    assert len(state.history) % 2 == 0
    assert all(decode_blob(blob).data.size for blob in state.history)


@needs_kit
@pytest.mark.parametrize("name", ["random.caffemodel", "truncated.caffemodel"])
def test_kit_damaged_files(name):
    with pytest.raises(ModelFileError):
        read_layers(KIT / "errors" / name)
