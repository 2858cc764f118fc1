"""What is told of kernels that are compiled, since it takes seconds in which nothing else happens."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from .. import glog
from . import cache

_count = 0
_bar: Any = None
_silent = False


def silence() -> None:
    """Says nothing from now on, in this process: another one tells of it."""
    global _silent
    _silent = True


def begin(name: str) -> None:
    """A kernel is compiled from now on. The first one of the process has a line in the log; each has one on a terminal,
    which goes away."""
    global _count, _bar
    if _silent:
        return
    _count += 1
    if _count == 1:
        glog.info(f"Compiling kernels. {_how_often()}")
    if sys.stderr is not None and sys.stderr.isatty():
        from tqdm import tqdm

        _bar = tqdm(bar_format="{desc}", desc=f"compiling kernel {_count}: {name}", leave=False)


def end() -> None:
    """It is compiled, or cannot be."""
    global _bar
    if _bar is not None:
        _bar.close()
        _bar = None


def _how_often() -> str:
    folder = cache.root()
    if _can_be_written(folder):
        return f"This happens once on this machine; they are kept in {folder}"
    hint = f"set {cache.VARIABLES[0]} to a folder that can be written to"
    return f"This happens in every process, as they cannot be kept in {folder}; {hint}"


def _can_be_written(folder: Path) -> bool:
    """Whether files could be made in a folder, which may not be there yet."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK)
