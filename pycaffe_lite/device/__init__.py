"""Where memory lives and kernels run. Only this package imports numba, cupy or anything of CUDA.

- `memory`: arrays that exist on the host, on a device, or on both, and the device that is current.
- `kernels`: `kernel` makes one name out of the bodies of an operation; the array it is given picks the body.
- `blas`: `gemm`, the matrix product that kernels call.
- `cuda`: what there is of CUDA, and what to install where it is missing.
"""

from .cuda import cuda_device_count, cuda_problem
from .kernels import KERNELS, Kernel, chunk, function, inlined, kernel, num_threads, prange, serial_blas
from .memory import HOST, Device, Head, SyncedMemory, aligned_zeros, array_module, current, use

__all__ = [
    "HOST",
    "KERNELS",
    "Device",
    "Head",
    "Kernel",
    "SyncedMemory",
    "aligned_zeros",
    "array_module",
    "chunk",
    "cuda_device_count",
    "cuda_problem",
    "current",
    "function",
    "inlined",
    "kernel",
    "num_threads",
    "prange",
    "serial_blas",
    "use",
]
