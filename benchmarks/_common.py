"""What the benchmarks share. Import it before anything of pycaffe_lite.

Three things spoil a comparison of pycaffe_lite with PyTorch in one process:

- `OPENBLAS_CORETYPE=Haswell`, say, holds our BLAS to AVX2, and PyTorch ignores it: `forget_openblas_settings`.
- Numba's OpenMP layer and PyTorch share one libgomp. Its first parallel kernel resets PyTorch's number of threads:
  `same_threads`.
- pycaffe_lite tells OpenMP not to spin (GOMP_SPINCOUNT), which slows the barriers of PyTorch. OpenMP reads that as it is
  loaded, so PyTorch is imported first: then both spin, as PyTorch does on its own.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

with suppress(ImportError):
    import torch

import numba
import numpy as np
import scipy
from threadpoolctl import threadpool_info

from pycaffe_lite.device import num_threads


def forget_openblas_settings() -> None:
    """Starts anew without OPENBLAS_*."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    if len(settings) < len(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.argv], settings)


def need_torch() -> None:
    if "torch" not in sys.modules:
        raise SystemExit("this comparison needs PyTorch: pip install 'pycaffe-lite[bench]'")


def same_threads() -> None:
    """Gives PyTorch as many threads as we have, and makes sure that it took them."""
    torch.set_num_threads(num_threads())
    if torch.get_num_threads() != num_threads():
        raise SystemExit(f"PyTorch runs on {torch.get_num_threads()} threads, pycaffe_lite on {num_threads()}")


def print_versions() -> None:
    """After the first product of matrices and the first parallel kernel, without which nothing is known of them."""
    cores = {info["architecture"] for info in threadpool_info() if info["internal_api"] == "openblas"}
    print(f"NumPy {np.__version__}, SciPy {scipy.__version__}, OpenBLAS for {', '.join(sorted(cores)) or 'an unknown core'}")
    print(f"Numba {numba.__version__}, {num_threads()} threads ({numba.threading_layer()})")
    if "torch" in sys.modules:
        same_threads()
        print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")


def take_turns(
    contestants: dict[str, Callable[[], object]], seconds: float, warm_up: int = 2, timed: int = 4
) -> dict[str, list[float]]:
    """The times of single calls of each contestant, in ms. A turn is some calls to warm up and some that are timed."""
    times: dict[str, list[float]] = defaultdict(list)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not times:
        for name, step in contestants.items():
            same_threads()
            for i in range(warm_up + timed):
                begin = time.perf_counter()
                step()
                if i >= warm_up:
                    times[name].append(1000 * (time.perf_counter() - begin))
    return times
