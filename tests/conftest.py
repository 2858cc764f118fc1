"""What holds for all tests."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Takes what pytest has collected, some hundred thousand objects, out of the garbage collector's sight.

    Many tests collect garbage, to see that threads and files of a dropped net are gone, and need not look through it.
    """
    gc.collect()
    gc.freeze()
