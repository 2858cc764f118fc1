"""Conversions between arrays and Caffe's messages, and preparation of images for nets (pycaffe's `caffe.io`).

Images are arrays H x W x K with colours in the order red, green, blue, usually with values in [0, 1].
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from io import TextIOBase
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from scipy import ndimage

from .data.image_file import load, open_image
from .errors import DataError, did_you_mean
from .proto import caffe_pb2 as caffe_pb2
from .proto.caffe_pb2 import BlobProto, BlobProtoVector, Datum

Dims = Sequence[int] | np.ndarray


class ArrayError(DataError, ValueError):
    """An array of the wrong shape, or a message that holds one. Scripts for pycaffe expect a ValueError."""


def blobproto_to_array(blob: BlobProto, return_diff: bool = False) -> np.ndarray:
    """The values or the gradient of a BlobProto as a float32 array in its shape (four legacy axes in old messages)."""
    values = np.array(blob.diff if return_diff else blob.data, dtype=np.float32)
    legacy = any(blob.HasField(name) for name in ("num", "channels", "height", "width"))
    shape = (blob.num, blob.channels, blob.height, blob.width) if legacy else tuple(blob.shape.dim)
    if values.size != np.prod(shape, dtype=np.int64):
        raise ArrayError(f"a blob of shape {shape} has {values.size} values")
    return values.reshape(shape)


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> BlobProto:
    """A BlobProto with the array's shape and values, and `diff` as its gradient."""
    blob = BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).flat)
    if diff is not None:
        blob.diff.extend(diff.astype(float).flat)
    return blob


def arraylist_to_blobprotovector_str(arraylist: Sequence[np.ndarray]) -> bytes:
    """Arrays as a serialized BlobProtoVector."""
    return BlobProtoVector(blobs=[array_to_blobproto(arr) for arr in arraylist]).SerializeToString()


