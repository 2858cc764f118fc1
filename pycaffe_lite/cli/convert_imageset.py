"""Write a list of images to a database: pycaffe_lite convert_imageset [FLAGS] ROOTFOLDER/ LISTFILE DB_NAME

Each line of LISTFILE has the path of an image and its integer label; ROOTFOLDER/ is put before the path unchanged. Record n
(from 0, in the order of the list or shuffled) has the key NNNNNNNN_path. An image that cannot be read is skipped with a
message, and the exit status is then 1. The behaviour is that of Caffe's tools/convert_imageset.cpp.
"""

from __future__ import annotations

import io
import os
import shutil
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from .. import glog, rng
from ..data.database import BACKENDS
from ..data.database_writer import create_database
from ..data.image_file import FORMAT_OF, is_gray
from ..data.image_list import read_list
from ..data.images import check_size, decode, read_image_file
from ..errors import CaffeError, DataError, did_you_mean, located
from ..proto.caffe_pb2 import Datum
from ._arguments import ArgumentFlags

GROUP = "convert"

MAX_LMDB_KEY = 511  # bytes, in default builds of LMDB
_OPTIONS: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}  # OpenCV's defaults


def main(argv: list[str]) -> int:
    values = _parse(argv)
    paths, labels, lines = read_list(values.LISTFILE)
    _check_paths(values, paths)
    order = np.arange(len(paths))
    if values.shuffle:
        glog.info("Shuffling data")
        rng.stream().shuffle(order)
    glog.info(f"A total of {len(paths)} images.")
    if values.encode_type and not values.encoded:
        glog.info("encode_type specified, assuming encoded=true.")
    converter, failed = _Converter(values), 0
    with create_database(values.DB_NAME, values.backend) as writer:
        for i, item in enumerate(tqdm(order, unit="image", disable=None)):
            path = values.ROOTFOLDER + paths[item]
            name = f'{values.LISTFILE}:{lines[item]}: image "{path}"'
            try:
                with located(name):
                    datum = converter.datum(path, int(labels[item]), name)
            except DataError as error:
                failed += 1
                glog.error(str(error))
                continue
            writer.put(b"%08d_%s" % (i, os.fsencode(paths[item])), datum.SerializeToString())
            if (done := i + 1 - failed) % 1000 == 0:
                glog.info(f"Processed {done} files.")
    if (done := len(paths) - failed) % 1000:
        glog.info(f"Processed {done} files.")
    if failed == len(paths):
        shutil.rmtree(values.DB_NAME)  # remove the empty database, which would block the next attempt
        raise DataError(f"{values.LISTFILE}: none of its {failed} images could be read; no database was made")
    if failed:
        raise DataError(f"{values.DB_NAME}: {failed} of {len(paths)} images could not be read, and are not in it")
    return 0


class _Converter:
    """Makes the record of an image according to the flags."""

    def __init__(self, values: Any):
        self.color, self.size = not values.gray, (values.resize_height, values.resize_width)
        self.encoded, self.encode_type = values.encoded or bool(values.encode_type), values.encode_type.lower()
        self.expected: tuple[int, ...] | None = () if values.check_size else None

    def datum(self, path: str, label: int, name: str) -> Datum:
        """Like Caffe, sets shape and `encoded: false` in a record of pixels, and neither in a record with a file."""
        data = read_image_file(path)
        image = decode(data, self.color, *self.size, name=name)
        self._check(image.shape)
        if self.encoded:
            return Datum(data=self._file(path, data, image), label=label, encoded=True)
        channels, height, width = image.shape
        return Datum(channels=channels, height=height, width=width, data=image.tobytes(), label=label, encoded=False)

    def _file(self, path: str, data: bytes, image: np.ndarray) -> bytes:
        """The image in the requested format; the file itself if nothing has to be changed.

        With --gray, files of other kinds are encoded anew. Caffe means to, but compares the channels of the image that it
        has just made gray. Without it gray files stay gray, as in Caffe; a net makes them colour with `force_color`.
        """
        extension = os.path.splitext(path)[1][1:].lower()
        target = self.encode_type or extension
        same_format = target == extension or FORMAT_OF.get(target) == FORMAT_OF.get(extension)
        if same_format and not any(self.size) and (self.color or is_gray(data)):
            return data
        if target not in FORMAT_OF:
            raise DataError(f'the extension "{target}" names no format to encode in: give --encode_type')
        if FORMAT_OF[target] == "WEBP" and not self.color:
            raise DataError("WebP has no gray images: give another --encode_type, such as png")
        file = io.BytesIO()
        pixels = image[0] if len(image) == 1 else image[::-1].transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, FORMAT_OF[target], **_OPTIONS.get(FORMAT_OF[target], {}))
        return file.getvalue()

    def _check(self, shape: tuple[int, ...]) -> None:
        if self.expected is None:
            return
        self.expected = self.expected or shape
        if shape != self.expected:
            expected, received = (" x ".join(map(str, size)) for size in (self.expected, shape))
            raise _SizeError(f"--check_size: expected {expected}, as the first image, received {received}")


class _SizeError(CaffeError):
    """An error that ends the command; an unreadable image, a `DataError`, does not."""


def _check_paths(values: Any, paths: list[str]) -> None:
    """Checks what can be checked before the database is created."""
    root, first = values.ROOTFOLDER, paths[0]
    if not os.path.exists(root + first) and os.path.exists(f"{root}/{first}"):
        raise DataError(f'{root + first}: there is no such file; ROOTFOLDER ends with a slash: "{root}/"')
    longest = max(paths, key=lambda path: len(os.fsencode(path)))
    if values.backend == "lmdb" and len("00000000_") + len(os.fsencode(longest)) > MAX_LMDB_KEY:
        raise DataError(f'{values.LISTFILE}: the path "{longest[:100]}..." is too long for a key of {MAX_LMDB_KEY} bytes')


def _parse(argv: list[str]) -> Any:
    flags = ArgumentFlags("convert_imageset", __doc__)
    flags.add_argument("ROOTFOLDER", help="what stands before each path, with a slash at its end")
    flags.add_argument("LISTFILE", help="text file, a path and a label on each line")
    flags.add_argument("DB_NAME", help="folder to make; must not exist")
    flags.switch("gray", help="read images in gray (one channel); with --encoded, colour files are encoded anew")
    flags.switch("shuffle", help="shuffle the order of the images")
    flags.flag("backend", choices=BACKENDS, default="lmdb", help="kind of database (default lmdb)")
    flags.flag("resize_width", type=int, default=0, metavar="N", help="width to resize images to")
    flags.flag("resize_height", type=int, default=0, metavar="N", help="height to resize images to")
    flags.switch("check_size", help="stop where an image has another size than the first")
    flags.switch("encoded", help="store files (JPEG, PNG, ...) in place of pixels")
    flags.flag("encode_type", default="", metavar="TYPE", help="format to store them in: png, jpg, ...; implies --encoded")
    values = flags.parse(argv)
    if values.encode_type and values.encode_type.lower() not in FORMAT_OF:
        hint = did_you_mean(values.encode_type, FORMAT_OF)
        raise DataError(f'no --encode_type "{values.encode_type}"{hint}; there are {", ".join(FORMAT_OF)}')
    height, width = values.resize_height, values.resize_width
    if min(height, width) < 0 or bool(height) != bool(width):
        raise DataError(f"expected both of --resize_height and --resize_width, or none, received {height} and {width}")
    check_size(1, 3, max(height, 1), max(width, 1))
    return values
