"""Solver states on disk: iteration, name of the model, steps taken, and history, binary or HDF5 as Caffe writes them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ..blob import shape_text
from ..errors import ModelFileError
from ..files import new_hdf5
from ..proto import model_file

_MAX_INT = 2**31 - 1  # of an int32 in the file


@dataclass
class State:
    """What a solver needs to go on. `history` holds arrays in the order of the learnable parameters, set after set."""

    iteration: int
    learned_net: str  # the model file
    current_step: int
    history: list[np.ndarray]


def read(path: str | os.PathLike, shapes: Sequence[tuple[int, ...]]) -> State:
    """Reads a solver state, recognised by content, whose history is to have these shapes (or others with equal counts).

    Raises `ModelFileError` for a file that is damaged or belongs to another net or type of solver.
    """
    state = _read_hdf5(path, shapes) if model_file.is_hdf5(path) else _read_binary(path, shapes)
    if not (0 <= state.iteration <= _MAX_INT and 0 <= state.current_step <= _MAX_INT):
        counts = f"iter {state.iteration}, current_step {state.current_step}"
        raise ModelFileError(f"a damaged solver state: expected counts, received {counts}")
    if "\0" in state.learned_net:
        raise ModelFileError("a damaged solver state: the name of its model has a zero byte")
    return state


def write(path: str | os.PathLike, state: State) -> None:
    """Writes a binary .solverstate. Raises `ModelFileError` where the system refuses."""
    message = model_file.raw.SolverState(
        iter=state.iteration, learned_net=state.learned_net, current_step=state.current_step
    )
    for array in state.history:
        model_file.encode_blob(message.history.add(), array)
    model_file.write_message(path, message)


def write_hdf5(path: str | os.PathLike, state: State) -> None:
    """Writes an HDF5 .solverstate.h5. Raises `ModelFileError` where the system refuses."""
    name = os.fsencode(state.learned_net)
    with new_hdf5(path) as file:
        file["iter"] = np.array([state.iteration], np.int32)
        # Caffe reads the name as a C string, so a zero byte has to follow it
        file.create_dataset("learned_net", data=name, dtype=h5py.string_dtype("utf-8", len(name) + 1))
        file["current_step"] = np.array([state.current_step], np.int32)
        history = file.create_group("history")
        for i, array in enumerate(state.history):
            history[str(i)] = array


def _read_binary(path: str | os.PathLike, shapes: Sequence[tuple[int, ...]]) -> State:
    message = model_file.read_message(path, "SolverState")
    _check_number(len(message.history), shapes)
    history = []
    for i, (proto, shape) in enumerate(zip(message.history, shapes, strict=True)):
        blob = model_file.decode_blob(proto)
        _check_blob(i, blob.shape, shape)
        history.append(blob.data.reshape(shape))
    return State(message.iter, os.fsdecode(message.learned_net), message.current_step, history)


def _read_hdf5(path: str | os.PathLike, shapes: Sequence[tuple[int, ...]]) -> State:
    try:
        with h5py.File(path, "r") as file:
            history = file["history"]
            _check_number(len(history), shapes)
            arrays = [_read_array(i, history[str(i)], shape) for i, shape in enumerate(shapes)]
            name = file["learned_net"][()] if "learned_net" in file else b""
            return State(_read_int(file["iter"]), os.fsdecode(name), _read_int(file["current_step"]), arrays)
    except (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"no HDF5 solver state, or a damaged one: {error}", os.fspath(path)) from error


def _read_array(index: int, dataset: h5py.Dataset, shape: tuple[int, ...]) -> np.ndarray:
    _check_blob(index, dataset.shape, shape)  # before memory is taken for what the file claims to hold
    if dataset.dtype.kind not in "iuf":
        raise ModelFileError(f"history blob {index} holds {dataset.dtype}, no numbers")
    return dataset[()].reshape(shape)


def _check_number(found: int, shapes: Sequence[tuple[int, ...]]) -> None:
    if found != len(shapes):
        raise ModelFileError(
            f"the state has {found} history blobs, this type of solver needs {len(shapes)} on this net: "
            "it belongs to another net or type of solver"
        )


def _check_blob(index: int, found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if math.prod(found) != math.prod(shape):
        raise ModelFileError(
            f"history blob {index} is {shape_text(found)}, this net needs {shape_text(shape)}: it belongs to another net"
        )


def _read_int(dataset: h5py.Dataset) -> int:
    return int(np.asarray(dataset[()]).reshape(-1)[0])


def find_model(learned_net: str, state_path: str | os.PathLike) -> str:
    """The model that a state names: as named, else beside the state (the run may have moved to another folder)."""
    beside = Path(state_path).parent / Path(learned_net).name
    return str(beside) if not Path(learned_net).exists() and beside.exists() else learned_net
