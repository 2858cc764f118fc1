"""The training loop (Caffe's solver.cpp): step, test, display, snapshot, restore.

One step clears the gradients, tests when it is time, runs `iter_size` forward and backward passes, updates with the rate of
the present iteration, counts it, and snapshots when it is time.
"""

from __future__ import annotations

import contextlib
import enum
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .. import glog, rng
from ..blob import Blob
from ..device import array_module, num_threads, serial_blas
from ..errors import CaffeError, SolverError, did_you_mean, located
from ..files import locked
from ..net import Net, states, weights
from ..proto import Source, read_net
from ..proto.caffe_pb2 import TEST, TRAIN, NetParameter, NetState, Phase, SolverParameter
from . import finite, policies, snapshots


class Action(enum.Enum):
    """What a signal asks of a running solver."""

    NONE = 0
    STOP = 1
    SNAPSHOT = 2


class Solver:
    """Trains the net that `param` names; paths in it are relative to the current folder.

    `net` and `test_nets` are made by `make_net(NetParameter, Source)`, `Net` by default. Subclasses bring the update rule
    and say in `history_sets` how many history blobs it keeps for each parameter.
    Raises `SolverError` for a solver file that asks for something impossible.

    - `on_nan`: what a loss that is NaN or infinite does. "continue" trains on, as Caffe; "stop" raises a `SolverError` that
      names the layer it came from, and refuses to snapshot parameters that are not finite. The command line stops.
    - `keep_snapshots`: how many snapshots of the prefix stay on disk; 0 keeps all.
    """

    history_sets = 1

    def __init__(self, param: SolverParameter, where: str = "", make_net: Callable[..., Any] = Net):
        self.param = param
        self.where = where
        self._make_net = make_net
        with located(where):
            self._check()
            self.check()
            if param.random_seed >= 0:
                rng.set_seed(param.random_seed)
            self.net = self._train_net()
            self.test_nets = self._test_nets()
        self.iter = 0
        self.current_step = 0
        self.history = [
            [Blob(p.blob.shape, dtype=p.blob.dtype) for p in self.net.learnable] for _ in range(self.history_sets)
        ]
        self.on_nan = "continue"
        self.keep_snapshots = 0
        self.smoothed_loss = 0.0
        self._losses: deque[float] = deque(maxlen=param.average_loss)  # what it is the mean of
        self._before_test: list[list[states.LayerState]] | None = None  # of the test nets, while they are tested
        self._holds_prefix = False
        self.last_rate = 0.0  # of the latest update
        self.last_snapshot = ""  # the state file
        self.stopped_early = False
        self.requested_action: Callable[[], Action] = lambda: Action.NONE
        self._callbacks: list[tuple[Callable[[], Any], Callable[[], Any]]] = []
        self.watchers: list[Callable[[Solver], Any]] = []  # called after every iteration (progress bars)
        self.test_watchers: list[Callable[[Solver, int, list[float]], Any]] = []  # after a test: net, its mean outputs

    def update(self, blob: Blob, history: list[Blob], rate: float, scale: float, l2: float, l1: float) -> None:
        """Updates one parameter from its gradient `scale * diff + l2 * data + l1 * sign(data)`."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises `SolverError` where the rule cannot work with `param`."""

    # ---- set-up ---------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        param = self.param
        policies.check(param)
        if param.average_loss < 1:
            raise SolverError(f"average_loss is at least 1, received {param.average_loss}")
        if param.iter_size < 1:
            raise SolverError(f"iter_size is at least 1, received {param.iter_size}")
        if param.weight_decay and param.regularization_type not in ("L1", "L2"):
            raise SolverError(f'regularization_type is "L1" or "L2", received "{param.regularization_type}"')
        if min(param.test_iter, default=0) < 0:
            raise SolverError(f"test_iter is a number of batches, received {min(param.test_iter)}")
        if param.snapshot:
            self._check_snapshot_folder()

    def _check_snapshot_folder(self) -> None:
        prefix = self.param.snapshot_prefix
        if not prefix:
            raise SolverError("snapshots are to be written, but snapshot_prefix is empty")
        folder = Path(prefix).parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise SolverError(f'snapshots cannot be written: the folder "{folder}" is missing or not writable')

    def _train_net(self) -> Any:
        param = self.param
        given = [name for name in ("net", "net_param", "train_net", "train_net_param") if param.HasField(name)]
        if len(given) != 1:
            received = ", ".join(given) or "none"
            raise SolverError(f"expected one of net, net_param, train_net, train_net_param; received {received}")
        return self._build(getattr(param, given[0]), TRAIN, param.train_state)

    def _test_nets(self) -> list[Any]:
        """`test_net_param`s, then `test_net`s, then `net` or `net_param` for the `test_iter`s that are left."""
        param = self.param
        own: list[Any] = [*param.test_net_param, *param.test_net]
        generic: Any = param.net_param if param.HasField("net_param") else param.net if param.HasField("net") else None
        least, count = len(own), len(param.test_iter)
        if count < least or (generic is None and count > least):
            raise SolverError(f"test_iter is given once for each test net: expected {least}, received {count}")
        nets = own + [generic] * (count - least)
        states: list[NetState | None] = list(param.test_state) or [None] * len(nets)
        if len(states) != len(nets):
            raise SolverError(
                f"test_state is given once for each test net or not at all: expected {len(nets)}, received {len(states)}"
            )
        if nets and param.test_interval <= 0:
            raise SolverError(f"test nets need test_interval > 0, received {param.test_interval}")
        return [self._build(net, TEST, state) for net, state in zip(nets, states, strict=True)]

    def _build(self, given: str | NetParameter, phase: Phase, state: NetState | None) -> Any:
        if isinstance(given, str):
            glog.info(f"Creating {Phase.Name(phase)} net from {given}")
            net_param, source = read_net(given)
        else:
            net_param, source = NetParameter(), Source(self.where)
            net_param.CopyFrom(given)
        full_state = NetState(phase=phase)
        full_state.MergeFrom(net_param.state)
        if state is not None:
            full_state.MergeFrom(state)
        net_param.state.CopyFrom(full_state)
        net = self._make_net(net_param, source)
        net.debug_info = phase == TEST and self.param.debug_info  # the train net's changes from step to step
        self.load_weights(net, self.param.weights)
        return net

    @staticmethod
    def load_weights(net: Net, names: Sequence[str]) -> None:
        """Copies model files into a net; each name may be a list with commas, as on Caffe's command line."""
        for name in names:
            for path in filter(None, (part.strip() for part in name.split(","))):
                glog.info(f"Finetuning from {path}")
                weights.copy_from(net, path)

    def add_callback(self, on_start: Callable[[], Any], on_gradients_ready: Callable[[], Any]) -> None:
        """Calls `on_start()` before the passes of each step, and `on_gradients_ready()` before its update."""
        self._callbacks.append((on_start, on_gradients_ready))

    def close(self) -> None:
        """Closes the nets: their threads and databases."""
        for net in [self.net, *self.test_nets]:
            net.close()

    # ---- training -------------------------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The learning rate of the present iteration."""
        rate, self.current_step = policies.learning_rate(self.param, self.iter, self.current_step)
        return rate

    def solve(self, resume_file: str | os.PathLike | None = None) -> None:
        """Trains until `max_iter`, from a solver state if one is given, and writes a last snapshot.

        A second run on the same snapshot prefix is refused meanwhile.
        """
        if self.param.snapshot_after_train:
            with located(self.where):
                self._check_snapshot_folder()  # now, and not after days of training
        with self.exclusive():
            self._solve(resume_file)

    def _solve(self, resume_file: str | os.PathLike | None) -> None:
        param = self.param
        glog.info(f"Solving {self.net.name}")
        glog.info(f"Learning Rate Policy: {param.lr_policy}")
        self.stopped_early = False
        if resume_file:
            glog.info(f"Restoring previous solver status from {os.fspath(resume_file)}")
            self.restore(resume_file)
        start = self.iter
        self._train(param.max_iter - self.iter)
        if param.snapshot_after_train and (not param.snapshot or self.iter % param.snapshot):
            self.snapshot()
        if self.stopped_early:
            glog.info("Optimization stopped early.")
            return
        if param.display and self.iter % param.display == 0:
            self._smooth(self.net.forward_layers())
            glog.info(f"Iteration {self.iter}, loss = {self.smoothed_loss:g}")
        if self._time_to_test(after_training=True):
            self.test_all()
        glog.info(f"Optimization Done. {self.iter - start} iterations in this run.")

    def step(self, iterations: int) -> None:
        """Trains for so many iterations. The window of `average_loss` starts anew."""
        self._losses.clear()
        self._train(iterations)

    def _train(self, iterations: int) -> None:
        param = self.param
        stop, timer = self.iter + iterations, _Timer(self.iter)
        while self.iter < stop:
            self.net.clear_param_diffs()
            if self._time_to_test():
                self.test_all()
                if self.stopped_early:
                    break
            for on_start, _ in self._callbacks:
                on_start()
            display = bool(param.display) and self.iter % param.display == 0
            self.net.debug_info = display and param.debug_info
            loss = sum(self._pass() for _ in range(param.iter_size)) / param.iter_size
            self._smooth(loss)
            if display:
                self._display(timer)
            for _, on_gradients_ready in self._callbacks:
                on_gradients_ready()
            self.apply_update()
            self.iter += 1
            for watch in self.watchers:
                watch(self)
            action = self.requested_action()
            if action is Action.SNAPSHOT or (param.snapshot and self.iter % param.snapshot == 0):
                self.snapshot()
            if action is Action.STOP:
                self.stopped_early = True
                break

    def _pass(self) -> float:
        """One forward and one backward pass; returns the loss."""
        loss = self.net.forward_backward()
        if self.on_nan == "stop" and not math.isfinite(loss):
            what = f"iteration {self.iter}: the loss is {loss:g}, {finite.first_bad_output(self.net)}"
            raise SolverError(what + self._last_snapshot(), self.where)
        return loss

    def apply_update(self) -> None:
        """Clips the gradients and updates all parameters with the rate of the present iteration."""
        param, rate = self.param, self.lr
        self.last_rate = rate
        if param.display and self.iter % param.display == 0:
            glog.info(f"Iteration {self.iter}, lr = {rate:g}")
        scale = self._clip_scale() / param.iter_size
        if self.net.debug_info:
            self.net.debug_update()
        with serial_blas():
            for i, learnable in enumerate(self.net.learnable):
                decay = param.weight_decay * (1 if learnable.decay_mult is None else learnable.decay_mult)
                l2, l1 = (decay, 0.0) if param.regularization_type == "L2" else (0.0, decay)
                local_rate = rate * (1 if learnable.lr_mult is None else learnable.lr_mult)
                self.update(learnable.blob, [sets[i] for sets in self.history], local_rate, scale, l2, l1)

    def _clip_scale(self) -> float:
        """The factor that brings the norm of all summed gradients down to `clip_gradients`."""
        limit = self.param.clip_gradients
        if limit < 0:
            return 1.0
        squares = 0.0
        for learnable in self.net.learnable:
            diff = learnable.blob.diff_in
            squares += float(array_module(diff).vdot(diff, diff))
        norm = math.sqrt(squares)
        if not norm > limit:  # NaN is none: it would make one of every parameter
            return 1.0
        scale = limit / norm
        glog.info(f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {limit:g}) by scale factor {scale:g}")
        return scale

    def _smooth(self, loss: float) -> None:
        self._losses.append(loss)
        self.smoothed_loss = sum(self._losses) / len(self._losses)

    def _display(self, timer: _Timer) -> None:
        seconds, rate = timer.lap(self.iter)
        glog.info(
            f"Iteration {self.iter} ({rate:g} iter/s, {seconds:g}s/{self.param.display} iters), "
            f"loss = {self.smoothed_loss:g}"
        )
        _log_outputs("Train", self.net, output_values(self.net))

    # ---- testing --------------------------------------------------------------------------------------------------

    def _time_to_test(self, after_training: bool = False) -> bool:
        interval = self.param.test_interval
        if not interval or self.iter % interval:
            return False
        return after_training or self.iter > 0 or self.param.test_initialization

    def test_all(self) -> None:
        """Tests every test net; stops between two batches when a signal asks for it.

        A test that is stopped is repeated as a whole by the run that goes on, and so its data go back to where they were.
        """
        self._before_test = [states.collect(net) for net in self.test_nets]
        for i in range(len(self.test_nets)):
            self.test(i)
            if self.stopped_early:
                for net, before in zip(self.test_nets, self._before_test, strict=True):
                    states.restore(net, before)
                break
        self._before_test = None

    def test(self, index: int = 0) -> list[float]:
        """Runs test net `index` for its `test_iter` batches on the training net's weights and logs the mean outputs.

        Returns them, a number for each element of each output; none if a signal stopped the test or there are no batches.
        """
        glog.info(f"Iteration {self.iter}, Testing net (#{index})")
        net, batches = self.test_nets[index], self.param.test_iter[index]
        weights.share_with(net, self.net)
        losses, outputs = [], []
        for _ in range(batches):
            if self._stop_requested_while_testing():
                glog.info("Test interrupted.")
                return []
            losses.append(net.forward_layers())
            outputs.append(output_values(net))
        if not batches:
            return []
        if self.param.test_compute_loss:
            glog.info(f"Test loss: {sum(losses) / batches:g}")
        scores = np.mean(outputs, axis=0)
        _log_outputs("Test", net, scores)
        for watch in self.test_watchers:
            watch(self, index, scores.tolist())
        return scores.tolist()

    def _stop_requested_while_testing(self) -> bool:
        action = self.requested_action()
        if action is Action.SNAPSHOT:
            self.snapshot()
        self.stopped_early |= action is Action.STOP
        return self.stopped_early

    # ---- snapshots ------------------------------------------------------------------------------------------------

    def snapshot(self) -> None:
        """Writes `<prefix>_iter_<n>.caffemodel` and `.solverstate` (with `.h5` behind for HDF5).

        Afterwards it removes old ones as `keep_snapshots` says.
        """
        if self.on_nan == "stop" and (bad := finite.bad_parameter(self.net)):
            raise SolverError(f"iteration {self.iter}: no snapshot is written of {bad}{self._last_snapshot()}", self.where)
        if not self.param.snapshot_prefix:
            raise SolverError("a snapshot needs snapshot_prefix", self.where)
        hdf5 = self.param.snapshot_format == SolverParameter.HDF5
        stem = f"{self.param.snapshot_prefix}_iter_{self.iter}"
        model, state_path = (f"{stem}.{kind}{'.h5' if hdf5 else ''}" for kind in ("caffemodel", "solverstate"))
        glog.info(f"Snapshotting to {'HDF5' if hdf5 else 'binary proto'} file {model}")
        (weights.save_hdf5 if hdf5 else weights.save)(self.net, model, self.param.snapshot_diff)
        glog.info(f"Snapshotting solver state to {'HDF5' if hdf5 else 'binary proto'} file {state_path}")
        history = [blob.data for blobs in self.history for blob in blobs]
        tests = self._before_test or map(states.collect, self.test_nets)
        layers = dict(enumerate([states.collect(self.net), *tests]))
        state = snapshots.State(
            iteration=self.iter,
            learned_net=model,
            current_step=self.current_step,
            history=history,
            losses=list(self._losses),
            threads=num_threads(),
            layers=layers,
            model_crc=snapshots.checksum(model),
        )
        (snapshots.write_hdf5 if hdf5 else snapshots.write)(state_path, state)
        self.last_snapshot = state_path
        if self.keep_snapshots:
            snapshots.prune(self.param.snapshot_prefix, self.iter, self.keep_snapshots)

    def _last_snapshot(self) -> str:
        return f"; the last snapshot is {self.last_snapshot}" if self.last_snapshot else "; there is no snapshot yet"

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the lock on the snapshot prefix, `<prefix>.lock`: another run on it is a `SolverError`.

        `solve` does this itself; blocks may stand in each other. A prefix that nothing can be written to needs no lock.
        """
        with contextlib.ExitStack() as stack:
            prefix, held = self.param.snapshot_prefix, self._holds_prefix
            if prefix and not held:
                with contextlib.suppress(OSError):
                    stack.enter_context(locked(f"{prefix}.lock"))
                    snapshots.remove_temporary(prefix)
            self._holds_prefix = True
            try:
                yield
            finally:
                self._holds_prefix = held

    def restore(self, path: str | os.PathLike) -> None:
        """Goes on from a solver state and the model that it names, exactly where the run stood that wrote them.

        A warning says where it cannot be exact: a state of real Caffe, which knows nothing of data and random streams, or
        one of another number of threads. Nothing changes when state or model does not fit.
        """
        path = os.fspath(path)
        blobs = [blob for blobs in self.history for blob in blobs]
        with located(path):
            state = snapshots.read(path, [blob.shape for blob in blobs])
        nets = [self.net, *self.test_nets]
        before = [states.collect(net) for net in nets]
        try:
            with located(path):
                for i, net in enumerate(nets):
                    states.restore(net, state.layers.get(i, []))
            if state.learned_net:
                weights.copy_from(self.net, snapshots.find_model(state, path))
        except CaffeError:
            for net, old in zip(nets, before, strict=True):
                states.restore(net, old)
            raise
        snapshots.warn_if_not_exact(state, path)
        self._losses.clear()
        self._losses.extend(state.losses)
        self.smoothed_loss = sum(self._losses) / len(self._losses) if self._losses else 0.0
        self.last_snapshot = path
        self.iter, self.current_step = state.iteration, state.current_step
        for blob, array in zip(blobs, state.history, strict=True):
            blob.data[...] = array


class _Timer:
    """Seconds and iterations per second since the last display."""

    def __init__(self, iteration: int):
        self._iteration, self._time = iteration, time.perf_counter()

    def lap(self, iteration: int) -> tuple[float, float]:
        now = time.perf_counter()
        seconds, iterations = now - self._time, iteration - self._iteration
        self._iteration, self._time = iteration, now
        return seconds, iterations / seconds if seconds else 0.0


def _log_outputs(kind: str, net: Net, scores: np.ndarray) -> None:
    """`    Train net output #0: loss = 0.03 (* 1 = 0.03 loss)`: one line for each element of each output."""
    for i, (name, score) in enumerate(zip(output_elements(net), scores, strict=True)):
        weight = net.blob_loss_weights[name]
        loss = f" (* {weight:g} = {weight * score:g} loss)" if weight else ""
        glog.info(f"    {kind} net output #{i}: {name} = {score:g}{loss}")


def output_values(net: Net) -> np.ndarray:
    """All elements of all outputs, in a row."""
    values = [np.ravel(net.blobs[name].data).astype(np.float64) for name in net.outputs]
    return np.concatenate(values) if values else np.zeros(0)


def output_elements(net: Net) -> Iterator[str]:
    """The name of the output for each element of each output."""
    return (name for name in net.outputs for _ in range(net.blobs[name].count))


# ---- registry -----------------------------------------------------------------------------------------------------

_REGISTRY: dict[str, type[Solver]] = {}
S = TypeVar("S", bound=type[Solver])


def register(name: str) -> Callable[[S], S]:
    """Class decorator: makes a solver known under the name that `type:` gives in a solver file."""

    def add(solver: S) -> S:
        _REGISTRY[name] = solver
        return solver

    return add


def create(param: SolverParameter, where: str = "", make_net: Callable[..., Any] = Net) -> Solver:
    """The solver that `param.type` names."""
    if param.type not in _REGISTRY:
        known = ", ".join(_REGISTRY)
        raise SolverError(
            f'unknown solver type "{param.type}"{did_you_mean(param.type, _REGISTRY)}; there are {known}', where
        )
    return _REGISTRY[param.type](param, where, make_net)
