"""Checks the file of a solver, and the nets that it names."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace
from typing import Any

from .. import solver
from ..errors import CaffeError, Place, SolverError
from ..layer import class_of
from ..proto import Source
from ..proto.caffe_pb2 import TEST, NetParameter, SolverParameter
from ..proto.upgrade import default_snapshot_prefix, upgrade_solver
from ..solver import policies
from . import data_layers
from .findings import Findings
from .net import Checked, Row
from .net_file import BOTH_PHASES, check_net_in_phases, check_net_in_state, read_net, title_of
from .text import line_of, parse_file

# The field of an error -> values with which the check continues to the next error.
REMEDIES: dict[str, dict[str, Any]] = {
    "type": {"type": "SGD"},
    "lr_policy": {"lr_policy": "fixed"},
    "average_loss": {"average_loss": 1},
    "iter_size": {"iter_size": 1},
    "regularization_type": {"regularization_type": "L2"},
    "snapshot_prefix": {"snapshot": 0},
    "momentum": {"momentum": 0.0},
    "momentum2": {"momentum2": 0.999},
    "rms_decay": {"rms_decay": 0.9},
}


def check_solver(path: str, text: str, findings: Findings) -> dict[str, list[Row]]:
    """Reports the errors of a solver and its nets. Returns the shapes of their blobs by file and phase."""
    param = SolverParameter()
    source = parse_file(path, param, findings)
    if source is None:
        return {}
    try:
        upgrade_solver(param, source)
    except CaffeError as error:
        _report(error, source, text, findings)
        return {}
    if not source.faults:
        _warn_of_solver(param, path, text, findings)
    param.snapshot_prefix = default_snapshot_prefix(param, path)
    nets = [read_net(net, findings) for net in _net_files(param)]
    tables: dict[str, list[Row]] = {}
    if source.faults or not all(read and not read[1].faults for read in nets):  # no solver can be made: check all alone
        _nets_of(_without_nets(param, source), source, text, findings)
        inner = [(net, source) for net in _inner_nets(param)]
        for net, net_source in filter(None, [*nets, *inner]):
            tables |= check_net_in_phases(net, net_source, BOTH_PHASES, findings)
        return tables
    test_iter = iter(param.test_iter)
    for net, net_source in _nets_of(param, source, text, findings):
        checked = check_net_in_state(net, net_source, findings)
        tables[title_of(net, net_source)] = checked.rows
        iterations = next(test_iter, None) if net.state.phase == TEST else None
        if iterations is not None:
            _warn_of_coverage(checked, net_source, iterations, findings)
    return tables


def _net_files(param: SolverParameter) -> list[str]:
    single = [getattr(param, name) for name in ("net", "train_net") if param.HasField(name)]
    return list(dict.fromkeys([*single, *param.test_net]))


def _inner_nets(param: SolverParameter) -> list[NetParameter]:
    single = [getattr(param, name) for name in ("net_param", "train_net_param") if param.HasField(name)]
    return [*single, *param.test_net_param]


def _without_nets(param: SolverParameter, source: Source) -> SolverParameter:
    """The solver with an empty net, to check the rest. Fields that others need are set where they may not have been read."""
    alone = SolverParameter()
    alone.CopyFrom(param)
    for name in ("net", "train_net", "train_net_param", "test_net", "test_net_param", "test_state"):
        alone.ClearField(name)
    alone.net_param.Clear()
    alone.net_param.SetInParent()
    if source.faults:
        for name in ("stepsize", "max_iter", "test_interval"):
            setattr(alone, name, getattr(alone, name) or 1)
    return alone


def _nets_of(given: SolverParameter, source: Source, text: str, findings: Findings) -> list[tuple[NetParameter, Source]]:
    """The nets that the solver would make, with their states. After an error of its own the solver is made again."""
    param = SolverParameter()
    param.CopyFrom(given)
    param.ClearField("random_seed")
    param.ClearField("solver_mode")
    param.ClearField("weights")
    if param.snapshot_after_train and not param.snapshot:
        param.snapshot = 1  # so that the folder is checked now
    nets: list[tuple[NetParameter, Source]] = []

    def record_net(net: NetParameter, net_source: Source) -> SimpleNamespace:
        nets.append((net, net_source if net_source.name else source))  # a net without a file is in the solver's file
        return SimpleNamespace(nodes=[], learnable=[], all_params=[], debug_info=False)

    for _ in range(len(REMEDIES) + 1):
        nets.clear()
        try:
            solver.create(param, make_net=record_net)
            break
        except CaffeError as error:
            if not _remedy(param, error, source, text, findings):
                break
        except Exception as error:  # a user's rule may raise anything
            problem = SolverError(f"cannot be made ({type(error).__name__}: {error})", source.where(), "type")
            _report(problem, source, text, findings)
            break
    return nets


def _remedy(param: SolverParameter, error: CaffeError, source: Source, text: str, findings: Findings) -> bool:
    """Reports an error of the solver with its line. Corrects the field if a valid value is known; True if it did."""
    _report(error, source, text, findings)
    changed = False
    for name, value in REMEDIES.get(error.field, {}).items():
        changed |= getattr(param, name) != value
        setattr(param, name, value)
    return changed


def _report(error: CaffeError, source: Source, text: str, findings: Findings) -> None:
    """Reports an error, with the line of its field if it is an error of the solver itself.

    An error about a field that was not read, or is not there, may follow from another error.
    """
    if error.where in ("", source.name):
        line = line_of(text, error.field)
        if source.faults and (not line or error.field in source.skipped):
            return
        error.where = Place(source.name, line)
    findings.error(error)


def _warn_of_solver(param: SolverParameter, path: str, text: str, findings: Findings) -> None:
    def warn(name: str, message: str) -> None:
        findings.warning(message, Place(path, line_of(text, name)))

    if not param.base_lr:
        warn("base_lr", "base_lr is zero: nothing will be learned")
    elif not 0 < param.base_lr < math.inf:
        warn("base_lr", f"base_lr is {param.base_lr:g}, and not a positive number")
    elif _ends_at_zero(param):
        warn("gamma", f'the learning rate becomes zero (lr_policy "{param.lr_policy}", gamma {param.gamma:g})')
    if param.max_iter <= 0:
        warn("max_iter", f"max_iter is {param.max_iter}: no iteration will be trained")
    for name in param.weights:
        for file in filter(None, map(str.strip, name.split(","))):
            if not os.path.isfile(file):
                warn("weights", f'there is no file of weights "{file}"; relative paths start at {os.getcwd()}')


def _ends_at_zero(param: SolverParameter) -> bool:
    """Whether the rate of some iteration before the last is zero."""
    if param.lr_policy == "multistep":
        return bool(param.stepvalue) and not param.gamma
    try:
        policies.check(param)
        return not all(policies.learning_rate(param, i, 0)[0] for i in (0, param.max_iter // 2))
    except CaffeError:
        return False


def _warn_of_coverage(checked: Checked, source: Source, iterations: int, findings: Findings) -> None:
    """Warns if the batches of one test do not reach all of its data."""
    for param in checked.sources:
        batch = class_of(param.type).own_value(param, "batch_size")
        count = data_layers.count_items(param)
        if count is not None and batch and iterations * batch < count:
            reach = f"test_iter {iterations} x batch size {batch} = {iterations * batch} of {count} items"
            findings.warning(f"a test does not cover the data: {reach}", source.where(param))
