"""Conversions between arrays and Caffe's messages (pycaffe's `caffe.io`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .errors import DataError
from .proto.caffe_pb2 import BlobProto, BlobProtoVector, Datum


def blobproto_to_array(blob: BlobProto, return_diff: bool = False) -> np.ndarray:
    """The values of a BlobProto, or its gradient, as a float32 array of its shape (four legacy axes in old ones)."""
    values = np.array(blob.diff if return_diff else blob.data, dtype=np.float32)
    legacy = any(blob.HasField(name) for name in ("num", "channels", "height", "width"))
    shape = (blob.num, blob.channels, blob.height, blob.width) if legacy else tuple(blob.shape.dim)
    if values.size != np.prod(shape, dtype=np.int64):
        raise DataError(f"a blob of shape {shape} has {values.size} values")
    return values.reshape(shape)


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> BlobProto:
    """A BlobProto with the array's shape and values, and `diff` as its gradient."""
    blob = BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).flat)
    if diff is not None:
        blob.diff.extend(diff.astype(float).flat)
    return blob


def arraylist_to_blobprotovector_str(arraylist: Sequence[np.ndarray]) -> bytes:
    """Arrays as a serialized BlobProtoVector."""
    return BlobProtoVector(blobs=[array_to_blobproto(arr) for arr in arraylist]).SerializeToString()


def blobprotovector_str_to_arraylist(str: bytes) -> list[np.ndarray]:
    """The arrays of a serialized BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> Datum:
    """A Datum of a channels x height x width array; uint8 goes into `data`, everything else into `float_data`."""
    if arr.ndim != 3:
        raise ValueError(f"a Datum holds channels x height x width, received an array of shape {arr.shape}")
    datum = Datum(channels=arr.shape[0], height=arr.shape[1], width=arr.shape[2])
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).flat)
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: Datum) -> np.ndarray:
    """The channels x height x width array of a Datum that is not encoded."""
    shape = (datum.channels, datum.height, datum.width)
    values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, float)
    if values.size != np.prod(shape, dtype=np.int64):
        raise DataError(f"a Datum of shape {shape} has {values.size} values")
    return values.reshape(shape)
