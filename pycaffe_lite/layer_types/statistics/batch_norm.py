"""BatchNorm: `y = (x - mean) / sqrt(variance + eps)`, for each channel over the batch   (batch_norm_layer.cpp).

bottom[0], top[0]: `N x C x ...`, may be the same blob. For a learned scale and shift add a Scale layer after it.
Parameters, not learned: running sums of the mean (`C`) and variance (`C`), and their weight (`1`).

Each forward that uses the batch's statistics multiplies the sums by `moving_average_fraction`. It then adds the mean,
variance m / (m - 1), and 1, where m is the number of values in a channel. The stored statistics are the sums divided by the
weight, or 0 if the weight is 0. The layer sets `lr_mult: 0` for its parameters; another value is an error.

Ioffe and Szegedy, Batch normalization, 2015.

`batch_norm_param`:
- `use_global_stats` (default in TEST): takes mean and variance from the parameters, not from the batch.
- `moving_average_fraction` (default 0.999): the factor on the running sums in each batch.
- `eps` (default 1e-5): added to the variance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...device import array_module, elementwise
from ...errors import NetError
from ...layer import Blobs, register
from ...ops.normalization import group_statistics, normalize
from ...proto.caffe_pb2 import TEST, FillerParameter
from ._normalization import Normalization


@register("BatchNorm")
class BatchNorm(Normalization):
    axis = 0

    @property
    def reads_bottoms(self) -> bool:
        return not self.use_stored

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.batch_norm_param
        self.use_stored = param.use_global_stats if param.HasField("use_global_stats") else self.phase == TEST
        if bottom[0].num_axes < 2:
            raise NetError(f"expected at least 2 axes (N x C x ...), received {bottom[0]}")
        self.channels = bottom[0].shape[1]
        for size in (self.channels, self.channels, 1):
            self.add_param((size,), FillerParameter())
        for spec in self.param.param:
            if spec.lr_mult:
                raise NetError(f"the statistics are not learned: expected lr_mult 0, received {spec.lr_mult:g}")
        while len(self.param.param) < len(self.blobs):
            self.param.param.add(lr_mult=0)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        shape = bottom[0].shape
        if len(shape) < 2 or shape[1] != self.channels:
            raise NetError(f"expected {self.channels} channels (N x C x ...), received {bottom[0]}")
        top[0].reshape_like(bottom[0])
        self.view = shape[0], shape[1], bottom[0].count_from(2)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        if not bottom[0].count:
            return
        if self.use_stored:
            mean, variance = self._stored()
            scale = 1 / array_module(variance).sqrt(variance + self.param.batch_norm_param.eps)
        else:
            mean, variance = group_statistics(bottom[0].data_in.reshape(self.view), self.axis)
            scale = array_module(variance).empty_like(variance)
            self._store(mean, variance, bottom[0].count // self.channels, scale)
        self.normalize(bottom, top, mean, scale)

    def _stored(self):
        """The stored mean and variance, 1 x C x 1."""
        mean, variance, weight = (blob.data_in.astype(float) for blob in self.blobs)
        factor = 1 / float(weight[0]) if weight[0] else 0
        return mean.reshape(1, -1, 1) * factor, variance.reshape(1, -1, 1) * factor

    def _store(self, mean, variance, values: int, scale) -> None:
        """Adds the batch's statistics to the running sums, and writes the factor for the batch to `scale`."""
        param = self.param.batch_norm_param
        means, variances, weight = (blob.data_inout for blob in self.blobs)
        mean, variance, scale = mean.reshape(-1), variance.reshape(-1), scale.reshape(-1)
        unbiased, fraction = values / max(values - 1, 1), param.moving_average_fraction
        numbers = {"unbiased": unbiased, "eps": param.eps, "fraction": fraction}
        update_running(mean, variance, means, variances, out=(scale, means, variances), **numbers)
        weight *= fraction
        weight += 1

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0] or not bottom[0].count:
            return
        if self.use_stored:
            dy, dx = top[0].diff_in.reshape(self.view), bottom[0].diff_out.reshape(self.view)
            normalize(dy, array_module(dy).zeros_like(self.mean), self.scale, dx, self.axis)
        else:
            self.gradient(top, bottom)

    def multiply_adds(self, bottom: Blobs, top: Blobs) -> int:
        return top[0].count


@elementwise
def update_running(mean, variance, means, variances, *, unbiased, eps, fraction, one=1):
    """1 / sqrt(variance + eps), and the running sums of the mean and of the unbiased variance."""
    return one / np.sqrt(variance + eps), means * fraction + mean, variances * fraction + variance * unbiased
