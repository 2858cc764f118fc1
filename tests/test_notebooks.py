"""The notebooks of examples/ run from the first cell to the last, offline and on small data, and draw their pictures."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from google.protobuf import text_format
from nbclient import NotebookClient

from pycaffe_lite.proto.caffe_pb2 import NetParameter

EXAMPLES = Path(__file__).parent.parent / "examples"
# The number of pictures, and what the last of the text says.
NOTEBOOKS = {
    "00-classification": (6, "as above:"),
    "01-learning-lenet": (5, "accuracy after 12 iterations:"),
    "02-fine-tuning": (3, "test accuracy:"),
    "brewing-logreg": (3, "without the hidden layer:"),
    "net_surgery": (5, "largest difference from the window alone:"),
}
# The ends of warnings: these notebooks copy weights into nets with new layers.
NEW_LAYERS = {
    "02-fine-tuning": ['keeps its values: "fc4_new"'] * 2,  # it trains twice
    "net_surgery": ['keep their values: "fc3-conv", "fc4-conv"'],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The notebooks and what they need, without the weights and databases of whoever works with the repository."""
    for notebook in EXAMPLES.glob("*.ipynb"):
        shutil.copy(notebook, tmp_path)
    shutil.copy(EXAMPLES / "shapes.py", tmp_path)
    shutil.copytree(EXAMPLES / "net_surgery", tmp_path / "net_surgery")
    monkeypatch.setenv("PYCAFFE_LITE_QUICK", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(folder: Path, name: str) -> tuple[list, str]:
    """Executes a notebook; returns its outputs, and what it printed."""
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return outputs, "".join(output["text"] for output in outputs if output.output_type == "stream")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook(folder, name):
    pictures, last = NOTEBOOKS[name]
    outputs, text = run(folder, name)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == pictures
    assert last in text.splitlines()[-1]
    stderr = "".join(output["text"] for output in outputs if output.get("name") == "stderr")
    warnings = [line for line in stderr.splitlines() if "synthetic digits (not MNIST)" not in line]
    assert [line.partition("which ")[2] for line in warnings] == NEW_LAYERS.get(name, [])
    if name == "net_surgery":  # the casting is exact, whatever the weights
        assert float(text.split()[-1]) < 1e-5


def test_every_notebook_is_tested():
    assert set(NOTEBOOKS) == {path.stem for path in EXAMPLES.glob("*.ipynb")}


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("[!.]*.ipynb")), ids=lambda path: path.stem)
def test_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert not any(cell.outputs or cell.execution_count for cell in code)


def test_index():
    """The readme names every folder and notebook, and nothing that is not there."""
    links = set(re.findall(r"\]\(([^)]+)\)", (EXAMPLES / "readme.md").read_text(encoding="utf-8")))
    assert [link for link in links if not (EXAMPLES / link).exists()] == []
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))}
    assert folders == {link.partition("/")[0] for link in links if not link.endswith(".ipynb")}
    assert {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("[!.]*.ipynb")} <= links


# ---- what stands beside the notebooks -------------------------------------------------------------------------------


def layers(path: Path) -> list:
    return list(text_format.Parse(path.read_text(), NetParameter()).layer)


@pytest.mark.parametrize(
    ("model", "cast"),
    [
        ("net_surgery/shapes.prototxt", "net_surgery/shapes_full_conv.prototxt"),
        ("models/bvlc_reference_caffenet/deploy.prototxt", "net_surgery/bvlc_caffenet_full_conv.prototxt"),
    ],
)
def test_full_conv_prototxts(model, cast):
    """The two differ in the input's size and in the fully connected layers, whose outputs are as many."""
    dense = 0
    for old, new in zip(layers(EXAMPLES / model), layers(EXAMPLES / cast), strict=True):
        assert old.name == new.name.removesuffix("-conv")
        assert [top.removesuffix("-conv") for top in new.top] == old.top
        if old.type == "InnerProduct":
            dense += 1
            assert new.type == "Convolution"
            assert new.convolution_param.num_output == old.inner_product_param.num_output
        elif old.type != "Input":
            for layer in (old, new):
                layer.ClearField("bottom")
                layer.ClearField("top")
                layer.convolution_param.ClearField("weight_filler")
            assert old == new
    assert dense >= 2


@pytest.fixture(scope="module")
def shapes():
    spec = importlib.util.spec_from_file_location("shapes", EXAMPLES / "shapes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shapes(shapes):
    names = ["red star", "nothing", *shapes.SHAPES]
    images, labels = shapes.draw(names, 200, size=24, seed=5)
    assert images.shape == (200, 24, 24, 3)
    assert images.dtype == np.uint8
    assert set(labels) == set(range(len(names)))
    again, _ = shapes.draw(names, 200, size=24, seed=5)
    np.testing.assert_array_equal(images, again)
    red, green, blue = images[labels == 0][:, 12, 12].mean(0)  # the star is in the middle
    assert red > 2 * max(green, blue)


def test_scene(shapes):
    image = shapes.scene(["red circle", "blue circle"], 40, 80, radius=10)
    assert image.shape == (40, 80, 3)
    left, right = image[20, 20].astype(int), image[20, 60].astype(int)
    assert left[0] - left[2] > 80
    assert right[2] - right[0] > 80
