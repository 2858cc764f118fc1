"""Power: `y = (shift + scale * x) ^ power`   (power_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

A power or scale of 0 gives a constant, whatever x is, and a gradient of 0.

`power_param`:
- `power` (default 1): the power.
- `scale` (default 1): factor on x.
- `shift` (default 0): added to scale * x.

Differences from Caffe: in place the gradient is right for all powers; Caffe takes y for x.
"""

from __future__ import annotations

from ..device import kernel, prange
from ..layer import Blobs, register
from ._neuron import Neuron


@register("Power")
class Power(Neuron):
    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.power_param
        self.power, self.scale, self.shift = param.power, param.scale, param.shift
        self.slope = self.power * self.scale
        self.reads_input = self.slope != 0 and self.power != 1

    def values(self, x, y):
        real = x.dtype.type
        if self.slope != 0 and self.power == 1:
            linear(x, real(self.scale), real(self.shift), y)
        else:
            power_forward(x, real(self.power), real(self.scale), real(self.shift), y)

    def gradient(self, x, y, dy, dx):
        real = x.dtype.type
        if self.slope == 0:
            dx.fill(0)
        elif self.power == 1:
            linear(dy, real(self.scale), real(0), dx)
        else:
            power_backward(x, dy, real(self.power), real(self.scale), real(self.shift), dx)


@kernel
def linear(x, scale, shift, y):
    for i in prange(x.size):
        y[i] = scale * x[i] + shift


@kernel
def power_forward(x, power, scale, shift, y):
    for i in prange(x.size):
        y[i] = (scale * x[i] + shift if scale != 0 else shift) ** power


@kernel
def power_backward(x, dy, power, scale, shift, dx):
    one = x.dtype.type(1)
    for i in prange(x.size):
        dx[i] = dy[i] * scale * power * (scale * x[i] + shift) ** (power - one)
