"""ImageData: images and labels from files   (image_data_layer.cpp).

No bottoms.
top[0]: `N x C x H x W`, N = `batch_size` images after `transform_param`, C = 3 (blue, green, red), or 1 without `is_color`.
top[1]: `N`, the labels.

After the last line of the list comes the first. Without a size and without a crop the images of a batch must be of one size;
from batch to batch it may change. `prefetch` of `data_param` (default 4) says how many batches are read ahead.

`image_data_param`:
- `source` (required): a text file with a path and an integer label on each line.
- `root_folder` (default ""): put before each path as it is, so it should end in a slash.
- `batch_size` (default 1): N.
- `shuffle` (default false): permutes the lines in each round.
- `rand_skip` (default 0): leaves out a random number of lines, below it, at the start.
- `new_height` (default 0), `new_width` (default 0): every image is resized to this, in pixels; both or none.
- `is_color` (default true): three channels, whatever the file holds, else one.
- `scale` (default 1), `mean_file` (default none), `crop_size` (default 0), `mirror` (default false): ignored, but for V0 and
  V1 nets, whose values go to `transform_param`.

Differences from Caffe:
- Lines without a label are an error; Caffe takes what is no number for the label 0. A `rand_skip` beyond the list is cut to
  it.
- Files are decoded by Pillow (JPEG, PNG, BMP, WebP, PPM, of 8 bits per channel), whose pixels may differ from OpenCV's by
  rounding. The orientation in EXIF data is not applied.
- Resizing is OpenCV's bilinear interpolation, computed in floats: it may differ by 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import rng
from ..data.transformer import Transformer
from ..errors import DataError, NetError
from ..layer import register, whole
from ..proto.caffe_pb2 import ImageDataParameter
from ._batches import Batch
from ._images import ImageBatches, check_size, decode, open_list, read_image_file


@register("ImageData")
class ImageData(ImageBatches):
    def new_reader(self, stream: np.random.Generator) -> ImageReader:
        param = self.param.image_data_param
        if not param.batch_size:
            raise NetError("expected image_data_param.batch_size to be at least 1, received 0")
        if bool(param.new_height) != bool(param.new_width):
            sizes = f"{param.new_height} and {param.new_width}"
            raise NetError(f"expected both of new_height and new_width, or none, received {sizes}")
        check_size(param.batch_size, 3, param.new_height or 1, param.new_width or 1)
        return ImageReader(param, Transformer(self.param.transform_param, self.phase, stream), self.dtype)


class ImageReader:
    """Reads the images of a list, in its order or shuffled. Random draws are the transformer's."""

    def __init__(self, param: ImageDataParameter, transformer: Transformer, dtype: np.dtype):
        self.param, self.transformer, self.dtype = param, transformer, dtype
        self._paths, self._labels, self._lines = read_list(param.source)
        self._start_round()
        self._next = int(transformer.rng.integers(min(param.rand_skip, len(self._paths)))) if param.rand_skip else 0

    def shapes(self) -> list[tuple[int, ...]]:
        item = self._order[self._next]
        with self._named(item):
            shape = self.transformer.output_shape(*self._read(item).shape)
        return [(self.param.batch_size, *shape), (self.param.batch_size,)]

    def read(self) -> Batch:
        items = [self._take() for _ in range(self.param.batch_size)]
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
        """A shuffled order is not in the position but drawn again, from where the random stream stood before."""
        after = rng.stream_at(position["rng"])
        self.transformer.rng = rng.stream_at(position["before_round"])
        self._start_round()
        self._next = whole(position["next"]) % len(self._order)
        self.transformer.rng = after

    def extent(self) -> dict[str, int]:
        return {"items": len(self._paths)}

    def _start_round(self) -> None:
        self._next, self._order = 0, np.arange(len(self._paths))
        self._before_round = rng.state_of(self.transformer.rng)
        if self.param.shuffle:
            self.transformer.rng.shuffle(self._order)

    def _take(self) -> int:
        """The index of the next image in the list."""
        item = int(self._order[self._next])
        self._next += 1
        if self._next == len(self._order):
            self._start_round()
        return item

    def _read(self, item: int) -> np.ndarray:
        data = read_image_file(self.param.root_folder + self._paths[item])
        return decode(data, self.param.is_color, self.param.new_height, self.param.new_width)

    @contextmanager
    def _named(self, item: int) -> Iterator[None]:
        """Says in a `DataError` which line of the list it is about."""
        try:
            yield
        except DataError as error:
            path = self.param.root_folder + self._paths[item]
            raise type(error)(f'{self.param.source}:{self._lines[item]}: image "{path}": {error}') from error


_LINE = re.compile(r"(.*\S)\s+([+-]?[0-9]{1,10})")


def read_list(source: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Paths, labels and line numbers of a list of images. A path may contain spaces; the label stands after the last one."""
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
