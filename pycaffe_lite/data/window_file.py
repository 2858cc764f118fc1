"""Draws windows of objects and of background from the images of a window file, for WindowData (window_data_layer.cpp)."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .. import glog
from .. import rng as streams
from ..errors import DataError, NetError
from ..proto.caffe_pb2 import LayerParameter, TransformationParameter
from .images import decode, open_list, read_image_file, resize
from .reader import Batch
from .transformer import read_mean

CHANNELS = 3


class WindowReader:
    """Draws windows at random and cuts them out."""

    def __init__(self, param: LayerParameter, dtype: np.dtype, rng: np.random.Generator):
        self.param, self.transform = param.window_data_param, param.transform_param
        self.dtype, self.rng = dtype, rng
        self.crop = self.transform.crop_size
        self.mean = _mean(self.transform)
        self.scale = self.transform.scale * self.param.scale
        self.images, windows = read_windows(self.param.source)
        objects = windows[:, OVERLAP] >= self.param.fg_threshold
        background = ~objects & (windows[:, OVERLAP] < self.param.bg_threshold)
        windows[background, LABEL] = 0
        self.objects, self.background = windows[objects], windows[background]
        self.object_count = int(np.float32(self.param.batch_size) * np.float32(self.param.fg_fraction))
        self._check()
        self._cache: dict[str, bytes] = {}
        self._warn = cache(glog.warning)  # once for each image

    def _check(self) -> None:
        counts = ((self.objects, self.object_count), (self.background, self.param.batch_size - self.object_count))
        for name, (windows, wanted) in zip(("objects", "background"), counts):
            if wanted and not len(windows):
                raise DataError(f"{self.param.source}: expected windows of {name} for each batch, there are none")
        unlabelled = self.objects[self.objects[:, LABEL] <= 0]
        if len(unlabelled):
            image = self.images[int(unlabelled[0, IMAGE])]
            label = f"received {unlabelled[0, LABEL]:g}"
            raise DataError(f"{self.param.source}:{image.line}: expected labels of objects to be at least 1, {label}")

    def shapes(self) -> list[tuple[int, ...]]:
        size = self.param.batch_size
        return [(size, CHANNELS, self.crop, self.crop), (size,)]

    def read(self) -> Batch:
        images, labels = (np.zeros(shape, self.dtype) for shape in self.shapes())
        for i in range(len(images)):
            pool = self.background if i < len(images) - self.object_count else self.objects
            window = pool[self.rng.integers(len(pool))]
            flip = self.transform.mirror and self.rng.integers(2) == 1
            source = self.images[int(window[IMAGE])]
            name = f'{self.param.source}:{source.line}: image "{source.path}"'
            try:
                pixels = decode(self._bytes(source.path), color=True, name=name, warn=self._warn)
                self._cut(pixels, window, flip, images[i])
            except DataError as error:
                raise DataError(f"{name}: {error}") from error
            labels[i] = window[LABEL]
        return Batch([images, labels], self.position())

    def position(self) -> dict[str, Any]:
        return {"rng": streams.state_of(self.rng)}

    def seek(self, position: dict[str, Any]) -> None:
        self.rng = streams.stream_at(position["rng"])

    def extent(self) -> dict[str, int]:
        return {"items": len(self.objects) + len(self.background)}

    def close(self) -> None:
        """Does nothing: no file is open between two batches."""

    def _cut(self, image: np.ndarray, window: np.ndarray, flip: bool, out: np.ndarray) -> None:
        """Fills `out`, 3 x S x S zeros, except its padding."""
        square = self.param.crop_mode == "square"
        box = [int(side) for side in window[LABEL + 1 :]]
        place = place_window(box, image.shape[1:], self.crop, self.param.context_pad, square, flip)
        pixels = resize(image[:, place.y1 : place.y2 + 1, place.x1 : place.x2 + 1], place.height, place.width)
        inside = np.s_[:, place.top : place.top + place.height, place.left : place.left + place.width]
        out[inside] = (pixels[:, :, ::-1] if flip else pixels) - self.mean[inside]
        out *= self.scale

    def _bytes(self, path: str) -> bytes:
        data = self._cache.get(path)
        if data is None:
            data = read_image_file(self.param.root_folder + path)
            if self.param.cache_images:
                self._cache[path] = data
        return data


def _mean(transform: TransformationParameter) -> np.ndarray:
    """The mean to subtract from a crop, 3 x S x S."""
    if transform.HasField("mean_file") and transform.mean_value:
        raise NetError("transform_param: expected mean_file or mean_value, received both")
    crop, values = transform.crop_size, np.array(transform.mean_value or [0], np.float32)
    if transform.HasField("mean_file"):
        values = read_mean(transform.mean_file)
        offset = (values.shape[2] - crop) // 2  # Caffe uses this offset for rows too
        values = values[:, max(offset, 0) :, max(offset, 0) :][:, :crop, :crop]
        if values.shape != (CHANNELS, crop, crop):
            raise NetError(f'expected the mean file "{transform.mean_file}" to cover {CHANNELS} x {crop} x {crop}')
    elif len(values) not in (1, CHANNELS):
        raise NetError(f"expected 1 mean_value or {CHANNELS}, one for each channel, received {len(values)}")
    else:
        values = values.reshape(-1, 1, 1)
    return np.broadcast_to(values, (CHANNELS, crop, crop))


# ---- where a window lies ------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """The part of an image to cut out (first and last pixels), its size in the crop, and its position there."""

    x1: int
    y1: int
    x2: int
    y2: int
    height: int
    width: int
    top: int
    left: int


def place_window(box: list[int], size: Any, crop: int, context_pad: int, square: bool, flip: bool) -> Place:
    """The place of window `box`, x1 y1 x2 y2, in an image of `size`, height and width. `DataError` if it is outside."""
    x1, y1, x2, y2 = box
    place = Place(x1, y1, x2, y2, crop, crop, 0, 0)
    if context_pad or square:
        halves = [np.float32(last - first + 1) / np.float32(2) for first, last in ((x1, x2), (y1, y2))]
        scale = np.float32(crop) / np.float32(crop - 2 * context_pad)
        reach = [(max(halves) if square else half) * scale for half in halves]
        x1, x2, width, left, right = _expand(np.float32(x1) + halves[0], reach[0], size[1], crop)
        y1, y2, height, top, _ = _expand(np.float32(y1) + halves[1], reach[1], size[0], crop)
        left = right if flip else left
        place = Place(x1, y1, x2, y2, min(height, crop - top), min(width, crop - left), top, left)
    if not (0 <= place.x1 <= place.x2 < size[1] and 0 <= place.y1 <= place.y2 < size[0]):
        raise DataError(f"the window {box} (x1, y1, x2, y2) is not in the image of {size[1]} x {size[0]} pixels")
    return place


def _expand(centre: Any, reach: Any, size: int, crop: int) -> tuple[int, int, int, int, int]:
    """On one axis: the first and last pixel around `centre` that are in the image, how many pixels they become in the crop,
    and the padding before and after. Computed in float32, as in Caffe, because of the rounding."""
    first, last = _round(centre - reach), _round(centre + reach)
    factor = np.float32(crop) / np.float32(last - first + 1)
    before, after = max(0, -first), max(0, last - size + 1)
    first, last = first + before, last - after
    sizes = (_round(np.float32(pixels) * factor) for pixels in (last - first + 1, before, after))
    return (first, last, *sizes)  # type: ignore[return-value]


def _round(value: Any) -> int:
    """The nearest integer; halves are rounded away from zero, as in C."""
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))


# ---- the list of windows ------------------------------------------------------------------------------------------

IMAGE, OVERLAP, LABEL = 0, 1, 2  # columns of the table of windows, followed by x1 y1 x2 y2


class Image(NamedTuple):
    """An image of a window file."""

    path: str
    line: int  # in the list


class _Words:
    """The words of a text file, separated by white space."""

    def __init__(self, file: Any):
        self._file, self._rest = file, []  # type: ignore[var-annotated]
        self.line, self.text = 0, ""  # the line that was read last

    def at_end(self) -> bool:
        while not self._rest:
            text = self._file.readline()
            if not text:
                return True
            self.line += 1
            self.text = text.strip()
            self._rest = text.split()
        return False

    def take(self, count: int) -> list[str]:
        """The next words. They are collected line by line, so a count that is too large allocates no memory."""
        words: list[str] = []
        while len(words) < count:
            if self.at_end():
                raise DataError(f"the file ends too early: expected {count} words, received {len(words)}")
            missing = count - len(words)
            words += self._rest[:missing]
            self._rest = self._rest[missing:]
        return words


def read_windows(source: str) -> tuple[list[Image], np.ndarray]:
    """The images of a window file, and a row for each window: image, overlap, label, x1, y1, x2, y2."""
    images: list[Image] = []
    tables = [np.empty((0, 7), np.float32)]
    with open_list(source, "window_data_param") as file:
        words = _Words(file)
        try:
            while not words.at_end():
                line = words.line
                path, windows = _read_image(words)
                tables.append(np.insert(windows[:, [1, 0, 2, 3, 4, 5]], 0, len(images), axis=1))
                images.append(Image(path, line))
        except (DataError, ValueError) as error:
            raise DataError(f"{source}:{words.line}: {error}") from error
    if not images:
        raise DataError(f'the list of windows "{source}" is empty')
    return images, np.concatenate(tables)


def _read_image(words: _Words) -> tuple[str, np.ndarray]:
    """The path of the next image, and a row for each of its windows: label, overlap, x1, y1, x2, y2."""
    sign, index, path = words.take(3)
    expected = 'expected "# index", a path without spaces, channels, height, width and the number of windows of an image'
    numbers: list[str] = []
    while len(numbers) < 4:
        numbers += words.take(1)
        if not numbers[-1].isdecimal():
            raise DataError(f'{expected}, received "{words.text[:200]}"')
    channels, _, _, count = numbers
    if sign != "#" or not index.isdecimal():
        raise DataError(expected)
    if channels != str(CHANNELS):
        raise DataError(f"expected images of {CHANNELS} channels, received {channels}")
    table = np.array(words.take(6 * int(count)), np.float64).reshape(-1, 6)
    integers = np.delete(table, 1, axis=1)
    if not (np.isfinite(table).all() and (integers == np.rint(integers)).all() and (abs(integers) < 2**24).all()):
        raise DataError("expected windows of class, overlap, x1, y1, x2, y2, all integers but the overlap")
    return path, table.astype(np.float32)  # float32, as in Caffe: an overlap may equal a threshold
