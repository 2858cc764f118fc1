"""Runs single layers without a net: on random bottoms (`Rig`), or on the fixtures of the conformance kit (`replay`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

import pycaffe_lite.layer_types  # noqa: F401  registers the types
from pycaffe_lite.blob import Blob
from pycaffe_lite.layer import create
from pycaffe_lite.proto.caffe_pb2 import TEST, TRAIN, LayerParameter, NetParameter

EPSILON = 1e-6


def parse_layer(text: str, phase: int = TRAIN) -> LayerParameter:
    """A LayerParameter from the inside of a `layer { }`."""
    param = text_format.Parse(text, LayerParameter())
    param.phase = phase
    return param


class Rig:
    """One layer with its bottoms and tops, set up and shaped."""

    def __init__(
        self,
        param: LayerParameter,
        bottoms: Sequence[np.ndarray],
        tops: int = 1,
        dtype: Any = np.float64,
    ):
        self.layer = create(param)
        self.layer.dtype = np.dtype(dtype)
        self.bottom = [Blob(array.shape, dtype=dtype) for array in bottoms]
        self.top = [Blob(dtype=dtype) for _ in range(tops)]
        self.write(bottoms)
        self.layer.check_counts(len(self.bottom), len(self.top))
        self.layer.setup(self.bottom, self.top)
        self.layer.reshape(self.bottom, self.top)

    def write(self, bottoms: Sequence[np.ndarray]) -> None:
        """New bottoms, perhaps of another shape."""
        for blob, array in zip(self.bottom, bottoms, strict=True):
            blob.reshape(array.shape)
            blob.data[...] = array

    def forward(self, seed: int = 3) -> list[np.ndarray]:
        """Copies of the tops. The layer's random draws are those of `seed`."""
        self.layer._rng = np.random.default_rng(seed)
        self.layer.reshape(self.bottom, self.top)
        self.layer.forward(self.bottom, self.top)
        return [blob.data.copy() for blob in self.top]

    def backward(self, top_diffs: Sequence[np.ndarray], propagate_down: Sequence[bool]) -> list[np.ndarray]:
        """Copies of the bottoms' gradients; those of the parameters start from 0."""
        for blob in self.layer.blobs:
            blob.diff[...] = 0
        for blob, diff in zip(self.top, top_diffs, strict=True):
            blob.diff[...] = diff
        self.layer.backward(self.top, propagate_down, self.bottom)
        return [blob.diff.copy() for blob in self.bottom]


def check_gradient(rig: Rig, bottoms: Sequence[int], rng: np.random.Generator, rtol: float) -> None:
    """Compares backward with the slope of forward along one random direction for each of `bottoms` and each parameter."""
    weights = [rng.normal(size=array.shape) for array in rig.forward()]
    gradients = rig.backward(weights, [i in bottoms for i in range(len(rig.bottom))])
    targets = [(f"bottom {i}", rig.bottom[i].data, gradients[i]) for i in bottoms]
    targets += [(f"parameter {i}", blob.data, blob.diff.copy()) for i, blob in enumerate(rig.layer.blobs)]
    for name, values, gradient in targets:
        start, direction = values.copy(), rng.normal(size=values.shape)
        slopes = []
        for step in (EPSILON, -EPSILON):
            values[...] = start + step * direction
            slopes.append(sum(float(np.sum(w * y)) for w, y in zip(weights, rig.forward(), strict=True)))
        values[...] = start
        numeric, analytic = (slopes[0] - slopes[1]) / (2 * EPSILON), float(np.sum(gradient * direction))
        assert abs(numeric - analytic) <= rtol * max(abs(numeric), abs(analytic)) + 1e-8, (name, numeric, analytic)


def replay(folder: Path, case: dict[str, Any]) -> None:
    """Runs a case of the kit's `layers` folder in float32 and compares all that its manifest asks for.

    The layer is taken out of its net, so the net must be Input layers and the layer itself: see `is_single`.
    """
    param = _read_net(folder, case).layer[-1]
    param.phase = TEST if case["phase"] == "TEST" else TRAIN
    with np.load(folder / case["npz"]) as archive:
        arrays = dict(archive)
    rig = Rig(param, [arrays[f"bottom/{name}"] for name in param.bottom], len(param.top), np.float32)
    for i, blob in enumerate(rig.layer.blobs):
        blob.data[...] = arrays[f"param/{i}"]

    def compare(got: np.ndarray, key: str) -> None:
        assert got.shape == arrays[key].shape, key
        np.testing.assert_allclose(got, arrays[key], case["rtol"], case["atol"], err_msg=key)

    for got, name in zip(rig.forward(), param.top, strict=True):
        compare(got, f"top/{name}")
    if case["backward"]:
        wanted = [f"bottom_diff/{name}" in arrays for name in param.bottom]
        gradients = rig.backward([arrays[f"top_diff/{name}"] for name in param.top], wanted)
        for name, gradient, is_wanted in zip(param.bottom, gradients, wanted, strict=True):
            if is_wanted:
                compare(gradient, f"bottom_diff/{name}")
        for i, blob in enumerate(rig.layer.blobs):
            compare(blob.diff, f"param_diff/{i}")


def is_single(folder: Path, case: dict[str, Any]) -> bool:
    """Whether `replay` can run the case: one forward of one layer out of place, with nothing between it and the inputs."""
    *inputs, layer = _read_net(folder, case).layer
    return (
        not case["inplace"]
        and layer.type != "Input"
        and all(other.type == "Input" for other in inputs)
        and case["forwards"] == 1
    )


def _read_net(folder: Path, case: dict[str, Any]) -> NetParameter:
    return text_format.Parse((folder / case["prototxt"]).read_text(), NetParameter())
