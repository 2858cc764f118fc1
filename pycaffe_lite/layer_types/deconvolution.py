"""Deconvolution: Convolution with forward and backward exchanged; every input spreads over a window of the outputs.

bottom: N x C x H x W (any number of batch axes before `axis`, any number of spatial axes after it), several of one shape
allowed. top: N x num_output x H' x W' with H' = stride (H - 1) + dilation (kernel - 1) + 1 - 2 pad.
Parameters: weights C x num_output / group x kernel..., bias num_output. For upsampling by f: kernel_size 2 f - f % 2,
stride f, pad ceil((f - 1) / 2), `weight_filler { type: "bilinear" }`. Defined by Caffe's deconv_layer.cpp.
"""

from __future__ import annotations

from ..layer import register
from ._conv import ConvBase


@register("Deconvolution")
class Deconvolution(ConvBase):
    transposed = True
