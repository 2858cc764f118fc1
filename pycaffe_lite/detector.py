"""Detector: scores windows of images, as R-CNN does (python/caffe/detector.py; Girshick et al., arXiv 1311.2524)."""

from __future__ import annotations

import csv
import importlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import io
from .classifier import transformer_for
from .errors import DataError, did_you_mean
from .proto.caffe_pb2 import TEST
from .pycaffe import Net

COORDINATES = ("ymin", "xmin", "ymax", "xmax")

Path = str | os.PathLike
ImageWindows = tuple[Path, Sequence[Sequence[int]]]


class Detector(Net):
    """A net in the phase TEST whose first input takes crops of images and whose first output are scores.

    mean, input_scale, raw_scale, channel_swap: as in `io.Transformer`; the instance is `transformer`. context_pad: see
    `configure_crop`.
    """

    def __init__(
        self,
        model_file: Path,
        pretrained_file: Path,
        mean: np.ndarray | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = transformer_for(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows: Iterable[ImageWindows]) -> list[dict[str, Any]]:
        """Scores windows of image files.

        images_windows: pairs of a file name and its windows (ymin, xmin, ymax, xmax), such as `read_windows` gives. Returns
        one dict for each window, in order: `window`, `filename`, and `prediction`, the scores. Windows are warped to the
        net's input.
        """
        name = self.inputs[0]
        detections, inputs = [], []
        for filename, windows in images_windows:
            image = io.load_image(filename)
            for window in windows:
                inputs.append(self.transformer.preprocess(name, self.crop(image, window)))
                detections.append({"window": window, "filename": filename})
        if not inputs:
            return []
        predictions = self.forward_all(None, **{name: inputs})[self.outputs[0]]
        return [{**detection, "prediction": scores} for detection, scores in zip(detections, predictions, strict=True)]

    def detect_selective_search(self, image_fnames: Iterable[Path]) -> list[dict[str, Any]]:
        """`detect_windows` with windows from the module `selective_search_ijcv_with_python`, which needs MATLAB.

        It is at https://github.com/sergeyk/selective_search_ijcv_with_python. Raises DataError if it is missing.
        """
        try:
            selective_search = importlib.import_module("selective_search_ijcv_with_python")
        except ImportError as error:
            raise DataError(f"selective search needs the module selective_search_ijcv_with_python ({error})") from error
        files = [os.path.abspath(name) for name in image_fnames]
        return self.detect_windows(zip(files, selective_search.get_windows(files, cmd="selective_search_rcnn"), strict=True))

    def crop(self, im: np.ndarray, window: Sequence[int]) -> np.ndarray:
        """The window (ymin, xmin, ymax, xmax) of an image H x W x K; with context, in the size of the net's input."""
        box = np.asarray(window).astype(int)
        crop = im[box[0] : box[2], box[1] : box[3]]
        if crop.size == 0 or (box < 0).any():
            height, width = im.shape[:2]
            raise DataError(f"the window {', '.join(map(str, box))} does not lie in the image of {height} x {width}")
        return self._with_context(im, box) if self.context_pad else crop

    def _with_context(self, im: np.ndarray, box: np.ndarray) -> np.ndarray:
        """The box and its context, warped to the net's input; beyond the image it is filled with the mean."""
        size = self.blobs[self.inputs[0]].width  # the input is assumed to be square
        half = (box[2:] - box[:2] + 1) / 2
        center = box[:2] + half
        half *= size / (size - 2 * self.context_pad)
        start, end = np.round(center - half).astype(int), np.round(center + half).astype(int)
        zoom = size / (end - start + 1)
        pad = np.round(np.maximum(0, -start) * zoom).astype(int)
        start, end = np.maximum(start, 0), np.minimum(end, im.shape[:2])
        height, width = np.minimum(np.round((end - start + 1) * zoom).astype(int), size - pad)
        crop = np.ones(self.crop_dims, np.float32) * self.crop_mean
        inside = io.resize_image(im[start[0] : end[0], start[1] : end[1]], (height, width))
        crop[pad[0] : pad[0] + height, pad[1] : pad[1] + width] = inside
        return crop

    def configure_crop(self, context_pad: int | None) -> None:
        """Sets how many pixels on each side of the net's input show the surroundings of the window (0 or None: none).

        Pixels beyond the image are `crop_mean`, the mean in the image's own scale and order, or zero.
        """
        name = self.inputs[0]
        channels, *dims = self.blobs[name].shape[1:]
        if context_pad and not 0 < 2 * context_pad < dims[1]:
            raise DataError(f"expected a context_pad below half the input's width of {dims[1]}, received {context_pad}")
        self.context_pad = context_pad or 0
        self.crop_dims = np.array([*dims, channels])
        self.crop_mean = np.zeros(self.crop_dims, np.float32)
        if name in self.transformer.mean:
            swap = self.transformer.channel_swap.get(name, range(channels))
            mean = self.transformer.mean[name][np.argsort(swap)].transpose(1, 2, 0)
            self.crop_mean = mean / self.transformer.raw_scale.get(name, 1)


def read_windows(csv_file: Path) -> list[tuple[str, np.ndarray]]:
    """The windows of a CSV file with the columns filename, ymin, xmin, ymax and xmax, for `Detector.detect_windows`.

    Images are in the order of their first row, each with an integer array N x 4. Raises DataError, with the line, for a
    missing column or a value that is not a number.
    """
    windows: dict[str, list[list[int]]] = {}
    with open(csv_file, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = reader.fieldnames or []
        for column in ("filename", *COORDINATES):
            if column not in columns:
                raise DataError(f"{os.fspath(csv_file)} has no column {column}{did_you_mean(column, columns)}")
        for row in reader:
            try:
                window = [int(float(row[name])) for name in COORDINATES]
            except (TypeError, ValueError, OverflowError):
                where = f"{os.fspath(csv_file)}:{reader.line_num}"
                raise DataError(f"{where}: expected four numbers, received {[row[name] for name in COORDINATES]}") from None
            windows.setdefault(row["filename"], []).append(window)
    return [(name, np.array(boxes)) for name, boxes in windows.items()]
