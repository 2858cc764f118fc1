"""Run a pycaffe script without changing it: pycaffe_lite run script.py args...

`pycaffe_lite run -m module args...` runs a module.

In that process `import caffe` (and `caffe.io`, `caffe.proto.caffe_pb2`, ...) means pycaffe_lite.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
import traceback
from types import TracebackType

from .. import install_as_caffe
from ..errors import CaffeError

# What the parser of Python 3 says to Python 2, and what its lines look like where it says no more than "invalid syntax".
_MESSAGES = (
    "Missing parentheses in call to",
    "multiple exception types must be parenthesized",
    "inconsistent use of tabs",
    "leading zeros in decimal",
)
_LINES = re.compile(
    r"""^\s*print\b\s*[^\s(=]|^\s*raise\s+[\w.]+\s*,|^\s*except\b.+,\s*\w+\s*:|^\s*exec\s|<>|`|\bur['"]|\b\d+L\b"""
)


def main(argv: list[str]) -> int:
    module = argv[:1] == ["-m"]
    rest = argv[1:] if module else argv
    if not rest or rest[0] in ("-h", "-help", "--help"):
        print(__doc__, file=sys.stdout if rest else sys.stderr)
        return 0 if rest else 2
    if not module and not os.path.exists(rest[0]):
        raise CaffeError(f"there is no script {rest[0]}")
    install_as_caffe()
    sys.argv = rest
    sys.path.insert(0, os.getcwd() if module else os.path.dirname(os.path.realpath(rest[0])))
    try:
        if module:
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(rest[0], run_name="__main__")
    except SyntaxError as error:
        if not _is_python_2(error):
            raise
        raise CaffeError(
            f"{error.filename}:{error.lineno}: this is Python 2, which ended in 2020 ({error.msg}); "
            f"convert it with: pip install fissix && python -m fissix -w {error.filename}"
        ) from error
    except Exception as error:  # the script's own: shown as Python shows it, but without what ran the script
        traceback.print_exception(type(error), error, _within_script(error.__traceback__))
        return 1
    return 0


def _is_python_2(error: SyntaxError) -> bool:
    return error.msg.startswith(_MESSAGES) or bool(_LINES.search(error.text or ""))


def _within_script(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_globals.get("__name__") in (__name__, "runpy"):
        frames = frames.tb_next
    return frames
