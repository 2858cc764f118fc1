"""Datum: one record of a database, an image with a label (`message Datum` of caffe.proto).

Records come in batches. Their bytes are joined and viewed as one array, so there is no work per pixel in Python. Which field
is used if several are set, and how encoded images are read, follows Caffe's `src/caffe/data_transformer.cpp`, `util/io.cpp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from .. import glog
from ..blob import sizes_text
from ..errors import DataError
from ..proto.caffe_pb2 import Datum
from .image_file import Warn, decode_image

Shape = tuple[int, int, int]

_LABEL = 5 << 3  # the byte before a label: the field number and the wire type of a varint
_ENDS = (b"", Datum(encoded=False).SerializeToString())  # the bytes that may follow it


def encode_datum(array: np.ndarray, label: int) -> bytes:
    """The record of an image C x H x W, uint8 or float32, with its label."""
    if array.ndim != 3 or array.dtype not in (np.uint8, np.float32):
        raise DataError(f"expected an image C x H x W of uint8 or float32, received {array.shape} of {array.dtype}")
    channels, height, width = array.shape
    datum = Datum(channels=channels, height=height, width=width, label=int(label))
    if array.dtype == np.uint8:
        datum.data = array.tobytes()
    else:
        datum.float_data.extend(array.ravel().tolist())
    return datum.SerializeToString()


class SizesDiffer(DataError):
    """Records with images of different sizes."""


def decode_datums(
    values: Sequence[bytes],
    keys: Sequence[bytes],
    shape: Shape | None = None,
    color: bool | None = None,
    source: str = "",
    warn: Warn = glog.warning,
) -> tuple[np.ndarray, np.ndarray]:
    """The images N x C x H x W (uint8; float32 if any record holds floats) and the labels, N int32.

    shape: the shape that every record must have; by default that of the first record.
    color: decodes encoded images in colour (3 channels, blue first) or in gray (1 channel); None keeps their channels.
    source, warn: the database, and what is called for a JPEG without its end, with a line that names database and record.
    Raises `DataError`, which names the record by its key, for a record that is damaged, and `SizesDiffer` for another shape.
    """
    alike = _decode_alike(values, shape) if values else None
    if alike:
        return alike
    labels: list[int] = []
    pieces: list[bytes] = []
    all_floats: list[bool] = []
    for value, key in zip(values, keys, strict=True):
        try:
            datum = Datum.FromString(value)
            received, piece, floats = _read(datum, color, f"{source}: {record_name(key)}", warn)
            if shape is not None and received != shape:
                expected = f"{sizes_text(shape)} (channels x height x width)"
                raise SizesDiffer(f"expected an image of {expected}, received {sizes_text(received)}")
        except DecodeError:
            raise DataError("is not a Datum", record_name(key)) from None
        except DataError as error:
            error.where = record_name(key)
            raise
        shape = received
        labels.append(datum.label)
        pieces.append(piece)
        all_floats.append(floats)
    if shape is None:
        raise DataError("expected at least one record, received none")
    if any(all_floats) and not all(all_floats):
        pieces = [piece if floats else _to_floats(piece) for piece, floats in zip(pieces, all_floats, strict=True)]
    dtype = np.dtype("<f4") if any(all_floats) else np.dtype(np.uint8)
    return np.frombuffer(bytearray().join(pieces), dtype).reshape(len(pieces), *shape), np.array(labels, np.int32)


def _decode_alike(values: Sequence[bytes], shape: Shape | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Images and labels of records that differ only in pixels and label, as converters write them; None for others.

    Only the first record is parsed. The bytes around the pixels of the others are compared with it.
    """
    try:
        first = Datum.FromString(values[0])
    except DecodeError:
        return None
    size, data = (first.channels, first.height, first.width), first.data
    if not 0 <= first.label < 128 or min(size) <= 0 or len(data) != size[0] * size[1] * size[2]:
        return None
    plain = Datum(channels=size[0], height=size[1], width=size[2], data=data, label=first.label).SerializeToString()
    end, label = len(values[0]), len(plain) - 1  # a label below 128 is one byte, after the tag byte
    tag, start = label - 1, label - 1 - len(data)
    before, after = plain[:start], values[0][label + 1 :]
    if values[0][: label + 1] != plain or after not in _ENDS or (shape is not None and shape != size):
        return None
    for value in values:
        if len(value) != end or value[tag] != _LABEL or value[label] > 127:
            return None
        if not (value.startswith(before) and value.endswith(after)):
            return None
    table = np.frombuffer(bytearray().join(values), np.uint8).reshape(len(values), end)
    return table[:, start:tag].reshape(len(values), *size), table[:, label].astype(np.int32)


def record_name(key: bytes) -> str:
    """The name of the record with that key in errors."""
    return f'record "{key.decode("utf-8", "backslashreplace")[:100]}"'


def _read(datum: Any, color: bool | None, name: str, warn: Warn) -> tuple[Shape, bytes, bool]:
    """Shape, raw little endian values, and whether these are floats. If a record has both, bytes are used."""
    if datum.encoded:
        image = decode_image(datum.data, color, name, warn)
        return image.shape, image.tobytes(), False
    channels, height, width = shape = (datum.channels, datum.height, datum.width)
    if min(shape) <= 0:
        raise DataError(f"expected channels, height and width above 0, received {sizes_text(shape)}")
    data = datum.data  # each access makes a copy
    received, unit = (len(data), "bytes") if data else (len(datum.float_data), "floats")
    if received != channels * height * width:
        raise DataError(f"expected {channels * height * width} values ({sizes_text(shape)}), received {received} {unit}")
    return (shape, data, False) if data else (shape, _float_bytes(datum), True)


def _float_bytes(datum: Any) -> bytes:
    """The bytes of float_data. The field is not packed in the schema, so each value is a tag byte and four bytes."""
    floats = Datum()
    floats.float_data.MergeFrom(datum.float_data)
    return np.frombuffer(floats.SerializeToString(), np.uint8).reshape(-1, 5)[:, 1:].tobytes()


def _to_floats(piece: bytes) -> bytes:
    return np.frombuffer(piece, np.uint8).astype("<f4").tobytes()
