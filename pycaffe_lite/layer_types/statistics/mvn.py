"""MVN: `y = (x - mean) / (standard deviation + eps)`, over each plane or each image   (mvn_layer.cpp).

bottom[0]: `N x C x H x W`, or fewer axes.   top[0]: the same with four axes; may be the same blob.

As in Caffe, the gradient neglects eps.

`mvn_param`:
- `normalize_variance` (default true): false subtracts the mean only.
- `across_channels` (default false): mean and deviation over `C x H x W` instead of `H x W`.
- `eps` (default 1e-9): added to the standard deviation.

Differences from Caffe: works in place; Caffe's gradient is wrong there.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...device import array_module
from ...layer import Blobs, register
from ...ops.normalization import group_statistics
from ._normalization import Normalization


@register("MVN")
class MVN(Normalization):
    axis = 1

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        images, channels, height, width = (bottom[0].legacy_shape(axis) for axis in range(4))
        top[0].reshape(images, channels, height, width)
        across = self.param.mvn_param.across_channels
        self.view = (images, channels, height * width) if across else (images * channels, 1, height * width)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        if not bottom[0].count:
            return
        param = self.param.mvn_param
        mean, variance = group_statistics(bottom[0].data_in.reshape(self.view), self.axis)
        xp = array_module(mean)
        scale = 1 / (xp.sqrt(variance) + param.eps) if param.normalize_variance else xp.ones_like(mean)
        self.normalize(bottom, top, mean, scale)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0] and bottom[0].count:
            self.gradient(top, bottom, self.param.mvn_param.normalize_variance)
