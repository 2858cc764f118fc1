"""A few cases of the conformance kit, for those who do not have it: what Caffe 1.0 computed, in `kit_samples`.

The files are those of the kit (`layers`, `nets` and `solvers`, each with a `manifest.json` of its cases). They are checked
through the names that pycaffe scripts use.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import pycaffe_lite as caffe

SAMPLES = Path(__file__).with_name("kit_samples")
LAYERS, NETS, SOLVERS = (
    json.loads((SAMPLES / folder / "manifest.json").read_text())["cases"] for folder in ("layers", "nets", "solvers")
)


def cases(manifest: list[dict]):
    return pytest.mark.parametrize("case", manifest, ids=[case["id"] for case in manifest])


@pytest.fixture
def enter(tmp_path, monkeypatch):
    """Makes a copy of a folder of samples the current one."""

    def enter(folder: str) -> None:
        shutil.copytree(SAMPLES / folder, tmp_path / folder)
        monkeypatch.chdir(tmp_path / folder)

    return enter


def load(case: dict) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The arrays of a case, and its tolerances."""
    with np.load(case["npz"]) as archive:
        return dict(archive), {"rtol": case["rtol"], "atol": case["atol"]}


def close(got: np.ndarray, want: np.ndarray, what: str, **tolerance: float) -> None:
    assert got.shape == want.shape, what
    np.testing.assert_allclose(got, want, **tolerance, err_msg=what)


def weights(net: caffe.Net) -> dict[str, np.ndarray]:
    return {f"{name}/{i}": blob.data.copy() for name, blobs in net.params.items() for i, blob in enumerate(blobs)}


@cases(LAYERS)
def test_layer(enter, case):
    enter("layers")
    arrays, tolerance = load(case)
    net = caffe.Net(case["prototxt"], getattr(caffe, case["phase"]))
    blobs = net.params.get("op", [])
    assert len(blobs) == case["num_params"]
    for name in case["inputs"]:
        net.blobs[name].data[...] = arrays[f"bottom/{name}"]
    for i, blob in enumerate(blobs):
        blob.data[...] = arrays[f"param/{i}"]
    net.forward()
    for name in case["tops"]:
        close(net.blobs[name].data, arrays[f"top/{name}"], name, **tolerance)
    net.clear_param_diffs()
    for name in case["inject"]:
        net.blobs[name].diff[...] = arrays[f"top_diff/{name}"]
    net.backward()
    for name in case["inputs"]:
        if f"bottom_diff/{name}" in arrays:
            close(net.blobs[name].diff, arrays[f"bottom_diff/{name}"], f"gradient of {name}", **tolerance)
    for i, blob in enumerate(blobs):
        close(blob.diff, arrays[f"param_diff/{i}"], f"gradient of parameter {i}", **tolerance)


@cases(NETS)
@pytest.mark.parametrize("model", ["weights", "weights_hdf5"])
def test_net(enter, case, model):
    enter("nets")
    arrays, tolerance = load(case)
    net = caffe.Net(case["prototxt"], case[model], getattr(caffe, case["phase"]))
    structure = case["structure"]
    assert list(net.layer_dict) == structure["layer_names"]
    assert [layer.type for layer in net.layers] == structure["layer_types"]
    assert net.bottom_names == structure["bottom_names"]
    assert net.top_names == structure["top_names"]
    assert {name: list(blob.shape) for name, blob in net.blobs.items()} == dict(
        zip(structure["blob_names"], structure["blob_shapes"], strict=True)
    )
    assert (net.inputs, net.outputs) == (structure["inputs"], structure["outputs"])
    out = net.forward(**{name: arrays[f"input/{name}"] for name in net.inputs})
    assert sorted(out) == structure["outputs"]
    for name, blob in net.blobs.items():
        close(blob.data, arrays[f"blob/{name}"], name, **tolerance)
    net.clear_param_diffs()
    net.backward()
    for name, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            close(blob.diff, arrays[f"param_diff/{name}/{i}"], f"gradient of {name} {i}", **tolerance)


@cases(NETS)
def test_saved_net(enter, case):
    enter("nets")
    net = caffe.Net(case["prototxt"], case["weights"], caffe.TEST)
    want = weights(net)
    net.save("own.caffemodel")
    net.save_hdf5("own.caffemodel.h5")
    for file in ("own.caffemodel", "own.caffemodel.h5"):
        got = weights(caffe.Net(case["prototxt"], file, caffe.TEST))
        assert list(got) == list(want)
        assert all((got[key] == want[key]).all() for key in want)
    saved = caffe.proto.caffe_pb2.NetParameter.FromString(Path("own.caffemodel").read_bytes())
    assert [layer.name for layer in saved.layer] == [layer["name"] for layer in case["structure"]["saved_layers"]]


@cases(SOLVERS)
@pytest.mark.parametrize(("file", "snapshot"), [("solver", "snapshot_binary"), ("solver_hdf5", "snapshot_hdf5")])
def test_solver(enter, case, file, snapshot):
    """The whole run, then the second half again: from Caffe's snapshot, and from the one that the run wrote over it."""
    enter("solvers")
    arrays, tolerance = load(case)
    middle, end = case["snapshot_iter"], case["iterations"]
    state = Path(case[snapshot]["state"])
    resumed = caffe.get_solver(case[file])
    resumed.restore(str(state))
    run(resumed, case, arrays, middle, end, tolerance)
    state.unlink()
    solver = caffe.get_solver(case[file])
    solver.net.copy_from(case["init"])
    run(solver, case, arrays, 0, middle, tolerance)
    solver.snapshot()
    run(solver, case, arrays, middle, end, tolerance)
    again = caffe.get_solver(case[file])
    again.restore(str(state))
    run(again, case, arrays, middle, end, tolerance)


def run(solver, case: dict, arrays: dict[str, np.ndarray], first: int, last: int, tolerance: dict[str, float]) -> None:
    assert solver.iter == first
    for iteration in range(first, last):
        solver.step(1)
        close(solver.net.blobs[case["loss_blob"]].data, arrays["loss"][iteration], f"loss {iteration}", **tolerance)
        for key, value in weights(solver.net).items():
            if iteration + 1 in case["weights_at"]:
                close(value, arrays[f"w{iteration + 1}/{key}"], f"{key} after {iteration + 1}", **tolerance)
    assert solver.iter == last
