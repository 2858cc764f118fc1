"""The interface of readers of batches, and checks of a reader's position from a state file."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import glog


class Batch(NamedTuple):
    """One batch: an array for each top, and the position of the reader after it."""

    arrays: list[np.ndarray]
    position: dict[str, Any]


class Reader(Protocol):
    """Reads batches one after the other. It must not refer to its layer, which may be dropped while a thread reads."""

    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the next batch, for each top."""

    def read(self) -> Batch:
        """The next batch."""

    def position(self) -> dict[str, Any]:
        """All that is needed to continue here, including the random stream, as JSON can hold it."""

    def seek(self, position: dict[str, Any]) -> None:
        """Continues there, with a random stream of its own. Raises `ValueError`, `TypeError` or `LookupError`."""

    def extent(self) -> dict[str, Any]:
        """A cheap description of the data: if it changes, a run cannot resume exactly."""

    def close(self) -> None:
        """Closes open files."""


def checked_integer(value: Any, limit: int = 2**63) -> int:
    """`value` from a state file, if it is an integer from 0 to less than `limit`; else raises `ValueError`."""
    if type(value) is not int or not 0 <= value < limit:
        raise ValueError(f"expected an integer from 0 to {limit - 1}, received {value!r:.40}")
    return value


def warn_if_data_changed(layer: str, name: str, then: Any, now: Any) -> None:
    """Warns if the data of a layer have changed since the state was written."""
    if then != now:
        changed = f"{then} {name} in the state, {now} now"
        glog.warning(f'layer "{layer}": the data have changed ({changed}): the run goes on, but not exactly')
