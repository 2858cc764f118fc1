"""What the data layers have in common: readers of batches, and what a reader's place in a file of states may be."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import glog


class Batch(NamedTuple):
    """One batch: an array for each top, and the position of the reader after it."""

    arrays: list[np.ndarray]
    position: dict[str, Any]


class Reader(Protocol):
    """Reads one batch after the other. It must not know its layer, which can be dropped while a thread reads."""

    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the next batch, for each top."""

    def read(self) -> Batch:
        """The next batch."""

    def position(self) -> dict[str, Any]:
        """All that it takes to go on from here, random stream included, as JSON can hold it."""

    def seek(self, position: dict[str, Any]) -> None:
        """Goes on from there, with a random stream of its own. Raises `ValueError`, `TypeError` or `LookupError`."""

    def extent(self) -> dict[str, Any]:
        """What tells these data from others, cheaply: where that changes, no run goes on exactly."""

    def close(self) -> None:
        """Closes what is open."""


def checked_integer(value: Any, limit: int = 2**63) -> int:
    """`value` from a state file, if it is an integer from 0 to below `limit`; else raises `ValueError`."""
    if type(value) is not int or not 0 <= value < limit:
        raise ValueError(f"expected an integer from 0 to {limit - 1}, received {value!r:.40}")
    return value


def warn_if_data_changed(layer: str, what: str, then: Any, now: Any) -> None:
    """Logs that the data of the layer with that name are not those of the state that it goes on from."""
    if then != now:
        changed = f"{then} {what} in the state, {now} now"
        glog.warning(f'layer "{layer}": the data have changed ({changed}): the run goes on, but not exactly')
