"""The limit on BLAS's threads while nets run: it is there for all of them, and gone behind the last one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import pycaffe_lite as caffe
from pycaffe_lite.device import blas_threads, serial_blas

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 30 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 40 weight_filler { type: "xavier" } } }
layer { name: "out" type: "InnerProduct" bottom: "ip" top: "out"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "Reduction" bottom: "out" top: "loss" loss_weight: 1 reduction_param { operation: SUMSQ } }
"""


def numbers_of_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def two_threads():
    """BLAS has two threads, whatever the machine has, and is found so behind the test."""
    with serial_blas():
        pass  # the libraries are loaded, and no net runs
    with threadpool_limits(2, user_api="blas"):
        yield
        assert set(numbers_of_threads()) == {2}


def test_holds_blas_to_one_thread_and_brings_back_what_was_there():
    with serial_blas():
        assert set(numbers_of_threads()) == {1}
        with serial_blas():
            assert set(numbers_of_threads()) == {1}
        assert set(numbers_of_threads()) == {1}
    assert set(numbers_of_threads()) == {2}
    with threadpool_limits(3, user_api="blas"):
        with serial_blas():
            pass
        assert set(numbers_of_threads()) == {3}


def test_holds_that_overlap():
    """The first to come goes first. Each saving and restoring for itself, the second one would bring back its 1."""
    first, second = serial_blas(), serial_blas()
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert set(numbers_of_threads()) == {1}
    second.__exit__()
    assert set(numbers_of_threads()) == {2}


def test_an_error_ends_the_hold():
    with pytest.raises(ValueError, match="inside"), serial_blas():
        raise ValueError("inside")
    assert set(numbers_of_threads()) == {2}


@pytest.mark.parametrize("step", ["_limit", "_restore"])
@pytest.mark.parametrize("late", [False, True])
def test_an_interrupt_at_a_bad_moment(monkeypatch, step, late):
    """Ctrl-C in the middle of entering or leaving: the hold ends with its object, or at the next one's end."""
    original = getattr(blas_threads, step)

    def interrupted():
        monkeypatch.setattr(blas_threads, step, original)
        if late:
            original()
        raise KeyboardInterrupt

    monkeypatch.setattr(blas_threads, step, interrupted)
    with pytest.raises(KeyboardInterrupt), serial_blas():
        pass
    with serial_blas():
        assert set(numbers_of_threads()) == {1}
    assert set(numbers_of_threads()) == {2}


def passes(seed: int, count: int) -> np.ndarray:
    """What a net with weights and inputs of that seed makes of them, again and again."""
    rng = np.random.default_rng(seed)
    net = caffe.Net(NET, caffe.TRAIN)
    for blobs in net.params.values():
        for blob in blobs:
            blob.data[...] = rng.normal(size=blob.shape)
    sums = []
    for _ in range(count):
        net.clear_param_diffs()
        net.blobs["x"].data[...] = rng.normal(size=(4, 30))
        loss = net.forward_backward()
        sums.append([loss, *(float(blob.diff.sum()) for blobs in net.params.values() for blob in blobs)])
    return np.array(sums)


def test_two_nets_in_two_threads():
    alone = [passes(seed, 150) for seed in (1, 2)]
    results: dict[int, np.ndarray] = {}
    threads = [threading.Thread(target=lambda s=seed: results.update({s: passes(s, 150)})) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(numbers_of_threads()) == {2}
    assert not blas_threads._holders
    for seed in (1, 2):
        np.testing.assert_array_equal(results[seed], alone[seed - 1])


FORK = """
import os, sys, threading
from threadpoolctl import threadpool_info, threadpool_limits
from pycaffe_lite.device import serial_blas

def numbers():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

with serial_blas():
    pass
threadpool_limits(2, user_api="blas")
held, done = threading.Event(), threading.Event()

def hold():
    with serial_blas():
        held.set()
        done.wait()

def in_child(check):
    child = os.fork()
    if child == 0:
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

other = threading.Thread(target=hold, daemon=True)
other.start()
held.wait()
assert numbers() == {1}
assert in_child(lambda: numbers() == {2}), "the other thread does not exist in the child"
with serial_blas():
    assert in_child(lambda: numbers() == {1}), "the forking thread's own hold goes on in the child"
    child = os.fork()
if child == 0:
    os._exit(0 if numbers() == {2} else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "and ends there with its block"
done.set()
other.join()
assert numbers() == {2}
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_while_another_thread_holds_the_limit():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
