"""The command line: `pycaffe_lite <command> ...`, `python -m pycaffe_lite ...`, and the thin scripts under `tools/`.

A command is a module of this folder with a docstring, whose first line is its help, `GROUP`, the heading in `GROUPS` under
which the help lists it, and `main(argv) -> int`, its exit status. A failure is reported in one line on stderr, with a status
other than zero; `--traceback` shows where it arose.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import resources
from typing import NamedTuple

from .. import glog
from ..compat.python_2 import converted_imports
from ..errors import CaffeError, did_you_mean

GROUPS = ("train and test", "look", "data", "convert", "Caffe's old tools", "ours")


def command_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def main(argv: list[str] | None = None) -> int:
    """Runs the command that `argv` names. As in Caffe, flags may also precede the command."""
    argv = list(sys.argv[1:] if argv is None else argv)
    names = command_names()
    if not argv or argv[0] in ("-h", "-help", "--help", "help"):
        print(_usage(names))
        return 0
    if argv[0] in ("-version", "--version"):
        from .. import __version__

        print(f"pycaffe_lite {__version__}")
        return 0
    at = next((i for i, word in enumerate(argv) if word in names), None)
    if at is None or not (at == 0 or argv[0].startswith("-")):
        received = f'"{argv[0]}"{did_you_mean(argv[0], names)}' if not argv[0].startswith("-") else f"among {' '.join(argv)}"
        print(f"pycaffe_lite: no command {received}\n\n{_usage(names)}", file=sys.stderr)
        return 2
    name = argv.pop(at)
    end = len(argv)
    if name == "run":  # flags after the script are for the script, even --traceback
        end = next((i for i, word in enumerate(argv) if word == "-m" or not word.startswith("-")), end)
    with nullcontext() if name == "run" else _loads_layers():  # a script has the process for itself
        return call(lambda rest: importlib.import_module(f"{__name__}.{name}").main([*rest, *argv[end:]]), argv[:end])


@contextmanager
def _loads_layers() -> Iterator[None]:
    """Restores `sys.path`, to which the modules of layers and solvers may add folders, and converts those in Python 2."""
    before = list(sys.path)
    try:
        with converted_imports():
            yield
    finally:
        sys.path[:] = before


def call(command: Callable[[list[str]], int | None], argv: list[str] | None = None) -> int:
    """Runs one command's `main`, reports every expected failure in one line, and returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    traceback = any(word in ("--traceback", "-traceback") for word in argv)
    argv = [word for word in argv if word not in ("--traceback", "-traceback")]
    try:
        with glog.kept_settings():  # the log flags are for this command only
            return command(argv) or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (CaffeError, OSError, MemoryError) as error:
        if traceback:
            raise
        print(f"error: {str(error) or type(error).__name__}", file=sys.stderr)
        return 1


def _usage(names: list[str]) -> str:
    width = max(map(len, names))
    about = {name: describe(name) for name in names}
    lines = ["usage: pycaffe_lite <command> [flags]", ""]
    for group in GROUPS:
        lines += [
            f"{group}:",
            *(f"  {name:<{width}}  {about[name].summary}" for name in names if about[name].group == group),
            "",
        ]
    return "\n".join([*lines, "pycaffe_lite <command> --help says more."])


class About(NamedTuple):
    """What the help says of a command: the group under which it is listed, and the first line of its docstring."""

    group: str
    summary: str


def describe(name: str) -> About:
    """What the help says of a command, read without importing the command and its imports."""
    tree = ast.parse(resources.files(__name__).joinpath(f"{name}.py").read_text("utf-8"))
    groups = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign) and _assigns_group(node)]
    return About(groups[0], (ast.get_docstring(tree) or "").partition("\n")[0])


def _assigns_group(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "GROUP" for target in node.targets)
