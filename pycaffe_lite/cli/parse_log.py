"""Writes the rows of a training log into two CSV files, one for training and one for tests.

    pycaffe_lite parse_log train.log folder

makes folder/train.log.train and folder/train.log.test, with the columns NumIters, Seconds, LearningRate and one for each
output of the net, like Caffe's tools/extra/parse_log.py. Seconds count from the line that says "Solving". LearningRate is
the last rate in the log before the row; the first row has the rate of the second.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
from pathlib import Path

from ..errors import DataError
from ..files import atomic_write
from ..plots.training_log import Clock

GROUP = "Caffe's old tools"

COLUMNS = ("NumIters", "Seconds", "LearningRate")

Row = dict[str, float]

_ITERATION = re.compile(r"Iteration (\d+)")
_RATE = re.compile(r"Iteration \d+, lr = ([-+.\deE]+)")
_OUTPUT = re.compile(r"(Train|Test) net output #\d+: (\S+) = (\S+)")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="pycaffe_lite parse_log", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("logfile_path", help="training log, of this package or of Caffe")
    parser.add_argument("output_dir", help="folder for the CSV files")
    parser.add_argument("--verbose", action="store_true", help="say what is written")
    parser.add_argument("--delimiter", default=",", help="character between columns (default: ,)")
    args = parser.parse_args(argv)
    if len(args.delimiter) != 1:
        raise DataError(f'expected one character as delimiter, received "{args.delimiter}"')

    log = Path(args.logfile_path)
    tables = parse_log(log.read_text("utf-8", "replace"))
    if not any(tables.values()):
        raise DataError(f"{log}: has no outputs of a net; is it the log of a training that displays or tests?")
    for kind, rows in tables.items():
        path = Path(args.output_dir) / f"{log.name}.{kind}"
        if rows:
            _write(path, rows, args.delimiter)
        if args.verbose:
            print(f"Wrote {path}" if rows else f"Not writing {path}; no lines to write")
    return 0


def parse_log(text: str) -> dict[str, list[Row]]:
    """The rows of a log in order: `train`, and `test`. Nets that are tested one after the other share a row as long as
    their outputs have different names. Values that are incomplete or not numbers become NaN."""
    tables: dict[str, list[Row]] = {"train": [], "test": []}
    clock, iteration, rate = Clock(), -1, math.nan
    announced = True  # whether a line with "Iteration" has come since the last output
    for line in text.splitlines():
        clock.see(line)
        if match := _ITERATION.search(line):
            iteration, announced = int(match[1]), True
        if match := _RATE.search(line):
            rate = _number(match[1])
        if iteration < 0 or not (match := _OUTPUT.search(line)):
            continue
        rows, name = tables[match[1].lower()], match[2]
        if not rows or rows[-1]["NumIters"] != iteration or (announced and name in rows[-1]):
            seconds = math.nan if clock.seconds is None else clock.seconds
            rows.append({"NumIters": float(iteration), "Seconds": seconds, "LearningRate": rate})
        rows[-1][name] = _number(match[3])
        announced = False
    for rows in tables.values():
        if len(rows) > 1:
            rows[0]["LearningRate"] = rows[1]["LearningRate"]
    return tables


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _write(path: Path, rows: list[Row], delimiter: str) -> None:
    names = dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)])
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(names), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
