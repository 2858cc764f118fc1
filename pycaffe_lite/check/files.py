"""Checks a prototxt file of a net or a solver."""

from __future__ import annotations

from ..errors import CaffeError
from ..proto.caffe_pb2 import Phase
from .findings import Findings
from .net import Row
from .net_file import BOTH_PHASES, check_net_in_phases, read_net
from .solver_file import check_solver
from .text import is_solver, read_text


def check(
    file: str, phases: list[Phase] | None = None, level: int = 0, stages: list[str] | None = None
) -> tuple[Findings, dict[str, list[Row]]]:
    """The findings for a file, and the shapes of its nets' blobs by file and phase. A bad file raises no error."""
    findings = Findings()
    try:
        text = read_text(file)
    except CaffeError as error:
        findings.error(error)
        return findings, {}
    if is_solver(text):
        return findings, check_solver(file, text, findings)
    read = read_net(file, findings)
    if read is None:
        return findings, {}
    net, source = read
    if not net.ListFields():
        findings.warning("there is nothing in it", source.where())
    net.state.level = net.state.level or level
    net.state.stage.extend(stages or [])
    return findings, check_net_in_phases(net, source, phases or BOTH_PHASES, findings)
