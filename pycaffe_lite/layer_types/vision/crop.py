"""Crop: cuts a blob to the size of another   (crop_layer.cpp).

    y[..., i, j, ...] = x[..., i + offset, j + offset, ...]

bottom[0]: any shape.   bottom[1]: any values; only its shape counts, from `axis` on.
top[0]: the shape of bottom[0] before `axis`, of bottom[1] from there on.

`crop_param`:
- `axis` (default 2): the first axis that is cut, may be negative; all axes after it are cut too.
- `offset` (default 0): where the cut begins, one value for all these axes or one for each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import NetError
from ...layer import Blobs, CoordinateMap, Layer, register
from ...proto.caffe_pb2 import LayerParameter


@register("Crop")
class Crop(Layer):
    mapped_bottoms = 1  # the other bottom only gives a size
    exact_bottoms = 2
    exact_tops = 1
    reads_bottoms = False
    reads_tops = False

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        x, size = bottom
        axis = x.axis(self.param.crop_param.axis)
        if size.num_axes < x.num_axes:
            raise NetError(f"expected a bottom 1 of at least {x.num_axes} axes, as bottom 0 has, received {size}")
        offsets = self._offsets(x.num_axes - axis)
        self.window = [slice(None)] * axis
        for i, offset in enumerate(offsets, start=axis):
            end = offset + size.shape[i]
            if end > x.shape[i]:
                raise NetError(
                    f"axis {i}: an offset of {offset} and a size of {size.shape[i]} do not fit into the {x.shape[i]} of {x}"
                )
            self.window.append(slice(offset, end))
        top[0].reshape(*x.shape[:axis], *size.shape[axis : x.num_axes])

    def _offsets(self, count: int) -> list[int]:
        """One offset for each axis that is cut."""
        offsets = list(self.param.crop_param.offset)
        if len(offsets) > 1 and len(offsets) != count:
            raise NetError(f"expected one offset, or one for each of the {count} axes, received {len(offsets)}")
        return offsets if len(offsets) == count else (offsets or [0]) * count

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        top[0].data_out[...] = bottom[0].data_in[tuple(self.window)]

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for blob, propagate in zip(bottom, propagate_down, strict=True):
            if propagate:
                blob.diff_out.fill(0)
        if propagate_down[0]:
            bottom[0].diff_inout[tuple(self.window)] = top[0].diff_in

    @classmethod
    def coordinate_map(cls, param: LayerParameter) -> CoordinateMap | None:
        return param.crop_param.axis - 1, 1, -np.array(list(param.crop_param.offset) or [0])
