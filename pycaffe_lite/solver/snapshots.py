"""Solver states on disk: iteration, name of the model, steps taken, and history, binary or HDF5 as Caffe writes them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ..blob import MAX_COUNT
from ..errors import ModelFileError
from ..files import new_hdf5
from ..proto import model_file


@dataclass
class State:
    """What a solver needs to go on. `history` holds arrays in the order of the learnable parameters, set after set."""

    iteration: int
    learned_net: str  # the model file
    current_step: int
    history: list[np.ndarray]


def read(path: str | os.PathLike) -> State:
    """Reads a solver state, recognised by content; a damaged file is a `ModelFileError`."""
    if model_file.is_hdf5(path):
        return _read_hdf5(path)
    message = model_file.read_message(path, "SolverState")
    blobs = [model_file.decode_blob(blob) for blob in message.history]
    history = [blob.data.reshape(blob.shape) for blob in blobs]
    return State(message.iter, message.learned_net, message.current_step, history)


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


def _read_hdf5(path: str | os.PathLike) -> State:
    try:
        with h5py.File(path, "r") as file:
            history = file["history"]
            arrays = [_read_array(history[str(i)]) for i in range(len(history))]
            name = file["learned_net"][()] if "learned_net" in file else b""
            return State(_read_int(file["iter"]), os.fsdecode(name), _read_int(file["current_step"]), arrays)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"no HDF5 solver state, or a damaged one: {error}", os.fspath(path)) from error


def _read_array(dataset: h5py.Dataset) -> np.ndarray:
    if dataset.size > MAX_COUNT:
        raise ModelFileError(f"a history blob of {dataset.size} elements is too large to be true")
    return dataset[()]


def _read_int(dataset: h5py.Dataset) -> int:
    return int(np.asarray(dataset[()]).reshape(-1)[0])


def find_model(learned_net: str, state_path: str | os.PathLike) -> str:
    """The model that a state names: as named, else beside the state (the run may have moved to another folder)."""
    beside = Path(state_path).parent / Path(learned_net).name
    return str(beside) if not Path(learned_net).exists() and beside.exists() else learned_net
