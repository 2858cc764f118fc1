"""What pycaffe scripts set for the whole process: device, seed, ranks and the log; and a stop watch."""

from __future__ import annotations

import time
from typing import Any

from . import glog, rng
from .device import use_gpu_or_warn
from .errors import DeviceError

# ---- devices and seeds --------------------------------------------------------------------------------------------


def set_mode_cpu() -> None:
    """Runs nets on the CPU, as is the default."""


def set_mode_gpu() -> None:
    """Asks for the GPU; without CUDA the work goes on on the CPU after one loud warning."""
    use_gpu_or_warn()


def set_device(device_id: int) -> None:
    """Chooses a CUDA device."""
    if device_id < 0:
        raise DeviceError(f"device ids start at 0, received {device_id}")
    use_gpu_or_warn()


def set_random_seed(seed: int) -> None:
    """Restarts all random streams from `seed`."""
    rng.set_seed(seed)


# ---- several solvers ----------------------------------------------------------------------------------------------

# Caffe's processes that train one net tell each other apart by these. There is one process here so far.
_parallel = {"count": 1, "rank": 0, "multiprocess": False}


def solver_count() -> int:
    """How many solvers train together."""
    return int(_parallel["count"])


def set_solver_count(count: int) -> None:
    """Says how many solvers train together."""
    _parallel["count"] = count


def solver_rank() -> int:
    """Which of the solvers that train together this is; 0 is the one that tests and snapshots."""
    return int(_parallel["rank"])


def set_solver_rank(rank: int) -> None:
    """Says which of the solvers that train together this is."""
    _parallel["rank"] = rank


def set_multiprocess(multiprocess: bool) -> None:
    """Says whether the solvers that train together are processes."""
    _parallel["multiprocess"] = multiprocess


def has_nccl() -> bool:
    """Whether several GPUs can train one net: not yet."""
    return False


class NCCL:
    """What several GPUs would train one net with. There is none yet.

    For the one solver of a script that always makes one, as Caffe's train.py does, nothing is to be exchanged, and nothing
    is done. Raises `DeviceError` where `set_solver_count` announced more.
    """

    def __init__(self, solver: Any, uid: str | bytes = b""):
        if solver_count() > 1:
            count = solver_count()
            raise DeviceError(
                f"NCCL is not there: pycaffe_lite trains a net with one solver so far, received {count} (GPUs)"
            )

    @staticmethod
    def new_uid() -> bytes:
        """A name for a group of solvers."""
        return b""

    def bcast(self) -> None:
        """Would give all solvers the parameters of the first one."""

    def on_start(self) -> None:
        """Would be called before the passes of each step."""

    def on_gradients_ready(self) -> None:
        """Would add up the gradients of all solvers."""

    def __call__(self, layer: int) -> None:
        """Would add up those of one layer, after its backward."""


# ---- logs and times -----------------------------------------------------------------------------------------------


def init_log(level: int | None = None, stderr: bool | None = None) -> None:
    """Shows log messages from this severity on (0 info, 1 warning, 2 error); by default as before.

    They go to stderr in any case; `stderr=True` keeps them out of the files of a `GLOG_log_dir`.
    """
    glog.configure(minloglevel=level, logtostderr=stderr)


def log(message: str) -> None:
    """Writes a line to the log."""
    glog.logger.info(message, stacklevel=2)


class Timer:
    """A stop watch: `start()`, `stop()`, and then `ms`, the milliseconds in between."""

    def __init__(self) -> None:
        self._begin = self._end = 0.0

    def start(self) -> None:
        """Starts the watch."""
        self._begin = self._end = time.perf_counter()

    def stop(self) -> None:
        """Stops the watch."""
        self._end = time.perf_counter()

    @property
    def ms(self) -> float:
        """Milliseconds from `start` to `stop`."""
        return 1000 * (self._end - self._begin)
