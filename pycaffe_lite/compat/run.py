"""Runs scripts and notebooks that were written for pycaffe without changing them."""

from __future__ import annotations

import logging
import os
import re
import runpy
import sys
import traceback
from collections.abc import ItemsView, KeysView, ValuesView
from pathlib import Path
from types import FrameType, TracebackType

from .. import glog
from ..errors import CaffeError, Place
from .as_caffe import install_as_caffe
from .children import pycaffe_lite_old_names as old_names
from .children import pycaffe_lite_python_2 as python_2
from .children.pycaffe_lite_python_2.evidence import BUILTINS
from .children.pycaffe_lite_python_2.meaning import MODULES
from .notebook import run_notebook
from .python_2 import convert_from_now_on, neither

_LAZY = (map, filter, zip, range, KeysView, ValuesView, ItemsView)  # once lists
_METHODS = ("has_key", "iteritems", "iterkeys", "itervalues")  # of dicts in Python 2
_LISTS = re.compile(r"'(dict_(keys|values|items)|map|filter|zip)' (object is not subscriptable|has no len)")
# Many scripts load this file from Caffe's folder python/caffe/imagenet.
_MEAN = (
    "the mean image of ImageNet comes with Caffe and not with pycaffe_lite: copy it there, "
    "or set the mean colour instead, np.array([104.007, 116.669, 122.679])"
)


def run(argv: list[str]) -> int:
    """Runs `script.py args...`, `-m module args...` or `notebook.ipynb` with this package as caffe, and returns its status.

    From then on the process is prepared for the script: `sys.argv`, `sys.path`, the names that Python and NumPy have
    removed, the conversion of Python 2, and the environment of Python processes that it starts.
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
    convert_from_now_on()
    glog.logger.addFilter(_read_environment_once)
    sys.argv = script_argv
    sys.path.insert(0, os.getcwd() if module else os.path.dirname(os.path.realpath(script_argv[0])))
    try:
        if module:
            init_globals = python_2.globals_of_main(script_argv[0])
            runpy.run_module(script_argv[0], init_globals, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(script_argv[0], run_name="__main__")
    except Exception as error:  # an error of the script, shown like Python does, without the frames of this file
        if isinstance(error, SyntaxError) and os.path.isfile(error.filename or ""):
            raise CaffeError(neither(error), Place(error.filename or "", error.lineno or 0)) from error
        frames = _within_script(error.__traceback__)
        traceback.print_exception(type(error), error, frames)
        if _misses_python_2(error) and not _is_converted(frames):
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


def _convert(message: str, file: str) -> str:
    return f"this is Python 2, which ended in 2020 ({message}); convert it with: python -m fissix -w {file}"


def _misses_python_2(error: Exception) -> bool:
    """Whether a script that seemed to be Python 3 failed at something that only Python 2 has."""
    if isinstance(error, ImportError):
        return error.name in MODULES
    if isinstance(error, AttributeError):
        return isinstance(error.obj, _LAZY) or (error.name in _METHODS and isinstance(error.obj, dict))
    if isinstance(error, TypeError):
        return bool(_LISTS.search(str(error)))
    return isinstance(error, NameError) and error.name in BUILTINS


def _is_converted(frames: TracebackType | None) -> bool:
    frame = _last(frames)
    return frame is not None and "__divide__" in frame.tb_frame.f_builtins


def _within_script(frames: TracebackType | None) -> TracebackType | None:
    """The frames without those of what loads and runs scripts and modules."""
    kept = []
    while frames is not None:
        kept += [] if _is_ours(frames.tb_frame) else [frames]
        frames = frames.tb_next
    for frame, following in zip(kept, [*kept[1:], None]):
        frame.tb_next = following
    return kept[0] if kept else None


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__", "")
    return name in (__name__, "runpy", "importlib._bootstrap") or name.startswith(python_2.__name__)


def _last(frames: TracebackType | None) -> TracebackType | None:
    """The frame that raised the error."""
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return frames


def _last_file(frames: TracebackType | None) -> str | None:
    frame = _last(frames)
    return frame.tb_frame.f_code.co_filename if frame is not None else None
