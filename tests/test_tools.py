"""The converters and other tools: what they write is read back, and compared to the byte where Caffe's format fixes it."""

from __future__ import annotations

import hashlib
import http.server
import io
import re
import struct
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pycaffe_lite as caffe
from pycaffe_lite import cli, glog, pycaffe
from pycaffe_lite.cli import _download
from pycaffe_lite.data import images as _images
from pycaffe_lite.data.database import open_database
from pycaffe_lite.data.database_writer import create_database
from pycaffe_lite.data.datum import decode_datums, decode_image, encode_datum
from pycaffe_lite.data.transformer import Transformer
from pycaffe_lite.proto import caffe_pb2, model_file, prototxt

from .leveldb import backends

ROOT = Path(__file__).resolve().parent.parent
TOOLS = [
    "compute_image_mean",
    "convert_cifar_data",
    "convert_imageset",
    "download_model_binary",
    "extract_features",
    "resize_and_crop_images",
    "upgrade_net_proto_binary",
    "upgrade_net_proto_text",
    "upgrade_solver_proto_text",
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    glog.set_min_level(0)


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def messages(capsys) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [line.split("] ", 1)[1] for line in lines if re.match(r"[IWE]\d{4} ", line)]


def fails(capsys, *words: object) -> str:
    """Runs a command that must end with one line and status 1; returns the line."""
    capsys.readouterr()
    assert run(*words) == 1
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if not re.match(r"[IWE]\d{4} ", line)]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0]


def records(path: str) -> dict[bytes, bytes]:
    with open_database(path) as database:
        cursor = database.cursor()
        return dict(cursor.next() for _ in range(database.count()))


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def chunk(field: int, data: bytes) -> bytes:
    """A field of bytes as protobuf writes it."""
    return varint(field << 3 | 2) + varint(len(data)) + data


def test_the_scripts_of_tools_are_commands():
    """Caffe has its tools as files, and tutorials call them so: each does what the command of its name does."""
    scripts = [path for path in (ROOT / "tools").glob("*.py") if path.stem != "generate_proto"]
    assert {"train", "convert_imageset", "compute_image_mean", "draw_net"} <= {path.stem for path in scripts}
    for path in scripts:
        assert path.stem in cli.command_names()
        assert f"from pycaffe_lite.cli.{path.stem} import main\n\nsys.exit(call(main))\n" in path.read_text()
    done = subprocess.run([sys.executable, str(ROOT / "tools/draw_net.py"), "--help"], capture_output=True, text=True)
    assert done.stdout.startswith("usage: pycaffe_lite draw_net")


# ---- all of them --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOOLS)
def test_help_and_missing_arguments(name, capsys):
    with pytest.raises(SystemExit) as caught:
        run(name, "--help")
    assert caught.value.code == 0
    assert f"pycaffe_lite {name}" in capsys.readouterr().out
    if name == "resize_and_crop_images":
        assert "needs --input_folder" in fails(capsys, name)
    else:
        with pytest.raises(SystemExit) as caught:
            run(name)
        assert caught.value.code == 2
        assert "required" in capsys.readouterr().err


# ---- convert_imageset ---------------------------------------------------------------------------------------------


def save(path: str, *shape: int, seed: int = 0) -> np.ndarray:
    """Saves an image H x W or H x W x 3 of random pixels, and returns it."""
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def images() -> list[np.ndarray]:
    """Three images of 4 x 6 below in/, and their list."""
    Path("list.txt").write_text("a.png 3\nb/c d.png 300\ne.bmp -1\n")
    return [save(f"in/{name}", 4, 6, 3, seed=i) for i, name in enumerate(["a.png", "b/c d.png", "e.bmp"])]


KEYS = [b"00000000_a.png", b"00000001_b/c d.png", b"00000002_e.bmp"]


