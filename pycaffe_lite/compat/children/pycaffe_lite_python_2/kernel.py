"""An extension of IPython: the cells of a notebook in Python 2 are converted when they run. Magics stay as they are."""

from __future__ import annotations

from typing import Any

from .conversion import Conversion, with_spaces
from .meaning import BUILTINS


def load_ipython_extension(shell: Any) -> None:
    """IPython calls this when it loads the extension."""
    conversion = Conversion()
    shell.user_ns["__builtins__"] = {**BUILTINS, "get_ipython": lambda: shell}
    # before IPython looks for magics, which it cannot do among tabs that Python 3 refuses
    shell.input_transformers_cleanup.append(lambda lines: with_spaces("".join(lines)).splitlines(keepends=True))
    shell.input_transformers_post.append(lambda lines: conversion.text("".join(lines)).splitlines(keepends=True))
    shell.ast_transformers.append(conversion)
