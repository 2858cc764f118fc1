"""Draws handwritten-looking digits into files like those of MNIST, for machines that cannot download MNIST.

The same seed gives the same files. `data/synthetic_digits.py` describes how they are drawn.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..data import synthetic_digits

GROUP = "data"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pycaffe_lite synthetic_digits", description=__doc__.splitlines()[0])
    parser.add_argument("--to", "-to", default="data/mnist", metavar="DIR", help="folder (default: %(default)s)")
    parser.add_argument("--seed", "-seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--train", "-train", type=int, default=60_000, help="training images (default: %(default)s)")
    parser.add_argument("--test", "-test", type=int, default=10_000, help="test images (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.seed < 0 or args.train < 1 or args.test < 1:
        parser.error("--seed must not be negative, and --train and --test must be 1 or more")
    write(Path(args.to), args.seed, args.train, args.test)
    return 0


def write(folder: Path, seed: int = 1, train: int = 60_000, test: int = 10_000) -> None:
    """Writes the files under their names in MNIST, and says that they are drawn."""
    synthetic_digits.write(folder, seed, train, test)
    print(f"{folder}: {train} + {test} synthetic digits (not MNIST)", file=sys.stderr)