@backends
def test_convert_imageset_writes_what_caffe_writes(backend, images, capsys):
    assert run("convert_imageset", f"-backend={backend}", "in/", "list.txt", "db") == 0
    assert messages(capsys) == ["A total of 3 images.", "Processed 3 files."]
    with open_database("db") as database:
        assert database.backend == backend
    labels = [b"\x03", b"\xac\x02", b"\xff" * 9 + b"\x01"]
    # channels 3, height 4, width 6, the pixels, the label, and encoded: false
    expected = [
        b"\x08\x03\x10\x04\x18\x06"
        + chunk(4, image[:, :, ::-1].transpose(2, 0, 1).tobytes())
        + b"\x28"
        + label
        + b"\x38\x00"
        for image, label in zip(images, labels)
    ]
    assert records("db") == dict(zip(KEYS, expected))


def test_convert_imageset_resizes_in_gray(images):
    assert run("convert_imageset", "--gray", "in/", "list.txt", "--resize_height", 2, "db", "-resize_width=3") == 0
    arrays, labels = decode_datums(list(records("db").values()), KEYS)
    data = [Path(f"in/{name}").read_bytes() for name in ("a.png", "b/c d.png", "e.bmp")]
    assert np.array_equal(arrays, [_images.decode(file, False, 2, 3) for file in data])
    assert arrays.shape == (3, 1, 2, 3)
    assert labels.tolist() == [3, 300, -1]


def test_convert_imageset_stores_files_as_they_are(images):
    assert run("convert_imageset", "--encoded", "in/", "list.txt", "db") == 0
    file = Path("in/a.png").read_bytes()
    assert records("db")[KEYS[0]] == chunk(4, file) + b"\x28\x03\x38\x01"


def test_convert_imageset_encodes_anew(images):
    assert run("convert_imageset", "in/", "list.txt", "db", "--encode_type=png", "--gray=false") == 0
    datums = [caffe_pb2.Datum.FromString(value) for value in records("db").values()]
    assert all(datum.encoded and datum.data.startswith(b"\x89PNG") for datum in datums)
    assert datums[0].data == Path("in/a.png").read_bytes()
    for datum, image in zip(datums, images):
        assert np.array_equal(decode_image(datum.data), image[:, :, ::-1].transpose(2, 0, 1))
    size = ("--resize_height=8", "--resize_width=8")
    assert run("convert_imageset", "in/", "list.txt", "jpg", "--encode_type=jpg", *size, "--nogray") == 0
    jpeg = caffe_pb2.Datum.FromString(records("jpg")[KEYS[0]])
    assert Image.open(io.BytesIO(jpeg.data)).format == "JPEG"
    assert decode_image(jpeg.data).shape == (3, 8, 8)


def test_convert_imageset_shuffles(images):
    Path("long.txt").write_text("".join(f"a.png {i}\n" for i in range(50)))
    assert run("convert_imageset", "--shuffle", "in/", "long.txt", "db") == 0
    found = records("db")
    assert list(found) == [b"%08d_a.png" % i for i in range(50)]
    labels = [caffe_pb2.Datum.FromString(value).label for value in found.values()]
    assert labels != sorted(labels) == list(range(50))


def test_convert_imageset_checks_sizes(images, capsys):
    assert run("convert_imageset", "--check_size", "in/", "list.txt", "db") == 0
    save("in/e.bmp", 5, 6, 3)
    assert "expected 3 x 4 x 6" in fails(capsys, "convert_imageset", "--check_size", "in/", "list.txt", "db2")
    assert run("convert_imageset", "--nocheck_size", "in/", "list.txt", "db3") == 0


