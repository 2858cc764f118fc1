"""The nets of examples/models: made by generate.py, parameters counted by hand, shapes, forward, a step of training."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import pycaffe_lite as caffe
from pycaffe_lite import glog
from pycaffe_lite.check import check
from pycaffe_lite.cli.download_model_binary import read_readme
from pycaffe_lite.data.database_writer import create_database
from pycaffe_lite.io import array_to_datum

REPOSITORY = Path(__file__).parent.parent
MODELS = REPOSITORY / "examples/models"
LIGHT = [path.name for path in sorted(MODELS.iterdir()) if path.is_dir() and path.name != "vgg16"]  # VGG-16 takes 0.6 GB
TRAINED = [path.parent.name for path in sorted(MODELS.glob("*/train_val.prototxt"))]


@pytest.fixture(autouse=True)
def quiet():
    glog.set_min_level(1)
    yield
    glog.set_min_level(0)


@cache
def deployed(name: str) -> caffe.Net:
    return caffe.Net(str(MODELS / name / "deploy.prototxt"), caffe.TEST)


# ---- the files ----------------------------------------------------------------------------------------------------


def test_committed_files_are_what_generate_gives(tmp_path):
    spec = importlib.util.spec_from_file_location("generate", MODELS / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    generate.main(tmp_path)
    for folder in (tmp_path, MODELS):
        nets = (path for path in folder.glob("*/*.prototxt") if "solver" not in path.name)
        for path in nets:
            same = path.relative_to(folder)
            assert (MODELS / same).read_text("utf-8") == (tmp_path / same).read_text("utf-8"), f"{same}: run generate.py"


@pytest.mark.parametrize("path", [str(path.relative_to(REPOSITORY)) for path in sorted(MODELS.glob("*/*.prototxt"))])
def test_check_finds_no_error(path, monkeypatch):
    """What it warns of is what a clone does not have."""
    monkeypatch.chdir(REPOSITORY)
    findings, _ = check(path)
    assert not findings.errors
    assert all("there is no" in warning for warning in findings.warnings), findings.warnings


def test_readmes_name_weights():
    files = {path.parent.name: read_readme(path.parent).name for path in MODELS.glob("*/readme.md")}
    table = (MODELS / "readme.md").read_text("utf-8")
    for name, file in files.items():
        assert re.search(rf"^\| \[{name}\].*`{file}`", table, re.MULTILINE), name
    assert len(files) == 6


def test_readme_table_is_what_summary_says():
    """But for VGG-16, which has a test of its own."""
    rows = readme_table()
    assert sorted(rows) == sorted([*LIGHT, "vgg16"])
    for name in LIGHT:
        assert rows[name] == table_row(deployed(name)), name


def test_python_of_the_readme(monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (MODELS / "readme.md").read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(REPOSITORY)
    exec(compile(code, "readme.md", "exec"), {})
    assert re.search(r"multiply-adds: +1,582,671,872", capsys.readouterr().out)  # the figure of the table: one image


def readme_table() -> dict[str, list[str]]:
    """Input, parameters and multiply-adds by net."""
    rows = re.findall(r"^\| \[?(\w[\w.]*)\]?\S* \| (\d.*)$", (MODELS / "readme.md").read_text("utf-8"), re.MULTILINE)
    return {name: rest.split(" | ")[:3] for name, rest in rows}


def table_row(net: caffe.Net) -> list[str]:
    shape, summary = net.blobs["data"].shape, net.summary()
    return [" x ".join(map(str, shape[1:])), f"{summary.parameters:,}", f"{summary.multiply_adds // shape[0]:,}"]


# ---- parameters, counted by hand ------------------------------------------------------------------------------------


def conv(outputs: int, inputs: int, size: int, bias: bool = True) -> int:
    """Weights and biases. A group sees its own share of the inputs."""
    return outputs * inputs * size * size + outputs * bias


def krizhevsky() -> int:
    halves = conv(256, 96 // 2, 5) + conv(384, 384 // 2, 3) + conv(256, 384 // 2, 3)  # in two groups
    return conv(96, 3, 11) + conv(384, 256, 3) + halves + conv(4096, 256, 6) + conv(4096, 4096, 1) + conv(1000, 4096, 1)


INCEPTION = """
64 96 128 16 32 32
128 128 192 32 96 64
192 96 208 16 48 64
160 112 224 24 64 64
128 128 256 24 64 64
112 144 288 32 64 64
256 160 320 32 128 128
256 160 320 32 128 128
384 192 384 48 128 128
"""


def googlenet() -> int:
    total, inputs = conv(64, 3, 7) + conv(64, 64, 1) + conv(192, 64, 3), 192
    for row in INCEPTION.split("\n")[1:-1]:
        one, reduce3, three, reduce5, five, projection = map(int, row.split())
        total += sum(conv(outputs, inputs, 1) for outputs in (one, reduce3, reduce5, projection))
        total += conv(three, reduce3, 3) + conv(five, reduce5, 5)
        inputs = one + three + five + projection
    return total + conv(1000, inputs, 1)


def squeezenet(conv1: int, first: int) -> int:
    total, inputs = conv1, first
    for squeeze in (16, 16, 32, 32, 48, 48, 64, 64):
        total += conv(squeeze, inputs, 1) + conv(4 * squeeze, squeeze, 1) + conv(4 * squeeze, squeeze, 3)
        inputs = 8 * squeeze
    return total + conv(1000, inputs, 1)


def vgg16() -> int:
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    convolutions = sum(conv(outputs, inputs, 3) for inputs, outputs in pairwise(widths))
    return convolutions + conv(4096, 512, 7) + conv(4096, 4096, 1) + conv(1000, 4096, 1)


def resnet50() -> tuple[int, int, int]:
    """Weights of convolutions and fc1000; channels that are normalized; BatchNorm layers."""
    convolutions, inputs = [(64, 3, 7)], 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        convolutions.append((4 * width, inputs, 1))  # the input of the first block, brought to the new shape
        for _ in range(blocks):
            convolutions += [(width, inputs, 1), (width, width, 3), (4 * width, width, 1)]
            inputs = 4 * width
    weights = sum(conv(*how, bias=False) for how in convolutions)
    return weights + conv(1000, 2048, 1), sum(outputs for outputs, *_ in convolutions), len(convolutions)


def mobilenet() -> tuple[int, int, int]:
    widths = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    convolutions = [(32, 3, 3)]
    for inputs, outputs in pairwise(widths):
        convolutions += [(inputs, 1, 3), (outputs, inputs, 1)]
    weights = sum(conv(*how, bias=False) for how in convolutions)
    return weights + conv(1000, 1024, 1), sum(outputs for outputs, *_ in convolutions), len(convolutions)


@pytest.mark.parametrize(
    ("name", "by_hand", "known"),
    [
        ("bvlc_alexnet", krizhevsky(), 60_965_224),
        ("bvlc_reference_caffenet", krizhevsky(), 60_965_224),
        ("bvlc_googlenet", googlenet(), 6_998_552),
        ("squeezenet_v1.0", squeezenet(conv(96, 3, 7), 96), 1_248_424),
        ("squeezenet_v1.1", squeezenet(conv(64, 3, 3), 64), 1_235_496),
    ],
)
def test_parameters(name, by_hand, known):
    """All blobs count: weights and biases."""
    assert by_hand == known
    assert deployed(name).summary().parameters == known


WITH_STATISTICS = [("resnet50", resnet50(), 25_557_032), ("mobilenet_v1", mobilenet(), 4_231_976)]


@pytest.mark.parametrize(("name", "by_hand", "known"), WITH_STATISTICS)
def test_parameters_with_statistics(name, by_hand, known):
    """Scale has a factor and an offset for each channel; these are learned. BatchNorm has mean, variance and one factor."""
    weights, channels, layers = by_hand
    assert weights + 2 * channels == known
    counts: dict[str, int] = {}
    for layer in deployed(name).summary().layers:
        counts[layer.type] = counts.get(layer.type, 0) + layer.parameters
    statistics = counts.pop("BatchNorm")
    assert statistics == 2 * channels + layers
    assert sum(counts.values()) == known
    readme = (MODELS / "readme.md").read_text("utf-8")
    assert f"{statistics:,}" in readme
    assert f"{known:,}" in readme


# ---- names and shapes -----------------------------------------------------------------------------------------------

KRIZHEVSKY = {
    "conv1": (96, 55, 55),
    "pool1": (96, 27, 27),
    "conv2": (256, 27, 27),
    "pool2": (256, 13, 13),
    "conv5": (256, 13, 13),
    "pool5": (256, 6, 6),
    "fc7": (4096,),
    "fc8": (1000,),
}
SHAPES = {
    "bvlc_alexnet": {**KRIZHEVSKY, "norm1": (96, 55, 55), "norm2": (256, 27, 27)},
    "bvlc_reference_caffenet": {**KRIZHEVSKY, "norm1": (96, 27, 27), "norm2": (256, 13, 13)},
    "bvlc_googlenet": {
        "conv1/7x7_s2": (64, 112, 112),
        "pool1/norm1": (64, 56, 56),
        "pool2/3x3_s2": (192, 28, 28),
        "inception_3a/output": (256, 28, 28),
        "inception_3b/output": (480, 28, 28),
        "inception_4a/output": (512, 14, 14),
        "inception_4e/output": (832, 14, 14),
        "inception_5b/output": (1024, 7, 7),
        "pool5/7x7_s1": (1024, 1, 1),
        "loss3/classifier": (1000,),
    },
    "squeezenet_v1.0": {"conv1": (96, 111, 111), "pool4": (256, 27, 27), "pool8": (512, 13, 13), "conv10": (1000, 15, 15)},
    "squeezenet_v1.1": {"conv1": (64, 113, 113), "pool3": (128, 28, 28), "pool5": (256, 14, 14), "conv10": (1000, 14, 14)},
    "vgg16": {"conv1_2": (64, 224, 224), "pool3": (256, 28, 28), "pool5": (512, 7, 7), "fc6": (4096,), "fc8": (1000,)},
    "resnet50": {
        "conv1": (64, 112, 112),
        "pool1": (64, 56, 56),
        "res2c": (256, 56, 56),
        "res3d": (512, 28, 28),
        "res4f": (1024, 14, 14),
        "res5c": (2048, 7, 7),
        "pool5": (2048, 1, 1),
        "fc1000": (1000,),
    },
    "mobilenet_v1": {
        "conv1/bn": (32, 112, 112),
        "conv2_2/dw": (64, 56, 56),
        "conv3_2/sep/bn": (256, 28, 28),
        "conv5_5/sep": (512, 14, 14),
        "conv6/sep/bn": (1024, 7, 7),
        "pool6": (1024, 1, 1),
        "fc7": (1000, 1, 1),
    },
}


@pytest.mark.parametrize("name", LIGHT)
def test_shapes(name):
    net = deployed(name)
    check_shapes(net, SHAPES[name])
    assert (net.inputs, net.outputs) == (["data"], ["prob"])


def check_shapes(net: caffe.Net, shapes: dict[str, tuple[int, ...]]) -> None:
    batch = net.blobs["data"].shape[0]
    assert {blob: net.blobs[blob].shape for blob in shapes} == {blob: (batch, *shape) for blob, shape in shapes.items()}


def normalized(name: str) -> list[str]:
    """A convolution of ResNet, with what follows it."""
    rest = name.removeprefix("res") if name.startswith("res") else f"_{name}"
    return [name, f"bn{rest}", f"scale{rest}"]


def resnet_names() -> list[str]:
    names = ["conv1"]
    for stage, blocks in ((2, "abc"), (3, "abcd"), (4, "abcdef"), (5, "abc")):
        for block in blocks:
            branches = (["1"] if block == "a" else []) + ["2a", "2b", "2c"]
            names += [f"res{stage}{block}_branch{branch}" for branch in branches]
    return [part for name in names for part in normalized(name)] + ["fc1000"]


def mobilenet_names() -> list[str]:
    blocks = ["2_1", "2_2", "3_1", "3_2", "4_1", "4_2", "5_1", "5_2", "5_3", "5_4", "5_5", "5_6", "6"]
    names = ["conv1", *(f"conv{block}/{kind}" for block in blocks for kind in ("dw", "sep"))]
    return [part for name in names for part in (name, f"{name}/bn", f"{name}/scale")] + ["fc7"]


def googlenet_names() -> list[str]:
    modules = [f"inception_{module}" for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]
    kinds = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")
    ways = [f"{module}/{kind}" for module in modules for kind in kinds]
    return ["conv1/7x7_s2", "conv2/3x3_reduce", "conv2/3x3", *ways, "loss3/classifier"]


KRIZHEVSKY_NAMES = [*(f"conv{i}" for i in range(1, 6)), "fc6", "fc7", "fc8"]
FIRE = [f"fire{i}/{kind}" for i in range(2, 10) for kind in ("squeeze1x1", "expand1x1", "expand3x3")]
NAMES = {
    "bvlc_alexnet": KRIZHEVSKY_NAMES,
    "bvlc_reference_caffenet": KRIZHEVSKY_NAMES,
    "bvlc_googlenet": googlenet_names(),
    "squeezenet_v1.0": ["conv1", *FIRE, "conv10"],
    "squeezenet_v1.1": ["conv1", *FIRE, "conv10"],
    "resnet50": resnet_names(),
    "mobilenet_v1": mobilenet_names(),
}


@pytest.mark.parametrize("name", LIGHT)
def test_names_of_layers_with_parameters(name):
    """By these, published weights find their place."""
    assert list(deployed(name).params) == NAMES[name]


# ---- forward --------------------------------------------------------------------------------------------------------


SCALE = {"resnet50": 0.7}  # each block adds to what came before


def fill(net: caffe.Net, scale: float) -> None:
    """Weights with which values keep their size on their way through the net; a deploy.prototxt itself says zeros."""
    rng = np.random.default_rng(0)
    for node in net.nodes:
        blobs = [blob.data for blob in node.layer.blobs]
        if node.layer.type == "BatchNorm":
            blobs[0][:], blobs[1][:], blobs[2][:] = 0, 1, 1
        elif node.layer.type == "Scale":
            blobs[0][:], blobs[1][:] = scale, 0
        elif blobs:
            weights = rng.random(blobs[0].shape, np.float32)  # of variance 1/12
            blobs[0][...] = (weights - np.float32(0.5)) * np.float32(np.sqrt(24 / weights[0].size))


def check_forward(net: caffe.Net, scale: float = 1) -> None:
    """One image: probabilities, which depend on the image."""
    fill(net, scale)
    net.blobs["data"].reshape(1, *net.blobs["data"].shape[1:])
    image = np.random.default_rng(1).standard_normal(net.blobs["data"].shape, np.float32)
    first, second = (net.forward(data=data)["prob"].flatten().copy() for data in (image, image[..., ::-1]))
    for prob in (first, second):
        assert prob.shape == (1000,)
        assert prob.sum() == pytest.approx(1, abs=1e-4)
        assert prob.max() > 0.002  # not the 1/1000 of a net without weights
    assert abs(first - second).max() > 1e-4


@pytest.mark.parametrize("name", LIGHT)
def test_forward(name):
    net = deployed(name)
    before = {blob: net.blobs[blob].shape for blob in ("data", "prob")}
    check_forward(net, SCALE.get(name, 1))
    for blob, shape in before.items():
        assert net.blobs[blob].shape == (1, *shape[1:])
    net.blobs["data"].reshape(*before["data"])  # as the other tests expect it
    net.reshape()


def test_vgg16():
    """Built once: parameters, shapes, names, and the row of the table."""
    net = caffe.Net(str(MODELS / "vgg16/deploy.prototxt"), caffe.TEST)
    assert vgg16() == net.summary().parameters == 138_357_544
    check_shapes(net, SHAPES["vgg16"])
    assert readme_table()["vgg16"] == table_row(net)
    blocks = [f"conv{block}_{i}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, count + 1)]
    assert list(net.params) == [*blocks, "fc6", "fc7", "fc8"]


@pytest.mark.slow
def test_vgg16_forward():
    check_forward(caffe.Net(str(MODELS / "vgg16/deploy.prototxt"), caffe.TEST))


# ---- training -------------------------------------------------------------------------------------------------------


@pytest.fixture
def databases(tmp_path, monkeypatch):
    """The repository's paths with four images of 256 x 256 in each database, and a mean image."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path("examples/imagenet").mkdir(parents=True)
    for split in ("train", "val"):
        with create_database(f"examples/imagenet/ilsvrc12_{split}_lmdb", "lmdb") as writer:
            for i in range(4):
                datum = array_to_datum(rng.integers(0, 256, (3, 256, 256), np.uint8), 999 - i)
                writer.put(b"%08d" % i, datum.SerializeToString())
    Path("data/ilsvrc12").mkdir(parents=True)
    mean = caffe.io.array_to_blobproto(np.full((1, 3, 256, 256), 120.0))
    Path("data/ilsvrc12/imagenet_mean.binaryproto").write_bytes(mean.SerializeToString())


