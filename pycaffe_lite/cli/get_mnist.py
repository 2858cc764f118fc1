"""Fetches MNIST: from a folder, or from the first mirror that has it; unpacked and checked, into data/mnist.

The files are looked for in this order: in the target folder, in the folder given with --from, in the folder in the
environment variable PYCAFFE_LITE_MNIST, on the mirrors. A broken download is continued. Exit status 3 means that MNIST
cannot be fetched; without a network that takes half a minute at most.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

from ..data import mnist
from ..errors import DataError
from . import synthetic_digits
from ._download import CANNOT_FETCH, CannotFetch, answering, fetch, write

GROUP = "data"

# Size in bytes and SHA-256 of the contents of the gzip files, which mirrors compress differently.
FILES = {
    mnist.TRAIN_IMAGES: (47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    mnist.TRAIN_LABELS: (60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    mnist.TEST_IMAGES: (7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    mnist.TEST_LABELS: (10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
MIRRORS = [
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
]
SLACK_BYTES = 1 << 16  # how much larger a gzip file may be than its contents

SYNTHETIC_NOTICE = """
********************************************************************************
*  MNIST COULD NOT BE FETCHED. What follows uses SYNTHETIC DIGITS, drawn by    *
*  pycaffe_lite synthetic_digits. Accuracies are NOT those of MNIST.           *
********************************************************************************
"""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pycaffe_lite get_mnist", description=__doc__.splitlines()[0])
    parser.add_argument("--to", "-to", default="data/mnist", metavar="DIR", help="target folder (default: %(default)s)")
    parser.add_argument("--from", "-from", dest="source", metavar="DIR", help="take the files, gzipped or not, from here")
    parser.add_argument(
        "--or-synthetic", "-or-synthetic", action="store_true", help="where MNIST cannot be fetched, draw digits instead"
    )
    args = parser.parse_args(argv)
    folder = Path(args.to)
    try:
        get(folder, args.source)
    except CannotFetch as error:
        if not args.or_synthetic:
            print(f"error: {error}", file=sys.stderr)
            return CANNOT_FETCH
        print(f"{error}\n{SYNTHETIC_NOTICE}", file=sys.stderr)
        synthetic_digits.write(folder)
    return 0


def get(folder: Path, source: str | None = None) -> None:
    """Puts the four files into `folder`. Raises `DataError` if `source` lacks a file, `CannotFetch` without a network."""
    missing = [name for name in FILES if not _is_right(folder / name, name)]
    folder.mkdir(parents=True, exist_ok=True)
    for place in filter(None, [str(folder), source, os.environ.get("PYCAFFE_LITE_MNIST")]):
        missing = [name for name in missing if not _copy_right_file(Path(place), name, folder)]
        if place == source and missing:
            raise DataError(f"{source}: has no right {', '.join(missing)} (nor .gz)")
    if missing:
        _download(missing, folder)
    (folder / mnist.SYNTHETIC).unlink(missing_ok=True)
    print(f"{folder}: MNIST is there, and right")


# -------------------------------------------------------------------------------------------------- files on this disk
def _is_right(path: Path, name: str) -> bool:
    size, digest = FILES[name]
    if not path.is_file() or path.stat().st_size != size:
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == digest


def _copy_right_file(place: Path, name: str, folder: Path) -> bool:
    """Copies one file from a folder, plain or gzipped, if it is there and right; returns whether it was."""
    if _is_right(place / name, name):
        write(folder / name, (place / name).read_bytes())
        return True
    return (place / f"{name}.gz").is_file() and _unpack(place / f"{name}.gz", name, folder)


def _unpack(archive: Path, name: str, folder: Path) -> bool:
    """Unpacks a gzip file into the folder if its contents are right."""
    size, digest = FILES[name]
    try:
        with gzip.open(archive) as file:
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error):
        return False
    if hashlib.sha256(content).hexdigest() != digest:
        return False
    write(folder / name, content)
    return True


# ------------------------------------------------------------------------------------------------------------- mirrors
def _download(names: Sequence[str], folder: Path) -> None:
    mirrors = answering(MIRRORS, f"{mnist.TEST_LABELS}.gz")
    if not mirrors:
        raise CannotFetch(
            f"MNIST cannot be fetched: none of {len(MIRRORS)} mirrors answers. Put {', '.join(names)} (or .gz) into a "
            "folder and name it with --from, or take drawn digits with --or-synthetic"
        )
    for name in names:
        # The second round continues downloads that broke off in the first.
        if not any(_fetch(mirror, name, folder) for mirror in mirrors * 2):
            raise CannotFetch(f"MNIST cannot be fetched: no mirror gave the right {name}")


def _fetch(mirror: str, name: str, folder: Path) -> bool:
    """Downloads, checks and unpacks one file."""

    def take(part: Path) -> bool:
        right = _unpack(part, name, folder)
        if right:
            part.replace(folder / f"{name}.gz")
        return right

    return fetch(f"{mirror}{name}.gz", folder / f"{name}.gz.part", FILES[name][0] + SLACK_BYTES, take)
