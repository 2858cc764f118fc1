"""C = alpha op(A) op(B) + beta C on whole matrices. All threads share its rows or its columns."""

from __future__ import annotations

from typing import Any

from ..device import chunk, current, kernel, num_threads, operation, prange
from ..device.blas import gemm

# With so few rows of `a` and so many elements of `b` (transposed), reading `b` is all that takes time.
FEW_ROWS, MANY_ELEMENTS = 4, 2**18


@operation
def matmul(
    a: Any, b: Any, out: Any, trans_a: bool = False, trans_b: bool = False, alpha: float = 1, beta: float = 0
) -> None:
    """`out = alpha op(a) op(b) + beta out`, for contiguous matrices of one dtype. Wrong shapes are a `ValueError`."""
    if not check_shapes(a, b, out, trans_a, trans_b, beta):
        return
    (m, n), k = out.shape, a.shape[0] if trans_a else a.shape[1]
    real = out.dtype.type
    by_rows = m >= n
    chunks = min(num_threads(), max(m, n)) if m * n * k > 32768 else 1
    if trans_b and not trans_a and m <= FEW_ROWS and n * k >= MANY_ELEMENTS:
        _few_rows(a, b, out, real(alpha), real(beta), num_threads())
        return
    _matmul(a, b, out, trans_a, trans_b, real(alpha), real(beta), by_rows, chunks)


def check_shapes(a: Any, b: Any, out: Any, trans_a: bool, trans_b: bool, beta: float) -> bool:
    """Raises `ValueError` for wrong shapes. Returns whether there is something to multiply; if not, `out` is done."""
    m, k = a.shape[::-1] if trans_a else a.shape
    k_b, n = b.shape[::-1] if trans_b else b.shape
    if k != k_b or out.shape != (m, n):
        raise ValueError(f"matmul of {a.shape} and {b.shape} into {out.shape}")
    if out.size and k == 0:
        out[...] = beta * out if beta else 0  # like BLAS: with beta 0, `out` is not read
    return bool(out.size and k)


# ---- the host -----------------------------------------------------------------------------------------------------


@kernel
def _few_rows(a, b, c, alpha, beta, chunks):
    """c = alpha a b' + beta c for few rows of `a`: `b` is read once, where BLAS would first rearrange all of it."""
    m, n = c.shape
    for part in prange(chunks):
        low, high = chunk(part, chunks, n)
        for j in range(low, high):
            row = b[j]
            for i in range(m):
                total = c.dtype.type(0)
                for l in range(row.size):  # noqa: E741  BLAS's own letter
                    total += a[i, l] * row[l]
                c[i, j] = alpha * total + (beta * c[i, j] if beta != 0 else c.dtype.type(0))


@kernel
def _matmul(a, b, c, trans_a, trans_b, alpha, beta, by_rows, chunks):
    m, n = c.shape
    k = a.shape[0] if trans_a else a.shape[1]
    lda, ldb = a.shape[1], b.shape[1]
    a, b, c = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    for i in prange(chunks):
        if by_rows:
            low, high = chunk(i, chunks, m)
            start = low if trans_a else low * lda
            gemm(trans_a, trans_b, high - low, n, k, alpha, a[start:], lda, b, ldb, beta, c[low * n :], n)
        else:
            low, high = chunk(i, chunks, n)
            start = low * ldb if trans_b else low
            gemm(trans_a, trans_b, m, high - low, k, alpha, a, lda, b[start:], ldb, beta, c[low:], n)


# ---- CUDA ---------------------------------------------------------------------------------------------------------


@matmul.body("cuda")
def _matmul_on_device(
    a: Any, b: Any, out: Any, trans_a: bool = False, trans_b: bool = False, alpha: float = 1, beta: float = 0
) -> None:
    if check_shapes(a, b, out, trans_a, trans_b, beta):
        current().matmul(a, b, out, trans_a, trans_b, alpha, beta)
