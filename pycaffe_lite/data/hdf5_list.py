"""Rows of the data sets in a list of HDF5 files, as HDF5Data reads them (hdf5_data_layer.cpp)."""

from __future__ import annotations

import math
import os
from typing import Any

import h5py
import numpy as np

from .. import rng
from ..blob import MAX_COUNT, shape_text
from ..errors import DataError, DataMissing, did_you_mean
from ..proto.caffe_pb2 import HDF5DataParameter
from .reader import Batch, checked_integer

# A damaged or hostile file can claim any shape. Above UNCHECKED_BYTES, a data set must be stored in at least as many bytes
# as the best compression would leave (deflate: 1 in 1032).
UNCHECKED_BYTES = 64 << 20
MAX_RATIO = 1100


class RowReader:
    """Reads the rows of a list of files. It opens a file when it reaches its first row."""

    def __init__(self, param: HDF5DataParameter, names: list[str], dtype: np.dtype, stream: np.random.Generator):
        self._batch_size, self._shuffle = param.batch_size, param.shuffle
        self._names, self._dtype, self._rng = names, dtype, stream
        self._listed = read_list(param.source)
        self._files: list[str] = []
        self._rows = np.arange(0)
        self._arrays: list[np.ndarray] = []
        self._start_round()

    def shapes(self) -> list[tuple[int, ...]]:
        if not self._arrays:
            self._open()
        return [(self._batch_size, *array.shape[1:]) for array in self._arrays]

    def read(self) -> Batch:
        batch = [np.empty(shape, self._dtype) for shape in self.shapes()]
        filled = 0
        while filled < self._batch_size:
            rows = self._rows[self._row : self._row + self._batch_size - filled]
            for out, array in zip(batch, self._arrays, strict=True):
                # "clip" changes nothing here, but without it NumPy uses a buffer.
                np.take(array, rows, axis=0, out=out[filled : filled + len(rows)], mode="clip")
            filled += len(rows)
            self._row += len(rows)
            if self._row == len(self._rows):
                self._next_file()
        return Batch(batch, self.position())

    # A shuffled order is not stored. It is drawn again from the earlier state of the random stream.

    def position(self) -> dict[str, Any]:
        place: dict[str, Any] = {"file": self._file, "row": self._row, "rows": len(self._rows)}
        return {**place, "before_files": self._before_files, "before_rows": self._before_rows} if self._shuffle else place

    def seek(self, position: dict[str, Any]) -> None:
        file = checked_integer(position["file"], checked_integer(position["files"]))
        row = checked_integer(position["row"], checked_integer(position["rows"]))
        streams = [rng.stream_at(position[name]) for name in ("before_files", "before_rows")] if self._shuffle else None
        if streams:
            self._rng = streams[0]
        self._start_round()
        self._file = file % len(self._files)
        if streams:
            self._rng = streams[1]
        self._open()
        self._row = row % len(self._rows)

    def extent(self) -> dict[str, int]:
        return {"files": len(self._files), "rows": len(self._rows)}

    def close(self) -> None:
        """Does nothing: no file is open between two batches."""

    def _start_round(self) -> None:
        self._file, self._files = 0, list(self._listed)
        if self._shuffle:
            self._before_files = rng.state_of(self._rng)
            self._rng.shuffle(self._files)

    def _next_file(self) -> None:
        if len(self._files) == 1:
            self._start_rows()
            return
        self._file += 1
        if self._file == len(self._files):
            self._start_round()
        self._open()

    def _open(self) -> None:
        path = self._files[self._file]
        arrays = load(path, self._names, self._dtype)
        for name, before, array in zip(self._names, self._arrays or arrays, arrays, strict=True):
            expected, received = before.shape[1:], array.shape[1:]
            if received != expected:
                shapes = f"{shape_text(expected)} as in the file before, received {shape_text(received)}"
                raise DataError(f'{path}: expected rows of data set "{name}" to be {shapes}')
        self._arrays = arrays
        self._start_rows()

    def _start_rows(self) -> None:
        self._row = 0
        self._rows = np.arange(len(self._arrays[0]))
        if self._shuffle:
            self._before_rows = rng.state_of(self._rng)
            self._rng.shuffle(self._rows)


