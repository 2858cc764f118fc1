"""Convolution: every output is a weighted sum over a window of all input channels of its group, plus a bias.

bottom: N x C x H x W (any number of batch axes before `axis`, any number of spatial axes after it), several of one shape
allowed. top: N x num_output x H' x W' with H' = floor((H + 2 pad - (dilation (kernel - 1) + 1)) / stride) + 1.
Parameters: weights num_output x C / group x kernel..., bias num_output. Defined by Caffe's base_conv_layer.cpp.
"""

from __future__ import annotations

from ..layer import register
from ._conv import ConvBase


@register("Convolution")
class Convolution(ConvBase):
    pass
