"""Resize images and crop them to squares: pycaffe_lite resize_and_crop_images --input_folder IN --output_folder OUT

The shorter side becomes --output_side_length, and the middle of the longer side is kept. Folders below IN are made in OUT.
The flags are those of Caffe's tools/extra/resize_and_crop_images.py, which needs mincepie; here --num_clients processes
share the work. An image that cannot be read is skipped with a message, and the exit status is then 1.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from .. import glog
from ..data.image_file import FORMAT_OF
from ..data.images import check_size, decode, open_list, read_image_file, resize
from ..errors import CaffeError, DataError
from ..files import atomic_write
from ._flags import Flags

GROUP = "Caffe's old tools"


def main(argv: list[str]) -> int:
    values = _parse(argv)
    paths = _listed(values.input, values.input_folder) if values.input else _images_below(values.input_folder)
    if not paths:
        raise DataError(f"{values.input or values.input_folder}: names no images")
    library = values.image_lib.lower()
    work = partial(_convert, values.input_folder, values.output_folder, values.output_side_length, library)
    failed = 0
    with _results(work, paths, min(values.num_clients, len(paths))) as results:
        for error in tqdm(results, total=len(paths), unit="image", disable=None):
            if error:
                failed += 1
                glog.error(error)
    if failed:
        raise DataError(f"{failed} of {len(paths)} images could not be converted")
    glog.info(f"Wrote {len(paths)} images to {values.output_folder}")
    return 0


@contextmanager
def _results(work: Any, paths: list[str], processes: int) -> Iterator[Iterable[str]]:
    """The result of `work` for each path, computed in this process or in several processes."""
    if processes == 1:
        yield map(work, paths)
        return
    # Not forked, since the child of a process with threads may hang.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        try:
            yield pool.map(work, paths, chunksize=8)
        except BrokenProcessPool:
            raise DataError("a process ended before its work was done; is there too little memory?") from None
        finally:
            pool.shutdown(cancel_futures=True)  # if the work is interrupted, paths that have not begun are dropped


def _convert(source: str, target: str, side: int, library: str, path: str) -> str:
    """Converts one image; returns an error message or an empty string."""
    name = f'image "{os.path.join(source, path)}"'
    try:
        image_format = FORMAT_OF.get(_extension(path))
        if image_format is None:
            raise DataError(f"expected one of the extensions {', '.join(FORMAT_OF)}")
        image = decode(read_image_file(os.path.join(source, path)), color=True, name=name)
        squared = _square_opencv(image, side) if library == "opencv" else _square_pil(image, side)
        output = Path(target, path)
        output.parent.mkdir(parents=True, exist_ok=True)
        quality = {"quality": 95 if library == "opencv" else 75} if image_format == "JPEG" else {}
        with atomic_write(output) as temporary:
            squared.save(temporary, image_format, **quality)
    except (CaffeError, OSError, MemoryError) as error:
        return f"{name}: {error}"
    return ""


def _square_opencv(image: np.ndarray, side: int) -> Image.Image:
    """Interpolates linearly, like cv2.resize, and then crops."""
    _, height, width = image.shape
    new_height, new_width = max(side, side * height // width), max(side, side * width // height)
    check_size(3, new_height, new_width)
    top, left = (new_height - side) // 2, (new_width - side) // 2
    return _picture(resize(image, new_height, new_width)[:, top : top + side, left : left + side])


def _square_pil(image: np.ndarray, side: int) -> Image.Image:
    """Crops, and then resizes with Lanczos' filter."""
    return ImageOps.fit(_picture(image), (side, side), Image.Resampling.LANCZOS)


def _picture(image: np.ndarray) -> Image.Image:
    """Pillow's image of an array C x H x W, blue first."""
    return Image.fromarray(np.ascontiguousarray(image[::-1].transpose(1, 2, 0)))


def _listed(path: str, folder: str) -> list[str]:
    """The paths of a list, relative to the folder: the first word of each line, with or without the folder before it."""
    with open_list(path, "--input") as file:
        words = [line.split()[0] for line in file if line.strip()]
    inside = os.path.join(folder, "")
    names = [os.path.relpath(os.path.join(folder, word.removeprefix(inside)), folder) for word in words]
    for word, name in zip(words, names, strict=True):
        if name.split(os.sep)[0] == os.pardir:
            raise DataError(f'{path}: "{word}" is not inside {folder}')
    return names


def _images_below(folder: str) -> list[str]:
    """All images below a folder, relative to it."""
    files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sorted(os.path.relpath(file, folder) for file in files if _extension(file) in FORMAT_OF)


def _parse(argv: list[str]) -> Any:
    flags = Flags("resize_and_crop_images", __doc__)
    flags.flag("input_folder", default="", metavar="FOLDER", help="folder of the images (needed)")
    flags.flag("output_folder", default="", metavar="FOLDER", help="folder to write to (needed)")
    flags.flag("input", default="", metavar="FILE", help="list of paths below the input folder (default: all images)")
    flags.flag("output_side_length", type=int, default=256, metavar="N", help="side of the squares (default 256)")
    flags.flag("image_lib", default="opencv", metavar="LIB", help="whose way to resize: opencv (default) or pil")
    flags.flag("num_clients", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one per core)")
    values = flags.parse(argv)
    if not values.input_folder or not values.output_folder:
        raise DataError("resize_and_crop_images needs --input_folder and --output_folder")
    if not os.path.isdir(values.input_folder):
        raise DataError(f"{values.input_folder}: there is no such folder")
    if values.image_lib.lower() not in ("opencv", "pil"):
        raise DataError(f'--image_lib is opencv or pil, received "{values.image_lib}"')
    if min(values.output_side_length, values.num_clients) < 1:
        raise DataError("--output_side_length and --num_clients are at least 1")
    check_size(3, values.output_side_length, values.output_side_length)
    return values


def _extension(path: str | Path) -> str:
    return os.path.splitext(path)[1][1:].lower()
