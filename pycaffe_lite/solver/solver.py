"""The training loop (Caffe's solver.cpp): step, test, display, snapshot, restore.

One step clears the gradients, tests if it is time, runs `iter_size` forward and backward passes, updates with the current
rate, counts the iteration, and writes a snapshot if it is time.
"""

from __future__ import annotations

import contextlib
import enum
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from .. import glog, rng
from ..blob import Blob
from ..device import array_module, serial_blas, use_gpu_or_warn
from ..errors import SolverError, located
from ..net import Net, states
from ..proto.caffe_pb2 import SolverParameter
from ..user_code.registry import Registry
from . import finite, nets, policies, snapshotting, testing
from .arena import Arena, multipliers
from .testing import log_outputs, output_values


class Action(enum.Enum):
    """What a signal tells a running solver to do."""

    NONE = 0
    STOP = 1
    SNAPSHOT = 2


U = TypeVar("U", bound=Callable[..., None])


def at_once(update: U) -> U:
    """Decorator of a solver's `update` that works element by element, so that it can update several parameters at once.

    A subclass with another `update`, for example one that uses norms of whole parameters, gets one parameter at a time.
    """
    setattr(update, "is_at_once", True)  # noqa: B010  mypy does not allow function attributes
    return update


class Solver:
    """Trains the net that `param` names; paths in it are relative to the current folder.

    `net` and `test_nets` are made by `make_net(NetParameter, Source)`, `Net` by default. Subclasses define the update rule,
    and `history_sets`, the number of history blobs for each parameter.
    Raises `SolverError` for a solver file that asks for something impossible.

    - `on_nan`: the reaction to a loss that is NaN or infinite. "continue" trains on, as Caffe does. "stop" raises a
      `SolverError` that names the layer it came from, and refuses to snapshot parameters that are not finite. The command
      line stops.
    - `keep_snapshots`: how many snapshots of the prefix are kept on disk; 0 keeps all.
    """

    history_sets = 1

    def __init__(self, param: SolverParameter, where: str = "", make_net: Callable[..., Any] = Net):
        self.param = param
        self.where = where
        if param.HasField("solver_mode") and param.solver_mode == SolverParameter.GPU:
            use_gpu_or_warn()
        with located(where):
            self._check()
            self.check()
            if param.random_seed >= 0:
                rng.set_seed(param.random_seed)
            self.net = nets.train_net(param, where, make_net)
            self.test_nets = nets.test_nets(param, where, make_net)
            self.arena = Arena(self.net.learnable, self.net.all_params, self.history_sets)
        self.iter = 0
        self.current_step = 0
        self.history = self.arena.history
        with located(where):
            testing.share_parameters(self)
        self.update_each = False  # updates parameters one by one, for code that measures each update
        self.on_nan = "continue"
        self.keep_snapshots = 0
        self.smoothed_loss = 0.0
        self.losses: deque[float] = deque(maxlen=param.average_loss)  # the losses that the smoothed loss averages
        self.states_before_test: list[list[states.LayerState]] | None = None  # of the test nets, while they are tested
        self.holds_prefix = False
        self.last_rate = 0.0  # of the last update
        self.last_snapshot = ""  # the path of the last state file
        self.stopped_early = False
        self.requested_action: Callable[[], Action] = lambda: Action.NONE
        self._callbacks: list[tuple[Callable[[], Any], Callable[[], Any]]] = []
        self.watchers: list[Callable[[Solver], Any]] = []  # called after every iteration (progress bars)
        self.test_watchers: list[Callable[[Solver, int, list[float]], Any]] = []  # after a test: net, its mean outputs

    def update(self, blob: Blob, history: list[Blob], rate: float, scale: float, l2: float, l1: float) -> None:
        """Updates one parameter from its gradient `scale * diff + l2 * data + l1 * sign(data)`.

        If it is marked with `at_once`, several parameters with equal multipliers may come as one flat blob.
        """
        raise NotImplementedError

    def check(self) -> None:
        """Raises `SolverError` where the rule cannot work with `param`."""

    # ---- set-up ---------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        param = self.param
        policies.check(param)
        for name in ("base_lr", "gamma", "power", "momentum", "weight_decay", "delta", "rms_decay", "momentum2"):
            if not math.isfinite(getattr(param, name)):
                raise SolverError(f"{name} is a number, received {getattr(param, name)}", field=name)
        if param.average_loss < 1:
            raise SolverError(f"average_loss is at least 1, received {param.average_loss}", field="average_loss")
        if param.iter_size < 1:
            raise SolverError(f"iter_size is at least 1, received {param.iter_size}", field="iter_size")
        if param.weight_decay and param.regularization_type not in ("L1", "L2"):
            message = f'regularization_type is "L1" or "L2", received "{param.regularization_type}"'
            raise SolverError(message, field="regularization_type")
        if min(param.test_iter, default=0) < 0:
            raise SolverError(f"test_iter is a number of batches, received {min(param.test_iter)}", field="test_iter")
        if param.snapshot:
            snapshotting.check_folder(param.snapshot_prefix)

    @staticmethod
    def load_weights(net: Net, names: Sequence[str]) -> None:
        """Copies model files into a net. A name may be a comma-separated list, as on Caffe's command line."""
        nets.load_weights(net, names)

    def add_callback(self, on_start: Callable[[], Any], on_gradients_ready: Callable[[], Any]) -> None:
        """Calls `on_start()` before the passes of each step, and `on_gradients_ready()` before its update."""
        self._callbacks.append((on_start, on_gradients_ready))

    def close(self) -> None:
        """Closes the nets, with their threads and databases."""
        for net in [self.net, *self.test_nets]:
            net.close()

    # ---- training -------------------------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The learning rate of the present iteration."""
        rate, _ = policies.learning_rate(self.param, self.iter, self.current_step)
        return rate

    def solve(self, resume_file: str | os.PathLike | None = None) -> None:
        """Trains until `max_iter`, from a solver state if one is given, and writes a last snapshot.

        During the run, another run with the same snapshot prefix is refused.
        """
        if self.param.snapshot_after_train:
            with located(self.where):
                snapshotting.check_folder(self.param.snapshot_prefix)  # fails now, not after days of training
        with self.exclusive():
            self._solve(resume_file)

    def _solve(self, resume_file: str | os.PathLike | None) -> None:
        param = self.param
        glog.info(f"Solving {self.net.name or 'net'}")
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
        """Trains for so many iterations. Smoothing of the loss starts anew."""
        self.losses.clear()
        self._train(iterations)

    def _train(self, iterations: int) -> None:
        param = self.param
        stop, timer = self.iter + iterations, _Timer(self.iter)
        while self.iter < stop:
            self.arena.clear_gradients()
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
            message = f"iteration {self.iter}: the loss is {loss:g}, {finite.first_bad_output(self.net)}"
            raise SolverError(message + snapshotting.last(self), self.where)
        return loss

    def apply_update(self) -> None:
        """Clips the gradients and updates all parameters with the rate of the present iteration."""
        param, step = self.param, self.current_step
        self.last_rate, self.current_step = rate, _ = policies.learning_rate(param, self.iter, step)
        if param.lr_policy == "multistep" and self.current_step != step:
            glog.info(f"MultiStep Status: Iteration {self.iter}, step = {self.current_step}")
        if param.display and self.iter % param.display == 0:
            glog.info(f"Iteration {self.iter}, lr = {rate:g}")
        scale = self._clip_scale() / param.iter_size
        if self.net.debug_info:
            self.net.debug_update()
        with located(self.where), serial_blas():
            for blob, history, lr_mult, decay_mult in self._updates():
                decay = param.weight_decay * decay_mult
                l2, l1 = (decay, 0.0) if param.regularization_type == "L2" else (0.0, decay)
                self.update(blob, history, rate * lr_mult, scale, l2, l1)

    def _updates(self) -> Iterator[tuple[Blob, list[Blob], float, float]]:
        """Each update: a blob, its history, and the factors on learning rate and weight decay."""
        single: Sequence[int] = range(len(self.net.learnable))
        in_groups = getattr(type(self).update, "is_at_once", False) and not self.update_each
        if in_groups and self.arena.is_whole:
            for group in self.arena.groups:
                yield group.blob, group.history, group.lr_mult, group.decay_mult
            single = self.arena.outside
        for i in single:
            learnable = self.net.learnable[i]
            history = [blobs[i] for blobs in self.history]
            if any(blob.count != learnable.blob.count for blob in history):
                raise SolverError(f"a parameter was {history[0]} when the solver was made and is now {learnable.blob}")
            yield learnable.blob, history, *multipliers(learnable)

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
        if not norm > limit:  # a NaN must not scale: it would make every parameter NaN
            return 1.0
        scale = limit / norm
        glog.info(f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {limit:g}) by scale factor {scale:g}")
        return scale

    def _smooth(self, loss: float) -> None:
        self.losses.append(loss)
        self.smoothed_loss = sum(self.losses) / len(self.losses)

    def _display(self, timer: _Timer) -> None:
        seconds, rate = timer.lap(self.iter)
        glog.info(
            f"Iteration {self.iter} ({rate:g} iter/s, {seconds:g}s/{self.param.display} iters), "
            f"loss = {self.smoothed_loss:g}"
        )
        log_outputs("Train", self.net, output_values(self.net))

    # ---- testing and snapshots ------------------------------------------------------------------------------------

    def _time_to_test(self, after_training: bool = False) -> bool:
        interval = self.param.test_interval
        if not interval or self.iter % interval:
            return False
        return after_training or self.iter > 0 or self.param.test_initialization

    def test_all(self) -> None:
        """Tests every test net; stops between two batches when a signal asks for it."""
        testing.test_all(self)

    def test(self, index: int = 0) -> list[float]:
        """Tests one net: runs it for its `test_iter` batches on the training net's weights and logs the mean outputs.

        Returns them, one number per element of each output; nothing if a signal stopped the test or there are no batches.
        """
        return testing.test(self, index)

    def stop_requested_while_testing(self) -> bool:
        """Handles the last signal, and returns whether the test has to stop."""
        action = self.requested_action()
        if action is Action.SNAPSHOT:
            self.snapshot()
        self.stopped_early |= action is Action.STOP
        return self.stopped_early

    def snapshot(self) -> None:
        """Writes `<prefix>_iter_<n>.caffemodel` and `.solverstate` (plus `.h5` for HDF5).

        Then it removes old snapshots as `keep_snapshots` says.
        """
        snapshotting.snapshot(self)

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Holds the lock on the snapshot prefix; another run with it is a `SolverError`. `solve` does this itself."""
        return snapshotting.exclusive(self)

    def restore(self, path: str | os.PathLike) -> None:
        """Resumes exactly from a solver state and the model that it names.

        Warns if the run cannot be exact: a state of Caffe says nothing about data and random streams, and sums depend on the
        number of threads. Nothing changes if state or model does not fit.
        """
        snapshotting.restore(self, os.fspath(path))


class _Timer:
    """Seconds and iterations per second since the last display."""

    def __init__(self, iteration: int):
        self._iteration, self._time = iteration, time.perf_counter()

    def lap(self, iteration: int) -> tuple[float, float]:
        now = time.perf_counter()
        seconds, iterations = now - self._time, iteration - self._iteration
        self._iteration, self._time = iteration, now
        return seconds, iterations / seconds if seconds else 0.0


# ---- registry -----------------------------------------------------------------------------------------------------

_REGISTRY: Registry[type[Solver]] = Registry("solver", "pycaffe_lite.solvers", SolverError, lambda: Solver)
S = TypeVar("S", bound=type[Solver])


def register(name: str) -> Callable[[S], S]:
    """Class decorator: registers a solver under its `type:` in a solver file."""
    return _REGISTRY.register(name)  # type: ignore[return-value]  # the same class


def find(name: str, where: str = "") -> type[Solver]:
    """The class that a solver file calls `name`."""
    with located(where):
        return _REGISTRY.find(name)


def create(param: SolverParameter, where: str = "", make_net: Callable[..., Any] = Net) -> Solver:
    """The solver that `param.type` names."""
    return find(param.type, where)(param, where, make_net)
