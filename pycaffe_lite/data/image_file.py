"""Decodes image files to the pixels that OpenCV's imread and imdecode make of them, and so Caffe.

Caffe calls them with IMREAD_COLOR, IMREAD_GRAYSCALE, or, for encoded records without `force_color` and `force_gray`,
IMREAD_UNCHANGED (`src/caffe/util/io.cpp`). The rules are those of OpenCV 4, whose numbers are in `tests/test_image_file.py`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .. import glog
from ..errors import DataError

Warn = Callable[[str], Any]

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF")
FORMAT_OF = {  # by the extension of a file, in which it is written
    "jpg": "JPEG",
    "jpeg": "JPEG",
    "png": "PNG",
    "bmp": "BMP",
    "webp": "WEBP",
    "ppm": "PPM",
    "pgm": "PPM",
    "tif": "TIFF",
    "tiff": "TIFF",
}

_JPEG_START, _JPEG_END, _SCAN, _PROGRESSIVE = b"\xff\xd8", b"\xff\xd9", b"\xda", b"\xc2"
_SEGMENT = re.compile(b"\xff([\x02-\xcf\xda-\xfe])")  # the markers that a length follows; the data of scans have none
_BASELINE = b"\x00\x3f\x00"  # all coefficients, all bits
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags of TIFF
_WHITE_IS_ZERO = 0


def decode_image(data: bytes, color: bool | None = None, name: str = "an image", warn: Warn = glog.warning) -> np.ndarray:
    """The pixels C x H x W of an image file, uint8, with colours in OpenCV's order (blue, green, red, alpha).

    color: True for 3 channels, False for 1 (gray), None for the channels of the file.

    - JPEG, PNG, BMP, WebP, PPM and TIFF are read; of several pages the first.
    - A JPEG file without its end is read, and `warn` is called with one line that begins with `name`. libjpeg fills what is
      missing; where a whole part is missing, that is gray.
    - Alpha is dropped if `color` says so, without blending. As in OpenCV, TIFF's colours are multiplied by it.
    - Of 16 bits the high byte is taken, but with `color=None` only if Pillow does it by itself, for images with colours.
    - Gray is 0.299 R + 0.587 G + 0.114 B. For JPEG it is the brightness in the file.
    - The orientation in EXIF data is not applied.

    Raises `DataError` for damaged files, for 32 bits per channel, and for more pixels than `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    try:
        image = open_image(data, FORMATS)
        _check_size(image)
        if color is False:
            image.draft("L", None)
        load(image, name, warn)
        pixels = np.asarray(_converted(image, color))
    except DataError:
        raise
    except UnidentifiedImageError:  # its message names the buffer
        start = f"damaged, or none of {', '.join(FORMATS)}; it begins with {data[:12]!r}" if data else "empty"
        raise DataError(f"the encoded image cannot be read: it is {start}") from None
    except Exception as error:  # Pillow's decoders raise many kinds of errors for damaged files
        raise DataError(f"the encoded image cannot be read ({str(error) or type(error).__name__})") from error
    if pixels.ndim == 2:
        return pixels[np.newaxis]
    blue_first = [2, 1, 0, 3][: pixels.shape[2]]
    return pixels[:, :, blue_first].transpose(2, 0, 1)


def is_gray(data: bytes) -> bool:
    """Whether `decode_image(data)` has one channel. Only the header is read."""
    return _own_mode(open_image(data, FORMATS)) == "L"


# ---- files that end too early -------------------------------------------------------------------------------------


class _JpegFile(io.BytesIO):
    """A JPEG file in memory that is followed by an end marker if its own is missing, as libjpeg does for files.

    Pillow does this too with `ImageFile.LOAD_TRUNCATED_IMAGES`, but for the whole process.
    """

    is_cut = False  # whether the marker was needed

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if data or size == 0 or self.is_cut:
            return data
        self.is_cut = True
        return _JPEG_END


def open_image(data: bytes, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Pillow's image of a file; only its header is read. `load` reads the pixels, also those of a JPEG without its end."""
    if not data.startswith(_JPEG_START):
        return Image.open(io.BytesIO(data), formats=formats)
    return Image.open(_JpegFile(_whole_segments(data)), formats=formats)


def _whole_segments(data: bytes) -> bytes:
    """A JPEG file without the segment (a table, or the head of a scan) in which it ends too early, if it ends in one.

    A decoder would take the end marker for a part of the segment. The last bytes of the head of a baseline scan are known.
    """
    at, is_baseline = len(_JPEG_START), True
    while not data.endswith(_JPEG_END) and (marker := _SEGMENT.search(data, at)):
        size = data[marker.end() : marker.end() + 2]
        at = marker.end() + max(int.from_bytes(size, "big"), 2)
        if at > len(data):
            is_almost_whole = marker[1] == _SCAN and is_baseline and len(size) == 2 and at - len(data) <= len(_BASELINE)
            return data + _BASELINE[len(data) - at :] if is_almost_whole else data[: marker.start()]
        is_baseline &= marker[1] != _PROGRESSIVE
    return data


def load(image: Any, name: str, warn: Warn = glog.warning) -> None:
    """Reads the pixels of an image of `open_image`, and warns if its file ended too early."""
    file = image.fp
    image.load()
    if isinstance(file, _JpegFile) and file.is_cut:
        warn(f"{name}: the JPEG file ends too early; what is missing of the image is filled in, as by OpenCV")


def _check_size(image: Image.Image) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise DataError(f"an encoded image of {image.width} x {image.height} pixels, more than {limit} are refused")


# ---- pixels -------------------------------------------------------------------------------------------------------


def _converted(image: Any, color: bool | None) -> Image.Image:
    """The image in Pillow's mode L, RGB or RGBA."""
    if image.mode.startswith(("I", "F")):
        image = _high_bytes(image, color)
    elif image.mode == "CMYK":
        image = _colors_of_inks(image)
    elif image.mode == "RGBA" and image.format == "TIFF":
        image = _multiplied_by_alpha(image)
    if color is None:
        return image.convert(_own_mode(image))
    image.info.pop("transparency", None)  # dropped like other alpha; Pillow would warn
    return image.convert("RGB" if color else "L")


def _own_mode(image: Image.Image) -> str:
    if image.mode in ("1", "L"):
        return "L"
    return "RGBA" if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info else "RGB"


def _high_bytes(image: Any, color: bool | None) -> Image.Image:
    """Gray of 16 bits (mode I;16, or I in some formats and versions of Pillow) in 8 bits."""
    bits = 32 if image.mode == "F" else 16
    if image.mode == "I" and image.format == "TIFF":
        bits = image.tag_v2[_BITS_PER_SAMPLE][0]
    if bits != 16:
        raise DataError(f"expected an encoded image of 8 or 16 bits per channel, received {bits}")
    if color is None:
        hint = "with force_color or force_gray in transform_param the high byte of each value is read"
        raise DataError(f"expected an encoded image of 8 bits per channel, received 16; {hint}")
    high = (np.asarray(image) >> 8).astype(np.uint8)
    negative = image.format == "TIFF" and image.tag_v2[_PHOTOMETRIC] == _WHITE_IS_ZERO  # Pillow inverts 8 bits only
    return Image.fromarray(255 - high if negative else high)


def _colors_of_inks(image: Image.Image) -> Image.Image:
    """CMYK as RGB, with the roundings of OpenCV's JPEG decoder and of libtiff."""
    inks = np.asarray(image).astype(np.int32)
    ink, light = inks[:, :, :3], 255 - inks[:, :, 3:]
    colors = light - (ink * light >> 8) if image.format == "JPEG" else (255 - ink) * light // 255
    return Image.fromarray(colors.astype(np.uint8))


def _multiplied_by_alpha(image: Image.Image) -> Image.Image:
    pixels = np.array(image)
    alpha = pixels[:, :, 3:].astype(np.int32)
    pixels[:, :, :3] = (pixels[:, :, :3] * alpha + 127) // 255
    return Image.fromarray(pixels)
