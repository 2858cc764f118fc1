"""Caffe's formats: the schema (`caffe_pb2`), prototxt text, upgrades of old nets, and model files."""

from __future__ import annotations

import os

from .. import glog
from .caffe_pb2 import NetParameter, SolverParameter
from .prototxt import read
from .source import Source
from .upgrade import upgrade_net, upgrade_solver


def read_net(path: str | os.PathLike) -> tuple[NetParameter, Source]:
    """Reads a net of any age from a prototxt file, and logs what had to be upgraded.

    Raises PrototxtError if the file cannot be read or its text is invalid, NetError for an old net that makes no sense.
    """
    net = NetParameter()
    source = read(path, net)
    _log(source, upgrade_net(net, source))
    return net, source


def read_solver(path: str | os.PathLike) -> tuple[SolverParameter, Source]:
    """Reads a solver of any age from a prototxt file, and logs what had to be upgraded.

    Raises PrototxtError if the file cannot be read or its text is invalid, SolverError if it names its type twice.
    """
    solver = SolverParameter()
    source = read(path, solver)
    _log(source, upgrade_solver(solver, source))
    return solver, source


def _log(source: Source, notes: list[str]) -> None:
    for note in notes:
        glog.info(f"{source.name}: {note}")
