"""The scripts, layers and nets of examples/pycaffe, with `import caffe` as they have it."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pycaffe_lite as caffe
from pycaffe_lite.check import check
from pycaffe_lite.proto import read_net, read_solver

REPOSITORY = Path(__file__).parent.parent
EXAMPLE = REPOSITORY / "examples/pycaffe"
OURS = ("caffe", "caffenet", "my_layers", "pyloss", "shapes_datalayer", "tools")


@pytest.fixture(autouse=True)
def as_caffe(monkeypatch, tmp_path):
    """An empty folder, where `import caffe` and the modules of the example work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for folder in (EXAMPLE, EXAMPLE / "layers"):
        monkeypatch.syspath_prepend(str(folder))
    forget()
    caffe.install_as_caffe()
    yield
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]


def run(script: str, *arguments: str) -> str:
    """What a script prints, in a process of its own."""
    command = [sys.executable, "-m", "pycaffe_lite", "run", str(EXAMPLE / script), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- the loss -------------------------------------------------------------------------------------------------------


def test_linear_regression_learns():
    first, last = map(float, re.findall(r"\d+\.\d+", run("linreg.py", "40")))
    assert first > 1
    assert last < first / 10


def test_linreg_prototxt_passes_check():
    findings, _ = check(str(EXAMPLE / "linreg.prototxt"))
    assert not findings.errors
    assert all("what it computes is not checked" in warning for warning in findings.warnings)


def losses(more: str = "") -> str:
    """The loss in Python and Caffe's own on the same two inputs."""
    return f"""
    layer {{ name: "in" type: "Input" top: "a" top: "b"
      input_param {{ shape {{ dim: 4 dim: 3 dim: 2 }} shape {{ dim: 4 dim: 6 }} }} }}
    layer {{ name: "flat" type: "Flatten" bottom: "a" top: "flat" }}
    layer {{ name: "own" type: "EuclideanLoss" bottom: "flat" bottom: "b" top: "own" loss_weight: 2 }}
    layer {{ name: "python" type: "Python" bottom: "a" bottom: "b" top: "python" loss_weight: 2
      python_param {{ module: "pyloss" layer: "EuclideanLossLayer" }} }} {more}"""


def test_the_loss_is_that_of_caffe():
    Path("both.prototxt").write_text("force_backward: true" + losses())
    both = caffe.Net("both.prototxt", caffe.TRAIN)
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        both.blobs[name].data[...] = rng.standard_normal(both.blobs[name].shape)
    out = both.forward()
    assert float(out["python"][0]) == pytest.approx(float(out["own"]), rel=1e-5)
    assert out["own"] > 0
    gradients = []
    for start in ("python", "own"):
        both.backward(start=start, end=start)
        node = next(node for node in both.nodes if node.name == start)
        gradients.append([blob.diff.flatten().copy() for blob in node.bottom])
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-5)
    assert abs(gradients[0][0]).max() > 0.1


def test_the_loss_wants_two_bottoms_of_equal_counts():
    start = losses().partition('layer { name: "flat"')[0]
    python = 'type: "Python" top: "l" python_param { module: "pyloss" layer: "EuclideanLossLayer" }'
    Path("one.prototxt").write_text(f'{start} layer {{ name: "l" {python} bottom: "a" }}')
    with pytest.raises(ValueError, match="expected two bottoms, received 1"):
        caffe.Net("one.prototxt", caffe.TRAIN)
    start = start.replace("dim: 6", "dim: 5")
    Path("unequal.prototxt").write_text(f'{start} layer {{ name: "l" {python} bottom: "a" bottom: "b" }}')
    with pytest.raises(ValueError, match="equal counts, received 24 and 20"):
        caffe.Net("unequal.prototxt", caffe.TRAIN)


# ---- the data layer -------------------------------------------------------------------------------------------------

COLOURS = {"red": (250, 10, 20), "blue": (5, 15, 240), "both": (200, 0, 200), "none": (0, 100, 0)}


def shapes_net(**changes: object) -> caffe.Net:
    """A net with the data layer, on four images of one colour each."""
    Path("images").mkdir(exist_ok=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (10, 8), colour).save(f"images/{name}.png")
    Path("images/labels.txt").write_text("red.png red\nblue.png blue\nboth.png blue red\n\nnone.png\n")
    settings = {"folder": "images", "batch_size": 3, "size": [4, 6], "labels": ["red", "blue"], "shuffle": False, **changes}
    given = json.dumps({name: value for name, value in settings.items() if value is not None})
    Path("net.prototxt").write_text(
        f"""layer {{ name: "data" type: "Python" top: "data" top: "label"
        python_param {{ module: "shapes_datalayer" layer: "ShapesDataLayer" param_str: {json.dumps(given)} }} }}"""
    )
    return caffe.Net("net.prototxt", caffe.TRAIN)


def test_data_layer_gives_images_and_labels_in_order():
    net = shapes_net(mean=[1, 2, 3])
    net.forward()
    assert net.blobs["data"].shape == (3, 3, 4, 6)
    for image, colour in zip(net.blobs["data"].data, ("red", "blue", "both")):
        r, g, b = COLOURS[colour]
        np.testing.assert_array_equal(image, np.broadcast_to(np.reshape([b - 1, g - 2, r - 3], (3, 1, 1)), (3, 4, 6)))
    np.testing.assert_array_equal(net.blobs["label"].data, [[1, 0], [0, 1], [1, 1]])
    net.forward()  # the last image, and the first ones again
    np.testing.assert_array_equal(net.blobs["label"].data, [[0, 0], [1, 0], [0, 1]])


