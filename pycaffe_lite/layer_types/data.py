"""Data: images and labels from an LMDB or LevelDB database   (data_layer.cpp).

No bottoms.   top[0]: `N x C x H x W`, the images of N = `batch_size` records after `transform_param`.
top[1], optional: `N`, the labels.

Records come in the order of their keys, and after the last one comes the first. Batches are read ahead by a background
thread. The images of a batch are of one size, unless `crop_size` makes them so; from batch to batch it may change.

`data_param`:
- `source` (required): the folder of the database.
- `batch_size` (required): N.
- `backend` (default LEVELDB): LEVELDB or LMDB; what the folder holds wins.
- `prefetch` (default 4): how many batches are read ahead, at least 1.
- `force_encoded_color` (default false): as `force_color` of `transform_param`.
- `rand_skip` (default 0): ignored, with a warning.
- `scale` (default 1), `mean_file` (default none), `crop_size` (default 0), `mirror` (default false): ignored, but for V0 and
  V1 nets, whose values go to `transform_param`.

Differences from Caffe: the database is recognised by its files, not by `backend`. A damaged record is an error that names
its key. Image files in records are decoded by Pillow, whose pixels may differ from OpenCV's by rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from .. import glog, rng
from ..data.database import Database, open_database
from ..data.datum import SizesDiffer, decode_datums, record_name
from ..data.prefetch import Prefetcher, checked_depth
from ..data.transformer import Transformer
from ..errors import DataError, NetError
from ..layer import Blobs, Layer, register, whole
from ..proto.caffe_pb2 import DataParameter, TransformationParameter


class Position(NamedTuple):
    """Where a reader stands between two batches: all that it takes to go on from there."""

    key: bytes  # of the next record
    records: int  # read so far
    rng: dict[str, int]  # the state of the random stream for crops and mirroring


class Batch(NamedTuple):
    images: np.ndarray  # N x C x H x W, transformed
    labels: np.ndarray  # N, int32
    position: Position  # after this batch


class BatchReader:
    """Reads one batch after the other. It knows nothing of its layer, which can be dropped while a thread reads.

    It holds the record that comes next, whose shape is known and whose key is part of its position.
    """

    def __init__(
        self, database: Database, transformer: Transformer, batch_size: int, dtype: np.dtype, start: Position | None = None
    ):
        self.database = database
        self.transformer = transformer
        self.batch_size = batch_size
        self.dtype = dtype
        self._cursor = database.cursor(start.key if start else None)
        self._next = self._cursor.next()
        self._count = start.records if start else 0
        self._rng = rng.state_of(transformer.rng)

    @property
    def position(self) -> Position:
        if self.transformer.draws:
            self._rng = rng.state_of(self.transformer.rng)
        return Position(self._next[0], self._count, self._rng)

    def shape(self) -> tuple[int, ...]:
        """The shape of the next batch, if all of its records are like the first."""
        try:
            images, _ = decode_datums([self._next[1]], [self._next[0]], color=self.transformer.color)
            return (self.batch_size, *self.transformer.output_shape(*images.shape[1:]))
        except DataError as error:
            raise self._in_database(error) from error

    def read(self) -> Batch:
        """The next batch. All of its records must have the shape of its first one, unless they are cropped to one."""
        *records, self._next = [self._next, *self._cursor.take(self.batch_size)]
        self._count += self.batch_size
        keys, values = zip(*records, strict=True)
        try:
            images, labels = self._transformed(keys, values)
        except DataError as error:
            raise self._in_database(error) from error
        return Batch(images, labels, self.position)

    def _transformed(self, keys: Sequence[bytes], values: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        try:
            raw, labels = decode_datums(values, keys, color=self.transformer.color)
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

    def _in_database(self, error: DataError) -> DataError:
        return DataError(f"{self.database.path}: {error}")


@register("Data")
class Data(Layer):
    """`position` is where the batch ended that `forward` handed out last, however far the thread has read ahead."""

    exact_bottoms = 0
    min_tops = 1
    max_tops = 2

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.data_param
        _check(param)
        transform = TransformationParameter()
        transform.CopyFrom(self.param.transform_param)
        transform.force_color |= param.force_encoded_color
        self._transformer = Transformer(transform, self.phase, self.rng)
        backend = DataParameter.DB.Name(param.backend) if param.HasField("backend") else None
        self._database = open_database(param.source, backend)
        self._extent = self._database.extent()
        self._start()
        self._shape = self._reader.shape()

    def _start(self, position: Position | None = None) -> None:
        param, transformer = self.param.data_param, copy(self._transformer)
        if position:  # a stream of its own: a thread that does not end at once may still draw from the one before
            transformer.rng = self.rng = rng.stream_at(position.rng)
        self._reader = BatchReader(self._database, transformer, param.batch_size, self.dtype, position)
        self._prefetcher = Prefetcher(self._reader.read, checked_depth(param))
        self.position = self._reader.position

    def seek(self, position: Position) -> None:
        """Goes on at an earlier `position`, of this layer or of another one that read the same database."""
        self._prefetcher.close()
        self._start(position)

    def save_state(self) -> dict[str, Any]:
        position = self.position
        place = {"key": position.key.hex(), "records": position.records, "rng": position.rng}
        return {**place, "database": self._extent}

    def load_state(self, state: dict[str, Any]) -> None:
        position = Position(bytes.fromhex(state["key"]), whole(state["records"]), state["rng"])
        self.warn_if_changed("database", state["database"], self._extent)
        self.seek(position)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        top[0].reshape(self._shape)
        if len(top) > 1:
            top[1].reshape(self._shape[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        batch = self._prefetcher.get()
        self._shape, self.position = batch.images.shape, batch.position
        self.reshape(bottom, top)
        top[0].data[...] = batch.images
        if len(top) > 1:
            top[1].data[...] = batch.labels

    def close(self) -> None:
        self._prefetcher.close()
        self._database.close()


def _check(param: DataParameter) -> None:
    if not param.source:
        raise NetError("expected the folder of a database in data_param.source, received none")
    if not param.batch_size:
        raise NetError("expected data_param.batch_size to be at least 1, received 0")
    checked_depth(param)
    if param.rand_skip:
        glog.warning("data_param.rand_skip is ignored, as in Caffe")
