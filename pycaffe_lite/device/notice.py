"""Tells the user that kernels are being compiled, which may take seconds."""

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
    """Turns the notices off in this process, because another process shows them."""
    global _silent
    _silent = True


def begin(name: str) -> None:
    """The compilation of a kernel begins. The first one in a process is logged. A terminal shows each one in a line that is
    removed afterwards."""
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
    """The compilation has ended, or failed."""
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
    """Whether files can be created in a folder, which may not exist yet."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK)
