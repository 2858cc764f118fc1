"""What layers share that read from files: a background thread that reads batches ahead, and a place to go on from."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...data.prefetch import Prefetcher, checked_depth
from ...data.reader import Reader, warn_if_data_changed
from ...layer import Blobs, Layer


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
        self._reader = reader
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
            if type(state[what]) is not type(now):
                raise ValueError(f"expected {what} of the data like {now!r}, received {state[what]!r:.40}")
            if state[what] != now:
                warn_if_data_changed(self.param.name, what, state[what], now)
                break
        self.close()
        self._start(reader)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        for blob, shape in zip(top, self._shapes, strict=True):
            blob.reshape(shape)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        batch = self._prefetcher.get()
        self._shapes, self._position = [array.shape for array in batch.arrays], batch.position
        self.reshape(bottom, top)
        for blob, array in zip(top, batch.arrays, strict=True):
            blob.host_out[...] = array

    def close(self) -> None:
        self._prefetcher.close()
        self._reader.close()
