"""Where memory lives and kernels run. Only this package imports numba, cupy or anything of CUDA.

- `memory`: arrays that exist on the host, on a device, or on both, and the device that is current.
- `host_memory`: how much memory the host has.
- `operations`: an operation has one name and a body for each device; the array that it is given picks the body.
- `expressions`: elementwise operations. Each is one expression, from which every device gets its loop.
- `kernels`: host loops that Numba compiles, as `compiler` says; `cache`, `notice` and `ahead` serve it.
- `cuda_kernels`: loops for a GPU that numba-cuda compiles.
- `blas`: `gemm`, the matrix product that kernels call.
- `blas_threads`: `serial_blas`, which holds BLAS to one thread while kernels run.
- `threads`: `start_threads`, which nets call before their first kernel.
- `cuda`: whether CUDA can be used here, and what to install where it is missing.
"""

from . import host_memory
from .blas_threads import serial_blas
from .cuda import cuda_device_count, cuda_problem, use_gpu_or_warn
from .cuda_kernels import CUDA_KERNELS, THREADS, CudaKernel, block_maximum, block_sums, cuda_function, cuda_kernel, gpu
from .expressions import Elementwise, elementwise
from .kernels import KERNELS, Kernel, chunk, function, inlined, kernel, num_threads, prange
from .memory import HOST, Device, Head, MemoryPart, SyncedMemory, aligned_zeros, array_module, current, use
from .operations import OPERATIONS, Operation, operation
from .threads import start_threads

__all__ = [
    "CUDA_KERNELS",
    "HOST",
    "KERNELS",
    "OPERATIONS",
    "THREADS",
    "CudaKernel",
    "Device",
    "Elementwise",
    "Head",
    "Kernel",
    "MemoryPart",
    "Operation",
    "SyncedMemory",
    "aligned_zeros",
    "array_module",
    "block_maximum",
    "block_sums",
    "chunk",
    "cuda_device_count",
    "cuda_function",
    "cuda_kernel",
    "cuda_problem",
    "current",
    "elementwise",
    "function",
    "gpu",
    "host_memory",
    "inlined",
    "kernel",
    "num_threads",
    "operation",
    "prange",
    "serial_blas",
    "start_threads",
    "use",
    "use_gpu_or_warn",
]
