"""Shapes of data layers without a thread or a batch: from their data where these are there, else from the prototxt."""

from __future__ import annotations

import os
from collections.abc import Sequence

import h5py

from ..data import hdf5_list, image_list
from ..data.database import open_database
from ..data.transformer import Transformer
from ..errors import CaffeError, DataError, DataMissing, did_you_mean
from ..layer import Blobs, Layer
from ..proto.caffe_pb2 import LayerParameter
from .text import Findings

Shape = tuple[int, ...] | None  # None: unknown

# Type: the field of LayerParameter with its `source` and `batch_size`.
PARAMS = {
    "Data": "data_param",
    "HDF5Data": "hdf5_data_param",
    "ImageData": "image_data_param",
    "WindowData": "window_data_param",
}


def shapes(layer: Layer, bottom: Blobs, top: Blobs, findings: Findings, where: str) -> Sequence[Shape]:
    """The shapes of the tops of a data layer (one of `PARAMS`).

    Missing data are a warning. Raises `CaffeError` for what is wrong with the layer, or with data that are there.
    """
    param = layer.param
    _forget_missing_mean(param, findings, where)
    batch = getattr(param, PARAMS[param.type]).batch_size
    try:
        items = _from_data(layer, bottom, top)
    except DataMissing as error:
        findings.warning(f"{where}: {error}")
        items = _from_param(layer, len(top))
    return [None if item is None else (batch, *item) for item in items]


def missing_matrix(param: LayerParameter) -> str:
    """What to say of an InfogainLoss whose matrix is not there, which it would read when it is set up."""
    source = param.infogain_loss_param.source
    if param.type != "InfogainLoss" or len(param.bottom) > 2 or not source or os.path.exists(source):
        return ""
    return f'there is no source "{source}"; relative paths start at {os.getcwd()}'


def records(param: LayerParameter) -> int | None:
    """How many items the data of a layer have, if they are there."""
    source = getattr(param, PARAMS[param.type]).source
    try:
        if param.type == "Data":
            with open_database(source) as database:
                return database.count()
        if param.type == "ImageData":
            return len(image_list.read_list(source)[0])
        if param.type == "HDF5Data":
            return sum(_hdf5_shape(path, param.top[0])[0] for path in hdf5_list.read_list(source))
    except CaffeError:
        pass  # `shapes` tells of it
    return None


def _forget_missing_mean(param: LayerParameter, findings: Findings, where: str) -> None:
    transform = param.transform_param
    if transform.mean_file and not transform.mean_value and not os.path.exists(transform.mean_file):
        findings.warning(f'{where}: there is no mean_file "{transform.mean_file}"; relative paths start at {os.getcwd()}')
        transform.ClearField("mean_file")


def _from_data(layer: Layer, bottom: Blobs, top: Blobs) -> list[Shape]:
    """The shape of one item of each top: that of a set-up for batches of one, closed at once."""
    param = layer.param
    if param.type == "HDF5Data" and _is_sound(param):
        files = hdf5_list.read_list(param.hdf5_data_param.source)
        for path in files[1:]:
            _hdf5_shape(path, param.top[0])
        return [_hdf5_shape(files[0], name)[1:] for name in param.top]
    message = getattr(param, PARAMS[param.type])
    message.batch_size = min(message.batch_size, 1)
    if param.HasField("data_param"):
        param.data_param.prefetch = min(param.data_param.prefetch, 1)
    try:
        layer.setup(bottom, top)
        layer.reshape(bottom, top)
    finally:
        if hasattr(layer, "_prefetcher"):
            layer.close()
    return [blob.shape[1:] for blob in top]


def _is_sound(param: LayerParameter) -> bool:
    """Whether the layer's own set-up would get as far as to the files."""
    hdf5 = param.hdf5_data_param
    return bool(hdf5.source and hdf5.batch_size and not param.HasField("transform_param"))


def _hdf5_shape(path: str, name: str) -> tuple[int, ...]:
    """The shape of a data set, of which nothing else is read."""
    if not os.path.isfile(path):
        raise DataMissing(f'there is no HDF5 file "{path}"; relative paths start at {os.getcwd()}')
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


def _from_param(layer: Layer, tops: int) -> list[Shape]:
    """What the prototxt alone says of one item of each top. Labels are numbers."""
    param, transform = layer.param, layer.param.transform_param
    if param.type == "HDF5Data":
        return [None] * tops
    Transformer(transform, layer.phase, layer.rng)  # complains of settings that exclude each other
    channels, size = _channels(param), (transform.crop_size,) * 2
    if param.type == "ImageData" and not transform.crop_size:
        size = (param.image_data_param.new_height, param.image_data_param.new_width)
    known = channels and all(size)
    return [(channels, *size) if known else None, *[()] * (tops - 1)]


def _channels(param: LayerParameter) -> int:
    """The channels of the images, 0 if the prototxt does not say."""
    transform = param.transform_param
    if param.type == "ImageData":
        return 3 if param.image_data_param.is_color else 1
    if param.type == "WindowData" or transform.force_color or param.data_param.force_encoded_color:
        return 3
    if transform.force_gray:
        return 1
    return len(transform.mean_value) if len(transform.mean_value) > 1 else 0
