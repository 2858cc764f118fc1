"""Solver states on disk, binary or HDF5 as Caffe writes them: iteration, name of the model, steps taken, and history.

An exact resume needs more than Caffe stores. This is in fields of our own (see SolverState in caffe.proto), which Caffe
ignores. An HDF5 state holds these fields as one message, in the bytes of a data set that Caffe does not read.

A snapshot is a state and the model that it names. Each file is written completely or not at all, the model first, so a
state always has its model.
"""

from __future__ import annotations

import glob
import json
import math
import os
import re
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from google.protobuf.message import DecodeError

from .. import glog
from ..blob import shape_text
from ..device import num_threads
from ..errors import CaffeError, ModelFileError
from ..files import new_hdf5
from ..net.states import LayerState
from ..proto import model_file

_MAX_INT = 2**31 - 1  # the largest int32
_OURS = "pycaffe_lite"  # the data set of an HDF5 state with the fields that Caffe does not have


@dataclass
class State:
    """What a solver needs to resume. `history` has an array for each learnable parameter, set after set."""

    iteration: int
    learned_net: str  # the model file
    current_step: int
    history: list[np.ndarray]
    losses: list[float] = field(default_factory=list)  # the last losses, whose mean is the smoothed loss
    threads: int | None = None  # the number of kernel threads; None in a state of Caffe, which lacks the fields from here on
    layers: dict[int, list[LayerState]] = field(default_factory=dict)  # by net: 0 is the train net, the test nets follow
    model_crc: int | None = None  # CRC-32 of the model file


def read(path: str | os.PathLike, shapes: Sequence[tuple[int, ...]] | None = None) -> State:
    """Reads a solver state, whose format is detected. Its history must have these shapes, or other shapes of equal counts.

    Raises `ModelFileError` for a file that is damaged or belongs to another net or solver type.
    """
    state = _read_hdf5(path, shapes) if model_file.is_hdf5(path) else _read_binary(path, shapes)
    if not (0 <= state.iteration <= _MAX_INT and 0 <= state.current_step <= _MAX_INT):
        counts = f"iter {state.iteration}, current_step {state.current_step}"
        raise ModelFileError(f"a damaged solver state: expected counts, received {counts}")
    if "\0" in state.learned_net:
        raise ModelFileError("a damaged solver state: the name of its model has a zero byte")
    return state


def write(path: str | os.PathLike, state: State) -> None:
    """Writes a binary .solverstate. Raises `ModelFileError` if the system refuses."""
    message = model_file.raw.SolverState(
        iter=state.iteration, learned_net=state.learned_net, current_step=state.current_step
    )
    for array in state.history:
        model_file.encode_blob(message.history.add(), array)
    message.MergeFrom(_our_fields(state))
    model_file.write_message(path, message)


def write_hdf5(path: str | os.PathLike, state: State) -> None:
    """Writes an HDF5 .solverstate.h5. Raises `ModelFileError` if the system refuses."""
    name = os.fsencode(state.learned_net)
    with new_hdf5(path) as file:
        file["iter"] = np.array([state.iteration], np.int32)
        # Caffe reads the name as a C string, so it ends with a zero byte
        file.create_dataset("learned_net", data=name, dtype=h5py.string_dtype("utf-8", len(name) + 1))
        file["current_step"] = np.array([state.current_step], np.int32)
        history = file.create_group("history")
        for i, array in enumerate(state.history):
            history[str(i)] = array
        file[_OURS] = np.frombuffer(_our_fields(state).SerializeToString(), np.uint8)


def _our_fields(state: State) -> Any:
    """The fields of `state` that Caffe does not have, as a message."""
    message = model_file.raw.SolverState(losses=state.losses, threads=state.threads, model_crc=state.model_crc)
    for index, layers in state.layers.items():
        for layer_state in layers:
            try:
                text, arrays = _to_json(layer_state.state)
            except (TypeError, ValueError) as error:
                raise ModelFileError(
                    f'layer "{layer_state.layer}": a file cannot hold what its save_state returned: {error}'
                ) from error
            entry = message.layer_state.add(net=index, layer=layer_state.layer, state=text)
            for array in arrays:
                model_file.encode_blob(entry.blobs.add(), array)
    message.layer_states = len(message.layer_state)
    return message


