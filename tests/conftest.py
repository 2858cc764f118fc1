"""What holds for all tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from pycaffe_lite.device import HOST, use

from .strict_cupy import StrictDevice


def pytest_collection_finish() -> None:
    """Takes what pytest has collected, some hundred thousand objects, out of the garbage collector's sight.

    Many tests collect garbage, to see that threads and files of a dropped net are gone, and need not look through it.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def device() -> Iterator[StrictDevice]:
    """A device that takes only what CuPy documents. It is current during the test."""
    made = StrictDevice()
    use(made)
    yield made
    use(HOST)
