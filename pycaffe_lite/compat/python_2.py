"""Code in Python 2 that scripts and nets load is converted in memory, and the log says so."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager

from .. import glog
from .children import pycaffe_lite_python_2 as python_2


def convert_from_now_on() -> None:
    """In this process, modules and scripts in Python 2 are converted when they are imported or run by `runpy`."""
    python_2.install(_tell)


def converted_imports() -> AbstractContextManager[None]:
    """In the block modules in Python 2, such as those of Python layers, are converted when they are imported."""
    return python_2.imports_python_2(_tell)


def neither(error: SyntaxError) -> str:
    """What is wrong with a text that could not be converted, since it is no Python 2 either."""
    return f"{error.msg} (neither Python {sys.version_info[0]}.{sys.version_info[1]} nor Python 2 takes this)"


def _tell(path: str, why: str) -> None:
    glog.info(f"{os.path.relpath(path)} is Python 2 ({why}), converted in memory")
