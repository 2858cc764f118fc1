"""The matrix product that kernels call, from SciPy's BLAS by way of the pointers it publishes for Cython.

    gemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)

computes C = alpha op(A) op(B) + beta C on row-major matrices, where op(A) is m x k, op(B) k x n and C m x n; `lda`, `ldb`
and `ldc` are the distances between rows as stored. The arrays are contiguous, of one dtype (float32 or float64), and begin
at their matrix's first element: pass `a[offset:]`. Nothing is checked here.
"""

from __future__ import annotations

import ctypes

import llvmlite.binding as llvm
import numba
import scipy.linalg.cython_blas as cython_blas
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import get_cython_function_address, intrinsic, overload


def _has_int_arguments(name: str) -> bool:
    """Whether BLAS takes 32-bit sizes. If SciPy was built for 64-bit sizes, the plain loops below are used."""
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    signature = get_name(cython_blas.__pyx_capi__[name]).decode()
    return "char *, char *, int *, int *, int *" in signature


_SYMBOLS = {}
for _type, _name in ((types.float32, "sgemm"), (types.float64, "dgemm")):
    if _has_int_arguments(_name):
        # A symbol of the JIT keeps compiled kernels valid in the on-disk cache, which an address would not.
        _SYMBOLS[_type] = f"pycaffe_lite_{_name}"
        llvm.add_symbol(_SYMBOLS[_type], get_cython_function_address("scipy.linalg.cython_blas", _name))


@intrinsic
def _blas_gemm(typingctx, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    real = c.dtype
    int_ = types.intp
    signature = types.void(types.boolean, types.boolean, int_, int_, int_, real, a, int_, b, int_, real, c, int_)

    def codegen(context, builder, signature, args):
        i8, i32 = ir.IntType(8), ir.IntType(32)

        def slot(value):
            return cgutils.alloca_once_value(builder, value)

        def flag(value):
            return slot(builder.select(value, ir.Constant(i8, ord("T")), ir.Constant(i8, ord("N"))))

        def size(value):
            return slot(builder.trunc(value, i32))

        def pointer(position):
            return context.make_array(signature.args[position])(context, builder, args[position]).data

        trans_a, trans_b, m, n, k, alpha, _, lda, _, ldb, beta, _, ldc = args
        # BLAS stores matrices by columns: to it, a row-major C = op(A) op(B) is C' = op(B)' op(A)'.
        values = [flag(trans_b), flag(trans_a), size(n), size(m), size(k), slot(alpha), pointer(8), size(ldb)]
        values += [pointer(6), size(lda), slot(beta), pointer(11), size(ldc)]
        void = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(cgutils.get_or_insert_function(builder.module, void, _SYMBOLS[real]), values)
        return context.get_dummy_value()

    if not (a.dtype == b.dtype == c.dtype and a.layout == b.layout == c.layout == "C"):
        raise TypingError(f"gemm needs contiguous arrays of one dtype, received {a}, {b}, {c}")
    return signature, codegen


@numba.njit(nogil=True, fastmath=True, error_model="numpy")
def _plain_gemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    a, b, c = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    for i in range(m):
        for j in range(n):
            c[i * ldc + j] = beta * c[i * ldc + j] if beta != 0 else 0
        for l in range(k):  # noqa: E741  BLAS's own letter
            factor = alpha * (a[l * lda + i] if trans_a else a[i * lda + l])
            if trans_b:
                for j in range(n):
                    c[i * ldc + j] += factor * b[j * ldb + l]
            else:
                for j in range(n):
                    c[i * ldc + j] += factor * b[l * ldb + j]


def gemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """C = alpha op(A) op(B) + beta C inside a kernel; see the head of this file."""
    raise TypeError("gemm is for compiled kernels; use ops.matmul elsewhere")


@overload(gemm)
def _gemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    if c.dtype in _SYMBOLS:

        def through_blas(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
            _blas_gemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)

        return through_blas

    def through_loops(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
        _plain_gemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)

    return through_loops
