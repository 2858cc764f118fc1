"""Compute the mean image of a database: pycaffe_lite compute_image_mean [FLAGS] INPUT_DB [OUTPUT_FILE]

OUTPUT_FILE is a binaryproto for `transform_param { mean_file: ... }`, in the format of Caffe's tools/compute_image_mean.cpp.
The means of the channels are logged. Sums are in double precision, since Caffe's lose digits with more than 65000 images.
"""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from .. import glog
from ..data.database import BACKENDS, Database, open_database
from ..data.datum import decode_datums
from ..errors import CaffeError
from ..proto.model_file import raw, write_message
from ._arguments import ArgumentFlags

GROUP = "data"

BATCH = 32  # records that are decoded together


def main(argv: list[str]) -> int:
    flags = ArgumentFlags("compute_image_mean", __doc__)
    flags.add_argument("INPUT_DB", help="database of images, of one size")
    flags.add_argument("OUTPUT_FILE", nargs="?", help="binaryproto to write")
    flags.flag("backend", choices=BACKENDS, default="lmdb", help="kind of database; what the folder holds counts")
    values = flags.parse(argv)
    with open_database(values.INPUT_DB, values.backend) as database:
        mean = _mean(database)
    if values.OUTPUT_FILE:
        glog.info(f"Write to {values.OUTPUT_FILE}")
        channels, height, width = mean.shape
        data = [mean.astype("<f4").tobytes()]
        write_message(values.OUTPUT_FILE, raw.BlobProto(num=1, channels=channels, height=height, width=width, data=data))
    glog.info(f"Number of channels: {len(mean)}")
    for i, value in enumerate(mean.mean((1, 2))):
        glog.info(f"mean_value channel [{i}]: {value:g}")
    return 0


def _mean(database: Database) -> np.ndarray:
    """The mean of all records, C x H x W in float64. Raises `DataError` if their shapes differ."""
    count, cursor = database.count(), database.cursor()
    total: np.ndarray | None = None
    glog.info("Starting Iteration")
    with tqdm(total=count, unit="image", disable=None) as bar:
        for start in range(0, count, BATCH):
            keys, records = zip(*(cursor.next() for _ in range(min(BATCH, count - start))), strict=True)
            try:
                shape = None if total is None else total.shape
                images, _ = decode_datums(records, keys, shape, source=database.path)
            except CaffeError as error:
                error.where = f"{database.path}: {error.where}"
                raise
            part = images.sum(0, dtype=np.float64)
            total = part if total is None else total + part
            bar.update(len(keys))
            if (start + len(keys)) // 10000 > start // 10000:
                glog.info(f"Processed {start + len(keys)} files.")
    glog.info(f"Processed {count} files.")
    assert total is not None  # an open database is not empty
    return total / count
