"""Copies that all threads share."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..device import kernel, operation, prange

PIECE = 8192  # elements that are copied at a time
SMALL_COPY = 2**16  # elements: below this, copying is faster than calling a kernel


@operation
def copy_columns(source: Any, target: Any, at: int, to: int, width: int) -> None:
    """target[:, to : to + width] = source[:, at : at + width]; both are contiguous matrices with equally many rows."""
    if source.shape[0] * width < SMALL_COPY:
        target[:, to : to + width] = source[:, at : at + width]
    else:
        _copy_columns(source, target, at, to, width)


@copy_columns.body("any")
def _assign_columns(source: Any, target: Any, at: int, to: int, width: int) -> None:
    target[:, to : to + width] = source[:, at : at + width]


@kernel
def _copy_columns(source, target, at, to, width):
    pieces = (width + PIECE - 1) // PIECE
    for task in prange(source.shape[0] * pieces):
        row, piece = divmod(np.int64(task), pieces)
        low, high = piece * PIECE, min((piece + 1) * PIECE, width)
        for i in range(np.uintp(low), np.uintp(high)):
            target[row, np.uintp(to) + i] = source[row, np.uintp(at) + i]