def test_convert_imageset_leaves_out_what_it_cannot_read(images, capsys):
    Path("in/b/c d.png").write_bytes(b"no image")
    Path("in/e.bmp").unlink()
    capsys.readouterr()
    assert run("convert_imageset", "in/", "list.txt", "db") == 1
    err = capsys.readouterr().err
    assert re.search(r'^E.*list.txt:2: image "in/b/c d.png": .*cannot be read', err, re.MULTILINE)
    assert re.search(r'^E.*list.txt:3: image "in/e.bmp": there is no such file', err, re.MULTILINE)
    assert err.splitlines()[-1] == "error: db: 2 of 3 images could not be read, and are not in it"
    assert list(records("db")) == KEYS[:1]
    Path("in/a.png").unlink()
    assert "list.txt: none of its 3 images could be read" in fails(capsys, "convert_imageset", "in/", "list.txt", "none")
    assert not Path("none").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in", "list.txt", "db"], 'ROOTFOLDER ends with a slash: "in/"'),
        (["in/", "lst.txt", "db"], 'did you mean "list.txt"?'),
        (["in/", "list.txt", "gone/db"], "gone/db: cannot make this folder"),
        (["in/", "list.txt", "in"], "in: already exists"),
        (["in/", "list.txt", "db", "--resize_width=4"], "expected both of --resize_height and --resize_width"),
        (["in/", "list.txt", "db", "--resize_width=4", "--resize_height", "-4"], "received -4 and 4"),
        (["in/", "list.txt", "db", "--resize_width=99999", "--resize_height=99999"], "at most"),
        (["in/", "list.txt", "db", "--encode_type=pngg"], 'did you mean "png"?'),
        (["in/", "bad.txt", "db"], "bad.txt:1: expected a path and an integer label"),
        (["in/", "long.txt", "db"], "is too long for a key of 511 bytes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_convert_imageset_refuses(words, message, images, capsys):
    Path("bad.txt").write_text("a.png\n")
    Path("long.txt").write_text(f"a.png 1\n{'x' * 503} 1\n")
    assert message in fails(capsys, "convert_imageset", *words)
    assert not Path("db").exists()


def test_switches_do_not_take_arguments(images):
    assert (
        run("convert_imageset", "-logtostderr", "in/", "--gray", "list.txt", "db", "-minloglevel", "2", "-check_size") == 0
    )
    assert decode_datums(list(records("db").values()), KEYS)[0].shape == (3, 1, 4, 6)


# ---- compute_image_mean -------------------------------------------------------------------------------------------


def fill(path: str, arrays: list[np.ndarray], backend: str = "lmdb") -> None:
    with create_database(path, backend) as writer:
        for i, array in enumerate(arrays):
            writer.put(b"%08d" % i, encode_datum(array, i))


@backends
def test_compute_image_mean_writes_what_caffe_reads(backend, capsys):
    arrays = [array.astype(np.uint8) for array in np.random.default_rng(0).integers(0, 256, (70, 2, 3, 4))]
    fill("db", arrays, backend)
    assert run("compute_image_mean", "db", "--backend", backend, "mean.binaryproto") == 0
    mean = np.mean(arrays, 0, dtype=np.float64)
    data = mean.astype("<f4").tobytes()
    # num 1, channels 2, height 3, width 4, and the packed values
    assert Path("mean.binaryproto").read_bytes() == b"\x08\x01\x10\x02\x18\x03\x20\x04" + chunk(5, data)
    assert messages(capsys)[-4:] == [
        "Write to mean.binaryproto",
        "Number of channels: 2",
        *(f"mean_value channel [{i}]: {value:g}" for i, value in enumerate(mean.mean((1, 2)))),
    ]
    blob = caffe_pb2.BlobProto.FromString(Path("mean.binaryproto").read_bytes())
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob)[0], mean.astype(np.float32))
    param = caffe_pb2.TransformationParameter(mean_file="mean.binaryproto")
    out = np.empty((70, 2, 3, 4), np.float32)
    Transformer(param, caffe.TEST, np.random.default_rng(0)).transform(np.stack(arrays), out=out)
    np.testing.assert_array_equal(out, np.stack(arrays) - mean.astype(np.float32))


