"""Im2col: lays out the values in each window of an image along the channels   (im2col_layer.cpp).

    y[(c, k), i] = x[c, stride i - pad + dilation k]
    (c: channel, k: kernel position, i: position, from 0 on; x is 0 beyond the image)

bottom[0]: `N x C x H x W` (any number of batch axes before `axis`, any number of spatial axes after it).
top[0]: `N x (C * kernel positions) x H' x W'`, H' as in Convolution.

A Convolution multiplies its weights with these values. Only `kernel_size`, `stride`, `pad`, `dilation`, their `_h` and `_w`
forms, and `axis` have an effect.

`convolution_param`: as in Convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...errors import NetError
from ...layer import Blobs, Layer, WindowSizes, register
from ...ops.im2col import add_up_windows, lay_out_windows
from ...proto.caffe_pb2 import LayerParameter
from ._convolution import spatial, windows_along
from ._window import read_window


@register("Im2col")
class Im2col(Layer):
    param_field = "convolution_param"
    exact_bottoms = 1
    exact_tops = 1
    reads_bottoms = False
    reads_tops = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.convolution_param
        self.axis = bottom[0].axis(param.axis)
        axes = bottom[0].num_axes - self.axis - 1
        if axes < 1:
            raise NetError(f"expected at least one spatial axis behind axis {self.axis}, received {bottom[0]}")
        self.windows = [
            spatial(param, name, axes, default)
            for name, default in (("kernel_size", None), ("stride", 1), ("pad", 0), ("dilation", 1))
        ]
        if any(value < 1 for name in (0, 1, 3) for value in self.windows[name]):
            raise NetError("kernel_size, stride and dilation are at least 1")

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        outer, (channels, *size) = bottom[0].shape[: self.axis], bottom[0].shape[self.axis :]
        if len(size) != len(self.windows[0]):
            raise NetError(f"the number of spatial axes was {len(self.windows[0])} at set-up, received {bottom[0]}")
        out = [windows_along(s + 2 * p - (d * (k - 1) + 1), step) for s, k, step, p, d in zip(size, *self.windows)]
        if min(out) < 1:
            raise NetError(f"the kernel does not fit {bottom[0]}: kernel_size, stride, pad, dilation are {self.windows}")
        top[0].reshape(*outer, channels * math.prod(self.windows[0]), *out)
        self.geometry = tuple(zip(size, out, *self.windows))
        self.planes = math.prod(outer), channels

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        if bottom[0].count:
            lay_out_windows(self._planes(bottom[0].data_in), self._planes(top[0].data_out), self.geometry)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0] and bottom[0].count:
            add_up_windows(self._planes(top[0].diff_in), self._planes(bottom[0].diff_out), self.geometry)

    def _planes(self, array):
        return array.reshape(*self.planes, -1)

    @classmethod
    def window_of(cls, param: LayerParameter) -> WindowSizes | None:
        return read_window(param.convolution_param)
