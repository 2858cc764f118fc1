"""Writes the binary batches of CIFAR-10 to two databases.

    pycaffe_lite convert_cifar_data INPUT_FOLDER OUTPUT_FOLDER DB_TYPE

INPUT_FOLDER has data_batch_1.bin to data_batch_5.bin and test_batch.bin. OUTPUT_FOLDER gets cifar10_train_DB_TYPE and
cifar10_test_DB_TYPE, 3 x 32 x 32, in the order of the files, with keys from 00000 on. This follows Caffe's
examples/cifar10/convert_cifar_data.cpp, but a batch may have any number of images.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from .. import glog
from ..data.cifar10 import RECORD_BYTES, SHAPE, TEST_FILES, TRAIN_FILES
from ..data.database import BACKENDS
from ..data.database_writer import Writer
from ..data.datum import encode_datum
from ..errors import DataError, did_you_mean
from ._databases import new_databases

GROUP = "convert"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pycaffe_lite convert_cifar_data", description=__doc__.splitlines()[0])
    parser.add_argument("input_folder", help="folder of the binary version, unpacked")
    parser.add_argument("output_folder", help="folder to make the databases in")
    parser.add_argument("db_type", choices=BACKENDS, help="kind of database")
    args = parser.parse_args(argv)
    train, test = ([os.path.join(args.input_folder, name) for name in names] for names in (TRAIN_FILES, TEST_FILES))
    counts = {path: _count(path) for path in train + test}
    outputs = [os.path.join(args.output_folder, f"cifar10_{name}_{args.db_type}") for name in ("train", "test")]
    with new_databases(outputs, args.db_type) as writers:
        for name, files, writer in zip(("Training", "Testing"), (train, test), writers, strict=True):
            glog.info(f"Writing {name} data")
            _write(writer, files, sum(counts[path] for path in files))
    return 0


def _count(path: str) -> int:
    """The number of images in a batch."""
    folder, name = os.path.split(path)
    if not os.path.isfile(path):
        near = did_you_mean(name, os.listdir(folder) if os.path.isdir(folder) else [])
        raise DataError(f"{path}: there is no such file{near}")
    size = os.path.getsize(path)
    if size == 0 or size % RECORD_BYTES:
        raise DataError(f"{path}: expected one or more records of {RECORD_BYTES} bytes, received {size} bytes")
    return size // RECORD_BYTES


def _write(writer: Writer, files: list[str], count: int) -> None:
    for i, (image, label) in enumerate(tqdm(_records(files), total=count, unit="image", disable=None)):
        writer.put(b"%05d" % i, encode_datum(image, label))


def _records(files: list[str]) -> Iterator[tuple[np.ndarray, int]]:
    for number, path in enumerate(files, 1):
        if len(files) > 1:
            glog.info(f"Training Batch {number}")
        with open(path, "rb") as file:
            while record := file.read(RECORD_BYTES):
                if record[0] > 9 or len(record) < RECORD_BYTES:
                    raise DataError(f"{path}: is no batch of CIFAR-10: a record has the label {record[0]}")
                yield np.frombuffer(record, np.uint8, offset=1).reshape(SHAPE), record[0]
