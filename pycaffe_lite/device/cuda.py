"""What there is of CUDA on this machine, and what to install where it is missing.

Nets do not run on CUDA yet; this is what `device_query`, `--gpu` and `solver_mode: GPU` ask.
"""

from __future__ import annotations

import importlib.util

INSTALL_HINT = "install the extra for your CUDA: pip install 'pycaffe-lite[cuda12]' (or cuda13)"


def cuda_device_count() -> int:
    """The number of CUDA devices that cupy sees; 0 without cupy, driver or device."""
    if importlib.util.find_spec("cupy") is None:
        return 0
    import cupy

    try:
        return int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:
        return 0


def cuda_problem() -> str:
    """Why nets cannot run on CUDA here, in one sentence."""
    if importlib.util.find_spec("cupy") is None:
        return f"cupy is not installed; {INSTALL_HINT}"
    if cuda_device_count() == 0:
        return "cupy finds no CUDA device; check the driver with nvidia-smi"
    return "this version of pycaffe_lite has no CUDA kernels yet"
