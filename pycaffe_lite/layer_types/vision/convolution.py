"""Convolution: a weighted sum over a window of all input channels of a group, plus a bias   (base_conv_layer.cpp).

    y[o, i] = b[o] + sum over c and k of W[o, c, k] x[c, stride i - pad + dilation k]
    (o: output, i: position, c: channel of the group of o, k: kernel position, from 0 on; x is 0 beyond the image)
    H' = floor((H + 2 pad - (dilation (kernel_size - 1) + 1)) / stride) + 1

bottom: `N x C x H x W` (any number of batch axes before `axis`, any number of spatial axes after it). Several bottoms of
one shape are allowed; they share the weights.
top: `N x num_output x H' x W'`, one for each bottom.
Parameters: weights, `num_output x C / group x kernel...`; bias, `num_output`, unless `bias_term` is false.

`convolution_param`: sizes are in pixels, one value for all spatial axes or one for each.
- `num_output` (required): channels of the top.
- `bias_term` (default true): adds a bias.
- `pad` (default 0): zeros on each side of the image.
- `kernel_size` (required): the size of the window; or `kernel_h` and `kernel_w`.
- `stride` (default 1): the distance between neighbouring windows.
- `dilation` (default 1): the distance between neighbouring kernel elements.
- `pad_h` (default 0), `pad_w` (default 0): replace `pad`, for two spatial axes.
- `kernel_h`, `kernel_w` (default `kernel_size`): replace `kernel_size`, for two spatial axes.
- `stride_h`, `stride_w` (default `stride`): replace `stride`, for two spatial axes.
- `group` (default 1): splits input and output channels into groups; an output depends only on inputs of its group.
- `weight_filler`, `bias_filler` (default 0): the first values.
- `axis` (default 1): the axis of the channels, may be negative.
- `force_nd_im2col` (default false): ignored; it selects an implementation in Caffe.
- `engine` (default DEFAULT): ignored.
"""

from __future__ import annotations

from ...layer import register
from ._convolution import ConvolutionBase


@register("Convolution")
class Convolution(ConvolutionBase):
    pass
