"""PReLU: `y = x` where x > 0, else `a * x`, with a learned slope a for each channel   (prelu_layer.cpp).

bottom[0], top[0]: `N x C x ...`, may be the same blob.   Parameter: a, `C`, or a scalar with `channel_shared`.

He et al., Delving deep into rectifiers, 2015.

`prelu_param`:
- `filler` (default 0.25): the first values of a.
- `channel_shared` (default false): one slope for all channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, register
from ...ops.channels import sloped
from ...proto.caffe_pb2 import FillerParameter
from ..elementwise._neuron import Neuron


@register("PReLU")
class PReLU(Neuron):
    reads_bottoms = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.prelu_param
        self.shared = param.channel_shared
        if bottom[0].num_axes < 2:
            raise NetError(f"expected a bottom of at least 2 axes, N x C x ..., received {bottom[0]}")
        filler = param.filler if param.HasField("filler") else FillerParameter(value=0.25)
        self.add_param(() if self.shared else bottom[0].shape[1:2], filler)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        x, slopes = bottom[0], self.blobs[0].count
        if x.num_axes < 2 or (not self.shared and x.shape[1] != slopes):
            raise NetError(f"expected a bottom N x {'C' if self.shared else slopes} x ..., received {x}")
        self.axes = (x.shape[0], slopes, x.count_from(1 if self.shared else 2))
        super().reshape(bottom, top)

    def values(self, x, y):
        self._sloped(x, x, y)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if self.param_propagate_down[0]:  # before dx, which overwrites dy in place
            x = bottom[0].data_in
            xp = array_module(x)
            below = xp.minimum(x, 0).reshape(self.axes)
            slope_diff = self.blobs[0].diff_inout.reshape(-1)
            slope_diff += xp.einsum("ncx,ncx->c", below, top[0].diff_in.reshape(self.axes))
        super().backward(top, propagate_down, bottom)

    def gradient(self, x, y, dy, dx):
        self._sloped(x, dy, dx)

    def _sloped(self, x, values, out):
        slope = self.blobs[0].data_in.reshape(-1)
        sloped(x.reshape(self.axes), values.reshape(self.axes), slope, out.reshape(self.axes))

    def multiply_adds(self, bottom: Blobs, top: Blobs) -> int:
        return top[0].count
