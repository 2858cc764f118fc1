"""Rows of a matrix that are selected by a blob of indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import chunk, cuda_kernel, gpu, kernel, num_threads, operation, prange
from ..errors import NetError


def row_indices(indices: Any, rows: int) -> Any:
    """Indices as a flat integer array (truncated as in Caffe, not rounded). An index outside 0 ... rows - 1 is an error."""
    indices = indices.reshape(-1)
    wrong = ~((indices >= 0) & (indices < rows))
    if wrong.any():
        raise NetError(f"expected indices from 0 to {rows - 1}, received {float(indices[wrong][0]):g}")
    return indices.astype(np.intp)


@operation
def add_rows(source: Any, indices: Any, target: Any) -> None:
    """Adds row i of `source` to row `indices[i]` of `target`, for all i in order. Both are contiguous matrices."""
    _add_rows(source, np.ascontiguousarray(indices), target, min(num_threads(), source.shape[1]))


@kernel
def _add_rows(source, indices, target, chunks):
    # Each thread has its own columns: no two write to one place, and sums do not depend on the number of threads.
    for i in prange(chunks):
        low, high = chunk(i, chunks, source.shape[1])
        for row in range(source.shape[0]):
            to = indices[row]
            for column in range(low, high):
                target[to, column] += source[row, column]


# ---- CUDA ---------------------------------------------------------------------------------------------------------


@add_rows.body("cuda")
def _add_rows_on_device(source: Any, indices: Any, target: Any) -> None:
    cuda_add_rows.of_items(target.shape[1], source, indices, target)


@cuda_kernel
def cuda_add_rows(source, indices, target):
    """A thread for each column, since several rows may be added to one."""
    for column in range(gpu.grid(1), target.shape[1], gpu.gridsize(1)):
        for row in range(source.shape[0]):
            target[indices[row], column] += source[row, column]
