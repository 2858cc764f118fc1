"""InnerProduct: `y = x W' + b`, a fully connected layer   (inner_product_layer.cpp).

bottom[0]: the axes before `axis` are M items, the others K values for each item.   top[0]: `M... x num_output`.
Parameters: W, `num_output x K` (`K x num_output` with `transpose`); b, `num_output`, unless `bias_term` is false.

`inner_product_param`:
- `num_output` (required): values for each item of the top.
- `bias_term` (default true): adds b.
- `weight_filler`, `bias_filler` (default 0): the first values.
- `axis` (default 1): this axis and all after it become one vector; may be negative.
- `transpose` (default false): W is stored as `K x num_output`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...device import array_module
from ...errors import NetError
from ...layer import Blobs, Layer, register
from ...ops.matmul import matmul


@register("InnerProduct")
class InnerProduct(Layer):
    weights_and_bias = True
    exact_bottoms = 1
    exact_tops = 1
    reads_tops = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.inner_product_param
        if param.num_output < 1:
            raise NetError(f"num_output is at least 1, received {param.num_output}")
        self.num_output, self.transpose = param.num_output, param.transpose
        self.inputs = bottom[0].count_from(bottom[0].axis(param.axis))
        shape = (self.inputs, self.num_output) if self.transpose else (self.num_output, self.inputs)
        self.add_param(shape, param.weight_filler)
        if param.bias_term:
            self.add_param((self.num_output,), param.bias_filler)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        axis = bottom[0].axis(self.param.inner_product_param.axis)
        inputs = bottom[0].count_from(axis)
        if inputs != self.inputs:
            raise NetError(f"the weights take {self.inputs} inputs, received {inputs} in a bottom of {bottom[0]}")
        self.items = bottom[0].count_from(0, axis)
        top[0].reshape(*bottom[0].shape[:axis], self.num_output)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        x, y = self._matrices(bottom[0].data_in, top[0].data_out)
        if len(self.blobs) > 1:
            y[...] = self.blobs[1].data_in
        matmul(x, self.blobs[0].data_in, y, trans_b=not self.transpose, beta=float(len(self.blobs) > 1))

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        x, dy = self._matrices(bottom[0].data_in, top[0].diff_in)
        if self.param_propagate_down[0]:
            dw = self.blobs[0].diff_inout
            if self.transpose:
                matmul(x, dy, dw, trans_a=True, beta=1)
            else:
                matmul(dy, x, dw, trans_a=True, beta=1)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            db = self.blobs[1].diff_inout
            db += array_module(dy).sum(dy, axis=0)
        if propagate_down[0]:
            dx, _ = self._matrices(bottom[0].diff_out, dy)
            matmul(dy, self.blobs[0].data_in, dx, trans_b=self.transpose)

    def _matrices(self, x, y):
        return x.reshape(self.items, self.inputs), y.reshape(self.items, self.num_output)

    def multiply_adds(self, bottom: Blobs, top: Blobs) -> int:
        return self.items * self.inputs * self.num_output
