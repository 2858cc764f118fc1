"""Draws coloured shapes and textures into files like those of CIFAR-10, for machines that cannot download CIFAR-10.

The same seed gives the same files. `data/synthetic_cifar10.py` describes the drawings.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..data import cifar10, synthetic_cifar10

GROUP = "data"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pycaffe_lite synthetic_cifar10", description=__doc__.splitlines()[0])
    parser.add_argument("--to", "-to", default="data/cifar10", metavar="DIR", help="folder (default: %(default)s)")
    parser.add_argument("--seed", "-seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--train", "-train", type=int, default=50_000, help="training images (default: %(default)s)")
    parser.add_argument("--test", "-test", type=int, default=10_000, help="test images (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.seed < 0 or args.train < len(cifar10.TRAIN_FILES) or args.test < 1:
        parser.error("--seed must not be negative, --train must be 5 or more, and --test 1 or more")
    write(Path(args.to), args.seed, args.train, args.test)
    return 0


def write(folder: Path, seed: int = 1, train: int = 50_000, test: int = 10_000) -> None:
    """Writes the files under their names in CIFAR-10, and says that they are drawn."""
    synthetic_cifar10.write(folder, seed, train, test)
    print(f"{folder}: {train} + {test} synthetic images (not CIFAR-10)", file=sys.stderr)
