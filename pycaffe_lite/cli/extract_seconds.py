"""Writes the seconds of each iteration line of a training log, counted from the line that says "Solving".

The arguments, and the output of one number per line, are those of Caffe's tools/extra/extract_seconds.py. Seconds continue
past New Year.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import DataError
from ..files import atomic_write
from ..plots.training_log import Clock

GROUP = "Caffe's old tools"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pycaffe_lite extract_seconds", description=__doc__)
    parser.add_argument("input_file", help="training log, of this package or of Caffe")
    parser.add_argument("output_file", help="text file to write")
    args = parser.parse_args(argv)

    seconds = extract_seconds(Path(args.input_file).read_text("utf-8", "replace"))
    if not seconds:
        raise DataError(f'{args.input_file}: no line has both a time stamp and "Iteration"')
    with atomic_write(args.output_file) as temporary:
        temporary.write_text("".join(f"{value:f}\n" for value in seconds), encoding="utf-8")
    return 0


def extract_seconds(text: str) -> list[float]:
    """The seconds of all lines with "Iteration"; lines without a stamp are skipped until the first stamp."""
    clock = Clock()
    seconds = []
    for line in text.splitlines():
        clock.see(line)
        if "Iteration" in line and clock.seconds is not None:
            seconds.append(clock.seconds)
    return seconds
