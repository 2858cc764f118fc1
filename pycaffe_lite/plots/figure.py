"""Figures of the plot commands: Matplotlib without its global state, so that plots work in threads and without a display."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..errors import CaffeError

DPI = 130


def new_axes(width: float, height: float) -> Axes:
    """The axes of a new figure; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.grid(color="#e5e8ea", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def set_titles(axes: Axes, title: str, note: str | None) -> None:
    """The title on the left, and on the right a conspicuous note in red."""
    axes.set_title(title, loc="left", fontweight="bold", parse_math=False)
    if note:
        axes.set_title(note, loc="right", color="#a33333", fontsize=10, parse_math=False)


def check_format(path: str) -> None:
    """Raises CaffeError if the file's extension is not an image format, before the work for it begins."""
    formats = FigureCanvasAgg.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in formats:
        raise CaffeError(f'"{path}" does not end in an image format: use one of {", ".join(sorted(formats))}')


def save(axes: Axes, path: str) -> None:
    """Writes the picture and prints its path."""
    axes.get_figure(root=True).savefig(path, dpi=DPI)  # type: ignore[union-attr]
    print(f"Wrote {path}")