def test_compute_image_mean_of_files_and_floats(images, capsys):
    assert run("convert_imageset", "--encoded", "in/", "list.txt", "files") == 0
    assert run("compute_image_mean", "files", "files.binaryproto") == 0
    mean = np.mean(images, 0)[:, :, ::-1].transpose(2, 0, 1)
    (blob,) = [model_file.decode_blob(model_file.read_message("files.binaryproto", "BlobProto"))]
    np.testing.assert_array_equal(blob.data, mean.astype(np.float32).ravel())
    fill("floats", [np.full((1, 2, 2), value, np.float32) for value in (0.25, 0.5)])
    capsys.readouterr()
    assert run("compute_image_mean", "floats") == 0
    assert messages(capsys)[-1] == "mean_value channel [0]: 0.375"


def test_compute_image_mean_refuses(capsys):
    fill("mixed", [np.zeros((1, 2, size), np.uint8) for size in (2, 2, 3)])
    fill("good", [np.zeros((1, 2, 2), np.uint8)])
    message = fails(capsys, "compute_image_mean", "mixed", "out")
    assert 'mixed: record "00000002": expected an image of 1 x 2 x 2' in message
    assert not Path("out").exists()
    assert "no such database" in fails(capsys, "compute_image_mean", "gone")
    assert 'there is no folder "' in fails(capsys, "compute_image_mean", "good", "gone/out")


# ---- extract_features ---------------------------------------------------------------------------------------------

NET = """layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "db" batch_size: 2 backend: LMDB } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
  num_output: 3 kernel_size: 2 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param {
  num_output: 5 weight_filler { type: "gaussian" std: 1 } } }
layer { name: "deep" type: "Reshape" bottom: "ip" top: "deep"
  reshape_param { shape { dim: 2 dim: 5 dim: 1 dim: 1 dim: 1 } } }
"""


@pytest.fixture
def trained() -> None:
    """A net on a database of five images; its weights are in w.caffemodel."""
    rng = np.random.default_rng(0)
    fill("db", [array.astype(np.uint8) for array in rng.integers(0, 9, (5, 1, 3, 4))])
    Path("net.prototxt").write_text(NET)
    with closing(caffe.Net("net.prototxt", caffe.TEST)) as net:
        net.save("w.caffemodel")


@backends
def test_extract_features_writes_what_caffe_writes(backend, trained, capsys):
    assert run("extract_features", "w.caffemodel", "net.prototxt", "conv,ip", "f1,f2", 3, backend, "CPU") == 0
    assert messages(capsys)[-3:] == [
        "Extracted features of 6 query images for feature blob conv",
        "Extracted features of 6 query images for feature blob ip",
        "Successfully extracted the features!",
    ]
    for name, path, shape in (("conv", "f1", (3, 2, 3)), ("ip", "f2", (5, 1, 1))):
        with closing(caffe.Net("net.prototxt", "w.caffemodel", caffe.TEST)) as net:
            values = np.concatenate([net.forward(blobs=[name])[name].copy() for _ in range(3)])
        head = b"".join(bytes([field << 3, size]) for field, size in zip((1, 2, 3), shape))
        floats = [b"".join(b"\x35" + struct.pack("<f", value) for value in item.ravel()) for item in values]
        assert records(path) == {b"%010d" % i: head + item for i, item in enumerate(floats)}
        arrays, _ = decode_datums(list(records(path).values()), list(records(path)))
        np.testing.assert_array_equal(arrays, values.reshape(6, *shape))


