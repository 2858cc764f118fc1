"""Bring the prototxt of a solver into the present format: pycaffe_lite upgrade_solver_proto_text IN OUT

Nets inside the solver are upgraded as well, as in Caffe's tools/upgrade_solver_proto_text.cpp. Comments are lost.
"""

from __future__ import annotations

from .. import glog
from ..files import atomic_write
from ..proto import prototxt
from ..proto.caffe_pb2 import SolverParameter
from ..proto.upgrade import upgrade_solver
from . import _upgrade

GROUP = "convert"


def main(argv: list[str]) -> int:
    source, target = _upgrade.paths("upgrade_solver_proto_text", __doc__, argv)
    solver = SolverParameter()
    status = _upgrade.report(source, upgrade_solver(solver, prototxt.read(source, solver)))
    with atomic_write(target) as temporary:
        temporary.write_text(prototxt.to_text(solver), "utf-8")
    glog.info(f"Wrote upgraded SolverParameter text proto to {target}")
    return status
