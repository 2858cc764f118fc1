"""Shared by the commands that upgrade old nets and solvers to the present format."""

from __future__ import annotations

from .. import glog
from ..proto.upgrade import LostField
from ._arguments import ArgumentFlags


def paths(command: str, doc: str, argv: list[str]) -> tuple[str, str]:
    """The two arguments of such a command."""
    flags = ArgumentFlags(command, doc)
    flags.add_argument("IN", help="file of any age")
    flags.add_argument("OUT", help="file to write; may be the same")
    values = flags.parse(argv)
    return values.IN, values.OUT


def report(path: str, notes: list[str]) -> int:
    """Logs what was upgraded, and returns the exit status: 1 if a field was lost, as in Caffe."""
    if not notes:
        glog.info(f"File already in latest proto format: {path}")
    lost = [note for note in notes if isinstance(note, LostField)]
    for note in notes:
        (glog.warning if isinstance(note, LostField) else glog.info)(f"{path}: {note}")
    if lost:
        glog.error(f"{path}: {len(lost)} fields have no place in the new format, see above")
    return 1 if lost else 0
