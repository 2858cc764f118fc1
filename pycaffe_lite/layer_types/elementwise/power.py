"""Power: `y = (shift + scale * x) ^ power`   (power_layer.cpp).

bottom[0], top[0]: any shape, may be the same blob.

A power or scale of 0 gives a constant for any x, and a gradient of 0.

`power_param`:
- `power` (default 1): the power.
- `scale` (default 1): factor on x.
- `shift` (default 0): added to scale * x.

Differences from Caffe: in place the gradient is right for all powers; Caffe uses y for x.
"""

from __future__ import annotations

from ...device import elementwise
from ...layer import Blobs, register
from ._neuron import Neuron


@register("Power")
class Power(Neuron):
    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.power_param
        self.power, self.scale, self.shift = param.power, param.scale, param.shift
        self.slope = self.power * self.scale
        self.reads_bottoms = self.slope != 0 and self.power != 1

    def values(self, x, y):
        if self.slope != 0 and self.power == 1:
            linear(x, scale=self.scale, shift=self.shift, out=y)
        else:
            power_of(x, power=self.power, scale=self.scale, shift=self.shift, out=y)

    def gradient(self, x, y, dy, dx):
        if self.slope == 0:
            dx.fill(0)
        elif self.power == 1:
            linear(dy, scale=self.scale, shift=0, out=dx)
        else:
            power_gradient(x, dy, power=self.power, scale=self.scale, shift=self.shift, out=dx)


@elementwise
def linear(x, *, scale, shift):
    return scale * x + shift


@elementwise
def power_of(x, *, power, scale, shift):
    return (scale * x + shift if scale != 0 else shift) ** power


@elementwise
def power_gradient(x, dy, *, power, scale, shift, one=1):
    return dy * scale * power * (scale * x + shift) ** (power - one)
