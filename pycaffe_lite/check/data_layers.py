"""Shapes of data layers without a thread or a batch: from their data if present, else from the prototxt."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..errors import CaffeError, DataMissing
from ..layer import Blobs, class_of
from ..layer_types.data._batches import Batches, ItemShape
from ..proto.caffe_pb2 import LayerParameter
from .findings import Findings


def shapes(layer: Batches, bottom: Blobs, top: Blobs, findings: Findings, where: str) -> Sequence[ItemShape]:
    """The shapes of the tops of a data layer, None for an unknown one.

    Missing data are a warning. Raises `CaffeError` if the layer, or existing data, are wrong.
    """
    _forget_missing_mean(layer.param, findings, where)
    batch = layer.own_value(layer.param, "batch_size")
    try:
        items = layer.item_shapes(bottom, top)
    except DataMissing as error:
        findings.warning(str(error), where)
        items = layer.item_shapes_without_data(len(top))
    return [None if item is None else (batch, *item) for item in items]


def count_items(param: LayerParameter) -> int | None:
    """The number of items in the data of a layer, None if they are missing or cannot be counted."""
    kind = class_of(param.type)
    try:
        return kind.count_items(param) if issubclass(kind, Batches) else None
    except CaffeError:
        return None  # `shapes` has reported it


def _forget_missing_mean(param: LayerParameter, findings: Findings, where: str) -> None:
    transform = param.transform_param
    if transform.mean_file and not transform.mean_value and not os.path.exists(transform.mean_file):
        findings.warning(missing_file("mean_file", transform.mean_file), where)
        transform.ClearField("mean_file")


def missing_file(field: str, path: str) -> str:
    """The message for a missing file that a field names."""
    return f'there is no {field} "{path}"; relative paths start at {os.getcwd()}'