def blobprotovector_str_to_arraylist(str: bytes) -> list[np.ndarray]:
    """The list of arrays in a serialized BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> Datum:
    """A Datum with a channels x height x width array; uint8 is stored in `data`, other types in `float_data`."""
    if arr.ndim != 3:
        raise ArrayError(f"a Datum holds channels x height x width, received an array of shape {arr.shape}")
    datum = Datum(channels=arr.shape[0], height=arr.shape[1], width=arr.shape[2])
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).flat)
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: Datum) -> np.ndarray:
    """The channels x height x width array of a Datum. Raises ArrayError, a ValueError, for an encoded one, an image file."""
    shape = (datum.channels, datum.height, datum.width)
    if datum.encoded:
        decoded = "numpy.asarray(PIL.Image.open(io.BytesIO(datum.data)))"
        raise ArrayError(f"the Datum is encoded: it holds an image file, not an array; {decoded} decodes it, H x W x K")
    values = np.frombuffer(datum.data, np.uint8).copy() if datum.data else np.array(datum.float_data, float)
    if values.size != np.prod(shape, dtype=np.int64):
        raise ArrayError(f"a Datum of shape {shape} has {values.size} values")
    return values.reshape(shape)


# ---- images -------------------------------------------------------------------------------------------------------


def load_image(filename: str | os.PathLike | IO[bytes], color: bool = True) -> np.ndarray:
    """An image file as float32 in [0, 1]: H x W x 3, or H x W x 1 with `color=False`.

    filename: a path, or a file that is open for reading bytes, such as a BytesIO; it is read from its start, and stays open.
    An alpha channel is dropped; a gray result is blended with white first. As in scikit-image, gray is 0.2125 R + 0.7154 G +
    0.0721 B, and 16 bits are kept. A JPEG file without its end is read, with a warning in the log. Raises OSError if the
    file is missing, DataError if it is not an image.
    """
    with nullcontext(filename) if hasattr(filename, "read") else open(filename, "rb") as file:
        name = str(getattr(file, "name", "the open file"))
        try:
            image = open_image(_content(file))
            load(image, name)
            pixels = _pixels(image)
        except UnidentifiedImageError:  # its message names the buffer
            raise DataError(f"{name} cannot be read as an image: it is damaged or of an unknown format") from None
        except Exception as error:  # Pillow's decoders raise many kinds of errors for damaged files
            hint = "; open it for bytes, with mode 'rb'" if isinstance(file, TextIOBase) else ""
            raise DataError(f"{name} cannot be read as an image ({error}{hint})") from error
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, np.newaxis], 3 if color else 1, axis=2).astype(np.float32)
    if color:
        return pixels[:, :, :3].astype(np.float32)
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3:]
        pixels = (1 - alpha) + alpha * pixels[:, :, :3]
    return (pixels @ np.array([0.2125, 0.7154, 0.0721]))[:, :, np.newaxis].astype(np.float32)


def _content(file: Any) -> bytes:
    """All bytes of a file that can be read, from the start if it can be moved there."""
    if hasattr(file, "seek") and file.seekable():
        file.seek(0)
    return file.read()


def _pixels(image: Image.Image) -> np.ndarray:
    """The pixels in float64, H x W for gray, else H x W x 3 or 4."""
    if image.mode == "P" and image.palette is not None:
        image = image.convert(image.palette.mode)
    elif image.mode == "I":  # 16-bit PNG in older versions of Pillow
        image = image.convert("I;16")
    elif image.mode in ("LA", "PA"):
        image = image.convert("L" if image.mode == "LA" else "RGBA")
    elif image.mode not in ("1", "F", "I;16", "I;16B", "L", "RGB", "RGBA"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    scale = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    return pixels.astype(np.float64) / scale


def resize_image(im: np.ndarray, new_dims: Dims, interp_order: int = 1) -> np.ndarray:
    """An image H x W x K resized to `new_dims` (height, width), float32, with splines of order 0 to 5 (1 is linear).

    With one or three channels the numbers are, bit for bit, those of skimage.transform.resize(..., mode="constant") from
    release 0.19 on. It smooths before it shrinks, and treats pixels around the image as the image's darkest value. The same
    functions of SciPy are called in the same way, so scikit-image is not needed. Other numbers of channels are resized by
    scipy.ndimage.zoom, as in pycaffe.
    """
    im = np.asarray(im)
    height, width = (int(dim) for dim in new_dims)
    if im.ndim != 3 or im.size == 0 or height < 1 or width < 1:
        raise ArrayError(f"expected an image H x W x K and a new height and width, received {im.shape} and {new_dims}")
    if im.shape[2] not in (1, 3):
        scale = (height / im.shape[0], width / im.shape[1], 1)
        return ndimage.zoom(im, scale, order=interp_order).astype(np.float32)
    low, high = im.min(), im.max()
    if not high > low:
        return np.full((height, width, im.shape[2]), low, np.float32)
    unit = (im - low) / (high - low)
    return (_resize(unit, (height, width), interp_order) * (high - low) + low).astype(np.float32)


def _resize(im: np.ndarray, dims: tuple[int, int], order: int) -> np.ndarray:
    """skimage.transform.resize(im, dims, order=order, mode="constant") for values from 0 to 1."""
    if im.dtype == np.float16:
        im = im.astype(np.float32)
    factors = np.divide(im.shape, (*dims, im.shape[2]))
    smooth = im
    if (factors > 1).any():
        smooth = ndimage.gaussian_filter(im, np.maximum(0, (factors - 1) / 2), mode="grid-constant")
    zoomed = ndimage.zoom(smooth, 1 / factors, order=order, mode="grid-constant", grid_mode=True)
    return np.clip(zoomed, 0, 1)


def oversample(images: Sequence[np.ndarray] | np.ndarray, crop_dims: Dims) -> np.ndarray:
    """Ten crops of each image, 10 N x height x width x K in float32: four corners, centre, and the same five mirrored.

    images: N arrays H x W x K of one shape; crop_dims: height and width.
    """
    height, width = (int(dim) for dim in crop_dims)
    full_height, full_width, channels = images[0].shape
    down, right = full_height - height, full_width - width
    if down < 0 or right < 0:
        raise ArrayError(f"crops of {height} x {width} do not fit into images of {full_height} x {full_width}")
    corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
    crops = np.empty((len(images), 10, height, width, channels), np.float32)
    for i, image in enumerate(images):
        for j, (y, x) in enumerate(corners):
            crops[i, j] = image[y : y + height, x : x + width]
    crops[:, 5:] = crops[:, :5, :, ::-1]
    return crops.reshape(-1, height, width, channels)


class Transformer:
    """Turns images into inputs of a net, and back.

    inputs: name to shape N x K x H x W of each input, such as `{"data": net.blobs["data"].data.shape}`. The `set_` methods
    choose the steps for one input each. The order is: resize, transpose, swap channels, multiply by raw_scale, subtract
    the mean, multiply by input_scale.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]):
        self.inputs = inputs
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def __check_input(self, in_: str) -> None:
        if in_ not in self.inputs:
            names = ", ".join(self.inputs)
            raise DataError(f'"{in_}" is not one of the inputs {names}{did_you_mean(in_, self.inputs)}')

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Turns an image H' x W' x K into a new float32 array K x H x W for input `in_`, transposed if that is set."""
        self.__check_input(in_)
        caffe_in = np.array(data, np.float32)
        dims = tuple(self.inputs[in_][2:])
        if caffe_in.shape[:2] != dims:
            caffe_in = resize_image(caffe_in, dims)
        if in_ in self.transpose:
            caffe_in = caffe_in.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            caffe_in = caffe_in[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            caffe_in *= self.raw_scale[in_]
        if in_ in self.mean:
            caffe_in -= self.mean[in_]
        if in_ in self.input_scale:
            caffe_in *= self.input_scale[in_]
        return caffe_in

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """The inverse of `preprocess`, except for the size; axes of length 1 are removed."""
        self.__check_input(in_)
        image = np.array(data).squeeze()
        if image.ndim < 3 and (in_ in self.transpose or in_ in self.channel_swap):
            image = image.reshape(data.shape[-3:])
        if in_ in self.input_scale:
            image /= self.input_scale[in_]
        if in_ in self.mean:
            image += self.mean[in_]
        if in_ in self.raw_scale:
            image /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            image = image[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            image = image.transpose(np.argsort(self.transpose[in_]))
        return image

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Sets the order of axes: (2, 0, 1) turns H x W x K into K x H x W."""
        self.__check_input(in_)
        self.__check_count(order, len(self.inputs[in_]) - 1, "axes")
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Sets the order of channels, the first axis after the transpose: (2, 1, 0) turns RGB into BGR."""
        self.__check_input(in_)
        self.__check_count(order, self.inputs[in_][1], "channels")
        self.channel_swap[in_] = order

    def __check_count(self, order: Sequence[int], count: int, what: str) -> None:
        if len(order) != count:
            raise ArrayError(f"expected an order of {count} {what}, received {order}")

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Sets a factor that is applied before the mean: 255 for models trained on values up to 255."""
        self.__check_input(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """Sets the mean to subtract, in the net's channel order: K values, or an array K x H x W (H x W if K is 1).

        A mean of another height or width is resized, as in Caffe's io.py: the mean of ImageNet is 256 x 256, but the inputs
        of its nets are crops. A mean with one channel is used for all channels.
        """
        self.__check_input(in_)
        shape = tuple(self.inputs[in_][1:])
        mean = np.asarray(mean)
        resized = mean[np.newaxis] if mean.ndim == 2 and shape[0] == 1 else mean
        if resized.shape == shape[:1]:
            resized = resized.reshape(-1, 1, 1)
        elif resized.ndim != 3 or len(shape) != 3 or len(resized) not in (1, shape[0]):
            raise ArrayError(f"expected a mean of shape {shape} or {shape[:1]}, received {mean.shape}")
        elif resized.shape[1:] != shape[1:]:
            resized = resize_image(resized.transpose(1, 2, 0), shape[1:]).transpose(2, 0, 1)
        self.mean[in_] = resized

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Sets a factor that is applied after the mean."""
        self.__check_input(in_)
        self.input_scale[in_] = scale


# ---- what scripts find in pycaffe's module because it imports it ----------------------------------------------------


def __getattr__(name: str) -> Any:
    if name == "zoom":
        return ndimage.zoom
    if name in ("skimage", "resize"):
        try:
            transform = importlib.import_module("skimage.transform")
        except ImportError as error:
            raise AttributeError(f"caffe.io.{name} is scikit-image's: pip install scikit-image ({error})") from error
        return transform.resize if name == "resize" else importlib.import_module("skimage")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
