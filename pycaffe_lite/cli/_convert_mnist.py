"""Shared by the two MNIST converters: their arguments, and the loop that writes a database."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
from tqdm import tqdm

from .. import glog
from ..data import mnist
from ..data.database import BACKENDS
from ..data.database_writer import create_database
from ..data.datum import encode_datum
from ..errors import DataError
from ._arguments import ArgumentFlags


def parser(name: str, doc: str, backend: str) -> ArgumentFlags:
    """The arguments of both converters; `backend` is the default."""
    flags = ArgumentFlags(name, doc)
    flags.add_argument("image_file", help="idx file of images, plain or gzipped")
    flags.add_argument("label_file", help="idx file of their labels")
    flags.add_argument("db_path", help="folder to make; must not exist")
    flags.flag("backend", choices=BACKENDS, default=backend, help="default here: %(default)s")
    return flags


def read(image_file: str, label_file: str) -> tuple[np.ndarray, np.ndarray]:
    """Images N x rows x columns and labels N, both uint8."""
    images, labels = mnist.read_images(image_file), mnist.read_labels(label_file)
    if len(images) != len(labels):
        raise DataError(f"{label_file}: expected {len(images)} labels, as {image_file} has images, received {len(labels)}")
    if images.size == 0:
        raise DataError(f"{image_file}: holds no images")
    glog.info(f"A total of {len(images)} items.")
    glog.info(f"Rows: {images.shape[1]} Cols: {images.shape[2]}")
    return images, labels


def write(db_path: str, backend: str, count: int, records: Iterable[tuple[np.ndarray, int]]) -> None:
    """Writes `count` images C x H x W with their labels, under the keys 00000000, 00000001, ... as Caffe does."""
    name = os.path.basename(db_path.rstrip("/"))
    with create_database(db_path, backend) as writer:
        for i, (image, label) in enumerate(tqdm(records, total=count, desc=name, unit="rec", disable=None)):
            writer.put(b"%08d" % i, encode_datum(image, label))
    glog.info(f"Wrote {count} records to {db_path} ({backend.upper()})")
