"""Checks the file of a net, in each of the phases for which the net is made."""

from __future__ import annotations

from ..errors import CaffeError
from ..proto import Source
from ..proto.caffe_pb2 import TEST, TRAIN, NetParameter, Phase
from ..proto.upgrade import upgrade_net
from .findings import Findings
from .net import Checked, Row, check_net, lacks_sources
from .text import parse_file

BOTH_PHASES = [TRAIN, TEST]


def read_net(path: str, findings: Findings) -> tuple[NetParameter, Source] | None:
    """What can be read of a net, in the present format, or None if that is nothing; `findings` has all errors."""
    net = NetParameter()
    source = parse_file(path, net, findings)
    if source is None:
        return None
    doubtful_input = net.input and source.faults_outside
    if doubtful_input:
        _complete_input(net)
    try:
        upgrade_net(net, source)
        if doubtful_input:
            source.doubt(net.layer[0])
    except CaffeError as error:
        if not source.faults:  # else it may follow from what was not read
            findings.error(error)
        return None
    return net, source


def _complete_input(net: NetParameter) -> None:
    """Gives every input outside of layers some shape, since theirs may be what could not be read."""
    net.ClearField("input_dim")
    net.ClearField("input_shape")
    for _ in net.input:
        net.input_shape.add(dim=[1])


def check_net_in_phases(net: NetParameter, source: Source, phases: list[Phase], findings: Findings) -> dict[str, list[Row]]:
    """Checks a net in the phases for which it is made."""
    tables = {}
    for phase in _phases_of(net, source, phases, findings):
        net.state.phase = phase
        tables[title_of(net, source)] = check_net_in_state(net, source, findings).rows
    return tables


def _phases_of(net: NetParameter, source: Source, phases: list[Phase], findings: Findings) -> list[Phase]:
    """The phases to check: those for which the net is made, or all if it seems to be made for none."""
    made_for = [phase for phase in phases if not lacks_sources(net, phase)]
    if len(phases) == 1 or not made_for:
        return phases
    if source.faults:
        return made_for
    for phase in phases:
        if phase not in made_for:
            message = f"the net has no data in phase {Phase.Name(phase)}, which is not checked"
            findings.warning(message, source.where())
    return made_for


def check_net_in_state(net: NetParameter, source: Source, findings: Findings) -> Checked:
    """Checks a net in its state. If the net cannot be filtered or split, only that error is reported."""
    try:
        return check_net(net, source, findings)
    except CaffeError as error:
        findings.error(error)
        return Checked([], [])


def title_of(net: NetParameter, source: Source) -> str:
    """The title of the table of a net."""
    return f"{source.where()}, {Phase.Name(net.state.phase)}"