def _to_json(state: dict[str, Any]) -> tuple[str, list[np.ndarray]]:
    """The state as JSON, with {"array": i} in place of array i, and the arrays."""
    arrays: list[np.ndarray] = []

    def stand_in(array: Any) -> dict[str, int]:
        if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
            raise TypeError(f"expected what JSON holds and arrays of floats, received {array!r:.60}")
        arrays.append(array)
        return {"array": len(arrays) - 1}

    return json.dumps(state, default=stand_in), arrays


def _from_json(text: str | bytes, arrays: list[np.ndarray]) -> dict[str, Any]:
    """The inverse of `_to_json`."""

    def fill_in(value: dict[str, Any]) -> Any:
        return arrays[value["array"]] if value.keys() == {"array"} else value

    state = json.loads(text, object_hook=fill_in)
    if not isinstance(state, dict):
        raise ValueError("expected an object")
    return state


def _add_our_fields(state: State, message: Any) -> None:
    """Fills in our fields from a message, which is checked because the file may be damaged."""
    if not message.HasField("threads"):
        return
    if not message.HasField("layer_states") or message.layer_states != len(message.layer_state):
        raise ModelFileError("a damaged solver state: it was cut short")
    state.threads, state.losses = message.threads, list(message.losses)
    state.model_crc = message.model_crc if message.HasField("model_crc") else None
    for entry in message.layer_state:
        name = entry.layer if isinstance(entry.layer, str) else entry.layer.decode("utf-8", "replace")
        try:
            arrays = [blob.data.reshape(blob.shape) for blob in map(model_file.decode_blob, entry.blobs)]
            layer_state = LayerState(name, _from_json(entry.state, arrays))
        except (ValueError, TypeError, LookupError, RecursionError, ModelFileError) as error:
            raise ModelFileError(f'a damaged solver state: layer "{name}": {error}') from error
        state.layers.setdefault(entry.net, []).append(layer_state)


def warn_if_not_exact(state: State, path: str) -> None:
    """Warns if a run from `state` will not have the same bits as the original run, and says why."""
    if state.threads is None:
        reason = "it does not say where data and random streams stood, as those of real Caffe: they start anew"
    elif state.threads != num_threads():
        reason = (
            f"it comes from a run on {state.threads} threads, this one has {num_threads()}: sums differ in their last bits"
        )
    else:
        return
    glog.warning(f"{path}: {reason}")


def _read_binary(path: str | os.PathLike, shapes: Sequence[tuple[int, ...]] | None) -> State:
    message = model_file.read_message(path, "SolverState")
    blobs = [model_file.decode_blob(proto) for proto in message.history]
    shapes = [blob.shape for blob in blobs] if shapes is None else shapes
    _check_number(len(blobs), shapes)
    history = []
    for i, (blob, shape) in enumerate(zip(blobs, shapes, strict=True)):
        _check_blob(i, blob.shape, shape)
        history.append(blob.data.reshape(shape))
    state = State(message.iter, os.fsdecode(message.learned_net), message.current_step, history)
    _add_our_fields(state, message)
    return state


def _read_hdf5(path: str | os.PathLike, shapes: Sequence[tuple[int, ...]] | None) -> State:
    try:
        with h5py.File(path, "r") as file:
            if "history" not in file and "data" in file:
                raise ModelFileError(f"expected a solver state, but {model_file.a_model_is_no_state(path)}")
            history = file["history"]
            shapes = [history[str(i)].shape for i in range(len(history))] if shapes is None else shapes
            _check_number(len(history), shapes)
            arrays = [_read_array(i, history[str(i)], shape) for i, shape in enumerate(shapes)]
            name = file["learned_net"][()] if "learned_net" in file else b""
            state = State(_read_int(file["iter"]), os.fsdecode(name), _read_int(file["current_step"]), arrays)
            if _OURS in file:
                _add_our_fields(state, _read_message(file[_OURS]))
            return state
    except (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"no HDF5 solver state, or a damaged one: {error}", os.fspath(path)) from error


def _read_array(index: int, dataset: h5py.Dataset, shape: tuple[int, ...]) -> np.ndarray:
    _check_blob(index, dataset.shape, shape)  # before memory is allocated for the claimed size
    if dataset.dtype.kind not in "iuf":
        raise ModelFileError(f"history blob {index} holds {dataset.dtype}, no numbers")
    return dataset[()].reshape(shape)


