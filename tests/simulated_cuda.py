"""A stand-in for a GPU: arrays of the strict stand-in for CuPy, and kernels in the simulator of numba-cuda.

The simulator needs `NUMBA_ENABLE_CUDASIM=1` before numba.cuda is imported, so it runs in processes of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pycaffe_lite.device import THREADS, CudaKernel

from .strict_cupy import StrictDevice, unwrap


class SimulatedCuda(StrictDevice):
    """Runs the bodies for CUDA. Threads are simulated one by one, so a launch has only as many as it needs."""

    name = "cuda"

    def launch(self, kernel: CudaKernel, blocks: int, *args: Any) -> None:
        self.used.add(kernel.__name__)
        with np.errstate(all="ignore"):  # as on a GPU, integers wrap around and nothing warns
            kernel.compiled[blocks, THREADS](*map(unwrap, args))

    def matmul(self, a, b, out, trans_a=False, trans_b=False, alpha=1.0, beta=0.0) -> None:
        a, b = (unwrap(array.swapaxes(-2, -1) if turned else array) for array, turned in ((a, trans_a), (b, trans_b)))
        product = out.dtype.type(alpha) * np.matmul(a, b)
        out.values[...] = product + out.dtype.type(beta) * out.values if beta else product

    def elementwise(self, operation: Any) -> Callable:
        def body(arrays: list, numbers: list, outputs: list) -> None:
            operation.cuda_loop(len(outputs)).of_items(outputs[0].size, *arrays, *numbers, *outputs)

        return body
