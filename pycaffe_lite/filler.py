"""Initial values of parameters, as in Caffe's filler.hpp.

For a blob of shape `(a, b, ...)` with `count` elements, the fan-in is `count / a` and the fan-out is `count / b`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .blob import Blob, shape_text, sizes_text
from .device import host_memory
from .errors import NetError, did_you_mean
from .proto.caffe_pb2 import FillerParameter

Filler = Callable[[FillerParameter, tuple[int, ...], np.random.Generator], np.ndarray]


def fill(param: FillerParameter, blob: Blob, rng: np.random.Generator) -> None:
    """Fills `blob.data` as `param` says. An unknown type or a shape that the type cannot fill is an error."""
    filler = FILLERS.get(param.type)
    if filler is None:
        filler_names = ", ".join(FILLERS)
        raise NetError(f'unknown filler "{param.type}"{did_you_mean(param.type, FILLERS)}; there are {filler_names}')
    if param.sparse != -1 and param.type != "gaussian":
        raise NetError(f"sparse is for the gaussian filler, not for {param.type}")
    if blob.count:
        if param.type != "constant":
            purpose = f"the values of the {param.type} filler, {sizes_text(blob.shape)} in float64"
            host_memory.require_now(8 * blob.count, purpose)
        blob.host_out[...] = filler(param, blob.shape, rng)


def _constant(param, shape, rng):
    return np.broadcast_to(np.float32(param.value), shape)


def _uniform(param, shape, rng):
    if not (math.isfinite(param.max - param.min) and param.min <= param.max):
        raise NetError(f"the uniform filler needs min <= max, received {param.min:g} and {param.max:g}")
    return rng.uniform(param.min, param.max, shape)


def _gaussian(param, shape, rng):
    """Normal(mean, std). `sparse: n` keeps n weights of an output on average, and sets the others to zero."""
    if param.std < 0 or param.sparse < -1:
        raise NetError(f"the gaussian filler needs std >= 0 and sparse >= 0, received {param.std:g} and {param.sparse}")
    values = rng.normal(param.mean, param.std, shape)
    if param.sparse >= 0:
        if not shape or param.sparse > shape[0]:
            raise NetError(f"sparse {param.sparse} needs as many outputs, the blob is {shape_text(shape)}")
        values *= rng.random(shape) < param.sparse / shape[0]
    return values


def _positive_unitball(param, shape, rng):
    """Uniform in [0, 1); then each row (all axes but the first) is divided by its sum."""
    rows = rng.random((shape[0] if shape else 1, math.prod(shape[1:])))
    return (rows / rows.sum(axis=1, keepdims=True)).reshape(shape)


def _fan(param, shape) -> float:
    count = math.prod(shape)
    fan_in = count / shape[0] if shape else count
    fan_out = count / shape[1] if len(shape) > 1 else count
    if param.variance_norm == FillerParameter.AVERAGE:
        return (fan_in + fan_out) / 2
    return fan_out if param.variance_norm == FillerParameter.FAN_OUT else fan_in


def _xavier(param, shape, rng):
    """Uniform in +-sqrt(3 / n): Glorot and Bengio, Understanding the difficulty of training deep networks, 2010."""
    bound = math.sqrt(3 / _fan(param, shape))
    return rng.uniform(-bound, bound, shape)


def _msra(param, shape, rng):
    """Normal(0, sqrt(2 / n)): He et al., Delving deep into rectifiers, 2015."""
    return rng.normal(0, math.sqrt(2 / _fan(param, shape)), shape)


def _bilinear(param, shape, rng):
    """The kernel that interpolates linearly, for upsampling with a Deconvolution of stride f and kernel 2f - f % 2."""
    if len(shape) != 4 or shape[2] != shape[3]:
        raise NetError(f"the bilinear filler needs 4 axes and square kernels, received {shape_text(shape)}")
    f = math.ceil(shape[3] / 2)
    centre = (shape[3] - 1) / (2 * f)
    line = 1 - np.abs(np.arange(shape[3]) / f - centre)
    return np.broadcast_to(np.outer(line, line), shape)


FILLERS: dict[str, Filler] = {
    "constant": _constant,
    "gaussian": _gaussian,
    "positive_unitball": _positive_unitball,
    "uniform": _uniform,
    "xavier": _xavier,
    "msra": _msra,
    "bilinear": _bilinear,
}
