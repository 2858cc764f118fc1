"""Transformer: crop, mirror, mean and scale, for a whole batch of images at once (Caffe's data_transformer.cpp).

Each value becomes (value - mean) * scale. TRAIN crops every image at its own random place, TEST crops at the centre, rounded
down. `mirror` flips an image with probability 1/2 in both phases. A mean image has the size of the uncropped images and is
cropped at the same place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..blob import sizes_text
from ..errors import DataError, ModelFileError, NetError
from ..proto.caffe_pb2 import TRAIN, TransformationParameter
from ..proto.model_file import decode_blob, read_message


class Transformer:
    """Applies a `transform_param` in one phase, with draws from one random stream.

    `color` says how encoded images must be decoded: True (3 channels, force_color), False (1 channel, force_gray) or None
    (the channels of the file). `crops`, `draws`: whether it crops images, and whether it draws random numbers. Raises
    `NetError` for settings that exclude each other, and `ModelFileError` for a bad mean file.
    """

    def __init__(self, param: TransformationParameter, phase: int, rng: np.random.Generator):
        if param.HasField("mean_file") and param.mean_value:
            raise NetError("transform_param: expected mean_file or mean_value, received both")
        if param.force_color and param.force_gray:
            raise NetError("transform_param: expected force_color or force_gray, received both")
        self.rng = rng
        self.color = True if param.force_color else False if param.force_gray else None
        self._crop = param.crop_size
        self._random_crop = phase == TRAIN and self._crop > 0
        self._mirror = param.mirror
        self.crops = self._crop > 0
        self.draws = self._random_crop or self._mirror
        self._scale = param.scale
        self._mean_file = param.mean_file
        self._mean_image = read_mean(param.mean_file) if param.HasField("mean_file") else None
        self._mean_values = np.array(param.mean_value, np.float32)

    def output_shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """The shape of a transformed image. Raises `DataError` if images of the given shape do not fit the settings."""
        received = (channels, height, width)
        if self._mean_image is not None and self._mean_image.shape != received:
            expected = sizes_text(self._mean_image.shape)
            raise DataError(
                f'expected images of {expected}, as the mean file "{self._mean_file}", received {sizes_text(received)}'
            )
        if self._mean_values.size not in (0, 1, channels):
            raise DataError(f"expected 1 mean_value or {channels}, one for each channel, received {self._mean_values.size}")
        if self._crop > min(height, width):
            raise DataError(f"expected images of at least {self._crop} x {self._crop} to crop, received {height} x {width}")
        return (channels, self._crop, self._crop) if self._crop else received

    def transform(self, images: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Images N x C x H x W (uint8 or floating point) as floats N x `output_shape`.

        `out` is a floating-point array to fill; by default a new float32 array is made. Raises the same as `output_shape`.
        """
        shape = (len(images), *self.output_shape(*images.shape[1:]))
        out = np.empty(shape, np.float32) if out is None else out
        mean = None if self._mean_image is None else self._mean_image[np.newaxis]
        if self._random_crop:
            images, mean = self._crop_at_random(images, mean)
        elif self._crop:
            y, x = ((size - self._crop) // 2 for size in images.shape[2:])
            centre = np.s_[:, :, y : y + self._crop, x : x + self._crop]
            images, mean = images[centre], None if mean is None else mean[centre]
        np.copyto(out, images)
        if mean is not None:
            out -= mean
        elif self._mean_values.size:
            out -= self._mean_values.reshape(1, -1, 1, 1)
        if self._scale != 1:
            out *= self._scale
        if self._mirror:
            flipped = self.rng.integers(2, size=len(out), dtype=np.uint8) == 1
            out[flipped] = out[flipped, :, :, ::-1]
        return out

    def _crop_at_random(self, images: Any, mean: Any) -> tuple[Any, Any]:
        """Crops each image at its own random place, and the mean at the same places."""
        count, _, height, width = images.shape
        y = self.rng.integers(height - self._crop + 1, size=count)
        x = self.rng.integers(width - self._crop + 1, size=count)

        def cut(array: Any, index: Any) -> Any:
            windows = sliding_window_view(array, (self._crop, self._crop), axis=(2, 3))  # N x C x Y x X x crop x crop
            return windows[index, :, y, x]

        return cut(images, np.arange(count)), None if mean is None else cut(mean, 0)


def read_mean(path: str) -> np.ndarray:
    """The image C x H x W of a BlobProto file, float32."""
    try:
        blob = decode_blob(read_message(path, "BlobProto"))
    except ModelFileError as error:
        raise ModelFileError(f"mean_file {error}") from error
    if len(blob.shape) < 3 or any(length != 1 for length in blob.shape[:-3]):
        raise ModelFileError(
            f"mean_file {path}: expected one image, 1 x C x H x W, received a blob of {sizes_text(blob.shape)}"
        )
    return blob.data.astype(np.float32).reshape(blob.shape[-3:])
