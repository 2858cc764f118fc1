"""Settings of pycaffe scripts for the whole process: device, seed, ranks and the log; also a stop watch."""

from __future__ import annotations

import time
from typing import Any

from . import glog, rng
from .device import use_gpu_or_warn
from .errors import DeviceError

# ---- devices and seeds --------------------------------------------------------------------------------------------


def set_mode_cpu() -> None:
    """Runs nets on the CPU, which is the default."""


def set_mode_gpu() -> None:
    """Asks for the GPU. Without CUDA, nets run on the CPU after a warning."""
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

# In Caffe several processes can train one net, each with a rank. Here there is only one process so far.
_parallel = {"count": 1, "rank": 0, "multiprocess": False}


def solver_count() -> int:
    """How many solvers train the net together."""
    return int(_parallel["count"])


def set_solver_count(count: int) -> None:
    """Sets how many solvers train the net together."""
    _parallel["count"] = count


def solver_rank() -> int:
    """The rank of this solver among those that train together; rank 0 tests and writes snapshots."""
    return int(_parallel["rank"])


def set_solver_rank(rank: int) -> None:
    """Sets the rank of this solver among those that train together."""
    _parallel["rank"] = rank


def set_multiprocess(multiprocess: bool) -> None:
    """Sets whether the solvers that train together are processes."""
    _parallel["multiprocess"] = multiprocess


def has_nccl() -> bool:
    """Whether several GPUs can train one net: not yet."""
    return False


class NCCL:
    """Stands for Caffe's class that lets several GPUs train one net, which is not supported yet.

    Scripts such as Caffe's train.py create it even for a single solver; then its methods do nothing. Raises `DeviceError` if
    `set_solver_count` has set more than one.
    """

    def __init__(self, solver: Any, uid: str | bytes = b""):
        if solver_count() > 1:
            count = solver_count()
            raise DeviceError(
                f"NCCL is not there: pycaffe_lite trains a net with one solver so far, received {count} (GPUs)"
            )

    @staticmethod
    def new_uid() -> bytes:
        """An id for a group of solvers."""
        return b""

    def bcast(self) -> None:
        """In Caffe, gives all solvers the parameters of the first one."""

    def on_start(self) -> None:
        """In Caffe, runs before the passes of each step."""

    def on_gradients_ready(self) -> None:
        """In Caffe, sums the gradients of all solvers."""

    def __call__(self, layer: int) -> None:
        """In Caffe, sums the gradients of one layer after its backward."""


# ---- logs and times -----------------------------------------------------------------------------------------------


def init_log(level: int | None = None, stderr: bool | None = None) -> None:
    """Shows log messages from this severity on (0 info, 1 warning, 2 error); by default the level is unchanged.

    They always go to stderr; `stderr=True` keeps them out of the files in `GLOG_log_dir`.
    """
    glog.configure(minloglevel=level, logtostderr=stderr)


def log(message: str) -> None:
    """Writes a line to the log."""
    glog.logger.info(message, stacklevel=2)


class Timer:
    """A stop watch: call `start()` and `stop()`, then read `ms`, the milliseconds in between."""

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
