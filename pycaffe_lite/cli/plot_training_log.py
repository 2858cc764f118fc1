"""Plots losses, accuracy or learning rate from training logs.

    pycaffe_lite plot_training_log 6 loss.png first.log second.log

The chart types are those of Caffe's tools/extra/plot_training_log.py, and `losses`: a picture of one or more runs with
training loss, test loss and, if it changes, the learning rate. Several logs are drawn in one picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from ..errors import CaffeError, did_you_mean
from ..plots.figure import check_format, save
from ..plots.training_curves import CHART_TYPES, LOSSES, plot
from ..plots.training_log import parse

GROUP = "look"


def main(argv: list[str]) -> int:
    kinds = "\n".join(f"  {number}: {name}" for number, name in enumerate(CHART_TYPES))
    parser = argparse.ArgumentParser(
        prog="pycaffe_lite plot_training_log",
        description=__doc__,
        epilog=f"chart types:\n{kinds}\n  {LOSSES}: training loss, test loss and learning rate vs. Iters",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("chart_type", help=f"0 to {len(CHART_TYPES) - 1}, or {LOSSES}")
    parser.add_argument("output", help="image to write (.png, .pdf, .svg)")
    parser.add_argument("logs", nargs="+", help="training logs, of this package or of Caffe")
    parser.add_argument("--title", help="title instead of the chart type")
    parser.add_argument("--note", help='a remark beside the title, such as "synthetic digits"')
    args = parser.parse_args(argv)

    kind = _chart_type(args.chart_type)
    check_format(args.output)
    logs = {name: parse(Path(path).read_text("utf-8", "replace")) for name, path in _names(args.logs)}
    save(plot(kind, logs, args.title, args.note), args.output)
    return 0


def _chart_type(text: str) -> str:
    if text == LOSSES:
        return text
    if text.isascii() and text.isdigit() and int(text) < len(CHART_TYPES):
        return CHART_TYPES[int(text)]
    hint = did_you_mean(text, [LOSSES])
    raise CaffeError(f'chart type is "{text}", expected 0 to {len(CHART_TYPES) - 1}, or {LOSSES}{hint}')


def _names(paths: list[str]) -> Iterator[tuple[str, str]]:
    """Short names for the legend; the whole path if two logs have the same file name."""
    stems = [Path(path).stem for path in paths]
    for stem, path in zip(stems, paths, strict=True):
        yield (stem if stems.count(stem) == 1 else path), path