def solver(name: str, **changes: object) -> caffe.SGDSolver:
    """The solver of a model with batches of two, and with some fields changed."""
    folder = Path("examples/models") / name
    folder.mkdir(parents=True)
    net = (MODELS / name / "train_val.prototxt").read_text("utf-8")
    (folder / "train_val.prototxt").write_text(re.sub(r"batch_size: \d+", "batch_size: 2", net))
    text = (MODELS / name / "solver.prototxt").read_text("utf-8")
    for field, value in changes.items():
        text = re.sub(rf"^{field}: .*\n", "", text, flags=re.MULTILINE) + f"{field}: {value}\n"
    (folder / "solver.prototxt").write_text(text)
    return caffe.get_solver(str(folder / "solver.prototxt"))


SCORES = {
    "bvlc_alexnet": ["accuracy", "loss"],
    "bvlc_reference_caffenet": ["accuracy", "loss"],
    "bvlc_googlenet": [f"loss{i}/{score}" for i in (1, 2, 3) for score in (f"loss{3 if i == 3 else 1}", "top-1", "top-5")],
    "squeezenet_v1.1": ["accuracy", "accuracy_top5", "loss"],
}
HEAVY = ("bvlc_alexnet", "bvlc_reference_caffenet")  # 61 million parameters, with gradients and history


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in TRAINED])
def test_an_iteration_of_training(name, databases):
    fewer = {"iter_size": 2} if name.startswith("squeezenet") else {}
    trained = solver(name, random_seed=1, test_initialization="false", **fewer)
    net, test = trained.net, trained.test_nets[0]
    first, last = (list(net.params)[i] for i in (0, -1))
    before = {layer: net.params[layer][0].data.copy() for layer in (first, last)}
    trained.step(1)
    losses = [float(net.blobs[blob].data) for blob in net.outputs]
    assert all(1 < loss < 30 for loss in losses), losses  # log(1000) is 6.9
    for layer, weights in before.items():
        assert abs(net.params[layer][0].data - weights).max() > 0, layer
    test.share_with(net)
    scores = test.forward()
    assert list(scores) == SCORES[name]
    assert all(np.isfinite(score) for score in scores.values())
    trained.close()


def test_the_side_classifiers_of_googlenet(databases):
    """They make the 13,378,280 parameters in training; the deployed net takes its own from such a model."""
    trained = solver("bvlc_googlenet")
    net = trained.net
    side = conv(128, 512, 1) + conv(128, 528, 1) + 2 * (conv(1024, 128, 4) + conv(1000, 1024, 1))
    assert net.summary().parameters == googlenet() + side == 13_378_280
    assert [round(net.blob_loss_weights[f"loss{i}/loss{last}"], 6) for i, last in ((1, 1), (2, 1), (3, 3))] == [0.3, 0.3, 1]
    net.save("trained.caffemodel")
    used = caffe.Net(str(MODELS / "bvlc_googlenet/deploy.prototxt"), caffe.TEST, weights="trained.caffemodel")
    for name, blobs in used.params.items():
        np.testing.assert_array_equal(blobs[0].data, net.params[name][0].data)
    trained.close()
