"""LRN: `y = x / s^beta`, where s is the strength of the neighbours   (lrn_layer.cpp).

    ACROSS_CHANNELS   s = k + alpha / n   * the sum of x^2 over the n channels around this one
    WITHIN_CHANNEL    s = 1 + alpha / n^2 * the sum of x^2 over the n x n pixels around this one

bottom[0], top[0]: `N x C x H x W`, may be the same blob. Missing neighbours count as 0.

Krizhevsky, Sutskever and Hinton, ImageNet classification with deep convolutional neural networks, 2012.

`lrn_param`:
- `local_size` (default 5): n, an odd number.
- `alpha` (default 1): factor on the sum.
- `beta` (default 0.75): the power.
- `norm_region` (default ACROSS_CHANNELS): which neighbours, see above.
- `k` (default 1): for ACROSS_CHANNELS only.
- `engine` (default DEFAULT): ignored.

Differences from Caffe: works in place; Caffe's gradient is wrong there.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import NetError
from ...layer import Blobs, Layer, register
from ...ops.lrn import Strength, lrn, lrn_gradient
from ...proto.caffe_pb2 import LRNParameter


@register("LRN")
class LRN(Layer):
    keeps_coordinates = True
    exact_bottoms = 1
    exact_tops = 1
    reads_tops = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.lrn_param
        if param.local_size % 2 == 0:
            raise NetError(f"local_size is odd, received {param.local_size}")
        within = param.norm_region == LRNParameter.WITHIN_CHANNEL
        alpha = param.alpha / param.local_size ** (2 if within else 1)
        self.strength = Strength(param.local_size // 2, within, alpha, param.beta, 1 if within else param.k)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        if bottom[0].num_axes != 4:
            raise NetError(f"expected 4 axes (N x C x H x W), received {bottom[0]}")
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        lrn(bottom[0].data_in, top[0].data_out, self.strength)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            lrn_gradient(bottom[0].data_in, top[0].diff_in, bottom[0].diff_out, self.strength)
