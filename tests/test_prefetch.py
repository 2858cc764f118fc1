"""The background thread: order, errors, and above all its end."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import traceback
import warnings
import weakref

import pytest

from pycaffe_lite.data.prefetch import Prefetcher
from pycaffe_lite.errors import DataError

NAME = "pycaffe_lite prefetch"


def threads() -> int:
    return sum(thread.name == NAME for thread in threading.enumerate())


def wait_until(condition) -> bool:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return bool(condition())


def start_consumer(prefetcher: Prefetcher) -> threading.Thread:
    """A thread that waits for a batch and gets an error instead; else pytest reports the thread."""

    def consume() -> None:
        with pytest.raises(DataError, match="was closed"):
            prefetcher.get()

    thread = threading.Thread(target=consume)
    thread.start()
    return thread


class Counter:
    """Produces 0, 1, 2, ..., and fails at number `fail_at`."""

    def __init__(self, fail_at: int = -1):
        self.made = 0
        self.fail_at = fail_at

    def __call__(self) -> int:
        if self.made == self.fail_at:
            raise DataError("record 7 is broken")
        self.made += 1
        return self.made - 1


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    if threads():
        gc.collect()
    assert wait_until(lambda: threads() == 0)


def test_batches_come_in_order_and_are_bounded():
    counter = Counter()
    prefetcher = Prefetcher(counter, 4)
    assert counter.made == 0
    assert threads() == 0  # it starts with the first get
    assert prefetcher.get() == 0
    assert wait_until(lambda: counter.made >= 4)
    time.sleep(0.02)
    assert counter.made <= 5  # one is out, four are ready
    assert [prefetcher.get() for _ in range(50)] == list(range(1, 51))
    prefetcher.close()


def test_a_full_queue_is_filled_up_when_half_of_it_is_used():
    counter = Counter()
    prefetcher = Prefetcher(counter, 4)
    prefetcher.get()
    ready = prefetcher._queue.batches
    assert wait_until(lambda: counter.made >= 4)
    while len(ready) != 2:
        prefetcher.get()
    for _ in range(5):
        assert wait_until(lambda: len(ready) == 4)
        made = counter.made
        prefetcher.get()
        time.sleep(0.01)
        assert (len(ready), counter.made) == (3, made)
        prefetcher.get()
    prefetcher.close()


def test_close_ends_a_thread_whose_queue_is_full():
    counter = Counter()
    prefetcher = Prefetcher(counter, 1)
    prefetcher.get()
    assert wait_until(lambda: len(prefetcher._queue.batches) == 1)
    start = time.monotonic()
    prefetcher.close()
    prefetcher.close()
    assert time.monotonic() - start < 0.5
    assert threads() == 0
    with pytest.raises(DataError, match="was closed"):
        prefetcher.get()


def test_close_before_the_first_get():
    prefetcher = Prefetcher(Counter(), 1)
    prefetcher.close()
    with pytest.raises(DataError, match="was closed"):
        prefetcher.get()
    assert threads() == 0


def test_close_waits_for_a_batch_that_is_being_made():
    entered = threading.Event()

    def slow() -> int:
        entered.set()
        time.sleep(0.1)
        return 1

    prefetcher = Prefetcher(slow, 1)
    consumer = start_consumer(prefetcher)
    assert entered.wait(5)
    prefetcher.close()
    assert threads() == 0
    consumer.join(5)  # who waits for a batch is told as well
    assert not consumer.is_alive()


def test_close_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr("pycaffe_lite.data.prefetch.JOIN_SECONDS", 0.05)
    entered, release = threading.Event(), threading.Event()

    def stuck() -> None:
        entered.set()
        release.wait(10)

    prefetcher = Prefetcher(stuck, 1)
    consumer = start_consumer(prefetcher)
    assert entered.wait(5)
    start = time.monotonic()
    prefetcher.close()
    assert time.monotonic() - start < 1
    release.set()
    consumer.join(5)


def test_dropping_the_owner_ends_the_thread():
    class Owner:
        def __init__(self):
            self.prefetcher = Prefetcher(Counter(), 2)

    owner = Owner()
    owner.prefetcher.get()
    assert threads() == 1
    gone = weakref.ref(owner)
    gc.disable()  # there is no cycle: counting references is enough
    try:
        del owner
        assert gone() is None
        assert wait_until(lambda: threads() == 0)
    finally:
        gc.enable()


def test_the_thread_may_drop_its_own_prefetcher():
    """A garbage collection runs wherever it is due, so in the thread as well."""
    held: list[Prefetcher] = []
    handed_over = threading.Event()

    def produce() -> int:
        if handed_over.wait(0.01):
            held.clear()
        return 1

    prefetcher = Prefetcher(produce, 1000)
    prefetcher.get()
    held.append(prefetcher)
    del prefetcher
    handed_over.set()
    assert wait_until(lambda: threads() == 0)
    assert not held


def test_an_error_comes_after_the_batches_before_it_and_stays():
    prefetcher = Prefetcher(Counter(fail_at=2), 5)
    assert [prefetcher.get(), prefetcher.get()] == [0, 1]
    with pytest.raises(DataError, match="record 7 is broken") as caught:
        prefetcher.get()
    assert any(frame.name == "__call__" for frame in traceback.extract_tb(caught.value.__traceback__))  # where it was raised
    for _ in range(2):
        with pytest.raises(DataError, match=r"cannot be read on after an error: .*record 7 is broken"):
            prefetcher.get()
    assert wait_until(lambda: threads() == 0)


def test_an_error_does_not_keep_the_owner_alive():
    class Owner:
        def __init__(self):
            self.prefetcher = Prefetcher(Counter(fail_at=0), 1)

        def read(self):
            return self.prefetcher.get()

    owner = Owner()
    with pytest.raises(DataError):
        owner.read()
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("error", [MemoryError(), SystemExit(1)])
def test_no_error_leaves_the_consumer_waiting(error):
    def produce() -> None:
        raise error

    with pytest.raises(type(error)):
        Prefetcher(produce, 1).get()


def test_depth_is_at_least_one():
    with pytest.raises(ValueError, match="at least 1, received 0"):
        Prefetcher(Counter(), 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("started", [False, True])
def test_a_forked_child_gets_an_error_and_no_deadlock(started):
    prefetcher = Prefetcher(Counter(), 1)
    if started:
        prefetcher.get()
    prefetcher._queue.changed.acquire()  # the worst moment
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            prefetcher.get()
        except DataError as error:
            prefetcher.close()
            os._exit(7 if "after a fork" in str(error) else 1)
        os._exit(2)
    prefetcher._queue.changed.release()
    deadline = time.monotonic() + 10
    status = (0, 0)
    while status == (0, 0) and time.monotonic() < deadline:
        status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.005)
    if status == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status[1]) == 7
    prefetcher.close()


@pytest.mark.parametrize("produce", ["lambda: 1", "lambda: time.sleep(0.01)", "Once()"])
def test_the_interpreter_exits(produce):
    script = f"""
import time
from pycaffe_lite.data.prefetch import Prefetcher
class Once:
    made = 0
    def __call__(self):
        self.made += 1
        if self.made > 1:
            time.sleep(60)
keep = Prefetcher({produce}, 2)
keep.get()
"""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    assert time.monotonic() - start < 10
