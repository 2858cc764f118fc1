"""Images and labels from the records of a database, as Data reads them (data_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from .. import glog, rng
from ..errors import DataError
from .database import Database
from .datum import SizesDiffer, decode_datums, record_name
from .reader import Batch
from .transformer import Transformer


class RecordReader:
    """Reads batches of records in key order, again and again.

    It holds the next record, whose shape is known and whose key is part of the position. `tops` is 1 for images only, or 2
    for images and labels.
    """

    def __init__(self, database: Database, transformer: Transformer, batch_size: int, dtype: np.dtype, tops: int):
        self.database, self.transformer = database, transformer
        self.batch_size, self.dtype, self.tops = batch_size, dtype, tops
        self._warn = cache(glog.warning)  # once for each record
        self._start(None)

    def _start(self, key: bytes | None) -> None:
        self._cursor = self.database.cursor(key)
        self._next = self._cursor.next()
        self._rng = rng.state_of(self.transformer.rng)

    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the next batch, if all of its records are like the first."""
        try:
            images, _ = self._decode([self._next[0]], [self._next[1]])
            shape = self.transformer.output_shape(*images.shape[1:])
        except DataError as error:
            raise self._in_database(error) from error
        return [(self.batch_size, *shape), (self.batch_size,)][: self.tops]

    def read(self) -> Batch:
        """The next batch. All records must have the shape of the first one, unless they are cropped to one size."""
        *records, self._next = [self._next, *self._cursor.take(self.batch_size)]
        keys, values = zip(*records, strict=True)
        try:
            images, labels = self._transformed(keys, values)
        except DataError as error:
            raise self._in_database(error) from error
        return Batch([images, labels][: self.tops], self.position())

    def position(self) -> dict[str, Any]:
        """The key of the next record, and the state of the random stream for crops and mirroring."""
        if self.transformer.draws:
            self._rng = rng.state_of(self.transformer.rng)
        return {"key": self._next[0].hex(), "rng": self._rng}

    def seek(self, position: dict[str, Any]) -> None:
        key, stream = bytes.fromhex(position["key"]), rng.stream_at(position["rng"])
        self.transformer.rng = stream
        self._start(key)

    def extent(self) -> dict[str, str]:
        return {"database": self.database.extent()}

    def close(self) -> None:
        self.database.close()

    def _transformed(self, keys: Sequence[bytes], values: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        try:
            raw, labels = self._decode(keys, values)
        except SizesDiffer:
            if not self.transformer.crops or len(values) == 1:
                raise
            images, labels = zip(*(self._transformed([key], [value]) for key, value in zip(keys, values)), strict=True)
            for key, image in zip(keys, images):
                if image.shape != images[0].shape:
                    channels, received = images[0].shape[1], image.shape[1]
                    raise DataError(f"expected {channels} channels, received {received}", record_name(key)) from None
            return np.concatenate(images), np.concatenate(labels)
        shape = (len(raw), *self.transformer.output_shape(*raw.shape[1:]))
        return self.transformer.transform(raw, out=np.empty(shape, self.dtype)), labels

    def _decode(self, keys: Sequence[bytes], values: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        return decode_datums(values, keys, color=self.transformer.color, source=self.database.path, warn=self._warn)

    def _in_database(self, error: DataError) -> DataError:
        return DataError(f"{self.database.path}: {error}")
