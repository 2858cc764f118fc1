"""Writes the images and labels of two MNIST files to a database (LMDB unless told otherwise).

Follows Caffe's `examples/mnist/convert_mnist_data.cpp`: one record per image, 1 x rows x columns, in the order of the file.
"""

from __future__ import annotations

from . import _convert_mnist

GROUP = "convert"


def main(argv: list[str]) -> int:
    args = _convert_mnist.parser("convert_mnist_data", __doc__, "lmdb").parse(argv)
    images, labels = _convert_mnist.read(args.image_file, args.label_file)
    records = zip(images[:, None], labels.tolist(), strict=True)
    _convert_mnist.write(args.db_path, args.backend, len(images), records)
    return 0
