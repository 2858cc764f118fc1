"""The base of layers that read files: a background thread reads batches ahead, and a resumed run continues at its place."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...data.prefetch import Prefetcher, checked_depth
from ...data.reader import Reader, warn_if_data_changed
from ...data.transformer import Transformer
from ...layer import Blobs, Layer
from ...proto.caffe_pb2 import LayerParameter

ItemShape = tuple[int, ...] | None  # without the batch axis; None if unknown


class Batches(Layer):
    """Hands out the batches that a `Reader` reads ahead."""

    exact_bottoms = 0

    def new_reader(self, stream: np.random.Generator) -> Reader:
        """Makes the reader for the parameters. Raises an error if they are wrong or the data cannot be read."""
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
        """The position after the batch that `forward` handed out last, even if the thread has read further."""
        return {**self._extent, **self._position}

    def load_state(self, state: dict[str, Any]) -> None:
        # Not with the layer's stream, from which the old thread may still draw.
        reader = self.new_reader(np.random.default_rng(0))
        try:
            reader.seek(state)
            self._warn_of_other_data(reader.extent(), state)
        except BaseException:
            reader.close()
            raise
        self.close()
        self._start(reader)

    def _warn_of_other_data(self, extent: dict[str, Any], state: dict[str, Any]) -> None:
        for field, now in extent.items():
            if type(state[field]) is not type(now):
                raise ValueError(f"expected {field} of the data like {now!r}, received {state[field]!r:.40}")
            if state[field] != now:
                warn_if_data_changed(self.param.name, field, state[field], now)
                break

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

    # ---- what `check` asks, without a thread or a batch ---------------------------------------------------------------

    @classmethod
    def count_items(cls, param: LayerParameter) -> int | None:
        """The number of items in the data, None if unknown. Raises `CaffeError` if the data cannot be read."""
        return None

    def item_shapes(self, bottom: Blobs, top: Blobs) -> list[ItemShape]:
        """The shape of an item of each top in the data, from a set-up with batches of one. The layer is not used again.

        Raises `DataMissing` if there are no data, and another `CaffeError` if data or layer are wrong.
        """
        message = getattr(self.param, self.param_field)
        message.batch_size = min(message.batch_size, 1)
        if self.param.HasField("data_param"):
            self.param.data_param.prefetch = min(self.param.data_param.prefetch, 1)
        try:
            self.setup(bottom, top)
            self.reshape(bottom, top)
        finally:
            if hasattr(self, "_prefetcher"):
                self.close()
        return [blob.shape[1:] for blob in top]

    def item_shapes_without_data(self, tops: int) -> list[ItemShape]:
        """The shape of an item of each top as far as the prototxt says: an image, then labels, which are numbers."""
        Transformer(self.param.transform_param, self.phase, self.rng)  # raises if settings exclude each other
        image = self.image_size()
        return [image if all(image) else None, *[()] * (tops - 1)]

    def image_size(self) -> tuple[int, int, int]:
        """Channels, height and width of an image according to the prototxt; 0 if it does not say."""
        transform = self.param.transform_param
        channels = len(transform.mean_value) if len(transform.mean_value) > 1 else 0
        return channels, transform.crop_size, transform.crop_size
