"""Images and labels from a list of files, as ImageData reads them (image_data_layer.cpp)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from .. import glog, rng
from ..errors import DataError
from ..proto.caffe_pb2 import ImageDataParameter
from .images import decode, open_list, read_image_file
from .reader import Batch, checked_integer
from .transformer import Transformer


class ImageReader:
    """Reads the images of a list, in order or shuffled. It draws random numbers from the transformer's stream."""

    def __init__(self, param: ImageDataParameter, transformer: Transformer, dtype: np.dtype):
        self.param, self.transformer, self.dtype = param, transformer, dtype
        self._paths, self._labels, self._lines = read_list(param.source)
        self._warn = cache(glog.warning)  # once for each image
        self._start_round()
        self._next = int(transformer.rng.integers(min(param.rand_skip, len(self._paths)))) if param.rand_skip else 0

    def shapes(self) -> list[tuple[int, ...]]:
        item = self._order[self._next]
        with self._named(item):
            shape = self.transformer.output_shape(*self._read(item).shape)
        return [(self.param.batch_size, *shape), (self.param.batch_size,)]

    def read(self) -> Batch:
        items = [self._next_index() for _ in range(self.param.batch_size)]
        images: np.ndarray | None = None
        for i, item in enumerate(items):
            with self._named(item):
                image = self._read(item)
                shape = self.transformer.output_shape(*image.shape)
                if images is None:
                    images = np.empty((len(items), *shape), self.dtype)
                if images.shape[1:] != shape:
                    expected, received = (" x ".join(map(str, size)) for size in (images.shape[1:], shape))
                    raise DataError(f"expected {expected}, as the first image of its batch, received {received}")
                self.transformer.transform(image[np.newaxis], out=images[i : i + 1])
        assert images is not None
        return Batch([images, self._labels[items]], self.position())

    def position(self) -> dict[str, Any]:
        return {"next": self._next, "before_round": self._before_round, "rng": rng.state_of(self.transformer.rng)}

    def seek(self, position: dict[str, Any]) -> None:
        """The position has no shuffled order; it is drawn again from the earlier state of the random stream."""
        after = rng.stream_at(position["rng"])
        self.transformer.rng = rng.stream_at(position["before_round"])
        self._start_round()
        self._next = checked_integer(position["next"]) % len(self._order)
        self.transformer.rng = after

    def extent(self) -> dict[str, int]:
        return {"items": len(self._paths)}

    def close(self) -> None:
        """Does nothing: no file is open between two batches."""

    def _start_round(self) -> None:
        self._next, self._order = 0, np.arange(len(self._paths))
        self._before_round = rng.state_of(self.transformer.rng)
        if self.param.shuffle:
            self.transformer.rng.shuffle(self._order)

    def _next_index(self) -> int:
        """Returns the index of the next image in the list."""
        item = int(self._order[self._next])
        self._next += 1
        if self._next == len(self._order):
            self._start_round()
        return item

    def _read(self, item: int) -> np.ndarray:
        data, param = read_image_file(self.param.root_folder + self._paths[item]), self.param
        return decode(data, param.is_color, param.new_height, param.new_width, self._name(item), self._warn)

    def _name(self, item: int) -> str:
        path = self.param.root_folder + self._paths[item]
        return f'{self.param.source}:{self._lines[item]}: image "{path}"'

    @contextmanager
    def _named(self, item: int) -> Iterator[None]:
        """Adds the line of the list to a `DataError`."""
        try:
            yield
        except DataError as error:
            raise type(error)(f"{self._name(item)}: {error}") from error


_LINE = re.compile(r"(.*\S)\s+([+-]?[0-9]{1,10})")


def read_list(source: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Paths, labels and line numbers of a list of images. A path may contain spaces; the label follows the last one."""
    paths, labels, lines = [], [], []
    with open_list(source, "image_data_param") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None or not -(2**31) <= int(match[2]) < 2**31:
                raise DataError(f'{source}:{number}: expected a path and an integer label, received "{line.strip()[:100]}"')
            paths.append(match[1])
            labels.append(int(match[2]))
            lines.append(number)
    if not paths:
        raise DataError(f'the list of images "{source}" is empty')
    return paths, np.array(labels, np.int32), np.array(lines, np.int32)