def _read_message(dataset: h5py.Dataset) -> Any:
    if dataset.dtype != np.uint8 or dataset.size > dataset.id.get_storage_size():  # more bytes than the file has
        raise ModelFileError(f'the data set "{_OURS}" of the state is damaged')
    try:
        return model_file.raw.SolverState.FromString(dataset[()].tobytes())
    except (DecodeError, UnicodeDecodeError) as error:
        raise ModelFileError(f'the data set "{_OURS}" of the state is damaged: {error}') from error


def _check_number(count: int, shapes: Sequence[tuple[int, ...]]) -> None:
    if count != len(shapes):
        raise ModelFileError(
            f"the state has {count} history blobs, this type of solver needs {len(shapes)} on this net: "
            "it belongs to another net or type of solver"
        )


def _check_blob(index: int, received: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if math.prod(received) != math.prod(shape):
        raise ModelFileError(
            f"history blob {index} is {shape_text(received)}, this net needs {shape_text(shape)}: it belongs to another net"
        )


def _read_int(dataset: h5py.Dataset) -> int:
    return int(np.asarray(dataset[()]).reshape(-1)[0])


def find_model(state: State, path: str | os.PathLike) -> str:
    """The path of the model of a state: the path in the state or, if the run has moved, the same name beside `path`.

    Raises `ModelFileError` if this is not the file that was written with the state.
    """
    beside, model = Path(path).parent / Path(state.learned_net).name, state.learned_net
    if not Path(model).exists() and beside.exists():
        model = str(beside)
    if state.model_crc is not None and Path(model).is_file() and checksum(model) != state.model_crc:
        raise ModelFileError(f"is not the model that {os.fspath(path)} was written with: changed since, or cut short", model)
    return model


def checksum(path: str | os.PathLike) -> int:
    """The CRC-32 of a file. Raises `ModelFileError` if the file cannot be read."""
    crc = 0
    try:
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                crc = zlib.crc32(piece, crc)
    except OSError as error:
        raise ModelFileError(f"cannot be read: {error.strerror or error}", os.fspath(path)) from error
    return crc


# ---- the snapshots of a prefix ------------------------------------------------------------------------------------

_ENDINGS = (".solverstate", ".solverstate.h5", ".caffemodel", ".caffemodel.h5")


def _of_prefix(prefix: str) -> dict[int, list[Path]]:
    """All snapshot files of a prefix by iteration, latest first; states come before models."""
    folder, name = Path(prefix).parent, re.escape(Path(f"{prefix}_").name)
    pattern = re.compile(rf"{name}iter_([0-9]{{1,10}})({'|'.join(map(re.escape, _ENDINGS))})")
    files: dict[int, list[Path]] = {}
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            if match := pattern.fullmatch(path.name):
                files.setdefault(int(match[1]), []).append(path)
    return {
        iteration: sorted(files[iteration], key=lambda path: ".caffemodel" in path.name) for iteration in sorted(files)[::-1]
    }


def check(path: str | os.PathLike) -> None:
    """Raises `ModelFileError` if a state or its model is damaged."""
    state = read(path)
    model = find_model(state, path)
    if not model_file.is_hdf5(model):
        model_file.read_layers(model)
        return
    try:
        with h5py.File(model, "r") as file:
            file.visit(lambda name: None)
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelFileError(f"a damaged HDF5 file: {error}", model) from error


def newest(prefix: str) -> str | None:
    """The latest state that is intact and has an intact model, or None. Warns about later ones that are not."""
    for files in _of_prefix(prefix).values():
        for path in files:
            if ".solverstate" not in path.name:
                continue
            try:
                check(path)
                return os.fspath(path)
            except CaffeError as error:
                where = "" if error.where else f"{path}: "
                glog.warning(f"{where}{error}; looking for an earlier snapshot")
    return None


def prune(prefix: str, iteration: int, keep: int) -> None:
    """Removes the snapshots before `iteration`, the one just written, except the latest `keep` - 1."""
    files = _of_prefix(prefix)
    earlier = [earlier_iteration for earlier_iteration in files if earlier_iteration < iteration]
    for path in (path for earlier_iteration in earlier[keep - 1 :] for path in files[earlier_iteration]):
        with suppress(OSError):
            path.unlink()


def remove_temporary(prefix: str) -> None:
    """Removes the incomplete files of a killed run. The caller holds the lock of the prefix."""
    hidden = Path(prefix).parent.glob(f".{glob.escape(Path(prefix).name)}_iter_*.tmp")
    for path in hidden:
        with suppress(OSError):
            path.unlink()