def read_list(source: str) -> list[str]:
    """The file names in a list, separated by white space as in Caffe. They are relative to the current folder."""
    if not os.path.isfile(source):
        raise DataMissing(f"there is no list of HDF5 files {_missing(source)}")
    try:
        if h5py.is_hdf5(source):
            raise DataError(f'expected a text file that lists HDF5 files, but "{source}" is an HDF5 file itself')
        with open(source, encoding="utf-8", errors="surrogateescape") as file:
            files = file.read().split()
    except OSError as error:
        raise DataError(f'the list of HDF5 files "{source}" cannot be read: {error.strerror or error}') from error
    if not files:
        raise DataError(f'the list of HDF5 files "{source}" is empty')
    return files


def load(path: str, names: Any, dtype: np.dtype) -> list[np.ndarray]:
    """The data sets with these names as arrays of `dtype`, with equally many rows. Raises `DataError`."""
    if not os.path.isfile(path):
        raise DataMissing(f"there is no HDF5 file {_missing(path)}")
    try:
        with h5py.File(path, "r") as file:
            arrays = [_read(file, name, dtype) for name in names]
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except MemoryError:
        raise DataError(f"{path}: does not fit into memory; split it into several files") from None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:  # h5py has no error class of its own
        raise DataError(f"{path}: is damaged or no HDF5 file ({error})") from error
    rows = {name: len(array) for name, array in zip(names, arrays, strict=True)}
    if len(set(rows.values())) > 1:
        counts = ", ".join(f'{count} in "{name}"' for name, count in rows.items())
        raise DataError(f"{path}: expected data sets of equally many rows, received {counts}")
    if not len(arrays[0]):
        raise DataError(f"{path}: expected at least one row, received none")
    return arrays


def shape_of(path: str, name: str) -> tuple[int, ...]:
    """The shape of a data set, without reading its data. Raises `DataError`."""
    if not os.path.isfile(path):
        raise DataMissing(f"there is no HDF5 file {_missing(path)}")
    try:
        with h5py.File(path, "r") as file:
            data = file.get(name)
            names = list(file)
            shape = data.shape if isinstance(data, h5py.Dataset) else None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is damaged or no HDF5 file ({error})") from error
    if not shape:
        raise DataError(f'{path}: has no data set "{name}" of rows, the name of a top{did_you_mean(name, names)}')
    return shape


def _read(file: Any, name: str, dtype: np.dtype) -> np.ndarray:
    data = file.get(name)
    if not isinstance(data, h5py.Dataset):
        names = [key for key in file if isinstance(file.get(key), h5py.Dataset)]
        raise DataError(f'has no data set "{name}", the name of a top{did_you_mean(name, names)}')
    if data.dtype.kind not in "iuf":
        raise DataError(f'expected integers or floats in data set "{name}", received {data.dtype}')
    if not data.shape:
        raise DataError(f'expected at least one axis (of rows) in data set "{name}", received {data.shape}')
    stored = data.id.get_storage_size()
    count = math.prod(data.shape)  # h5py's `size` may overflow
    if count > MAX_COUNT or count * data.dtype.itemsize > max(UNCHECKED_BYTES, MAX_RATIO * stored):
        raise DataError(f'data set "{name}" claims a shape of {shape_text(data.shape)}, but {stored} bytes are stored in it')
    array = np.empty(data.shape, dtype)
    if count:
        data.read_direct(array)
    return array


def _missing(path: str) -> str:
    folder = os.path.dirname(path) or "."
    hint = did_you_mean(os.path.basename(path), os.listdir(folder)) if os.path.isdir(folder) else ""
    return f'"{path}"{hint}; relative paths start at {os.getcwd()}'
