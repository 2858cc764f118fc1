"""Train a net: pycaffe_lite train --solver solver.prototxt [--snapshot state | --weights models]

`--snapshot latest` resumes from the newest intact snapshot of the solver's prefix. `auto` does the same, but starts from the
beginning if there is none, so that a killed run can always be restarted with the same command.

The log goes to stderr in Caffe's format. On a terminal a progress bar is shown instead, and the log goes to a file beside
the snapshots (or in --log_dir).

--solver, --snapshot, --gpus and --timing are those of Caffe's python/train.py. There is no training on CUDA yet: --gpus
trains on the CPU after a warning.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .. import glog
from ..device import use_gpu_or_warn
from ..errors import SolverError
from ..proto import read_solver
from ..proto.caffe_pb2 import SolverParameter
from ..proto.upgrade import default_snapshot_prefix
from ..pycaffe import make_solver
from ..solver import Action, Solver, output_elements, snapshots
from ._flags import Flags, add_state_flags, refuse_gpu, stages
from ._timing import LayerTimes

GROUP = "train and test"

EFFECTS = {"stop": Action.STOP, "snapshot": Action.SNAPSHOT, "none": Action.NONE}


def main(argv: list[str]) -> int:
    values = _parse(argv)
    refuse_gpu(values)
    if values.gpus:
        use_gpu_or_warn()
    param, source = read_solver(values.solver)
    if values.timing and not param.display:
        raise SolverError("--timing shows times whenever the solver displays: set display", source.where())
    param.snapshot_prefix = default_snapshot_prefix(param, values.solver)
    param.train_state.level = values.level
    param.train_state.stage.extend(stages(values))
    if values.weights:
        param.weights.append(values.weights)
    with _log_and_bar(values, param) as attach:
        glog.info("Use CPU.")
        solver = make_solver(param, source.where(), allow_python_layers=not values.no_python_layers)
        try:
            solver.on_nan, solver.keep_snapshots = values.on_nan, values.keep_snapshots
            with _signals(solver, values), solver.exclusive():
                if state := _state(values.snapshot, param.snapshot_prefix):
                    glog.info(f"Resuming from {state}")
                    solver.restore(state)
                attach(solver)
                if values.timing:
                    LayerTimes(solver)
                glog.info("Starting Optimization")
                solver.solve()
        finally:
            solver.close()
    return 0


def _state(value: str, prefix: str) -> str | None:
    """The solver state for the value of `--snapshot`."""
    if value not in ("latest", "auto"):
        return value
    path = snapshots.newest(prefix)
    if path is None and value == "latest":
        raise SolverError(f"--snapshot latest: there is no whole snapshot {prefix}_iter_*.solverstate")
    return path


def _parse(argv: list[str]) -> argparse.Namespace:
    flags = Flags("train", __doc__)
    flags.flag("solver", default="", metavar="FILE", help="the solver's prototxt (needed)")
    help_text = "solver state to resume from; or latest, the newest; or auto, the newest if there is one"
    flags.flag("snapshot", default="", metavar="FILE", help=help_text)
    help_text = "snapshots to keep on disk, older ones are removed (default: all)"
    flags.add_argument("--keep-snapshots", "--keep_snapshots", type=_count, default=0, metavar="N", help=help_text)
    help_text = "what a loss that is NaN or infinite does (default stop, with an error)"
    flags.add_argument("--on-nan", "--on_nan", choices=["stop", "continue"], default="stop", help=help_text)
    flags.flag("weights", default="", metavar="FILES", help="models to fine-tune from, with commas")
    flags.flag("gpu", default="", metavar="IDS", help="CUDA devices, with commas, or all")
    flags.flag("gpus", type=_device, nargs="+", default=[], metavar="ID", help="CUDA devices, with blanks")
    flags.flag("timing", action="store_true", help="log how long each layer takes, whenever the solver displays")
    add_state_flags(flags)
    for name, default in (("sigint_effect", "stop"), ("sighup_effect", "snapshot")):
        also = ", and SIGTERM but for none," if name == "sigint_effect" else ""
        help_text = f"what {name[:6].upper()}{also} does: stop (with a snapshot), snapshot, or none (default {default})"
        flags.flag(name, choices=list(EFFECTS), default=default, help=help_text)
    values = flags.parse(argv)
    if not values.solver:
        raise SolverError("train needs --solver, the prototxt of a solver")
    if values.snapshot not in ("", "auto") and values.weights:
        raise SolverError("give --snapshot to resume or --weights to fine-tune, not both")
    return values


def _device(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'expected the number of a device, received "{text}"')
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a number of at least 1, received "{text}"')
    return int(text)


@contextlib.contextmanager
def _signals(solver: Solver, values: argparse.Namespace) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP take effect between iterations; a second SIGINT that asks to stop interrupts at once."""
    pending: list[Action] = []
    stopping = False

    def take() -> Action:
        return pending.pop(0) if pending else Action.NONE

    def install(number: int, effect: Action) -> None:
        def handle(*_: object) -> None:
            nonlocal stopping
            if stopping and number == signal.SIGINT:
                raise KeyboardInterrupt
            stopping |= effect is Action.STOP
            if effect is not Action.NONE:
                pending.append(effect)

        before[number] = signal.signal(number, handle)

    before: dict[int, object] = {}
    effect = EFFECTS[values.sigint_effect]
    install(signal.SIGINT, effect)
    if effect is not Action.NONE:  # otherwise only force could end the run
        install(signal.SIGTERM, effect)
    if hasattr(signal, "SIGHUP"):
        install(signal.SIGHUP, EFFECTS[values.sighup_effect])
    solver.requested_action = take
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


