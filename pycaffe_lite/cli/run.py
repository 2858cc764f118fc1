"""Run a pycaffe script without changing it: pycaffe_lite run script.py args...

`pycaffe_lite run -m module args...` runs a module.

In that process `import caffe` (and `caffe.io`, `caffe.proto.caffe_pb2`, ...) means pycaffe_lite.

Flags of the log stand before the script: -minloglevel, -logtostderr, -alsologtostderr, -stderrthreshold, -log_dir; so do
they in the environment: GLOG_minloglevel=2.
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
from ._flags import Flags

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
# Names of Python 2 that a script misses when it runs: builtins, modules, and methods of dicts.
_BUILTINS = ("basestring", "cmp", "execfile", "file", "long", "raw_input", "reduce", "reload", "unichr", "unicode", "xrange")
_MODULES = {"ConfigParser", "HTMLParser", "Queue", "StringIO", "Tkinter", "cPickle", "cStringIO", "commands", "copy_reg"}
_MODULES |= {"httplib", "urllib2", "urlparse", "itertools"}  # the last one is there, but without izip, imap, ifilter
_METHODS = ("has_key", "iteritems", "iterkeys", "itervalues")
_LISTS = re.compile(r"'(dict_(keys|values|items)|map|filter|zip)' (object is not subscriptable|has no len)")  # they were


def main(argv: list[str]) -> int:
    argv = _obey_log_flags(argv)
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
        raise CaffeError(f"{error.filename}:{error.lineno}: {_convert(error.msg, error.filename)}") from error
    except Exception as error:  # the script's own: shown as Python shows it, but without what ran the script
        frames = _within_script(error.__traceback__)
        traceback.print_exception(type(error), error, frames)
        if _misses_python_2(error):
            print(f"error: {_convert(str(error), _last_file(frames) or rest[0])}", file=sys.stderr)
        return 1
    return 0


def _obey_log_flags(argv: list[str]) -> list[str]:
    """Obeys the flags in front of the script and returns the rest."""
    at = 0
    while at < len(argv) and argv[at].startswith("-") and argv[at] not in ("-m", "-h", "-help", "--help"):
        alone = "=" in argv[at] or argv[at].endswith("logtostderr")
        at += 1 if alone else 2
    Flags("run", __doc__).parse(argv[:at])
    return argv[at:]


def _convert(what: str, file: str | None) -> str:
    return (
        f"this is Python 2, which ended in 2020 ({what}); "
        f"convert it with: pip install fissix && python -m fissix -w {file or 'script.py'}"
    )


def _is_python_2(error: SyntaxError) -> bool:
    return error.msg.startswith(_MESSAGES) or bool(_LINES.search(error.text or ""))


def _misses_python_2(error: Exception) -> bool:
    """Whether a script that Python 3 could read stopped at a name that only Python 2 has."""
    if isinstance(error, ImportError):
        return error.name in _MODULES
    if isinstance(error, AttributeError):
        return error.name in _METHODS and isinstance(error.obj, dict)
    if isinstance(error, TypeError):
        return bool(_LISTS.search(str(error)))
    return isinstance(error, NameError) and error.name in _BUILTINS


def _within_script(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_globals.get("__name__") in (__name__, "runpy"):
        frames = frames.tb_next
    return frames


def _last_file(frames: TracebackType | None) -> str | None:
    """The file of the line that failed."""
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return frames.tb_frame.f_code.co_filename if frames is not None else None
