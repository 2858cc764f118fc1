"""The sources of a net or solver that pycaffe accepts: a prototxt file, its text, a message or a NetSpec."""

from __future__ import annotations

import os
from typing import Protocol, runtime_checkable

from .. import glog
from . import Source, read_net, read_solver
from .caffe_pb2 import NetParameter, SolverParameter
from .prototxt import parse
from .upgrade import default_snapshot_prefix, upgrade_net, upgrade_solver

Path = str | os.PathLike


@runtime_checkable
class Spec(Protocol):
    """An object that describes a net and can turn it into a message, like a NetSpec."""

    def to_proto(self) -> NetParameter:
        """The net as a message."""


GivenNet = Path | NetParameter | Spec
GivenSolver = Path | SolverParameter

TEXT = "<text>"  # errors show this in place of a file name


def is_text(given: object) -> bool:
    """Whether this is prototxt text instead of a file name: a `str` with a line break or a brace."""
    return isinstance(given, str) and ("\n" in given or "{" in given)


def net_param(given: GivenNet) -> tuple[NetParameter, Source]:
    """The described net, upgraded, as a new message, and its source."""
    param, source = NetParameter(), Source()
    if isinstance(given, Spec):
        given = given.to_proto()
    if isinstance(given, NetParameter):
        param.CopyFrom(given)
    elif is_text(given):
        source = parse(str(given), param, TEXT)
    else:
        return read_net(os.fspath(given))
    _log(upgrade_net(param, source))
    return param, source


def solver_param(given: GivenSolver) -> tuple[SolverParameter, str]:
    """The described solver, upgraded, as a new message, and its place.

    For a file, `snapshot_prefix` has a default; otherwise it has none.
    """
    param, source = SolverParameter(), Source()
    if isinstance(given, SolverParameter):
        param.CopyFrom(given)
    elif is_text(given):
        source = parse(str(given), param, TEXT)
    else:
        param, source = read_solver(os.fspath(given))
        param.snapshot_prefix = default_snapshot_prefix(param, given)
        return param, source.where()
    _log(upgrade_solver(param, source))
    return param, source.where()


def _log(notes: list[str]) -> None:
    for note in notes:
        glog.info(note)
