"""examples/mnist and examples/feature_extraction on twenty drawn digits: as they stand, or with less to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pycaffe_lite as caffe
from pycaffe_lite import glog
from pycaffe_lite.cli import check, synthetic_digits
from pycaffe_lite.io import array_to_blobproto

REPOSITORY = Path(__file__).resolve().parent.parent
MNIST, FEATURES = Path("examples/mnist"), Path("examples/feature_extraction")
COUNT = 20  # digits of each set, and of each batch where it is made smaller

LENET, AUTOENCODER = 431_080, 2_837_314  # parameters
NETS = {
    "mnist/lenet_train_test": LENET,
    "mnist/lenet": LENET,
    "mnist/mnist_autoencoder": AUTOENCODER,
    "feature_extraction/lenet_val": LENET,
}
SOLVERS = {  # type, parameters, test nets
    "lenet_solver": ("SGD", LENET, 1),
    "lenet_multistep_solver": ("SGD", LENET, 1),
    "lenet_consolidated_solver": ("SGD", LENET, 2),
    "lenet_adadelta_solver": ("AdaDelta", LENET, 1),
    "lenet_solver_adam": ("Adam", LENET, 1),
    "lenet_solver_rmsprop": ("RMSProp", LENET, 1),
    "mnist_autoencoder_solver": ("SGD", AUTOENCODER, 2),
    "mnist_autoencoder_solver_nesterov": ("Nesterov", AUTOENCODER, 2),
    "mnist_autoencoder_solver_adagrad": ("AdaGrad", AUTOENCODER, 2),
    "mnist_autoencoder_solver_adadelta": ("AdaDelta", AUTOENCODER, 2),
}
AUTO = "lenet_auto_solver"  # its nets are made by the readme


def run(folder: Path, script: Path, *words: str) -> str:
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([folder / script, *words], cwd="/", env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def run_python_of(readme: Path) -> dict[str, Any]:
    """Runs the Python of a readme, and gives the names that it leaves."""
    (code,) = re.findall("```python\n(.*?)```", (REPOSITORY / readme).read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, readme, "exec"), names)
    return names


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A copy of the examples with the databases, made by their script. There batches have all digits, and a test is one."""
    folder = tmp_path_factory.mktemp("clone")
    leave = shutil.ignore_patterns("*db", "*.caffemodel*", "*.solverstate*", "*.log", "lenet_auto_t*")
    for example in MNIST, FEATURES:
        shutil.copytree(REPOSITORY / example, folder / example, ignore=leave)
    synthetic_digits.write(folder / "data/mnist", 1, COUNT, COUNT)
    run(folder, MNIST / "create_mnist.sh")
    for file in (folder / "examples").glob("*/*.prototxt"):
        text = re.sub("batch_size: [0-9]+", f"batch_size: {COUNT}", file.read_text())
        file.write_text(re.sub("test_iter: [0-9]+", "test_iter: 1", text))
    return folder


@pytest.fixture(autouse=True)
def in_the_clone(clone, monkeypatch):
    monkeypatch.chdir(clone)
    yield
    glog.set_min_level(0)


def close(solver) -> None:
    for net in (solver.net, *solver.test_nets):
        net.close()


def test_all_prototxts_are_known():
    names = {file.stem for file in (REPOSITORY / MNIST).glob("*.prototxt") if not file.name.startswith("lenet_auto_t")}
    assert names == {*(name.removeprefix("mnist/") for name in NETS if name.startswith("mnist/")), *SOLVERS, AUTO}


def test_no_complaints(capsys):
    """The test nets of the autoencoder are made by its solvers: without their stages it has no data for them."""
    names = [f"mnist/{name}" for name in SOLVERS] + [name for name in NETS if name != "mnist/mnist_autoencoder"]
    files = [str(REPOSITORY / "examples" / f"{name}.prototxt") for name in names]
    assert check.main(files) == 0
    assert capsys.readouterr().out.splitlines() == [f"{file}: no errors, no warnings" for file in files]
    assert check.main(["--phase=TRAIN", str(REPOSITORY / MNIST / "mnist_autoencoder.prototxt")]) == 0
    assert "no errors, no warnings" in capsys.readouterr().out


@pytest.mark.parametrize("name", NETS)
def test_nets(name):
    net = caffe.Net(str(REPOSITORY / "examples" / f"{name}.prototxt"), caffe.TRAIN)
    assert sum(blob.count for blobs in net.params.values() for blob in blobs) == NETS[name]
    assert net.blobs["data"].shape == (64 if "lenet" in name and "val" not in name else 100, 1, 28, 28)
    net.close()


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers(name):
    """On a batch that is always the same the loss falls. The rate of RMSProp is too high for so few digits."""
    kind, count, tests = SOLVERS[name]
    text = (MNIST / f"{name}.prototxt").read_text()
    text += "" if "random_seed" in text else "random_seed: 1"
    Path("seeded.prototxt").write_text(text.replace("0.01", "0.001") if kind == "RMSProp" else text)
    solver = caffe.get_solver("seeded.prototxt")
    assert solver.param.type == kind
    assert Path(solver.param.snapshot_prefix).parent == MNIST
    assert sum(learnable.blob.count for learnable in solver.net.learnable) == count
    assert len(solver.test_nets) == tests
    losses = []
    for _ in range(12):
        solver.step(1)
        losses.append(sum(float(blob.data) for name, blob in solver.net.blobs.items() if name.endswith("loss")))
    assert losses[-1] < 0.99 * losses[0], losses
    close(solver)


