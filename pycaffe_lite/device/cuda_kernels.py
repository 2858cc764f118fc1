"""Kernels of CUDA, from which the bodies of operations for a GPU are built; numba-cuda compiles them.

    @cuda_kernel
    def add_bias(y, bias):                          # y: N x O x windows
        _, outputs, size = y.shape
        flat = y.reshape(-1)
        for i in range(gpu.grid(1), flat.size, gpu.gridsize(1)):
            flat[i] += bias[i // size % outputs]

    add_bias.of_items(y.size, y, bias)              # as many threads as items, or fewer

A kernel of this kind gives the same numbers for any number of threads. A kernel with barriers takes whole blocks of
`THREADS` threads: `kernel.of_blocks(blocks, ...)`. No kernel adds with atomics, so that two runs give the same bits.

`gpu` stands for `numba.cuda`, which is imported when the first kernel is compiled. Functions of the host (`@function`,
`@inlined`) that a kernel calls are compiled for the device too, so that a rule is written once. The current device launches
kernels. `tests/test_cuda_kernels.py` runs them on a machine without a GPU, in the simulator of numba-cuda.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from .memory import current

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")  # numba-cuda's own switch
THREADS = 8 if SIMULATED else 128  # of a block; a power of 2. Simulated threads take milliseconds
MAX_BLOCKS = 2 if SIMULATED else 2**16  # of a grid: with more items, each thread takes several

CUDA_KERNELS: list[CudaKernel] = []


class _Gpu:
    """Names of `numba.cuda` that kernels use. Outside of kernels they mean nothing."""

    grid: Any
    gridsize: Any
    blockIdx: Any
    blockDim: Any
    gridDim: Any
    threadIdx: Any
    shared: Any
    syncthreads: Any


gpu = _Gpu()


class CudaKernel:
    """A kernel for a GPU; see the head of this file."""

    def __init__(self, body: Callable):
        self.body = body
        self.__name__ = body.__name__
        CUDA_KERNELS.append(self)

    @functools.cached_property
    def compiled(self) -> Any:
        """What numba-cuda makes of the body: it compiles for the types of arguments when it is launched."""
        return _cuda().jit(self.for_device())

    def for_device(self) -> FunctionType:
        """The body with the globals that it has on a GPU."""
        return _for_device(self.body, {})

    def of_items(self, items: int, *args: Any) -> None:
        """Launches one thread for each item, or fewer that take several."""
        if items:
            current().launch(self, min(-(-items // THREADS), MAX_BLOCKS), *args)

    def of_blocks(self, blocks: int, *args: Any) -> None:
        """Launches so many blocks."""
        if blocks:
            current().launch(self, blocks, *args)


def cuda_kernel(body: Callable) -> CudaKernel:
    """Makes a kernel from its body: a module-level function, or one with its own globals."""
    return CudaKernel(body)


@functools.cache
def _cuda() -> Any:
    return importlib.import_module("numba.cuda")


def _for_device(function: Any, made: dict[Any, Any]) -> FunctionType:
    """A copy of a function whose globals are what a GPU has: `gpu`, NumPy's functions, and functions of the host."""
    names = function.__globals__
    copy = FunctionType(function.__code__, dict(names), function.__name__, function.__defaults__)
    copy.__module__ = function.__module__
    for name in function.__code__.co_names:
        value: Any = names.get(name)
        if value is gpu:
            copy.__globals__[name] = _cuda()
        elif value is np:
            copy.__globals__[name] = _numpy()
        elif hasattr(value, "py_func"):
            if value not in made:
                made[value] = _cuda().jit(device=True)(_for_device(value.py_func, made))
            copy.__globals__[name] = made[value]
    return copy


# ---- functions that kernels call -------------------------------------------------------------------------------------


class CudaFunction:
    """A function that only kernels of a GPU call."""

    def __init__(self, body: Callable):
        self.py_func = body

    def __call__(self, *args: Any) -> Any:
        raise TypeError(f"{self.py_func.__name__} is for kernels of a GPU")


def cuda_function(body: Callable) -> CudaFunction:
    """Marks a function that kernels of a GPU call, and the host does not."""
    return CudaFunction(body)


@cuda_function
def block_maximum(shared):
    """The maximum of a shared array, 1 x THREADS. All threads of a block call it."""
    thread, width = gpu.threadIdx.x, THREADS // 2
    gpu.syncthreads()
    while width:
        if thread < width:
            shared[0, thread] = max(shared[0, thread], shared[0, thread + width])
        gpu.syncthreads()
        width //= 2
    return shared[0, 0]


@cuda_function
def block_sums(shared):
    """Adds up each row of a shared array, rows x THREADS, into its first element. All threads of a block call it."""
    thread, width = gpu.threadIdx.x, THREADS // 2
    gpu.syncthreads()
    while width:
        if thread < width:
            for row in range(shared.shape[0]):
                shared[row, thread] += shared[row, thread + width]
        gpu.syncthreads()
        width //= 2


# ---- NumPy's functions of one number, as far as kernels use them -----------------------------------------------------


@functools.cache
def _numpy() -> ModuleType:
    """NumPy in kernels: its types, and its functions by those of `math`. The simulator takes NumPy's own."""
    if SIMULATED:
        return np
    module = ModuleType("numpy_of_one_number")
    for name in ("float32", "float64", "int32", "int64", "intp", "uint64", "uintp", "finfo"):
        setattr(module, name, getattr(np, name))
    for name in ("exp", "log", "log1p", "sqrt", "tanh", "ceil", "floor", "trunc"):
        setattr(module, name, getattr(math, name))
    module.abs = abs  # type: ignore[attr-defined]
    for function in (maximum, minimum, sign):
        setattr(module, function.__name__, _cuda().jit(device=True)(function))
    return module


def maximum(a: Any, b: Any) -> Any:
    """The larger one, or a NaN, as NumPy's."""
    return a if a >= b or a != a else b


def minimum(a: Any, b: Any) -> Any:
    """The smaller one, or a NaN, as NumPy's."""
    return a if a <= b or a != a else b


def sign(x: Any) -> Any:
    """-1, 0 or 1, or a NaN, as NumPy's."""
    return (x > 0) - (x < 0) + x * 0