def test_extract_features_goes_on_without_a_gpu(trained, capsys, monkeypatch):
    monkeypatch.delattr(pycaffe.use_gpu_or_warn, "said", raising=False)
    monkeypatch.setattr("pycaffe_lite.device.cuda.cuda_problem", lambda: "there is none")
    words = ["w.caffemodel", "net.prototxt", "ip", "f", 1, "lmdb", "GPU", "DEVICE_ID=0"]
    assert run("extract_features", *words) == 0
    assert any("The CPU is used instead" in line for line in messages(capsys))
    assert len(records("f")) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("w.caffemodel net.prototxt ipp f 1 lmdb", 'no blob "ipp" in the net (did you mean "ip"?)'),
        ("w.caffemodel net.prototxt ip,conv f 1 lmdb", "expected a database for each of 2 blobs, received 1"),
        ("w.caffemodel net.prototxt ip,conv f,f 1 lmdb", "expected a path of its own for each database"),
        ("w.caffemodel net.prototxt ip,ip f,g 1 lmdb", "expected each blob once"),
        ("w.caffemodel net.prototxt ip,conv f,db 1 lmdb", "db: already exists"),
        ("w.caffemodel net.prototxt deep f 1 lmdb", 'blob "deep" has 5 axes'),
        ("w.caffemodel net.prototxt ip f 0 lmdb", "NUM_MINI_BATCHES is at least 1"),
        ("w.caffemodel net.prototxt ip f 1 lmdb GPU x", 'received "x"'),
        ("gone.caffemodel net.prototxt ip f 1 lmdb", "gone.caffemodel"),
        ("w.caffemodel gone.prototxt ip f 1 lmdb", "gone.prototxt"),
    ],
)
def test_extract_features_refuses(words, message, trained, capsys):
    assert message in fails(capsys, "extract_features", *words.split())
    assert not Path("f").exists()


# ---- upgrades -----------------------------------------------------------------------------------------------------

V0 = """name: "old" input: "data" input_dim: 1 input_dim: 1 input_dim: 4 input_dim: 4
layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "padded" }
layers { layer { name: "conv" type: "conv" num_output: 2 kernelsize: 3 blobs_lr: 2 %s } bottom: "padded" top: "conv" }
"""
PRESENT = """name: "old"
layer { name: "input" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 4 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 2 }
  convolution_param { num_output: 2 pad: 1 kernel_size: 3 } }
"""


def parsed(text: str, kind: type = caffe_pb2.NetParameter):
    message = kind()
    prototxt.parse(text, message)
    return message


def test_upgrade_net_proto_text(capsys):
    Path("old.prototxt").write_text(V0 % "")
    assert run("upgrade_net_proto_text", "old.prototxt", "new.prototxt") == 0
    assert messages(capsys)[-1] == "Wrote upgraded NetParameter text proto to new.prototxt"
    assert parsed(Path("new.prototxt").read_text()) == parsed(PRESENT)
    before = Path("new.prototxt").read_bytes()
    assert run("upgrade_net_proto_text", "new.prototxt", "new.prototxt") == 0
    assert "File already in latest proto format: new.prototxt" in messages(capsys)
    assert Path("new.prototxt").read_bytes() == before


def test_upgrade_says_what_is_lost(capsys):
    Path("old.prototxt").write_text(V0 % "local_size: 5")
    assert run("upgrade_net_proto_text", "old.prototxt", "new.prototxt") == 1
    assert "old.prototxt: 1 fields have no place in the new format, see above" in messages(capsys)
    assert parsed(Path("new.prototxt").read_text()) == parsed(PRESENT)


def test_upgrade_net_proto_binary(capsys):
    old = parsed(V0 % "")
    blob = old.layers[1].layer.blobs.add(num=2, channels=1, height=3, width=3)
    blob.data.extend(range(18))
    Path("old.caffemodel").write_bytes(old.SerializeToString())
    assert run("upgrade_net_proto_binary", "old.caffemodel", "new.caffemodel") == 0
    expected = parsed(PRESENT)
    expected.layer[1].blobs.add().CopyFrom(blob)
    assert Path("new.caffemodel").read_bytes() == expected.SerializeToString()
    assert messages(capsys)[-1] == "Wrote upgraded NetParameter binary proto to new.caffemodel"
    (layer,) = [layer for layer in model_file.read_layers("new.caffemodel") if layer.blobs]
    assert (layer.name, layer.type, layer.blobs[0].shape) == ("conv", "Convolution", (2, 1, 3, 3))
    assert layer.blobs[0].data.tolist() == list(range(18))


