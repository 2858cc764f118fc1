"""Prefetcher: a background thread that produces batches ahead of time, like BasePrefetchingDataLayer in base_data_layer.cpp.

The thread must not run parallel kernels: two threads in them abort the process under some of Numba's threading layers.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from ..errors import DataError, NetError
from ..proto.caffe_pb2 import DataParameter

Batch = TypeVar("Batch")

MAX_DEPTH = 1000
JOIN_SECONDS = 1.0  # how long `close` waits for the batch in production


def checked_depth(param: DataParameter) -> int:
    """`prefetch`, the number of batches to read ahead. Raises `NetError` if it is less than 1, or unreasonably large.

    As in Caffe, this field of `data_param` is used by all layer types that read ahead.
    """
    if not 1 <= param.prefetch <= MAX_DEPTH:
        raise NetError(f"expected data_param.prefetch to be at least 1 and at most {MAX_DEPTH}, received {param.prefetch}")
    return param.prefetch


class Prefetcher(Generic[Batch]):
    """Calls `produce` in its own thread, and keeps from half of `depth` up to `depth` results ready for `get`.

    The thread starts at the first `get`. It ends at `close`, when this object is dropped, when the interpreter exits, or
    after an error. `produce` must not refer to this object or its owner, or they could never be dropped.
    """

    def __init__(self, produce: Callable[[], Batch], depth: int):
        if depth < 1:
            raise ValueError(f"expected a depth of at least 1, received {depth}")
        self._queue = _Queue(produce, depth)
        self._end = weakref.finalize(self, _Queue.end, self._queue)

    def get(self) -> Batch:
        """The next batch, in the order of production; waits until it is ready.

        An error of `produce` is raised here after the batches before it are used up; later calls raise a `DataError` with
        the same message. Raises `DataError` after `close`, and in a forked process, since threads do not survive a fork.
        """
        return self._queue.get()

    def close(self) -> None:
        """Ends the thread. It waits for a batch in production, but at most a second."""
        self._end()


class _Queue(Generic[Batch]):
    """The state that consumer and thread share. The thread does not refer to the Prefetcher, so that it can be dropped."""

    def __init__(self, produce: Callable[[], Batch], depth: int):
        self.produce = produce
        self.depth = depth
        self.process = os.getpid()
        self.batches: deque[Batch] = deque()
        self.changed = threading.Condition()  # reentrant, because the garbage collector may call `end` anywhere
        self.thread: threading.Thread | None = None
        self.closed = False
        self.error: BaseException | None = None  # set until it is raised
        self.last_words = ""

    def get(self) -> Batch:
        if os.getpid() != self.process:
            raise DataError("data cannot be read on after a fork, which leaves threads behind: build the net in the child")
        with self.changed:
            if self.thread is None and not self.closed:
                thread = threading.Thread(target=self.fill, name="pycaffe_lite prefetch", daemon=True)
                thread.start()
                self.thread = thread
            self.changed.wait_for(lambda: self.batches or self.error or self.last_words or self.closed)
            if self.closed:
                raise DataError("data cannot be read: the reader was closed")
            if self.batches:
                batch = self.batches.popleft()
                if len(self.batches) <= self.depth // 2:
                    self.changed.notify_all()
                return batch
            if self.error is None:
                raise DataError(f"data cannot be read on after an error: {self.last_words}")
            # A raised error refers to the frames that it passes, and so to our owner, which must not be kept alive here.
            error, self.last_words = self.error, str(self.error) or type(self.error).__name__
            self.error = None
            raise error

    def fill(self) -> None:
        """Runs in the thread: produces a batch whenever there is room for one."""
        while self.wait_for_room():
            try:
                batch = self.produce()
            except BaseException as error:
                self.fail(error)
                return
            self.put(batch)
            del batch  # frees its memory while this waits

    def wait_for_room(self) -> bool:
        """Waits for room; returns False if no further batch is needed.

        A full queue is not refilled until half of it is used: producing a few batches at a time disturbs the training
        kernels less (measured by benchmarks/reading.py).
        """
        with self.changed:
            if len(self.batches) == self.depth:
                self.changed.wait_for(lambda: len(self.batches) <= self.depth // 2 or self.closed)
            return not self.closed

    def put(self, batch: Batch) -> None:
        with self.changed:
            self.batches.append(batch)
            self.changed.notify_all()

    def fail(self, error: BaseException) -> None:
        with self.changed:
            self.error = error
            self.changed.notify_all()

    def end(self) -> None:
        if os.getpid() != self.process:
            return  # the lock may have been held at the fork
        with self.changed:
            self.closed = True
            self.batches.clear()
            self.changed.notify_all()
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join(JOIN_SECONDS)
