"""Runs scripts and notebooks that were written for pycaffe without changing them."""

from __future__ import annotations

import logging
import os
import re
import runpy
import sys
import traceback
from pathlib import Path
from types import TracebackType

from .. import glog
from ..errors import CaffeError
from .as_caffe import install_as_caffe
from .children import pycaffe_lite_old_names as old_names
from .notebook import run_notebook

# The parser's messages for Python 2 code, and Python 2 lines for which it only says "invalid syntax".
_MESSAGES = (
    "Missing parentheses in call to",
    "multiple exception types must be parenthesized",
    "inconsistent use of tabs",
    "leading zeros in decimal",
)
_LINES = re.compile(
    r"""^\s*print\b\s*[^\s(=]|^\s*raise\s+[\w.]+\s*,|^\s*except\b.+,\s*\w+\s*:|^\s*exec\s|<>|`|\bur['"]|\b\d+L\b"""
)
# Names of Python 2 that are missing when a script runs: builtins, modules, and methods of dicts.
_BUILTINS = ("basestring", "cmp", "execfile", "file", "long", "raw_input", "reduce", "reload", "unichr", "unicode", "xrange")
_MODULES = {"ConfigParser", "HTMLParser", "Queue", "StringIO", "Tkinter", "cPickle", "cStringIO", "commands", "copy_reg"}
_MODULES |= {"httplib", "urllib2", "urlparse", "itertools"}  # itertools exists, but without izip, imap, ifilter
_METHODS = ("has_key", "iteritems", "iterkeys", "itervalues")
_LISTS = re.compile(r"'(dict_(keys|values|items)|map|filter|zip)' (object is not subscriptable|has no len)")  # once lists
# Many scripts load this file from Caffe's folder python/caffe/imagenet.
_MEAN = (
    "the mean image of ImageNet comes with Caffe and not with pycaffe_lite: copy it there, "
    "or set the mean colour instead, np.array([104.007, 116.669, 122.679])"
)


def run(argv: list[str]) -> int:
    """Runs `script.py args...`, `-m module args...` or `notebook.ipynb` with this package as caffe, and returns its status.

    From then on the process is prepared for the script: `sys.argv`, `sys.path`, the names that Python and NumPy have
    removed, and the environment of Python processes that it starts.
    """
    module = argv[:1] == ["-m"]
    script_argv = argv[1:] if module else argv
    if not module and not os.path.exists(script_argv[0]):
        raise CaffeError(f"there is no script {script_argv[0]}")
    _tell_children()
    if not module and script_argv[0].endswith(".ipynb"):
        if script_argv[1:]:
            raise CaffeError(f"a notebook takes no arguments, received {' '.join(script_argv[1:])}")
        return run_notebook(Path(script_argv[0]))
    install_as_caffe()
    old_names.put_back()
    glog.logger.addFilter(_read_environment_once)
    sys.argv = script_argv
    sys.path.insert(0, os.getcwd() if module else os.path.dirname(os.path.realpath(script_argv[0])))
    try:
        if module:
            runpy.run_module(script_argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(script_argv[0], run_name="__main__")
    except SyntaxError as error:
        if not _is_python_2(error):
            raise
        raise CaffeError(f"{error.filename}:{error.lineno}: {_convert(error.msg, error.filename)}") from error
    except Exception as error:  # an error of the script, shown like Python does, without the frames of this file
        frames = _within_script(error.__traceback__)
        traceback.print_exception(type(error), error, frames)
        if _misses_python_2(error):
            print(f"error: {_convert(str(error), _last_file(frames) or script_argv[0])}", file=sys.stderr)
        elif isinstance(error, FileNotFoundError) and os.path.basename(str(error.filename)) == "ilsvrc_2012_mean.npy":
            print(f"error: {_MEAN}", file=sys.stderr)
        return 1
    finally:
        glog.logger.removeFilter(_read_environment_once)
    return 0


def _read_environment_once(record: logging.LogRecord) -> bool:
    """A filter for the first log line: the script may have set `GLOG_...` before it imported this package again."""
    glog.logger.removeFilter(_read_environment_once)
    glog.read_environment()
    return record.levelno >= glog.logger.level


def _tell_children() -> None:
    """Puts the folder `children` on the path of Python processes that this process starts: see sitecustomize.py there."""
    folder, path = str(Path(__file__).with_name("children")), os.environ.get("PYTHONPATH")
    if not path:
        os.environ["PYTHONPATH"] = folder
    elif path.partition(os.pathsep)[0] != folder:
        os.environ["PYTHONPATH"] = f"{folder}{os.pathsep}{path}"


def _convert(message: str, file: str | None) -> str:
    return (
        f"this is Python 2, which ended in 2020 ({message}); "
        f"convert it with: pip install fissix && python -m fissix -w {file or 'script.py'}"
    )


def _is_python_2(error: SyntaxError) -> bool:
    return error.msg.startswith(_MESSAGES) or bool(_LINES.search(error.text or ""))


def _misses_python_2(error: Exception) -> bool:
    """Whether a script that Python 3 could parse failed at a name that only Python 2 has."""
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
    """The file of the line that raised the error."""
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return frames.tb_frame.f_code.co_filename if frames is not None else None
