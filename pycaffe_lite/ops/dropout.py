"""Dropout without a mask: a hash of index and key says which elements are kept, so backward computes the same choice."""

from __future__ import annotations

import numpy as np

from ..device import cuda_kernel, function, gpu, kernel, operation, prange


@operation
def drop(x, y, key, ratio, scale):
    """y = 0 where the hash of the element's index is below `ratio` of its range, else x * scale. x and y are flat.

    `key`, a uint64, chooses the sequence of hashes.
    """
    drop_elements(x, key, np.uint64(ratio * 2**64), x.dtype.type(scale), y)


# ---- the host -----------------------------------------------------------------------------------------------------


@function
def hashed(key, index):
    """64 uniform random bits: element `index` of the sequence `key` of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = key + np.uint64(index) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def drop_elements(x, key, threshold, scale, y):
    zero = x.dtype.type(0)
    for i in prange(x.size):
        y[i] = x[i] * (scale if hashed(key, i) >= threshold else zero)


# ---- CUDA ---------------------------------------------------------------------------------------------------------


@drop.body("cuda")
def _drop(x, y, key, ratio, scale):
    cuda_drop.of_items(x.size, x, key, np.uint64(ratio * 2**64), x.dtype.type(scale), y)


@cuda_kernel
def cuda_drop(x, key, threshold, scale, y):
    """The loop of `drop_elements`."""
    for i in range(gpu.grid(1), x.size, gpu.gridsize(1)):
        y[i] = x[i] * (scale if hashed(key, i) >= threshold else x.dtype.type(0))
