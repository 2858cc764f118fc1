"""Deconvolution: Convolution with forward and backward exchanged   (deconv_layer.cpp).

    y = b + each input times the weights, added to a window of the outputs
    H' = stride (H - 1) + dilation (kernel_size - 1) + 1 - 2 pad

bottom: `N x C x H x W` (any number of batch axes before `axis`, any number of spatial axes after it). Several bottoms of
one shape are allowed; they share the weights.
top: `N x num_output x H' x W'`, one for each bottom.
Parameters: weights, `C x num_output / group x kernel...`; bias, `num_output`, unless `bias_term` is false.

For upsampling by f: `kernel_size` 2 f - f % 2, `stride` f, `pad` ceil((f - 1) / 2), `weight_filler { type: "bilinear" }`,
and `group` and `num_output` C.

`convolution_param`: as in Convolution.
"""

from __future__ import annotations

from ...layer import register
from ._convolution import ConvolutionBase


@register("Deconvolution")
class Deconvolution(ConvolutionBase):
    transposed = True