def test_data_layer_shuffles_each_round():
    caffe.set_random_seed(1)
    net = shapes_net(shuffle=True, batch_size=4)
    rounds = []
    for _ in range(8):
        net.forward()
        rounds.append([tuple(label) for label in net.blobs["label"].data.astype(int).tolist()])
    assert all(sorted(labels) == [(0, 0), (0, 1), (1, 0), (1, 1)] for labels in rounds)
    assert len(set(map(tuple, rounds))) > 2


def test_data_layer_mirrors_half_of_the_images():
    caffe.set_random_seed(1)
    net = shapes_net(batch_size=40)
    picture = np.zeros((8, 10, 3), np.uint8)
    picture[:, 5:] = 255
    for name in COLOURS:
        Image.fromarray(picture).save(f"images/{name}.png")
    net.forward()
    bright_left = net.blobs["data"].data[:, 0, 0, 0] > 0
    assert 10 <= bright_left.sum() <= 30


def test_data_layer_goes_on_where_it_was():
    caffe.set_random_seed(1)
    net, again = (shapes_net(shuffle=True) for _ in range(2))
    net.forward()
    state = json.loads(json.dumps(net.nodes[0].layer.save_state()))
    again.nodes[0].layer.load_state(state)
    for _ in range(5):
        net.forward()
        again.forward()
        np.testing.assert_array_equal(net.blobs["label"].data, again.blobs["label"].data)


def test_data_layer_says_what_is_wrong():
    with pytest.raises(ValueError, match='lacks "batch_size"'):
        shapes_net(batch_size=None)
    with pytest.raises(ValueError, match=r'labels.txt:2: unknown label "blue"; there are red, green'):
        shapes_net(labels=["red", "green"])
    Path("empty").mkdir()
    Path("empty/labels.txt").write_text("\n")
    with pytest.raises(ValueError, match="names no image"):
        shapes_net(folder="empty")


def test_multilabel_learns():
    before, after = map(float, re.findall(r"(\d+\.\d)%", run("multilabel.py", "150")))
    assert before < 75
    assert after > 85


# ---- NetSpec and tools ----------------------------------------------------------------------------------------------


def test_caffenet_is_the_caffenet_of_the_models():
    """Layers of the same types in the same order, with the same geometry; names are made up."""
    run("caffenet.py", "train_db", "test_db")
    net, _ = read_net("train.prototxt")
    known, _ = read_net(str(REPOSITORY / "examples/models/bvlc_reference_caffenet/train_val.prototxt"))
    written = [layer for layer in net.layer if layer.type != "Data"]
    expected = [layer for layer in known.layer if layer.type not in ("Data", "Accuracy")]
    for layer, other in zip(written, expected, strict=True):
        assert geometry(layer) == geometry(other), other.name
    assert net.layer[0].data_param.source == "train_db"
    assert net.layer[0].transform_param.mirror
    for path in ("train.prototxt", "test.prototxt"):
        findings, _ = check(path)
        assert not findings.errors
    test, _ = read_net("test.prototxt")
    assert test.layer[0].data_param.source == "test_db"
    assert not test.layer[0].transform_param.mirror
    assert "Accuracy" in [layer.type for layer in test.layer]


def geometry(layer) -> tuple:
    convolution, pooling, lrn = layer.convolution_param, layer.pooling_param, layer.lrn_param
    sizes = [tuple(getattr(convolution, name)) for name in ("kernel_size", "stride", "pad")]
    rest = (pooling.kernel_size, pooling.stride, pooling.pool, lrn.local_size, lrn.alpha, lrn.beta)
    outputs = (convolution.num_output, convolution.group, layer.inner_product_param.num_output)
    return (layer.type, *sizes, *rest, *outputs, layer.dropout_param.dropout_ratio, layer.bottom[0] == layer.top[0])


def test_transformer_there_and_back():
    tools = importlib.import_module("tools")
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    transformer = tools.SimpleTransformer(mean=[1, 2, 3])
    transformer.set_scale(0.5)
    array = transformer.preprocess(image)
    assert array.shape == (3, 5, 7)
    assert array[0, 2, 3] == (image[2, 3, 2] - 1.0) / 2  # blue first
    np.testing.assert_array_equal(transformer.deprocess(array), image)
    transformer.set_mean([0, 0, 0])
    assert transformer.preprocess(image)[2, 0, 0] == image[0, 0, 0] / 2


def test_solver_file():
    tools = importlib.import_module("tools")
    settings = tools.CaffeSolver("a.prototxt", "b.prototxt", debug=True)
    settings.sp["base_lr"] = 0.25
    settings.write("solver.prototxt")
    param, _ = read_solver("solver.prototxt")
    assert (param.train_net, list(param.test_net), param.base_lr, param.max_iter) == ("a.prototxt", ["b.prototxt"], 0.25, 12)
    assert (list(param.test_iter), param.test_interval, param.momentum, param.snapshot) == ([1], 4, np.float32(0.9), 2500)
    settings.sp["base_rate"] = 1
    with pytest.raises(ValueError, match="base_rate"):
        settings.write("solver.prototxt")


def test_readme_names_what_is_there(monkeypatch):
    readme = (EXAMPLE / "readme.md").read_text("utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert (EXAMPLE / target).exists(), target
    for script in re.findall(r"pycaffe_lite run (\S+?)`", readme):
        assert (REPOSITORY / script).exists(), script
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    Path("my_layers.py").write_text(code)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    layer = '{ name: "s" type: "Python" bottom: "x" top: "y" python_param { module: "my_layers" layer: "Scale" } }'
    Path("net.prototxt").write_text(f'input: "x" input_shape {{ dim: 2 dim: 2 }} layer {layer}')
    net = caffe.Net("net.prototxt", caffe.TEST)
    assert net.forward(x=np.ones((2, 2)))["y"].tolist() == [[3, 3], [3, 3]]
