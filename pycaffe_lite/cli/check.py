"""Checks net and solver prototxts, without data or weights, and reports their errors at once, each with its line.

    pycaffe_lite check solver.prototxt net.prototxt

A solver is checked with its nets. A net is checked in both phases, or in one phase if it has data only there. If the
data are present, their shapes are used and their items are counted; else the prototxt gives the shapes, and what depends on
unknown shapes is not checked. After an error of syntax the check reads on: of a layer that was not read completely it checks
type and bottoms, and it reports nothing that only follows from another error. No module of a Python layer is imported,
except those of --import; no weights are filled.

Warnings are about nets that run, but probably not as intended: a blob that no layer reads, missing data, a learning rate of
zero, a test that does not cover its data. The exit status is 1 if there are errors.
"""

from __future__ import annotations

import argparse

from .. import glog
from ..blob import shape_text
from ..check import Findings, check
from ..check.net import Row
from ..proto.caffe_pb2 import TEST, TRAIN
from ._flags import add_import_flag, import_types

GROUP = "look"

PHASES = {"TRAIN": [TRAIN], "TEST": [TEST], "ALL": [TRAIN, TEST]}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="pycaffe_lite check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="prototxt of a net or of a solver")
    add_import_flag(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="show the shapes of all blobs")
    parser.add_argument("--phase", default="ALL", choices=PHASES, help="check nets in this phase (default: ALL)")
    parser.add_argument("--level", type=int, default=0, metavar="N", help="level of the nets' state (default: 0)")
    parser.add_argument("--stage", default="", metavar="NAMES", help="stages of the nets' state, with commas")
    args = parser.parse_args(argv)
    import_types(args)

    failed = False
    before = glog.logger.level
    glog.set_min_level(3)
    try:
        for file in args.files:
            findings, tables = check(file, PHASES[args.phase], args.level, list(filter(None, args.stage.split(","))))
            failed |= bool(findings.errors)
            _report(file, findings, tables if args.verbose else {})
    finally:
        glog.logger.setLevel(before)
    return int(failed)


def _report(file: str, findings: Findings, tables: dict[str, list[Row]]) -> None:
    for title, rows in tables.items():
        print(f"{title}:")
        widths = [max((len(row[:3][i]) for row in rows), default=0) for i in range(3)]
        for row in rows:
            cells = "  ".join(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True))
            print(f"  {cells}  {'unknown' if row.shape is None else shape_text(row.shape)}")
    for line in findings.lines():
        print(line)
    counts = [_count(len(findings.errors), "error"), _count(len(findings.warnings), "warning")]
    print(f"{file}: {', '.join(counts)}")


def _count(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'s' if count != 1 else ''}"
