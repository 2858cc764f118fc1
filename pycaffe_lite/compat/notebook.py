"""Executes a Jupyter notebook in its own folder, as `jupyter nbconvert --execute --to notebook` does."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

from .. import glog
from ..errors import CaffeError
from .children.pycaffe_lite_python_2.evidence import parse, why_tree_is_python_2
from .python_2 import neither

_EXTENSION = "pycaffe_lite_python_2.kernel"  # which the kernel has loaded by its name: see sitecustomize.py
# Magics whose cells are Python.
_PYTHON_CELL = re.compile(r"^%%(capture|prun|time|timeit)\b.*\n")
# Hides warnings about the connection to this process, which stays on this machine.
_KERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def run_notebook(path: Path) -> int:
    """Runs all cells, shows which cell runs and what it prints, and writes `<name>.nbconvert.ipynb` beside the notebook.

    If a cell fails, it stops, writes the notebook as it is, and returns 1. It always uses this Python as the kernel,
    because the kernels that old notebooks name (Python 2, an environment of the author) are rarely installed. The cells of a
    notebook in Python 2 are converted as they run. Raises CaffeError, before any cell runs, if one is no Python at all.
    """
    try:
        import ipykernel  # noqa: F401  which nbclient starts
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, DeadKernelError
    except ImportError as error:
        message = f"a notebook needs nbclient and ipykernel ({error}): pip install nbclient ipykernel"
        raise CaffeError(message) from error
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:  # errors of JSON and nbformat, and those that other JSON content causes
        raise CaffeError(f"{path} is no notebook ({type(error).__name__}: {str(error)[:100]})") from error
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    kernel = [*_KERNEL, f"--ext={_EXTENSION}"] if _is_python_2(path, cells) else _KERNEL
    progress = _Progress(len(cells))
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.resolve().parent)}},
        on_cell_execute=progress.begin,
        on_cell_executed=progress.end,
    )
    # replaces the kernel that this user has installed as "python3"
    client.create_kernel_manager().kernel_spec.argv[:] = kernel  # type: ignore[union-attr]
    written = path.with_suffix(".nbconvert.ipynb")
    try:
        client.execute()
        return 0
    except CellExecutionError as error:
        print(str(error) if sys.stderr.isatty() else _COLOURS.sub("", str(error)), file=sys.stderr)
        return 1
    except DeadKernelError as error:
        raise CaffeError(f"{path}: the kernel died in cell {progress.at} of {progress.count}") from error
    finally:
        nbformat.write(notebook, written)
        print(f"wrote {written}")


def _is_python_2(path: Path, cells: list[str]) -> bool:
    """Whether one of the cells is Python 2, and so the notebook. Says so in the log."""
    from .children.pycaffe_lite_python_2.conversion import Conversion, with_spaces

    cells = [_PYTHON_CELL.sub("\n", cell) for cell in cells]
    why = _why_python_2(cells)
    if why is None:
        return False
    conversion = Conversion()
    for at, cell in enumerate(cells, 1):
        try:
            conversion.tree(_without_magics(with_spaces(cell)))
        except SyntaxError as error:
            raise CaffeError(f"cell {at} of {len(cells)}, line {error.lineno}: {neither(error)}", str(path)) from error
    glog.info(f"{path} is Python 2 ({why}), its cells are converted as they run")
    return True


def _why_python_2(cells: list[str]) -> str | None:
    program = ast.Module([], [])
    for at, cell in enumerate(cells, 1):
        try:
            program.body += parse(_without_magics(cell)).body
        except SyntaxError as error:
            return f"cell {at}: {error.msg}"
    why = why_tree_is_python_2(program)
    return why and why.partition(": ")[2]


def _without_magics(cell: str) -> str:
    """A cell as IPython gives it to Python. Raises SyntaxError if it cannot find the magics."""
    from IPython.core.inputtransformer2 import TransformerManager

    return str(TransformerManager().transform_cell(cell))


class _Progress:
    """Prints a line for each code cell, and the output of the cell."""

    def __init__(self, count: int):
        self.at, self.count = 0, count

    def begin(self, cell: Any, cell_index: int) -> None:
        self.at += 1
        print(f"[{self.at}/{self.count}] {cell.source.strip().splitlines()[0]}", flush=True)

    def end(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        for output in cell.outputs:
            if output.output_type == "stream":
                print(output.text, end="", file=getattr(sys, output.name), flush=True)
