"""What `scipy.misc` had for images up to SciPy 1.1: the same values, computed with Pillow as there.

Functions of `scipy.misc` that are in `scipy.special` today are here too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from scipy.special import comb, factorial, logsumexp

__all__ = [
    "bytescale",
    "comb",
    "factorial",
    "fromimage",
    "imread",
    "imresize",
    "imsave",
    "logsumexp",
    "toimage",
]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "cubic": Image.Resampling.BICUBIC,
}


def bytescale(data: Any, cmin: float | None = None, cmax: float | None = None, high: int = 255, low: int = 0) -> np.ndarray:
    """uint8 of the same shape: `cmin` to `cmax` (the smallest and the largest value) become `low` to `high`.

    uint8 is returned as it is. Raises ValueError unless 0 <= low <= high <= 255 and cmin <= cmax.
    """
    data = np.asarray(data)
    if data.dtype == np.uint8:
        return data
    if not 0 <= low <= high <= 255:
        raise ValueError(f"expected 0 <= low <= high <= 255, received low={low}, high={high}")
    smallest = data.min() if cmin is None else cmin
    largest = data.max() if cmax is None else cmax
    if largest < smallest:
        raise ValueError(f"expected cmin <= cmax, received cmin={smallest}, cmax={largest}")
    scale = float(high - low) / (float(largest) - float(smallest) or 1)
    scaled = (data - float(smallest)) * scale + low
    return (scaled.clip(low, high) + 0.5).astype(np.uint8)


def imread(name: Any, flatten: bool = False, mode: str | None = None) -> np.ndarray:
    """The pixels of a file, by name or open: H x W, or H x W x K, mostly uint8. See `fromimage`."""
    with Image.open(name) as image:
        return fromimage(image, flatten, mode)


def fromimage(im: Image.Image, flatten: bool = False, mode: str | None = None) -> np.ndarray:
    """The pixels of an image. `mode`: of Pillow, to which it is converted; `flatten`: to gray, in float32."""
    if mode is not None:
        im = im.convert(mode) if mode != im.mode else im
    elif im.mode == "P":
        im = im.convert("RGBA" if "transparency" in im.info else "RGB")
    if flatten:
        im = im.convert("F")
    elif im.mode == "1":
        im = im.convert("L")
    return np.array(im)


def imsave(name: Any, arr: Any, format: str | None = None) -> None:
    """Writes an array H x W or H x W x K. What is not uint8 is scaled, see `toimage`. The name's end says the format."""
    toimage(arr, channel_axis=2).save(name, format)


def imresize(arr: Any, size: Any, interp: str = "bilinear", mode: str | None = None) -> np.ndarray:
    """A resized array, uint8: what is not uint8 is scaled first, see `toimage`.

    size: an int is percent of the present size, a float a fraction of it, a pair the new height and width.
    interp: nearest, lanczos, bilinear, bicubic or cubic.
    """
    image = toimage(arr, mode=mode)
    if np.issubdtype(type(size), np.integer):
        size = np.array(image.size) * (size / 100)
    elif np.issubdtype(type(size), np.floating):
        size = np.array(image.size) * size
    else:
        size = size[1], size[0]
    if interp not in _FILTERS:
        raise ValueError(f"expected one of {', '.join(_FILTERS)} as interp, received {interp!r}")
    width, height = (int(length) for length in size)
    return fromimage(image.resize((width, height), _FILTERS[interp]))


def toimage(
    arr: Any,
    high: int = 255,
    low: int = 0,
    cmin: float | None = None,
    cmax: float | None = None,
    pal: Any = None,
    mode: str | None = None,
    channel_axis: int | None = None,
) -> Image.Image:
    """An array H x W, or with an axis of 3 or 4 channels, as an image of Pillow.

    What is not uint8 is scaled to bytes: `cmin` to `cmax` (by default the smallest and the largest value) become `low` to
    `high`; modes F and I of H x W keep more. pal: a palette, 256 x 3. mode: of Pillow. channel_axis: by default the first
    axis of length 3, else of length 4. Raises ValueError for other shapes and modes.
    """
    data = np.asarray(arr)
    if np.iscomplexobj(data):
        raise ValueError("a complex array is no image")
    if data.ndim == 2:
        return _flat_image(data, high, low, cmin, cmax, pal, mode)
    if data.ndim != 3 or not {3, 4} & set(data.shape):
        raise ValueError(f"expected an array H x W, or with an axis of 3 or 4 channels, received shape {data.shape}")
    if channel_axis is None:
        channel_axis = data.shape.index(3 if 3 in data.shape else 4)
    pixels = np.moveaxis(bytescale(data, cmin, cmax, high, low), channel_axis, 2)
    channels = pixels.shape[2]
    if channels not in (3, 4):
        raise ValueError(f"expected 3 or 4 channels on axis {channel_axis}, received {channels}")
    mode = mode or ("RGB" if channels == 3 else "RGBA")
    if {"RGB": 3, "YCbCr": 3, "RGBA": 4, "CMYK": 4}.get(mode) != channels:
        raise ValueError(f"mode {mode} does not fit an array of {channels} channels")
    return Image.frombytes(mode, pixels.shape[1::-1], np.ascontiguousarray(pixels).tobytes())


def _flat_image(data: np.ndarray, high: int, low: int, cmin: Any, cmax: Any, pal: Any, mode: str | None) -> Image.Image:
    if mode in (None, "L", "P"):
        image = Image.fromarray(bytescale(data, cmin, cmax, high, low))
        if pal is not None or mode == "P":
            palette = np.repeat(np.arange(256), 3) if pal is None else np.asarray(pal)
            image.putpalette(palette.astype(np.uint8).tobytes())
        return image
    if mode == "1":
        return Image.fromarray(data > high)
    if mode == "F":
        return Image.fromarray(data.astype(np.float32))
    if mode != "I":
        raise ValueError(f"mode {mode} does not fit an array of shape {data.shape}")
    smallest = data.min() if cmin is None else cmin
    largest = data.max() if cmax is None else cmax
    return Image.fromarray(((data * 1.0 - smallest) * (high - low) / (largest - smallest) + low).astype(np.int32))
