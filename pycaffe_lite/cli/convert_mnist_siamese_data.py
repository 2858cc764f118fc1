"""Writes random pairs of MNIST images to a database, for the siamese network (LevelDB where it can be written).

Follows Caffe's `examples/siamese/convert_mnist_siamese_data.cpp`: there are as many pairs as images; a record has two random
images as channels, 2 x rows x columns. Label 1: both show the same digit, 0: different digits.
"""

from __future__ import annotations

import numpy as np

from .. import glog
from ..data.database import default_backend
from . import _convert_mnist

GROUP = "convert"


def main(argv: list[str]) -> int:
    backend = default_backend()
    parser = _convert_mnist.parser("convert_mnist_siamese_data", __doc__, backend)
    parser.flag("seed", type=int, default=1, help="of the random pairs (default: %(default)s)")
    parser.flag("count", type=int, help="number of pairs (default: as many as images)")
    args = parser.parse(argv)
    if args.seed < 0 or (args.count is not None and args.count < 1):
        parser.error("--seed must not be negative, and --count must be 1 or more")
    if args.backend == backend != "leveldb":
        glog.info("plyvel is not installed: writing LMDB, which is read just as well, instead of LevelDB")
    images, labels = _convert_mnist.read(args.image_file, args.label_file)
    count = args.count or len(images)
    pairs = np.random.default_rng(args.seed).integers(0, len(images), (count, 2))
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    records = ((images[pair], int(label)) for pair, label in zip(pairs, same, strict=True))
    _convert_mnist.write(args.db_path, args.backend, count, records)
    return 0
