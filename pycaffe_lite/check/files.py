"""What is wrong with a prototxt file of a net or of a solver, with the nets that a solver names."""

from __future__ import annotations

import math
import os
import re
from types import SimpleNamespace
from typing import Any

from .. import solver
from ..errors import CaffeError
from ..proto import Source
from ..proto.caffe_pb2 import TEST, TRAIN, NetParameter, Phase, SolverParameter
from ..proto.upgrade import default_snapshot_prefix, upgrade_net, upgrade_solver
from ..solver import policies
from . import data_layers
from .net import Checked, Row, check_net, lacks_sources
from .text import Findings, is_solver, line_of, parse_file, read_text

BOTH_PHASES = [TRAIN, TEST]

# How an error of the solver begins: the field that it is about, and a value that makes the solver go on to the next one.
REMEDIES: dict[str, tuple[str, Any]] = {
    "unknown solver type": ("type", "SGD"),
    "unknown lr_policy": ("lr_policy", "fixed"),
    "lr_policy is not set": ("lr_policy", "fixed"),
    "lr_policy": ("lr_policy", "fixed"),
    "average_loss": ("average_loss", 1),
    "iter_size": ("iter_size", 1),
    "regularization_type": ("regularization_type", "L2"),
    "snapshot": ("snapshot", 0),
    "rms_decay": ("rms_decay", 0.9),
}


def check(
    file: str, phases: list[Phase] | None = None, level: int = 0, stages: list[str] | None = None
) -> tuple[Findings, dict[str, list[Row]]]:
    """What is wrong with a file, and the shapes of its nets' blobs: by file and phase. Raises nothing for a bad file."""
    findings, tables = Findings(), {}
    try:
        text = read_text(file)
    except CaffeError as error:
        findings.error(error)
        return findings, {}
    if is_solver(text):
        tables = _check_solver(file, text, findings)
    elif (read := _read_net(file, findings)) is not None:
        net, source = read
        if not net.ListFields():
            findings.warning(f"{file}: there is nothing in it")
        net.state.level = net.state.level or level
        net.state.stage.extend(stages or [])
        tables = _check_net(net, source, phases or BOTH_PHASES, findings)
    return findings, tables


# ---- nets ---------------------------------------------------------------------------------------------------------


def _read_net(path: str, findings: Findings) -> tuple[NetParameter, Source] | None:
    net = NetParameter()
    source = parse_file(path, net, findings)
    if source is None:
        return None
    try:
        upgrade_net(net, source)
    except CaffeError as error:
        findings.error(error)
        return None
    return net, source


def _check_net(net: NetParameter, source: Source, phases: list[Phase], findings: Findings) -> dict[str, list[Row]]:
    """Checks a net in the phases that it is made for."""
    tables = {}
    for phase in _phases_of(net, source, phases, findings):
        net.state.phase = phase
        tables[_title(net, source)] = _check_in_state(net, source, findings).rows
    return tables


def _phases_of(net: NetParameter, source: Source, phases: list[Phase], findings: Findings) -> list[Phase]:
    """The phases to check: without one for which the net is not made, as long as there is another."""
    made_for = [phase for phase in phases if not lacks_sources(net, phase)]
    if len(phases) == 1 or not made_for:
        return phases
    for phase in phases:
        if phase not in made_for:
            findings.warning(f"{source.where()}: the net has no data in phase {Phase.Name(phase)}, which is not checked")
    return made_for


def _check_in_state(net: NetParameter, source: Source, findings: Findings) -> Checked:
    try:
        return check_net(net, source, findings)
    except CaffeError as error:
        findings.error(error)
        return Checked([], [])


def _title(net: NetParameter, source: Source) -> str:
    return f"{source.where()}, {Phase.Name(net.state.phase)}"


# ---- solvers ------------------------------------------------------------------------------------------------------


