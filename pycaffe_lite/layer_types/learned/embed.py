"""Embed: `y = W[x] (+ b)`, the row of W with index x   (embed_layer.cpp).

bottom[0]: indices from 0 to `input_dim` - 1, in any shape; they get no gradient.   top[0]: that shape, `x num_output`.
Parameters: W, `input_dim x num_output`; b, `num_output`, unless `bias_term` is false.

`embed_param`:
- `num_output` (required): the length of a row.
- `input_dim` (required): the number of rows.
- `bias_term` (default true): adds b.
- `weight_filler`, `bias_filler` (default 0): the first values.

Differences from Caffe: an index out of range is an error; Caffe checks it only in debug builds.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, Layer, register
from ...ops.rows import add_rows, row_indices


@register("Embed")
class Embed(Layer):
    weights_and_bias = True
    exact_bottoms = 1
    exact_tops = 1
    reads_tops = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.embed_param
        for name in ("num_output", "input_dim"):
            if getattr(param, name) < 1:
                raise NetError(f"{name} is at least 1, received {getattr(param, name)}")
        self.add_param((param.input_dim, param.num_output), param.weight_filler)
        if param.bias_term:
            self.add_param((param.num_output,), param.bias_filler)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        self.rows, self.columns = self.blobs[0].shape
        top[0].reshape(*bottom[0].shape, self.columns)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        weight, y = self.blobs[0].data_in, top[0].data_out.reshape(-1, self.columns)
        array_module(y).take(weight, row_indices(bottom[0].data_in, self.rows), axis=0, out=y)
        if len(self.blobs) > 1:
            y += self.blobs[1].data_in

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        if propagate_down[0]:
            raise NetError("indices have no gradient: bottom 0 cannot be propagated to")
        dy = top[0].diff_in.reshape(-1, self.columns)
        if self.param_propagate_down[0]:
            add_rows(dy, row_indices(bottom[0].data_in, self.rows), self.blobs[0].diff_inout)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            bias_diff = self.blobs[1].diff_inout
            bias_diff += dy.sum(axis=0)