def test_upgrade_solver_proto_text(capsys):
    Path("old.prototxt").write_text('net: "n" base_lr: 0.1 solver_type: ADAGRAD')
    assert run("upgrade_solver_proto_text", "old.prototxt", "new.prototxt") == 0
    assert messages(capsys)[-1] == "Wrote upgraded SolverParameter text proto to new.prototxt"
    expected = parsed('net: "n" base_lr: 0.1 type: "AdaGrad"', caffe_pb2.SolverParameter)
    assert parsed(Path("new.prototxt").read_text(), caffe_pb2.SolverParameter) == expected


def test_upgrades_refuse_broken_files(capsys):
    Path("bad.prototxt").write_text('layer { name: "a" tpe: "ReLU" }')
    for kind in ("net", "solver"):
        assert "bad.prototxt:1" in fails(capsys, f"upgrade_{kind}_proto_text", "bad.prototxt", "new")
        assert "gone.prototxt" in fails(capsys, f"upgrade_{kind}_proto_text", "gone.prototxt", "new")
    assert "this is text" in fails(capsys, "upgrade_net_proto_binary", "bad.prototxt", "new")
    name = caffe_pb2.NetParameter(layers=[caffe_pb2.V1LayerParameter(name="ab", type="RELU")]).SerializeToString()
    weights = model_file.raw.NetParameter.FromString(name)
    weights.layers[0].blobs.add(data=[b"abc"])
    inputs = caffe_pb2.NetParameter(input=["ab"], layers=[caffe_pb2.V1LayerParameter()]).SerializeToString()
    names = [one.replace(b"ab", b"\xff\xfe") for one in (name, inputs)]
    for i, data in enumerate([*names, weights.SerializeToString()]):
        Path(f"{i}.caffemodel").write_bytes(data)
        said = fails(capsys, "upgrade_net_proto_binary", f"{i}.caffemodel", "new")
        assert re.search(rf"{i}\.caffemodel: .*the (file|model) is damaged", said)  # some runtimes see it at once
    assert not Path("new").exists()
    Path("good.prototxt").write_text(PRESENT)
    assert 'there is no folder "' in fails(capsys, "upgrade_net_proto_text", "good.prototxt", "gone/new")


# ---- convert_cifar_data -------------------------------------------------------------------------------------------


@pytest.fixture
def cifar() -> list[bytes]:
    """Small batches below cifar/; gives their records, those of the test batch last."""
    rng = np.random.default_rng(0)
    Path("cifar").mkdir()
    found = []
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        batch = [bytes([rng.integers(10)]) + rng.bytes(3072) for _ in range(3)]
        Path("cifar", name).write_bytes(b"".join(batch))
        found += batch
    return found


@backends
def test_convert_cifar_data_writes_what_caffe_writes(backend, cifar):
    Path("out").mkdir()
    assert run("convert_cifar_data", "cifar", "out", backend) == 0
    for name, batch in (("train", cifar[:15]), ("test", cifar[15:])):
        expected = {
            b"%05d" % i: b"\x08\x03\x10\x20\x18\x20" + chunk(4, record[1:]) + b"\x28" + record[:1]
            for i, record in enumerate(batch)
        }
        assert records(f"out/cifar10_{name}_{backend}") == expected


