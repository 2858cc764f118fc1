"""What may stand where pycaffe takes the name of a prototxt file: the file, its text, a message or a NetSpec."""

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
    """What describes a net by a message, as a NetSpec does."""

    def to_proto(self) -> NetParameter:
        """The net as a message."""


GivenNet = Path | NetParameter | Spec
GivenSolver = Path | SolverParameter

TEXT = "<text>"  # in place of the file's name in errors


def is_text(given: object) -> bool:
    """Whether this is prototxt text and not the name of a file: a `str` with a line break or a brace."""
    return isinstance(given, str) and ("\n" in given or "{" in given)


def net_param(given: GivenNet) -> tuple[NetParameter, Source]:
    """The net that is described, upgraded, in a message of its own, and where it stands."""
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
    """The solver that is described, upgraded, in a message of its own, and where it stands.

    A file gives the default of `snapshot_prefix`; elsewhere there is none.
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
