"""Show what nets can run on here: pycaffe_lite device_query [--gpu 0]"""

from __future__ import annotations

import platform

from threadpoolctl import threadpool_info

from ..device import cuda_device_count, cuda_problem, num_threads
from ._flags import Flags, refuse_gpu

GROUP = "Caffe's old tools"


def main(argv: list[str]) -> int:
    flags = Flags("device_query", __doc__)
    flags.flag("gpu", default="", metavar="IDS", help="CUDA devices, with commas, or all")
    values = flags.parse(argv)
    print(f"CPU: {platform.processor() or platform.machine()}, {num_threads()} threads")
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            print(f"BLAS: {pool['internal_api']} {pool['version']}, {pool.get('architecture') or 'unknown'} kernels")
    print(f"CUDA: {cuda_device_count()} devices; {cuda_problem()}")
    refuse_gpu(values)
    return 0