def test_convert_cifar_data_refuses(cifar, capsys):
    words = ("convert_cifar_data", "cifar", ".", "lmdb")
    Path("cifar10_test_lmdb").mkdir()
    assert "cifar10_test_lmdb: already exists" in fails(capsys, *words)
    Path("cifar10_test_lmdb").rmdir()
    assert "gone/cifar10_train_lmdb: cannot make" in fails(capsys, "convert_cifar_data", "cifar", "gone", "lmdb")
    path = Path("cifar/data_batch_3.bin")
    data = path.read_bytes()
    for damaged in (data[:-1], b""):
        path.write_bytes(damaged)
        assert "data_batch_3.bin: expected one or more records of 3073 bytes" in fails(capsys, *words)
    path.unlink()
    assert "data_batch_3.bin: there is no such file" in fails(capsys, *words)
    assert not Path("cifar10_train_lmdb").exists()
    path.write_bytes(b"\x0a" + data[1:])
    assert "data_batch_3.bin: is no batch of CIFAR-10" in fails(capsys, *words)


# ---- resize_and_crop_images ---------------------------------------------------------------------------------------


def test_resize_and_crop_images_as_opencv(images):
    save("in/tall.png", 9, 5, 3)
    assert (
        run("resize_and_crop_images", "--input_folder=in", "--output_folder=out", "-output_side_length=3", "--num_clients=1")
        == 0
    )
    found = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.*"))
    assert found == ["a.png", "b/c d.png", "e.bmp", "tall.png"]
    for name, size, crop in (("a.png", (3, 4), np.s_[:, :, 0:3]), ("tall.png", (5, 3), np.s_[:, 1:4])):
        expected = _images.decode(Path("in", name).read_bytes(), True, *size)[crop]
        assert np.array_equal(decode_image(Path("out", name).read_bytes()), expected)


def test_resize_and_crop_images_as_pil_in_processes(images, capsys):
    save("in/big.jpg", 40, 20, 3)
    Path("list.txt").write_text("big.jpg\nin/a.png 7\n\n")
    flags = ["--image_lib", "PIL", "--input", "list.txt", "--output_side_length", "8", "--num_clients", "2"]
    process = subprocess.run(
        [sys.executable, "-m", "pycaffe_lite", "resize_and_crop_images", "--input_folder=in", "--output_folder=out", *flags],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"},
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr.endswith("Wrote 2 images to out\n")
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "big.jpg"]
    for path in Path("out").iterdir():
        assert decode_image(path.read_bytes()).shape == (3, 8, 8)


def test_resize_and_crop_images_refuses(images, capsys):
    words = ("resize_and_crop_images", "--output_folder=out", "--num_clients=1")
    Path("list.txt").write_text("../list.txt\n")
    assert '"../list.txt" is not inside in' in fails(capsys, *words, "--input_folder=in", "--input=list.txt")
    assert "gone: there is no such folder" in fails(capsys, *words, "--input_folder=gone")
    assert "at least 1" in fails(capsys, *words, "--input_folder=in", "--output_side_length=0")
    assert "at most" in fails(capsys, *words, "--input_folder=in", "--output_side_length=99999")
    assert "opencv or pil" in fails(capsys, *words, "--input_folder=in", "--image_lib=cv")
    Path("empty").mkdir()
    assert "empty: names no images" in fails(capsys, *words, "--input_folder=empty")
    Path("in/a.png").write_bytes(b"no image")
    Path("list.txt").write_text("a.png\ne.bmp\nlist.gif\n")
    assert "2 of 3 images could not be converted" in fails(capsys, *words, "--input_folder=in", "--input=list.txt")
    assert [path.name for path in Path("out").iterdir()] == ["e.bmp"]


# ---- download_model_binary ----------------------------------------------------------------------------------------

MODEL = bytes(range(256)) * 40
README = "---\nname: A model: small\ncaffemodel: m.caffemodel\ncaffemodel_url: {url}\nsha1: {sha1}\n---\n\nText\n---\n"


