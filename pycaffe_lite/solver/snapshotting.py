"""Writes snapshots of a running solver, and resumes from one exactly."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .. import glog
from ..device import num_threads
from ..errors import CaffeError, SolverError, located
from ..files import locked
from ..net import states, weights
from ..proto.caffe_pb2 import SolverParameter
from . import finite, snapshots

if TYPE_CHECKING:
    from .solver import Solver


def check_folder(prefix: str) -> None:
    """Raises `SolverError` if snapshots with that prefix cannot be written."""
    if not prefix:
        raise SolverError("snapshots are to be written, but snapshot_prefix is empty", field="snapshot_prefix")
    folder = Path(prefix).parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        message = f'snapshots cannot be written: the folder "{folder}" is missing or not writable'
        raise SolverError(message, field="snapshot_prefix")


def snapshot(solver: Solver) -> None:
    """Writes `<prefix>_iter_<n>.caffemodel` and `.solverstate` (plus `.h5` for HDF5), and removes old snapshots."""
    param = solver.param
    if solver.on_nan == "stop" and (bad := finite.bad_parameter(solver.net)):
        raise SolverError(f"iteration {solver.iter}: no snapshot is written of {bad}{last(solver)}", solver.where)
    if not param.snapshot_prefix:
        raise SolverError("a snapshot needs snapshot_prefix", solver.where, "snapshot_prefix")
    hdf5 = param.snapshot_format == SolverParameter.HDF5
    stem = f"{param.snapshot_prefix}_iter_{solver.iter}"
    model, state_path = (f"{stem}.{kind}{'.h5' if hdf5 else ''}" for kind in ("caffemodel", "solverstate"))
    glog.info(f"Snapshotting to {'HDF5' if hdf5 else 'binary proto'} file {model}")
    (weights.save_hdf5 if hdf5 else weights.save)(solver.net, model, param.snapshot_diff)
    glog.info(f"Snapshotting solver state to {'HDF5' if hdf5 else 'binary proto'} file {state_path}")
    (snapshots.write_hdf5 if hdf5 else snapshots.write)(state_path, _state(solver, model))
    solver.last_snapshot = state_path
    if solver.keep_snapshots:
        snapshots.prune(param.snapshot_prefix, solver.iter, solver.keep_snapshots)


def _state(solver: Solver, model: str) -> snapshots.State:
    tests = solver.states_before_test or map(states.layer_states, solver.test_nets)
    return snapshots.State(
        iteration=solver.iter,
        learned_net=model,
        current_step=solver.current_step,
        history=[blob.data for blobs in solver.history for blob in blobs],
        losses=list(solver.losses),
        threads=num_threads(),
        layers=dict(enumerate([states.layer_states(solver.net), *tests])),
        model_crc=snapshots.checksum(model),
    )


def last(solver: Solver) -> str:
    """The end of an error message: the snapshot from which training can resume."""
    return f"; the last snapshot is {solver.last_snapshot}" if solver.last_snapshot else "; there is no snapshot yet"


@contextlib.contextmanager
def exclusive(solver: Solver) -> Iterator[None]:
    """Holds the lock on the snapshot prefix, `<prefix>.lock`. If another run holds it, this is a `SolverError`.

    Blocks may nest. If the lock file cannot be written, snapshots cannot be either, so no lock is needed.
    """
    with contextlib.ExitStack() as stack:
        prefix, was_held = solver.param.snapshot_prefix, solver.holds_prefix
        if prefix and not was_held:
            with contextlib.suppress(OSError):
                stack.enter_context(locked(f"{prefix}.lock"))
                snapshots.remove_temporary(prefix)
        solver.holds_prefix = True
        try:
            yield
        finally:
            solver.holds_prefix = was_held


def restore(solver: Solver, path: str) -> None:
    """Resumes from a solver state and the model that it names. Nothing changes if one of them does not fit."""
    blobs = [blob for blobs in solver.history for blob in blobs]
    with located(path):
        state = snapshots.read(path, [blob.shape for blob in blobs])
    nets = [solver.net, *solver.test_nets]
    before = [states.layer_states(net) for net in nets]
    try:
        with located(path):
            for i, net in enumerate(nets):
                states.restore(net, state.layers.get(i, []))
        if state.learned_net:
            weights.copy_from(solver.net, snapshots.find_model(state, path))
    except CaffeError:
        for net, old in zip(nets, before, strict=True):
            states.restore(net, old)
        raise
    snapshots.warn_if_not_exact(state, path)
    solver.losses.clear()
    solver.losses.extend(state.losses)
    solver.smoothed_loss = sum(solver.losses) / len(solver.losses) if solver.losses else 0.0
    solver.last_snapshot = path
    solver.iter, solver.current_step = state.iteration, state.current_step
    for blob, array in zip(blobs, state.history, strict=True):
        blob.host_out[...] = array
