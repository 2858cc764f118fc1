"""Random streams: reproducible from one seed, and independent of each other."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pycaffe_lite import rng


@pytest.fixture(autouse=True)
def _afterwards_from_the_system():
    yield
    rng.set_seed(-1)


def draws(count: int) -> list[int]:
    return [int(rng.stream().integers(2**63)) for _ in range(count)]


def test_a_seed_restarts_all_streams():
    rng.set_seed(3)
    first = draws(5)
    assert len(set(first)) == 5
    rng.set_seed(3)
    assert draws(5) == first
    rng.set_seed(4)
    assert not set(draws(5)) & set(first)


def test_a_negative_seed_is_entropy_from_the_system():
    results = []
    for _ in range(2):
        rng.set_seed(-1)
        results.append(draws(2))
    assert not set(results[0]) & set(results[1])


def test_any_seed_of_caffe_will_do():
    for seed in (0, 1701, 2**63 - 1, -(2**63)):
        rng.set_seed(seed)
        assert isinstance(rng.stream(), np.random.Generator)


def test_how_much_one_stream_draws_does_not_change_another():
    results = []
    for count in (1, 1000):
        rng.set_seed(1)
        rng.stream().random(count)
        results.append(rng.stream().random())
    assert results[0] == results[1]


def test_streams_asked_for_by_several_threads_are_different():
    rng.set_seed(1)
    together: list[int] = []
    threads = [threading.Thread(target=lambda: together.extend(draws(50))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rng.set_seed(1)
    assert sorted(together) == sorted(draws(200))