class Handler(http.server.BaseHTTPRequestHandler):
    """/good gives the model, /break half of it, /page something else, all others 404."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        body = {"/good": MODEL, "/break": MODEL, "/page": b"<html>"}.get(self.path)
        start = int(re.sub(r"\D", "", self.headers.get("Range") or "0"))
        if body is None or start >= len(body):
            self.send_error(416 if body else 404)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : len(body) // 2 if self.path == "/break" else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(_download, "STALL_SECONDS", 5.0)
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def write_readme(server, path: str, sha1: str = hashlib.sha1(MODEL).hexdigest()) -> None:
    Path("model").mkdir(exist_ok=True)
    Path("model/readme.md").write_text(README.format(url=f"http://127.0.0.1:{server.server_port}{path}", sha1=sha1))


def test_download_model_binary(server, capsys):
    write_readme(server, "/good")
    assert run("download_model_binary", "model") == 0
    assert Path("model/m.caffemodel").read_bytes() == MODEL
    assert run("download_model_binary", "model") == 0
    assert "Model already exists." in capsys.readouterr().out
    Path("model/m.caffemodel").write_bytes(b"damaged")
    assert run("download_model_binary", "model/") == 0
    assert Path("model/m.caffemodel").read_bytes() == MODEL
    assert server.asked == [("/good", None)] * 2


def test_download_model_binary_goes_on_where_it_stopped(server, capsys):
    write_readme(server, "/break")
    assert "run this again to go on" in fails(capsys, "download_model_binary", "model")
    assert Path("model/m.caffemodel.part").read_bytes() == MODEL[: len(MODEL) // 2]
    write_readme(server, "/good")
    assert run("download_model_binary", "model") == 0
    assert server.asked[1:] == [("/good", f"bytes={len(MODEL) // 2}-")]
    assert [path.name for path in Path("model").glob("m.*")] == ["m.caffemodel"]
    assert Path("model/m.caffemodel").read_bytes() == MODEL
    Path("model/m.caffemodel").rename("model/m.caffemodel.part")  # whole, but the program ended before it said so
    assert run("download_model_binary", "model") == 0
    assert Path("model/m.caffemodel").read_bytes() == MODEL


def test_download_model_binary_refuses(server, capsys):
    write_readme(server, "/page")
    assert "expected a file of SHA-1" in fails(capsys, "download_model_binary", "model")
    write_readme(server, "/none")
    assert "cannot be downloaded: 404" in fails(capsys, "download_model_binary", "model")
    assert sorted(path.name for path in Path("model").iterdir()) == ["readme.md"]
    server.asked.clear()
    good = Path("model/readme.md").read_text()
    for text, message in [
        (re.sub("sha1:.*\n", "", good), 'has no "sha1"'),
        (re.sub("sha1:.*", "sha1: 123", good), "expected 40 hexadecimal digits"),
        (re.sub("caffemodel:.*", "caffemodel: ../m", good), "expected the name of a file"),
        (re.sub("http:", "file:", good), "expected an address with http or https"),
        ("no front matter", "between two lines of `---`"),
    ]:
        Path("model/readme.md").write_text(text)
        line = fails(capsys, "download_model_binary", "model")
        assert message in line
        assert "model/readme.md" in line
    assert "gone/readme.md: there is no such file" in fails(capsys, "download_model_binary", "gone")
    assert server.asked == []


def test_download_model_binary_without_a_server(server, capsys):
    write_readme(server, "/good")
    text = Path("model/readme.md").read_text()
    Path("model/readme.md").write_text(re.sub(r"127.0.0.1:\d+", "127.0.0.1:1", text))
    assert "127.0.0.1:1/good: cannot be downloaded: " in fails(capsys, "download_model_binary", "model")


def test_webp_has_no_gray(capsys):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save("a.webp")
    Path("list.txt").write_text("a.webp 0\n")
    assert run("convert_imageset", "--gray", "--encoded", "./", "list.txt", "db") == 1
    assert 'image "./a.webp": WebP has no gray images: give another --encode_type, such as png' in capsys.readouterr().err
    assert run("convert_imageset", "--gray", "--encoded", "--encode_type=png", "./", "list.txt", "db2") == 0
