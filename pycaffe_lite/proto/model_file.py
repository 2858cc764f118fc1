"""Reading and writing `.caffemodel`, `.binaryproto` and `.solverstate`, without walking millions of floats in Python.

A packed field of floats looks in the file like a field of bytes. The messages in `raw` are those of the schema, but for the
four arrays of BlobProto, which are `repeated bytes`: one string for each run of packed values, so one in all that Caffe
writes. NumPy takes and gives such strings as they are. `raw.LayerParameter.FromString(layer.SerializeToString())` makes a
raw message of an ordinary one, to be given weights by `encode_blob`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, EncodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from .. import glog
from ..errors import ModelFileError, did_you_mean, located
from ..files import atomic_write
from . import caffe_pb2

MAX_BYTES = 2**31 - 1  # of a file, by the rules of protobuf
MAX_AXES = 32  # of a blob, as in Caffe's blob.hpp

_ARRAYS = ("data", "diff", "double_data", "double_diff")
_LEGACY_SHAPE = ("num", "channels", "height", "width")
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def _raw_messages() -> SimpleNamespace:
    file = descriptor_pb2.FileDescriptorProto()
    caffe_pb2.DESCRIPTOR.CopyToProto(file)
    blob = next(message for message in file.message_type if message.name == "BlobProto")
    for field in blob.field:
        if field.name in _ARRAYS:
            field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
            field.ClearField("options")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    types = pool.FindFileByName(file.name).message_types_by_name
    return SimpleNamespace(**{name: message_factory.GetMessageClass(message) for name, message in types.items()})


raw: Any = _raw_messages()


class RawBlob(NamedTuple):
    """One blob of a file. `data` and `diff` (None if the file has none) are 1-D, in C order of `shape`, and read-only.

    They are float32, or float64 where the file has double_data. `legacy`: the shape came as num, channels, height and width,
    which pad a shape of fewer axes with leading ones.
    """

    shape: tuple[int, ...]
    legacy: bool
    data: np.ndarray
    diff: np.ndarray | None


@dataclass(frozen=True)
class LayerBlobs:
    """The weights of one layer of a model. `type` is "InnerProduct", or in old models "INNER_PRODUCT" or "innerproduct"."""

    name: str
    type: str
    blobs: list[RawBlob]


def read_layers(path: str | os.PathLike) -> list[LayerBlobs]:
    """All layers of a binary model of any of the three generations, in file order, those without weights included.

    An empty file is a model without layers, as it is to Caffe. For all such a warning is logged. Raises `ModelFileError`.
    """
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        glog.warning(f"{os.fspath(path)} is empty: a model without layers")
        return []
    net = read_message(path, "NetParameter")
    if not (net.layers or net.layer):
        glog.warning(f"{os.fspath(path)} is a model without layers")
    with located(os.fspath(path)):
        # As in upgrade_proto.cpp, old layers win over new ones.
        return [_layer_blobs(layer) for layer in net.layers or net.layer]


def read_message(path: str | os.PathLike, kind: str) -> Any:
    """The `raw` message of a file that holds one. `kind`: NetParameter, BlobProto, BlobProtoVector, SolverState, ...

    Raises `ModelFileError` for a file that is missing, unreadable, empty, damaged, or something else, and says what.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise ModelFileError(f"{size} bytes are more than the 2 GiB that protobuf can hold")
        payload = file.read(size)
        message = _parse(payload, kind)
        if message is None:
            raise ModelFileError(f"expected a {kind} in binary form, but {_what_it_is(payload)}")
    return message


def write_message(path: str | os.PathLike, message: Any) -> None:
    """Writes a message, `raw` or ordinary, to a file that appears whole or not at all (`atomic_write`)."""
    with located(os.fspath(path)):
        if missing := message.FindInitializationErrors():
            raise ModelFileError(f"cannot be written without {', '.join(missing)}")
        try:
            payload = message.SerializeToString()
        except EncodeError:  # Newer runtimes refuse a message above the limit, older ones write it.
            payload = None
        if payload is None or len(payload) > MAX_BYTES:
            raise ModelFileError("more than the 2 GiB that protobuf can hold: use HDF5 (snapshot_format: HDF5)")
    with atomic_write(path) as temporary:
        temporary.write_bytes(payload)


def decode_blob(message: Any) -> RawBlob:
    """The arrays of a `raw.BlobProto`. Which field wins over which is defined by `FromProto` in Caffe's blob.cpp.

    Raises `ModelFileError` where shape and number of values do not agree. Takes no memory but for values that are there.
    """
    legacy = any(message.HasField(name) for name in _LEGACY_SHAPE)
    shape = tuple(getattr(message, name) for name in _LEGACY_SHAPE) if legacy else tuple(message.shape.dim)
    if len(shape) > MAX_AXES or min(shape, default=0) < 0:
        raise ModelFileError(f"a blob has up to {MAX_AXES} axes and no negative length, but this one {list(shape[:40])}")
    if not _is_packed_once(message):
        message = _packed_once(message)
    data, diff = _values(message, "data"), _values(message, "diff")
    for name, values in (("values", data), ("gradients", diff)):
        if values.size != math.prod(shape) and not (name == "gradients" and values.size == 0):
            raise ModelFileError(f"shape {list(shape)} does not fit the {values.size} {name} of the blob")
    return RawBlob(shape, legacy, data, diff if diff.size else None)


