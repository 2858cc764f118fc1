"""DummyData: blobs that fillers fill   (dummy_data_layer.cpp).

No bottoms.   top: any number of blobs.

`dummy_data_param`: each field is given once for all tops, or once for each.
- `data_filler` (default 0): the values. A constant is filled in once, other values anew in each forward. So a layer in place
  on a constant sees its own results in the next forward, as in Caffe.
- `shape` (required): the shape.
- `num`, `channels`, `height`, `width` (default none): the old form of `shape`. Not with `shape`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ... import filler
from ...errors import NetError
from ...layer import Blobs, Layer, register
from ...proto.caffe_pb2 import DummyDataParameter, FillerParameter

T = TypeVar("T")


@register("DummyData")
class DummyData(Layer):
    exact_bottoms = 0
    min_tops = 1

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.dummy_data_param
        for blob, shape in zip(top, _shapes(param, len(top)), strict=True):
            blob.reshape(shape)
        self.fillers = _per_top(param.data_filler or [FillerParameter()], len(top), "data_filler")
        for blob, filler_param in zip(top, self.fillers, strict=True):
            self.fill(blob, filler_param)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """The tops keep their shape."""

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        for blob, filler_param in zip(top, self.fillers, strict=True):
            if filler_param.type != "constant":
                filler.fill(filler_param, blob, self.rng)


def _shapes(param: DummyDataParameter, tops: int) -> list[Sequence[int]]:
    legacy = {name: list(getattr(param, name)) for name in ("num", "channels", "height", "width")}
    if not any(legacy.values()):
        return _per_top([list(shape.dim) for shape in param.shape], tops, "shape")
    if param.shape:
        raise NetError("expected either shape or num, channels, height and width, received both")
    dims = [_per_top(values, tops, name) for name, values in legacy.items()]
    return list(zip(*dims, strict=True))


def _per_top(values: Sequence[T], tops: int, name: str) -> list[T]:
    """`values`, one for each top; a single value is used for all tops."""
    if len(values) not in (1, tops):
        raise NetError(f"expected one {name}, or one for each of the {tops} tops, received {len(values)}")
    return list(values) if len(values) == tops else list(values) * tops
