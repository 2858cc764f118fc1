"""What layers share that read from files: a background thread that reads batches ahead, and a place to go on from."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from ..data.prefetch import Prefetcher, checked_depth
from ..layer import Blobs, Layer, whole


class Batch(NamedTuple):
    arrays: list[np.ndarray]  # for each top
    position: dict[str, Any]  # of the reader after this batch


class Reader(Protocol):
    """Reads one batch after the other. It must not know its layer, which can be dropped while a thread reads."""

    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the first batch, for each top."""

    def read(self) -> Batch: ...

    def position(self) -> dict[str, Any]:
        """All that it takes to go on from here, random stream included, as JSON can hold it."""

    def seek(self, position: dict[str, Any]) -> None:
        """Goes on from there, with a random stream of its own. Raises `ValueError`, `TypeError` or `LookupError`."""

    def extent(self) -> dict[str, int]:
        """What can be counted of the data: where that changes, no run goes on exactly."""


class Batches(Layer):
    """Hands out what a `Reader` reads ahead."""

    exact_bottoms = 0

    def new_reader(self, stream: np.random.Generator) -> Reader:
        """What the parameters ask for. Raises for those that make no sense, and for data that cannot be read."""
        raise NotImplementedError

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self._depth = checked_depth(self.param.data_param)
        reader = self.new_reader(self.rng)
        self._shapes = reader.shapes()
        self._start(reader)

    def _start(self, reader: Reader) -> None:
        self._position, self._extent = reader.position(), reader.extent()
        self._prefetcher = Prefetcher(reader.read, self._depth)

    def save_state(self) -> dict[str, Any]:
        """Where the batch ended that `forward` handed out last, however far the thread has read ahead."""
        return {**self._extent, **self._position}

    def load_state(self, state: dict[str, Any]) -> None:
        # Not the layer's stream: a thread that does not end at once may still draw from it.
        reader = self.new_reader(np.random.default_rng(0))
        reader.seek(state)
        for what, now in reader.extent().items():
            if whole(state[what]) != now:
                self.warn_if_changed(what, state[what], now)
                break
        self._prefetcher.close()
        self._start(reader)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        for blob, shape in zip(top, self._shapes, strict=True):
            blob.reshape(shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        batch = self._prefetcher.get()
        self._shapes, self._position = [array.shape for array in batch.arrays], batch.position
        self.reshape(bottom, top)
        for blob, array in zip(top, batch.arrays, strict=True):
            blob.data[...] = array

    def close(self) -> None:
        self._prefetcher.close()
