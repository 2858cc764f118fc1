"""Shared base of Convolution and Deconvolution: parameters and shapes (Caffe's base_conv_layer.cpp).

A convolution has an *image* side and a *window* side. Convolution goes from image to windows, Deconvolution from windows to
image, with the same three operations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...blob import sizes_text
from ...errors import NetError
from ...layer import Blobs, CoordinateMap, Layer, WindowSizes
from ...ops.convolution import bias_gradient, convolve, convolve_transposed, convolve_weight_gradient
from ...ops.im2col import Geometry
from ...proto.caffe_pb2 import LayerParameter
from ._window import read_window


class ConvolutionBase(Layer):
    """What the two layers share. `transposed` says that the bottom is on the window side."""

    min_bottoms = 1
    min_tops = 1
    equal_bottoms_tops = True
    transposed = False
    param_field = "convolution_param"
    weights_and_bias = True
    reads_tops = False

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        param = self.param.convolution_param
        self.axis = bottom[0].axis(param.axis)
        axes = bottom[0].num_axes - self.axis - 1
        self.kernel = spatial(param, "kernel_size", axes)
        self.stride = spatial(param, "stride", axes, 1)
        self.pad = spatial(param, "pad", axes, 0)
        self.dilation = spatial(param, "dilation", axes, 1)
        for name, values in (("kernel_size", self.kernel), ("stride", self.stride), ("dilation", self.dilation)):
            if any(value < 1 for value in values):
                raise NetError(f"{name} is at least 1, received {' x '.join(map(str, values))}")
        self.bottom_channels = bottom[0].shape[self.axis]
        self.num_output, self.group = param.num_output, param.group
        if self.num_output < 1:
            raise NetError(f"num_output is at least 1, received {self.num_output}")
        if self.group < 1 or self.bottom_channels % self.group or self.num_output % self.group:
            raise NetError(
                f"group divides the number of input channels and num_output: "
                f"received group {self.group}, {self.bottom_channels} channels, num_output {self.num_output}"
            )
        image, windows = self._sides(self.bottom_channels, self.num_output)
        self.add_param((windows, image // self.group, *self.kernel), param.weight_filler)
        if param.bias_term:
            self.add_param((self.num_output,), param.bias_filler)

    def _sides(self, bottom, top):
        """The values for bottom and top, in the order image side, window side."""
        return (top, bottom) if self.transposed else (bottom, top)

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        for i, blob in enumerate(bottom):
            if blob.num_axes != self.axis + 1 + len(self.kernel):
                raise NetError(f"the number of axes was {self.axis + 1 + len(self.kernel)} at set-up and is now {blob}")
            if blob.shape[self.axis] != self.bottom_channels:
                raise NetError(f"expected {self.bottom_channels} channels in bottom {i}, received {blob}")
            if blob.shape != bottom[0].shape:
                raise NetError(f"all bottoms have one shape: bottom 0 is {bottom[0]}, bottom {i} is {blob}")
        in_shape = bottom[0].shape[self.axis + 1 :]
        out_shape = tuple(
            self._output_size(*row) for row in zip(in_shape, self.kernel, self.stride, self.pad, self.dilation)
        )
        if any(size < 1 for size in out_shape):
            names = ("kernel_size", "pad", "stride", "dilation")
            fields = zip(names, (self.kernel, self.pad, self.stride, self.dilation))
            settings = ", ".join(f"{name} {sizes_text(values)}" for name, values in fields)
            sizes = f"input {sizes_text(in_shape)}, {settings} give an output of {sizes_text(out_shape)}"
            raise NetError(f"the kernel does not fit: {sizes}")
        for blob in top:
            blob.reshape(*bottom[0].shape[: self.axis], self.num_output, *out_shape)
        image, windows = self._sides(in_shape, out_shape)
        self.geometry = tuple(zip(image, windows, self.kernel, self.stride, self.pad, self.dilation))
        self.planes = bottom[0].count_from(0, self.axis), self.bottom_channels, math.prod(in_shape)
        self.out_planes = self.planes[0], self.num_output, math.prod(out_shape)

    def _output_size(self, size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
        extent = dilation * (kernel - 1) + 1
        if self.transposed:
            return stride * (size - 1) + extent - 2 * pad
        return windows_along(size + 2 * pad - extent, stride)

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        weights, bias = self.blobs[0].data_in, self.blobs[1].data_in if len(self.blobs) > 1 else None
        product = convolve_transposed if self.transposed else convolve
        for x, y in zip(bottom, top):
            product(x.data_in.reshape(self.planes), weights, bias, y.data_out.reshape(self.out_planes), *self.layout)

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        weights = self.blobs[0].data_in
        product = convolve if self.transposed else convolve_transposed
        for y, x, propagate in zip(top, bottom, propagate_down):
            dy = y.diff_in.reshape(self.out_planes)
            if len(self.blobs) > 1 and self.param_propagate_down[1]:
                bias_gradient(dy, self.blobs[1].diff_inout)
            if self.param_propagate_down[0]:
                image, windows = self._sides(x.data_in.reshape(self.planes), dy)
                convolve_weight_gradient(image, windows, self.blobs[0].diff_inout, *self.layout)
            if propagate:
                product(dy, weights, None, x.diff_out.reshape(self.planes), *self.layout)

    @property
    def layout(self) -> tuple[Geometry, int]:
        """The arguments that all three operations take."""
        return self.geometry, self.group

    @classmethod
    def window_of(cls, param: LayerParameter) -> WindowSizes:
        return read_window(param.convolution_param)

    @classmethod
    def coordinate_map(cls, param: LayerParameter) -> CoordinateMap | None:
        return cls.window_of(param).coordinate_map(cls.transposed)

    def multiply_adds(self, bottom: Blobs, top: Blobs) -> int:
        """Each value on the window side is multiplied by the weights of a kernel."""
        windows = bottom if self.transposed else top
        return sum(blob.count for blob in windows) * self.blobs[0].count_from(1)


def windows_along(room: int, stride: int) -> int:
    """The number of windows along an axis on which a window can move by `room` pixels.

    As in Caffe, where division truncates towards 0, a window that is too large by less than a stride counts as one.
    """
    return int(math.copysign(abs(room) // stride, room)) + 1


def spatial(param, name: str, axes: int, default: int | None = None) -> tuple[int, ...]:
    """One value for each spatial axis, from the repeated field `name` or, for two axes, its `_h` and `_w` forms."""
    stem = name.removesuffix("_size")
    if name != "dilation" and (param.HasField(f"{stem}_h") or param.HasField(f"{stem}_w")):
        if axes != 2:
            raise NetError(f"{stem}_h and {stem}_w are for 2 spatial axes, the bottom has {axes}; use {name}")
        if getattr(param, name):
            raise NetError(f"give either {name} or {stem}_h and {stem}_w, not both")
        return getattr(param, f"{stem}_h"), getattr(param, f"{stem}_w")
    values = tuple(getattr(param, name))
    if not values and default is not None:
        values = (default,)
    if len(values) not in (1, axes):
        raise NetError(f"{name} is given once or once for each of {axes} spatial axes, received {len(values)} values")
    return values * axes if len(values) == 1 else values
