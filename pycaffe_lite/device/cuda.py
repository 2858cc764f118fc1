"""What CUDA this machine has, and what to install where it is missing.

Nets do not run on CUDA yet; this is what `device_query`, `--gpu` and `solver_mode: GPU` ask.
"""

from __future__ import annotations

import importlib.util
import os

from .. import glog
from ..errors import DeviceError

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
    return "this version of pycaffe_lite does not run nets on CUDA yet"


def use_gpu_or_warn() -> None:
    """Warns once that work for which a GPU was requested runs on the CPU.

    With PYCAFFE_LITE_STRICT_GPU=1 in the environment this is a `DeviceError` instead.
    """
    problem = f"The GPU was asked for, but {cuda_problem()}"
    if os.environ.get("PYCAFFE_LITE_STRICT_GPU", "0") not in ("", "0"):
        raise DeviceError(f"{problem} (PYCAFFE_LITE_STRICT_GPU is set)")
    if not getattr(use_gpu_or_warn, "said", False):
        with glog.kept_settings():  # GLOG_minloglevel=2 is meant to hide the log of net building, not this warning
            glog.configure(minloglevel=0, alsologtostderr=True)
            glog.warning(f"*** {problem}. The CPU is used instead. ***")
        use_gpu_or_warn.said = True  # type: ignore[attr-defined]