@contextlib.contextmanager
def _log_and_bar(values: argparse.Namespace, param: SolverParameter) -> Iterator:
    """Shows a solver's progress: on a terminal a bar, with the log in a file; otherwise the log only."""
    if not sys.stderr.isatty() or glog.settings().logtostderr or values.alsologtostderr:
        yield lambda solver: None
        return
    with contextlib.ExitStack() as stack:
        path = glog.log_file() or stack.enter_context(_log_beside(Path(param.snapshot_prefix)))
        print(f"log: {path}", file=sys.stderr)
        glog.quiet_stderr()
        stack.callback(glog.quiet_stderr, False)
        yield lambda solver: stack.callback(_Bar(solver).close)


@contextlib.contextmanager
def _log_beside(prefix: Path) -> Iterator[Path]:
    """Writes the log to a file beside the snapshots, and yields its path."""
    if not prefix.parent.is_dir():
        raise SolverError(f'the log cannot be written: there is no folder "{prefix.parent}", which snapshots would go to')
    path = prefix.parent / f"{prefix.name}_{time.strftime('%Y%m%d-%H%M%S')}.log"
    handler = glog.to_file(path)
    try:
        yield path
    finally:
        glog.logger.removeHandler(handler)
        handler.close()


class _Bar:
    """Shows iteration, iterations per second, remaining time, loss and rate, a few times per second; tests above them."""

    def __init__(self, solver: Solver):
        import tqdm

        self._solver = solver
        has_size = os.get_terminal_size(sys.stderr.fileno()).columns > 0  # some pseudo-terminals do not know their size
        size: dict = {"dynamic_ncols": True} if has_size else {"ncols": 80, "nrows": 24}
        self._bar = tqdm.tqdm(total=solver.param.max_iter, initial=solver.iter, unit="iter", **size)
        solver.watchers.append(self._update)
        solver.test_watchers.append(self._show_test)

    def _update(self, solver: Solver) -> None:
        self._bar.set_postfix_str(f"loss {solver.smoothed_loss:.4g}, lr {solver.last_rate:.3g}", refresh=False)
        self._bar.update(solver.iter - self._bar.n)

    def _show_test(self, solver: Solver, index: int, scores: list[float]) -> None:
        net = solver.test_nets[index]
        which = f" #{index}" if len(solver.test_nets) > 1 else ""
        results = ", ".join(f"{name} {score:.4g}" for name, score in zip(output_elements(net), scores, strict=True))
        self._bar.write(f"iteration {solver.iter}, test net{which}: {results}", file=sys.stderr)

    def close(self) -> None:
        self._bar.close()
        if self._solver.last_snapshot:
            with contextlib.suppress(OSError):  # the terminal may be gone
                print(f"last snapshot: {self._solver.last_snapshot}", file=sys.stderr)