def test_solvers_write_to_places_of_their_own():
    names = [re.findall('snapshot_prefix: "(.*)"', file.read_text()) for file in MNIST.glob("*_solver*.prototxt")]
    assert len({name for (name,) in names}) == len(names) == len(SOLVERS) + 1


def test_two_test_nets_read_their_own_data():
    """Without the stages both would read the same."""
    for name, (top, train, test) in {
        "lenet_consolidated_solver": ("label", 1, 0),
        "mnist_autoencoder_solver": ("data", 0, 1),
    }.items():
        solver = caffe.get_solver(str(MNIST / f"{name}.prototxt"))
        for net in (solver.net, *solver.test_nets):
            net.forward()
        seen = [net.blobs[top].data for net in solver.test_nets]
        np.testing.assert_array_equal(seen[train], solver.net.blobs[top].data)
        assert not np.array_equal(seen[test], solver.net.blobs[top].data)
        close(solver)


def test_the_nets_that_the_readme_makes(monkeypatch, capsys):
    """Its Python runs as it stands, in the folder that it names."""
    monkeypatch.chdir("examples")
    run_python_of(MNIST / "readme.md")
    for split, batch in ("train", 64), ("test", 100):
        assert f"batch_size: {batch}" in Path(f"mnist/lenet_auto_{split}.prototxt").read_text()
    assert check.main([f"mnist/{AUTO}.prototxt"]) == 0
    assert "no errors, no warnings" in capsys.readouterr().out
    solver = caffe.get_solver(f"mnist/{AUTO}.prototxt")
    assert sum(learnable.blob.count for learnable in solver.net.learnable) == LENET
    solver.step(1)
    first = float(solver.net.blobs["loss"].data)
    solver.step(4)
    assert solver.net.blobs["loss"].data < first
    close(solver)


def test_readme_names_all_files():
    readme = (REPOSITORY / MNIST / "readme.md").read_text()
    for file in (*(REPOSITORY / MNIST).glob("*_solver*.prototxt"), *(REPOSITORY / MNIST).glob("*.sh")):
        assert file.name in readme


SCRIPTS = {
    "train_lenet": "lenet_solver",
    "train_lenet_adam": "lenet_solver_adam",
    "train_lenet_rmsprop": "lenet_solver_rmsprop",
    "train_lenet_consolidated": "lenet_consolidated_solver",
    "train_mnist_autoencoder": "mnist_autoencoder_solver",
    "train_mnist_autoencoder_adadelta": "mnist_autoencoder_solver_adadelta",
    "train_mnist_autoencoder_adagrad": "mnist_autoencoder_solver_adagrad",
    "train_mnist_autoencoder_nesterov": "mnist_autoencoder_solver_nesterov",
}


@pytest.mark.skipif(shutil.which("sh") is None, reason="no sh")
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts(clone, script):
    """Two iterations, with a flag handed on."""
    solver = MNIST / f"{SCRIPTS[script]}.prototxt"
    text = re.sub("max_iter: [0-9]+", "max_iter: 2", solver.read_text())
    solver.write_text(re.sub("snapshot: [0-9]+", "snapshot: 0 snapshot_after_train: false", text))
    log = run(clone, MNIST / f"{script}.sh", "--on-nan=stop")
    assert "Optimization Done" in log
    assert log.count("Testing net (#0)") == 1
    assert ("Test net output #0: cross_entropy_loss = " if "auto" in script else "Test net output #0: accuracy = ") in log


# -------------------------------------------------------------------------------------------------- feature_extraction
@pytest.mark.skipif(shutil.which("sh") is None, reason="no sh")
def test_features_of_lenet(clone):
    """The script's database holds what the net computes, ten batches of it, and the readme's Python reads it."""
    net = caffe.Net(str(FEATURES / "lenet_val.prototxt"), caffe.TEST)
    rng = np.random.default_rng(1)
    for blobs in net.params.values():
        blobs[0].data[...] = rng.normal(0, 0.1, blobs[0].shape)
    net.save("lenet.caffemodel")
    for _ in range(2):  # what is there is replaced
        run(clone, FEATURES / "extract_lenet_features.sh", "lenet.caffemodel")
    net.forward()
    features = run_python_of(FEATURES / "readme.md")["features"]
    assert len(features) == 10 * COUNT
    np.testing.assert_allclose(features[:COUNT], net.blobs["ip1"].data, rtol=1e-5)
    assert np.ptp(features) > 0
    net.close()


def test_imagenet_val(capsys):
    """CaffeNet, on two images; its 61 million weights are zero without a model."""
    for folder in "examples/_temp", "data/ilsvrc12":
        Path(folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(f"examples/_temp/{i}.png")
    Path("examples/_temp/file_list.txt").write_text("examples/_temp/0.png 0\nexamples/_temp/1.png 0\n")
    mean = array_to_blobproto(np.full((1, 3, 256, 256), 100, np.float32))
    Path("data/ilsvrc12/imagenet_mean.binaryproto").write_bytes(mean.SerializeToString())
    file = str(REPOSITORY / FEATURES / "imagenet_val.prototxt")
    assert check.main(["--phase=TEST", file]) == 0
    assert "no errors, no warnings" in capsys.readouterr().out
    text = Path(file).read_text().replace("batch_size: 50", "batch_size: 2")
    Path("imagenet_val.prototxt").write_text(text)
    net = caffe.Net("imagenet_val.prototxt", caffe.TEST)
    assert sum(blob.count for blobs in net.params.values() for blob in blobs) == 60_965_224
    assert net.blobs["data"].shape == (2, 3, 227, 227)
    assert net.blobs["pool5"].shape == (2, 256, 6, 6)
    net.close()