def encode_blob(message: Any, array: np.ndarray, diff: np.ndarray | None = None) -> None:
    """Sets a `raw.BlobProto` to the shape and values of an array, and to gradients of the same shape.

    float64 is stored as such (double_data), everything else as float32.
    """
    if diff is not None and diff.shape != array.shape:
        raise ValueError(f"diff has the shape {diff.shape}, but the array {array.shape}")
    message.Clear()
    message.shape.dim.extend(array.shape)
    prefix, dtype = ("double_", "<f8") if array.dtype == np.float64 else ("", "<f4")
    for name, values in (("data", array), ("diff", diff)):
        if values is not None and values.size:
            getattr(message, prefix + name).append(values.astype(dtype, copy=False).tobytes())


def is_hdf5(path: str | os.PathLike) -> bool:
    """Whether a file is HDF5 by its content. Its signature stands at byte 0, 512, 1024, 2048, ..."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        offset = 0
        while offset < size:
            file.seek(offset)
            if file.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE:
                return True
            offset = 2 * offset or 512
    return False


def _layer_blobs(layer: Any) -> LayerBlobs:
    """One layer of any generation; one of the first stands inside one of the second."""
    if isinstance(layer, raw.V1LayerParameter) and layer.HasField("layer"):
        layer = layer.layer
    old = isinstance(layer, raw.V1LayerParameter)
    name = _text(layer.name)
    type_name = raw.V1LayerParameter.LayerType.Name(layer.type) if old else _text(layer.type)
    blobs = []
    for i, blob in enumerate(layer.blobs):
        try:
            blobs.append(decode_blob(blob))
        except ModelFileError as error:
            raise ModelFileError(f'layer "{name}" ({type_name}), blob {i}: {error}') from error
    return LayerBlobs(name, type_name, blobs)


def _text(value: str | bytes) -> str:
    """A string field. protobuf gives its bytes where they are no UTF-8, as in a name that is Chinese in another encoding."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _is_packed_once(message: Any) -> bool:
    """Whether each array is there as one string or not at all. Values with a tag each are unknown fields to `raw`."""
    return max(len(getattr(message, name)) for name in _ARRAYS) == 1 and len(UnknownFieldSet(message)) == 0


def _packed_once(message: Any) -> Any:
    """The same blob, whose arrays may be in several runs or have a tag for each value, as Caffe would write it."""
    try:
        ordinary = caffe_pb2.BlobProto.FromString(message.SerializeToString())
    except DecodeError:
        raise ModelFileError("the values of the blob are damaged") from None
    return raw.BlobProto.FromString(ordinary.SerializeToString())


def _values(message: Any, name: str) -> np.ndarray:
    """The array `name` of a blob whose arrays are packed once: in double precision if it is there, else in single."""
    double = b"".join(getattr(message, f"double_{name}"))
    payload, dtype = (double, np.dtype("<f8")) if double else (b"".join(getattr(message, name)), np.dtype("<f4"))
    if len(payload) % dtype.itemsize:
        raise ModelFileError("the values of the blob are damaged")
    return np.frombuffer(payload, dtype).astype(dtype.newbyteorder("="), copy=False)


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A regular file (reading another might never end). Errors of the system and of the block say which file."""
    with located(os.fspath(path)):
        try:
            if os.path.exists(path) and not os.path.isfile(path):
                raise ModelFileError("is not a regular file")
            with open(path, "rb") as file:
                yield file
        except FileNotFoundError:
            target = Path(path)
            names = os.listdir(target.parent) if target.parent.is_dir() else []
            raise ModelFileError(f"there is no such file{did_you_mean(target.name, names)}") from None
        except OSError as error:
            raise ModelFileError(f"cannot be read: {error.strerror or error}") from error


def _parse(payload: bytes, kind: str) -> Any | None:
    """The message, or None if the bytes are none or have nothing in it that a file of this kind needs.

    Many a byte string is a protobuf of unknown fields, so that parsing alone proves little. A net may have no layers, but
    a name, say.
    """
    try:
        message = getattr(raw, kind).FromString(payload)
    except (DecodeError, UnicodeDecodeError):
        return None
    useful = bool(message.ListFields())
    if kind == "NetParameter" and not (message.layer or message.layers):
        useful = useful and len(UnknownFieldSet(message)) == 0
    return message if useful else None


def _what_it_is(payload: bytes) -> str:
    """What bytes that are not the expected message most likely are, as the end of a sentence."""
    head = payload[:4096]
    start = head.lstrip()[:64].lower()
    if not payload:
        return "the file is empty"
    if head.startswith(_HDF5_SIGNATURE):
        return "this is an HDF5 file"
    if start.startswith(b"version https://git-lfs"):
        return "this is a pointer of git-lfs: `git lfs pull` fetches the file itself"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "this is a web page: the download went wrong"
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ")):
        return "this is a compressed file: unpack it first"
    if not re.search(rb"[\x00-\x08\x0e-\x1f]", head):
        return "this is text (a prototxt?)"
    return "the file is damaged, cut short, or of another kind"
