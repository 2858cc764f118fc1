"""Compiles kernels before they run, in several processes.

with needed() as kernels:
    net.forward_layers()        # no kernel runs, each is listed
for name in compile_in_processes(missing(kernels), processes): ...
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from ..errors import DeviceError
from . import notice
from .kernels import KERNELS, Needed, needed
from .operations import OPERATIONS

__all__ = ["Job", "Needed", "compile_in_processes", "missing", "needed"]


class Job(NamedTuple):
    """The work of one process: all signatures of one kernel, because they share a file of the cache."""

    module: str
    name: str
    made_by: tuple | None  # see Kernel
    parallel: bool
    signatures: tuple


def missing(kernels: Sequence[Needed]) -> list[Job]:
    """The kernels that are not on disk, as jobs."""
    signatures: dict[tuple, list] = {}
    for kernel, parallel, signature in kernels:
        dispatcher = kernel.dispatcher(parallel)
        if not dispatcher.is_on_disk(signature):
            signatures.setdefault((kernel, parallel), []).append(signature)
    return [
        Job(kernel.host_body.__module__, kernel.__name__, kernel.made_by, parallel, tuple(kernel_signatures))
        for (kernel, parallel), kernel_signatures in signatures.items()
    ]


def compile_in_processes(jobs: Sequence[Job], processes: int | None = None) -> Iterator[Job]:
    """Compiles kernels to disk, and yields each job when it is done. `processes`: one for each core if None.

    The processes are spawned, not forked, because threads do not survive a fork.
    """
    count = min(processes or os.cpu_count() or 1, len(jobs))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(count, 1), context, initializer=notice.silence) as pool:
        for done in as_completed([pool.submit(_compile, job) for job in jobs]):
            try:
                yield done.result()
            except BrokenProcessPool:
                raise DeviceError(
                    f"one of {count} processes that compile has ended; give fewer if memory is short"
                ) from None


def _compile(job: Job) -> Job:
    importlib.import_module(job.module)
    if job.made_by:
        name, updated = job.made_by
        kernel = OPERATIONS[name].loop(updated)
    else:
        key = (job.module, job.name)
        kernel = next(kernel for kernel in KERNELS if (kernel.host_body.__module__, kernel.__name__) == key)
    for signature in job.signatures:
        kernel.dispatcher(job.parallel).compile(signature)
    return job
