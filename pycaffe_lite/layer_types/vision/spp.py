"""SPP: spatial pyramid pooling, which turns images of any size into features of one length   (spp_layer.cpp).

    y[l, c, i, j] = the pooled x[c] in bin i, j of 2^l x 2^l

bottom[0]: `N x C x H x W`.
top[0]: `N x C (1 + 4 + 16 + ...)`; with one level only, `N x C x 1 x 1`.

Level l pools each plane into 2^l x 2^l bins; the levels follow each other in the top. The bins of a level are adjacent
windows, ceil(H / bins) high, over an image that is padded to fit.

He, Zhang, Ren and Sun, Spatial pyramid pooling in deep convolutional networks for visual recognition, 2014.

`spp_param`:
- `pyramid_height` (required): the number of levels.
- `pool` (default MAX): MAX or AVE; STOCHASTIC only if no level needs padding.
- `engine` (default DEFAULT): ignored.

Differences from Caffe: STOCHASTIC also runs on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import NetError
from ...layer import Blobs, Layer, register
from ...proto.caffe_pb2 import LayerParameter
from .pooling import Pooling


@register("SPP")
class SPP(Layer):
    exact_bottoms = 1
    exact_tops = 1
    reads_bottoms = False
    reads_tops = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self.levels = self.param.spp_param.pyramid_height
        if self.levels < 1:
            raise NetError(f"pyramid_height is at least 1, received {self.levels}")
        self.size: tuple[int, ...] = ()

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        if bottom[0].num_axes != 4 or not min(bottom[0].shape[2:]):
            raise NetError(f"expected 4 axes (N x C x H x W) with pixels, received {bottom[0]}")
        if self.size != bottom[0].shape[2:]:
            self.size = bottom[0].shape[2:]
            self.pools = [self._pool(level, bottom) for level in range(self.levels)]
            self.pooled = [self.new_blob() for _ in self.pools]
        for pool, blob in zip(self.pools, self.pooled):
            pool.reshape(bottom, [blob])
        if self.levels == 1:
            top[0].reshape_like(self.pooled[0])
        else:
            top[0].reshape(bottom[0].shape[0], sum(blob.count_from(1) for blob in self.pooled))

    def _pool(self, level: int, bottom: Blobs) -> Pooling:
        bins = 2**level
        param = LayerParameter(phase=self.phase)
        pooling = param.pooling_param
        pooling.pool = self.param.spp_param.pool  # type: ignore[assignment]  # two enums with the same values
        for name, size in zip("hw", self.size):
            kernel = -(-size // bins)
            pad = (kernel * bins - size + 1) // 2
            if pad >= kernel:
                raise NetError(f"{self.levels} levels are too many for {bottom[0]}: {bins} x {bins} bins do not fit")
            setattr(pooling, f"kernel_{name}", kernel)
            setattr(pooling, f"stride_{name}", kernel)
            setattr(pooling, f"pad_{name}", pad)
        pool = Pooling(param)
        pool.dtype = self.dtype
        pool.setup(bottom, [self.new_blob()])
        return pool

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        for pool, blob, part in zip(self.pools, self.pooled, self._parts(top[0].data_out)):
            pool.forward(bottom, [blob])
            part[...] = blob.data_in.reshape(part.shape)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if not propagate_down[0]:
            return
        one_level = self.new_blob(bottom[0].shape)  # Pooling overwrites the gradient of its bottom, and levels must add up
        total = bottom[0].diff_out
        total[...] = 0
        for pool, blob, part in zip(self.pools, self.pooled, self._parts(top[0].diff_in)):
            blob.diff_out[...] = part.reshape(blob.shape)
            pool.backward([blob], [True], [one_level])
            total += one_level.diff_in

    def _parts(self, array):
        """The columns of each level in an array of the top."""
        rows, start = array.reshape(array.shape[0], sum(blob.count_from(1) for blob in self.pooled)), 0
        for blob in self.pooled:
            yield rows[:, start : start + blob.count_from(1)]
            start += blob.count_from(1)
