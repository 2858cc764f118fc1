"""Compiling kernels before they run, in several processes.

with needed() as kernels:
    net.forward_layers()        # no kernel runs, each is noted down
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
    """What one process compiles at a time: all signatures of one kernel, since these share a file of the cache."""

    module: str
    name: str
    made_by: tuple | None  # as of the kernel
    parallel: bool
    signatures: tuple


def missing(wanted: Sequence[Needed]) -> list[Job]:
    """What of it is not on disk."""
    signatures: dict[tuple, list] = {}
    for kernel, parallel, signature in wanted:
        dispatcher = kernel.dispatcher(parallel)
        if not dispatcher.is_on_disk(signature):
            signatures.setdefault((kernel, parallel), []).append(signature)
    return [
        Job(kernel.host_body.__module__, kernel.__name__, kernel.made_by, parallel, tuple(each))
        for (kernel, parallel), each in signatures.items()
    ]


def compile_in_processes(jobs: Sequence[Job], processes: int | None = None) -> Iterator[Job]:
    """Compiles to disk and hands out each job as it is done. `processes`: one for each core if None.

    The processes are started anew, not forked: threads do not survive a fork.
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
        wanted = (job.module, job.name)
        kernel = next(each for each in KERNELS if (each.host_body.__module__, each.__name__) == wanted)
    for signature in job.signatures:
        kernel.dispatcher(job.parallel).compile(signature)
    return job
