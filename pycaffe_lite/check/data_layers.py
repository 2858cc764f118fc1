"""Shapes of data layers without a thread or a batch: from their data where these are there, else from the prototxt."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..errors import CaffeError, DataMissing
from ..layer import Blobs, class_of
from ..layer_types.data._batches import Batches, ItemShape
from ..proto.caffe_pb2 import LayerParameter
from .findings import Findings


def shapes(layer: Batches, bottom: Blobs, top: Blobs, findings: Findings, where: str) -> Sequence[ItemShape]:
    """The shapes of the tops of a data layer, None for one that is unknown.

    Missing data are a warning. Raises `CaffeError` for what is wrong with the layer, or with data that are there.
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
    """How many items the data of a layer have, None where they are not there or cannot be counted."""
    kind = class_of(param.type)
    try:
        return kind.count_items(param) if issubclass(kind, Batches) else None
    except CaffeError:
        return None  # `shapes` has told of it


def _forget_missing_mean(param: LayerParameter, findings: Findings, where: str) -> None:
    transform = param.transform_param
    if transform.mean_file and not transform.mean_value and not os.path.exists(transform.mean_file):
        findings.warning(missing_file("mean_file", transform.mean_file), where)
        transform.ClearField("mean_file")


def missing_file(field: str, path: str) -> str:
    """What to say of a file that a field names and that is not there."""
    return f'there is no {field} "{path}"; relative paths start at {os.getcwd()}'
