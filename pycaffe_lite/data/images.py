"""Image files as ImageData and WindowData read them: lists, bytes, and resizing."""

from __future__ import annotations

import os
from itertools import islice
from typing import Any

import numpy as np

from .. import glog
from ..blob import MAX_COUNT
from ..errors import DataError, DataMissing, NetError, did_you_mean
from .image_file import Warn, decode_image


def check_size(*shape: int) -> None:
    """Raises `DataError` for images that no blob could hold, before memory is allocated."""
    if np.prod(shape, dtype=object) > MAX_COUNT:
        raise NetError(f"a blob has at most {MAX_COUNT} elements, received {' x '.join(map(str, shape))}")


def open_list(source: str, field: str) -> Any:
    """Opens the text file that the field `source` of a layer names."""
    if not source:
        raise NetError(f"expected a list of images in {field}.source, received none")
    if not os.path.isfile(source):
        raise DataMissing(f'there is no list of images "{source}"{_near(source)}; relative paths start at {os.getcwd()}')
    try:
        return open(source, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise DataError(f'the list of images "{source}" cannot be read: {error.strerror or error}') from error


def read_image_file(path: str) -> bytes:
    """The bytes of an image file."""
    if not os.path.isfile(path):  # a device is refused too, since it may have no end
        raise DataMissing(f"there is no such file{_near(path)}")
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from error


def _near(path: str) -> str:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        return ""
    with os.scandir(folder) as entries:
        return did_you_mean(os.path.basename(path), [entry.name for entry in islice(entries, 1000)])


def decode(
    data: bytes, color: bool, height: int = 0, width: int = 0, name: str = "an image", warn: Warn = glog.warning
) -> np.ndarray:
    """The image C x H x W of a file's bytes, blue first; it is resized if a size is given. See `decode_image`."""
    image = decode_image(data, color, name, warn)
    return resize(image, height, width) if height else image


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """C x H x W of uint8 in another size. Each pixel is interpolated between its four nearest neighbours.

    That is OpenCV's INTER_LINEAR, which rounds its weights and may differ by 1. Like OpenCV, and unlike Pillow, it does not
    average over the pixels in between when it shrinks an image.
    """
    top, bottom, y = _neighbours(image.shape[1], height)
    left, right, x = _neighbours(image.shape[2], width)
    lines = image[:, top] * (1 - y[:, None]) + image[:, bottom] * y[:, None]
    return np.rint(lines[:, :, left] * (1 - x) + lines[:, :, right] * x).astype(np.uint8)


def _neighbours(size: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `count` pixels spread over `size`: the two pixels around its centre, and the weight of the second."""
    at = np.clip((np.arange(count) + 0.5) * (size / max(count, 1)) - 0.5, 0, size - 1)
    before = at.astype(np.intp)
    return before, np.minimum(before + 1, size - 1), (at - before).astype(np.float32)
