"""Reads and writes `.caffemodel`, `.binaryproto` and `.solverstate`, without a Python loop over millions of floats.

In a file, a packed field of floats looks like a field of bytes. The messages in `raw` are those of the schema, except that
the four arrays of BlobProto are `repeated bytes`, with one string for each run of packed values. Caffe writes one run. NumPy
reads and writes such strings directly. `raw.LayerParameter.FromString(layer.SerializeToString())` turns an ordinary message
into a raw one, to which `encode_blob` can add weights.
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

MAX_BYTES = 2**31 - 1  # the limit of protobuf for a file
MAX_AXES = 32  # the limit of Caffe's blob.hpp

_ARRAYS = ("data", "diff", "double_data", "double_diff")
_LEGACY_SHAPE = ("num", "channels", "height", "width")
_NUMBER = b"\x08"  # how a message begins whose first field is a number
_FORMS = {"NetParameter": "weights, a .caffemodel", "SolverState": "a .solverstate", "BlobProto": "a mean, a .binaryproto"}
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

    They are float32, or float64 if the file has double_data. `legacy`: the shape is given as num, channels, height and
    width; a shape of fewer axes has leading ones.
    """

    shape: tuple[int, ...]
    legacy: bool
    data: np.ndarray
    diff: np.ndarray | None


@dataclass(frozen=True)
class LayerBlobs:
    """The weights of a layer of a model. `type` is "InnerProduct", or in old models "INNER_PRODUCT" or "innerproduct"."""

    name: str
    type: str
    blobs: list[RawBlob]


def read_layers(path: str | os.PathLike) -> list[LayerBlobs]:
    """All layers of a binary model of any of the three formats, in file order, including layers without weights.

    As in Caffe, an empty file is a model without layers. No layers are a warning. Raises `ModelFileError`.
    """
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        glog.warning(f"{os.fspath(path)} is empty: a model without layers")
        return []
    net = read_message(path, "NetParameter")
    if not (net.layers or net.layer):
        glog.warning(f"{os.fspath(path)} is a model without layers")
    with located(os.fspath(path)):
        # As in upgrade_proto.cpp, old layers take precedence over new ones.
        return [_layer_blobs(layer) for layer in net.layers or net.layer]


def read_message(path: str | os.PathLike, kind: str) -> Any:
    """The `raw` message in a file. `kind`: NetParameter, BlobProto, BlobProtoVector, SolverState, ...

    Raises `ModelFileError` if the file is missing, unreadable, empty, damaged or another kind of file, and says which.
    """
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise ModelFileError(f"{size} bytes are more than the 2 GiB that protobuf can hold")
        payload = file.read(size)
        message = _parse(payload, kind)
        if message is None:
            form = f" ({_FORMS[kind]})" if kind in _FORMS else ""
            raise ModelFileError(f"expected a {kind} in binary form{form}, but {_what_it_is(payload, path)}")
    return message


def write_message(path: str | os.PathLike, message: Any) -> None:
    """Writes a message, `raw` or ordinary, to a file, completely or not at all (`atomic_write`)."""
    with located(os.fspath(path)):
        if missing := message.FindInitializationErrors():
            raise ModelFileError(f"cannot be written without {', '.join(missing)}")
        try:
            payload = message.SerializeToString()
        except EncodeError:  # new runtimes refuse a message above the limit, old ones write it
            payload = None
        if payload is None or len(payload) > MAX_BYTES:
            raise ModelFileError("more than the 2 GiB that protobuf can hold: use HDF5 (snapshot_format: HDF5)")
    with atomic_write(path) as temporary:
        temporary.write_bytes(payload)


def decode_blob(message: Any) -> RawBlob:
    """The arrays of a `raw.BlobProto`. `FromProto` in Caffe's blob.cpp defines which field is used if several are set.

    Raises `ModelFileError` if shape and number of values do not agree. Allocates memory only for values that are present.
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
    """Sets shape and values of a `raw.BlobProto` to those of an array, and the gradient to `diff`, of the same shape.

    float64 is stored as double_data, everything else as float32.
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
    """Whether the content of a file is HDF5. Its signature may be at byte 0, 512, 1024, 2048, ..."""
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
    """A layer of any format; a V0 layer is inside a V1 layer."""
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
    """A string field. protobuf gives bytes if they are not UTF-8, such as a Chinese name in another encoding."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _is_packed_once(message: Any) -> bool:
    """Whether each array is absent or one string. `raw` treats values that have a tag each as unknown fields."""
    return max(len(getattr(message, name)) for name in _ARRAYS) == 1 and len(UnknownFieldSet(message)) == 0


def _packed_once(message: Any) -> Any:
    """The same blob as Caffe would write it. Its arrays may be in several runs, or have a tag for each value."""
    try:
        ordinary = caffe_pb2.BlobProto.FromString(message.SerializeToString())
    except DecodeError:
        raise ModelFileError("the values of the blob are damaged") from None
    return raw.BlobProto.FromString(ordinary.SerializeToString())


def _values(message: Any, name: str) -> np.ndarray:
    """The array `name` of a blob whose arrays are packed once: double_data if present, else floats."""
    double = b"".join(getattr(message, f"double_{name}"))
    payload, dtype = (double, np.dtype("<f8")) if double else (b"".join(getattr(message, name)), np.dtype("<f4"))
    if len(payload) % dtype.itemsize:
        raise ModelFileError("the values of the blob are damaged")
    return np.frombuffer(payload, dtype).astype(dtype.newbyteorder("="), copy=False)


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a regular file (another kind might never end). Errors of the system and of the block name the file."""
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
    """The message, or None if the bytes are no message, or lack what a file of this kind needs.

    Many byte strings can be parsed as a protobuf of unknown fields, so parsing alone proves little. A net may have no
    layers, but then it has something else, such as a name.
    """
    try:
        message = getattr(raw, kind).FromString(payload)
    except (DecodeError, UnicodeDecodeError):
        return None
    useful = bool(message.ListFields())
    if kind == "NetParameter":
        useful &= not payload.startswith(_NUMBER)  # the first field of a net is its name
        useful &= bool(message.layer or message.layers) or len(UnknownFieldSet(message)) == 0
    elif kind == "SolverState":
        useful &= payload.startswith(_NUMBER) and bool(message.learned_net or message.history)
    return message if useful else None


def a_state_is_no_model(learned_net: str | bytes) -> str:
    """What to say of a solver state in place of a model, as the end of a sentence. `learned_net` names its model."""
    model = f"; its weights are in {os.path.basename(_text(learned_net))}" if learned_net else ""
    return f"this is a solver state, from which a solver resumes (--snapshot, restore){model}"


def a_model_is_no_state(path: str | os.PathLike) -> str:
    """What to say of a model in place of a solver state, as the end of a sentence."""
    state = Path(path).with_name(Path(path).name.replace(".caffemodel", ".solverstate"))
    beside = f", such as {state}" if state != Path(path) and state.exists() else ""
    return f"these are weights (--weights, copy_from); a solver resumes from a .solverstate{beside}"


def _what_it_is(payload: bytes, path: str | os.PathLike) -> str:
    """The most likely kind of bytes that are not the expected message, as the end of a sentence."""
    if state := _parse(payload, "SolverState"):
        return a_state_is_no_model(state.learned_net)
    net = _parse(payload, "NetParameter")
    if net is not None and (net.layer or net.layers):
        return a_model_is_no_state(path)
    if _parse(payload, "BlobProto"):
        return "this is a mean file, a .binaryproto"
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
