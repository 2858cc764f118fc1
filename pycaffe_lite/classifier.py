"""Classifier: a net that classifies images (python/caffe/classifier.py)."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from . import io
from .proto.caffe_pb2 import TEST
from .pycaffe import Net


class Classifier(Net):
    """A net in the phase TEST whose first input takes images and whose first output are scores.

    image_dims: height and width to which images are resized before they are cropped to the net's input; by default those of
    the input. mean, input_scale, raw_scale, channel_swap: as in `io.Transformer`; the instance is `transformer`.
    """

    def __init__(
        self,
        model_file: str | os.PathLike,
        pretrained_file: str | os.PathLike,
        image_dims: Sequence[int] | None = None,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = transformer_for(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims: io.Dims = self.crop_dims if image_dims is None else image_dims

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Scores N x C of N images H x W x K.

        With `oversample` the scores are the mean over ten crops (corners, centre, mirrored), else those of the centre crop.
        """
        resized = np.array([io.resize_image(image, self.image_dims) for image in inputs])
        if oversample:
            crops = io.oversample(resized, self.crop_dims)
        else:
            height, width = self.crop_dims
            top, left = (np.array(self.image_dims) - self.crop_dims) // 2
            crops = resized[:, top : top + height, left : left + width]
        images = [self.transformer.preprocess(self.inputs[0], crop) for crop in crops]
        scores = self.forward_all(None, **{self.inputs[0]: images})[self.outputs[0]]
        return scores.reshape(len(inputs), 10, -1).mean(1) if oversample else scores


def transformer_for(
    net: Net,
    mean: np.ndarray | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> io.Transformer:
    """The transformer of a net's first input for images H x W x K; steps whose argument is None are left out."""
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer
