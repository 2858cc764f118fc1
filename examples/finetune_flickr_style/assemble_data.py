"""Assembles images with labels for fine-tuning: fetched from a list, taken from a folder, or drawn.

    python assemble_data.py --list flickr_style.csv.gz --images=2000 --workers=8 --seed=831486
    python assemble_data.py --folder my_photos
    python assemble_data.py --synthetic --images=100

Writes train.txt and test.txt, a path and a label on each line, as ImageData reads them, and labels.txt, the names of the
labels. What was fetched before is not fetched again, and what cannot be fetched, or is no image, is left out.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import os
import random
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parent.parent / "data/flickr_style"
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MAX_BYTES, MAX_PIXELS = 20_000_000, 50_000_000
TIMEOUT, DEADLINE = 15.0, 60.0  # seconds without an answer, and for the whole image
UNAVAILABLE = "6a92790b1c2a301c6e7ddef645dca1f53ea97ac2"  # SHA-1 of the image that Flickr sends in place of one that is gone


class Item(NamedTuple):
    """An image: its address (or path), label, and part: train or test."""

    source: str
    label: int
    split: str


def main(argv: list[str]) -> int:
    args = parse(argv)
    shuffled = random.Random(args.seed)
    if args.synthetic:
        names, items = draw(args.images or 100, args.labels or 5, args.output / "images")
        kept = items
    elif args.folder:
        names, items = from_folder(args.folder, shuffled)
        kept = selected(items, args, shuffled)
    else:
        names, items = (HERE / "style_names.txt").read_text("utf-8").splitlines(), list(read_list(args.list))
        kept = fetch_all(selected(items, args, shuffled), args.output / "images", args.workers)
    write_lists(kept, names, args.output)
    return 0 if kept else 1


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", type=Path, help="CSV file, perhaps gzipped, with columns image_url, label, _split")
    what.add_argument("--folder", type=Path, help="folder with a folder of images for each class")
    what.add_argument("--synthetic", action="store_true", help="draw images, to try things out")
    parser.add_argument("-i", "--images", type=int, default=0, metavar="N", help="how many images at most (default: all)")
    parser.add_argument("-l", "--labels", type=int, default=0, metavar="N", help="only the first labels (default: all)")
    parser.add_argument("-w", "--workers", type=int, default=8, metavar="N", help="fetched at once (default: 8)")
    parser.add_argument("-s", "--seed", type=int, default=0, metavar="N", help="of the random choice (default: 0)")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT, metavar="FOLDER", help=f"default: {OUTPUT}")
    args = parser.parse_args(argv)
    if args.workers <= 0:
        args.workers = max((os.cpu_count() or 1) + args.workers, 1)
    args.output = args.output.resolve()
    return args


def selected(items: list[Item], args: argparse.Namespace, shuffled: random.Random) -> list[Item]:
    """The wanted number of the items with wanted labels, at random."""
    items = [item for item in items if not args.labels > 0 or item.label < args.labels]
    shuffled.shuffle(items)
    return items[: args.images] if args.images > 0 else items


def write_lists(items: list[Item], names: list[str], output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        lines = [f"{item.source} {item.label}\n" for item in items if item.split == split]
        (output / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
        print(f"{output / split}.txt: {len(lines)} images")
    classes = max((item.label for item in items), default=-1) + 1
    (output / "labels.txt").write_text("".join(f"{name}\n" for name in names[: max(classes, 1)]), encoding="utf-8")
    if classes > 20:
        print(f"There are {classes} classes: set num_output of fc8_flickr to that, in both nets.")


# ---- a folder of images ---------------------------------------------------------------------------------------------


def from_folder(folder: Path, shuffled: random.Random) -> tuple[list[str], list[Item]]:
    """A label for each folder, in the order of their names; of each label every fifth image is for tests."""
    classes = sorted(path for path in folder.resolve().iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise SystemExit(f"error: {folder} has no folders: expected one for each class, with images in it")
    items = []
    for label, path in enumerate(classes):
        images = sorted(image for image in path.rglob("*") if image.suffix.lower() in EXTENSIONS)
        shuffled.shuffle(images)
        items += [Item(str(image), label, "test" if i % 5 == 4 else "train") for i, image in enumerate(images)]
    return [path.name for path in classes], items


# ---- images from the network ----------------------------------------------------------------------------------------


def read_list(path: Path) -> Iterator[Item]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            url, label, split = (row.get(column) or "" for column in ("image_url", "label", "_split"))
            if not url.startswith(("http://", "https://")) or not label.isdecimal() or split not in ("train", "test"):
                raise SystemExit(
                    f"error: {path}:{number}: expected columns image_url (http or https), label and _split (train or test)"
                )
            yield Item(url, int(label), split)


def fetch_all(items: list[Item], images: Path, workers: int) -> list[Item]:
    """The items that could be fetched, with the paths of their files."""
    images.mkdir(parents=True, exist_ok=True)
    print(f"Fetching {len(items)} images, {workers} at once ...")
    with ThreadPoolExecutor(workers) as pool:
        paths = list(pool.map(lambda item: fetch(item.source, images), items))
    kept = [item._replace(source=str(path)) for item, path in zip(items, paths, strict=True) if path]
    print(f"{len(kept)} of {len(items)} are there.")
    return kept


def fetch(url: str, images: Path) -> Path | None:
    """The file of an image, fetched if it is not there yet; None where that fails. Its name is made of the address."""
    path = images / f"{hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()}.jpg"
    if path.exists():
        return path
    try:
        data = download(url)
        check_image(data)
    except (
        OSError,
        HTTPException,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:  # SyntaxError: broken PNG
        print(f"{url}: {error}", file=sys.stderr)
        return None
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)
    return path


def download(url: str) -> bytes:
    """Raises OSError, HTTPException or ValueError where an address gives nothing, too much, or too slowly."""
    end, data = time.monotonic() + DEADLINE, b""
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        while chunk := answer.read1(1 << 16):
            data += chunk
            if len(data) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
            if time.monotonic() > end:
                raise ValueError(f"more than {DEADLINE:g} seconds")
    return data


def check_image(data: bytes) -> None:
    """Raises ValueError for what is no whole image."""
    if hashlib.sha1(data, usedforsecurity=False).hexdigest() == UNAVAILABLE:
        raise ValueError("the image is gone")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"more than {MAX_PIXELS} pixels")
            image.load()
    except Exception as error:  # readers of damaged images raise almost anything
        raise ValueError(f"no image: {error}") from error


# ---- images that are drawn ------------------------------------------------------------------------------------------


def draw(count: int, labels: int, images: Path) -> tuple[list[str], list[Item]]:
    """Stripes of 256 x 256 pixels in noise: each label has an angle of its own. Every fifth image is for tests."""
    images.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    items = []
    for i in range(count):
        label = i % labels
        angle, phase = np.pi * label / labels, rng.uniform(0, 2 * np.pi)
        stripes = np.sin((np.cos(angle) * x + np.sin(angle) * y) / 8 + phase)
        pixels = 128 + 60 * stripes[..., None] * rng.uniform(0.3, 1, 3) + rng.normal(0, 15, (256, 256, 3))
        path = images / f"stripes_{i:05d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        items.append(Item(str(path), label, "test" if i // labels % 5 == 4 else "train"))
    return [f"stripes at {180 * label / labels:.0f} degrees" for label in range(labels)], items


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
