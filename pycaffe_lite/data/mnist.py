"""The files of MNIST: their names, and the idx format, a big-endian header followed by bytes, plain or gzipped.

2051, N, rows, columns (four 32-bit integers), then N x rows x columns pixels: images
2049, N (two 32-bit integers), then N bytes: labels
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SYNTHETIC = "SYNTHETIC"  # a folder with a file of this name has drawn digits that are not MNIST

_IMAGES, _LABELS = 2051, 2049
_MOST_DEFLATED = 1032  # the most bytes that deflate can compress into one


def read_images(path: str | os.PathLike) -> np.ndarray:
    """The images of an idx file, N x rows x columns of uint8."""
    return _read(Path(path), _IMAGES, 3, "images")


def read_labels(path: str | os.PathLike) -> np.ndarray:
    """The labels of an idx file, N of uint8."""
    return _read(Path(path), _LABELS, 1, "labels")


def write_idx(path: str | os.PathLike, array: np.ndarray) -> None:
    """Writes images (N x rows x columns of uint8) or labels (N of uint8), uncompressed."""
    magic = _IMAGES if array.ndim == 3 else _LABELS
    Path(path).write_bytes(struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes())


def is_synthetic(folder: str | os.PathLike) -> bool:
    """Whether the digits in a folder were drawn by `synthetic_digits`."""
    return Path(folder, SYNTHETIC).exists()


def _read(path: Path, magic: int, axes: int, contents: str) -> np.ndarray:
    try:
        return _parse(path, magic, axes, contents)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; data/mnist/get_mnist.sh fetches MNIST") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _parse(path: Path, magic: int, axes: int, contents: str) -> np.ndarray:
    size = path.stat().st_size
    with open(path, "rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if zipped else open(path, "rb") as file:
        header = file.read(4 + 4 * axes)
        if len(header) < 4 + 4 * axes or header[:4] != struct.pack(">I", magic):
            raise DataError(f"{path}: is no idx file of {contents} (those start with {magic} as a 32-bit integer)")
        shape = struct.unpack(f">{axes}I", header[4:])
        expected = math.prod(shape)
        if expected > size * (_MOST_DEFLATED if zipped else 1):  # a damaged header must not make us allocate much memory
            raise DataError(f"{path}: is cut off: its header promises {expected} bytes of {contents}")
        content = file.read(expected + 1)
    if len(content) != expected:
        more = "more than that" if len(content) > expected else str(len(content))
        raise DataError(f"{path}: expected {expected} bytes of {contents} after the header, received {more}")
    return np.frombuffer(content, np.uint8).reshape(shape)