def _check_solver(path: str, text: str, findings: Findings) -> dict[str, list[Row]]:
    param = SolverParameter()
    source = parse_file(path, param, findings)
    if source is None:
        return {}
    try:
        upgrade_solver(param, source)
    except CaffeError as error:
        _report_of_solver(error, path, text, findings)
        return {}
    _warn_of_solver(param, path, text, findings)
    param.snapshot_prefix = default_snapshot_prefix(param, path)
    read = [_read_net(net, findings) for net in _net_files(param)]
    tables: dict[str, list[Row]] = {}
    if None in read:  # no solver can be made: what can be read is checked for itself
        for net, net_source in filter(None, read):
            tables |= _check_net(net, net_source, BOTH_PHASES, findings)
        return tables
    test_iter = iter(param.test_iter)
    for net, net_source in _nets_of(param, source, text, findings):
        checked = _check_in_state(net, net_source, findings)
        tables[_title(net, net_source)] = checked.rows
        iterations = next(test_iter, None) if net.state.phase == TEST else None
        if iterations is not None:
            _warn_of_coverage(checked, net_source, iterations, findings)
    return tables


def _net_files(param: SolverParameter) -> list[str]:
    single = [getattr(param, name) for name in ("net", "train_net") if param.HasField(name)]
    return list(dict.fromkeys([*single, *param.test_net]))


def _nets_of(given: SolverParameter, source: Source, text: str, findings: Findings) -> list[tuple[NetParameter, Source]]:
    """The nets that the solver would make, with their states. It is made again for each error of its own."""
    param = SolverParameter()
    param.CopyFrom(given)
    param.ClearField("random_seed")
    param.ClearField("solver_mode")
    param.ClearField("weights")
    if param.snapshot_after_train and not param.snapshot:
        param.snapshot = 1  # so that the folder is looked at now
    nets: list[tuple[NetParameter, Source]] = []

    def note(net: NetParameter, net_source: Source) -> SimpleNamespace:
        nets.append((net, net_source if net_source.name else source))  # without a name it stands in the solver's file
        return SimpleNamespace(learnable=[], all_params=[], debug_info=False)

    for _ in range(len(REMEDIES) + 1):
        nets.clear()
        try:
            solver.create(param, make_net=note)
            break
        except CaffeError as error:
            if not _remedy(param, error, source.where(), text, findings):
                break
    return nets


def _remedy(param: SolverParameter, error: CaffeError, path: str, text: str, findings: Findings) -> bool:
    """Reports an error of the solver with its line, and puts something right in its place if that is known."""
    found = [remedy for start, remedy in REMEDIES.items() if error.message.startswith(start)]
    if "takes no momentum" in error.message:
        found = [("momentum", 0.0)]
    _report_of_solver(error, path, text, findings, *(name for name, _ in found))
    if not found or getattr(param, found[0][0]) == found[0][1]:
        return False
    setattr(param, *found[0])
    return True


def _report_of_solver(error: CaffeError, path: str, text: str, findings: Findings, *names: str) -> None:
    """Reports an error with the line of one of these fields, or else of the first field in its text."""
    if error.where in ("", path):
        words = [*names, *re.findall(r"\w+", error.message.replace("snapshots ", "snapshot_prefix "))]
        fields = [word for word in words if word in SolverParameter.DESCRIPTOR.fields_by_name]
        line = next(filter(None, (line_of(text, name) for name in fields)), 0)
        error.where = f"{path}:{line}" if line else path
    findings.error(error)


def _warn_of_solver(param: SolverParameter, path: str, text: str, findings: Findings) -> None:
    def warn(name: str, message: str) -> None:
        line = line_of(text, name)
        findings.warning(f"{path}{f':{line}' if line else ''}: {message}")

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
    """Whether the batches of one test reach all of its data."""
    for param in checked.sources:
        batch = getattr(param, data_layers.PARAMS[param.type]).batch_size
        count = data_layers.records(param)
        if count is not None and batch and iterations * batch < count:
            reach = f"test_iter {iterations} x batch size {batch} = {iterations * batch} of {count} items"
            findings.warning(f"{source.where(param)}: a test does not cover the data: {reach}")
