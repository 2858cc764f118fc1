"""Fetches CIFAR-10: from a folder, or from the first mirror that has it; unpacked and checked, into data/cifar10.

These are the six files of the binary version, by Alex Krizhevsky (https://www.cs.toronto.edu/~kriz/cifar.html). They are
looked for in this order: in the target folder, in the folder given with --from, in the folder in the environment variable
PYCAFFE_LITE_CIFAR10, on the mirrors. A folder may have the files or the archive cifar-10-binary.tar.gz. A broken download
is continued. Exit status 3 means that CIFAR-10 cannot be fetched; without a network that takes half a minute at most.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data import cifar10
from ..errors import DataError
from . import synthetic_cifar10
from ._download import CANNOT_FETCH, CannotFetch, answering, fetch, write

GROUP = "data"

# Size in bytes and SHA-256.
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_IS = (170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd")
INSIDE = "cifar-10-batches-bin/"

# Size in bytes and MD5, which only has to tell real files from damaged or drawn ones.
FILES = {
    "data_batch_1.bin": (30730000, "5dd7e06a14cb22eb9f671a540d1b7c25"),
    "data_batch_2.bin": (30730000, "5ea93a67294ea407fff1d09f752e9692"),
    "data_batch_3.bin": (30730000, "942cd6a4bcdd0dd3c604fbe906cb4421"),
    "data_batch_4.bin": (30730000, "ae636b3ba5c66a11e91e8cb52e771fcb"),
    "data_batch_5.bin": (30730000, "53f37980c15c3d472c316c40844f3f0d"),
    "test_batch.bin": (30730000, "803d5f7f4d78ea53de84dbe85f74fb6d"),
}
MIRRORS = [
    "https://www.cs.toronto.edu/~kriz/",
    "https://cave.cs.toronto.edu/kriz/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
]

SYNTHETIC_NOTICE = """
********************************************************************************
*  CIFAR-10 COULD NOT BE FETCHED. What follows uses SYNTHETIC IMAGES, drawn by *
*  pycaffe_lite synthetic_cifar10. Accuracies are NOT those of CIFAR-10.       *
********************************************************************************
"""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pycaffe_lite get_cifar10", description=__doc__.splitlines()[0])
    parser.add_argument("--to", "-to", default="data/cifar10", metavar="DIR", help="target folder (default: %(default)s)")
    parser.add_argument("--from", "-from", dest="source", metavar="DIR", help="take the files, or the archive, from here")
    parser.add_argument(
        "--or-synthetic", "-or-synthetic", action="store_true", help="where it cannot be fetched, draw images instead"
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
        synthetic_cifar10.write(folder)
    return 0


def get(folder: Path, source: str | None = None) -> None:
    """Puts the six files into `folder`. Raises `DataError` if `source` lacks a file, `CannotFetch` without a network."""
    missing = [name for name in FILES if not _is_right(folder / name, *FILES[name], "md5")]
    folder.mkdir(parents=True, exist_ok=True)
    for place in filter(None, [str(folder), source, os.environ.get("PYCAFFE_LITE_CIFAR10")]):
        if missing:
            missing = _copy_right_files(Path(place), missing, folder)
        if place == source and missing:
            raise DataError(f"{source}: has no right {', '.join(missing)} (nor {ARCHIVE})")
    if missing:
        _download(folder)
    (folder / cifar10.SYNTHETIC).unlink(missing_ok=True)
    print(f"{folder}: CIFAR-10 is there, and right")


def _download(folder: Path) -> None:
    mirrors = answering(MIRRORS, ARCHIVE)
    if not mirrors:
        raise CannotFetch(
            f"CIFAR-10 cannot be fetched: none of {len(MIRRORS)} mirrors answers. Put {ARCHIVE} into a folder and name "
            "it with --from, or take drawn images with --or-synthetic"
        )

    def take(part: Path) -> bool:
        right = _unpack(part, folder)
        if right:
            part.unlink()
        return right

    # The second round continues downloads that broke off in the first.
    part = folder / f"{ARCHIVE}.part"
    if not any(fetch(f"{mirror}{ARCHIVE}", part, ARCHIVE_IS[0], take) for mirror in mirrors * 2):
        raise CannotFetch(f"CIFAR-10 cannot be fetched: no mirror gave the right {ARCHIVE}")


def _copy_right_files(place: Path, names: Sequence[str], folder: Path) -> list[str]:
    """Copies the right files from a folder, plain or in the archive. Returns the names that are still missing."""
    missing = []
    for name in names:
        if _is_right(place / name, *FILES[name], "md5"):
            write(folder / name, (place / name).read_bytes())
        else:
            missing.append(name)
    return [] if missing and _unpack(place / ARCHIVE, folder) else missing


def _unpack(archive: Path, folder: Path) -> bool:
    """Unpacks the archive into the folder if it is the right archive."""
    if not _is_right(archive, *ARCHIVE_IS, "sha256"):
        return False
    with tarfile.open(archive, "r:gz") as tar:
        for name in FILES:
            member: Any = tar.extractfile(f"{INSIDE}{name}")
            write(folder / name, member.read())
    return True


def _is_right(path: Path, size: int, digest: str, algorithm: str) -> bool:
    if not path.is_file() or path.stat().st_size != size:
        return False
    checksum = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            checksum.update(chunk)
    return checksum.hexdigest() == digest
