"""WindowData: windows of objects and of background in images, as for R-CNN   (window_data_layer.cpp).

No bottoms.   top[0]: `N x 3 x S x S`, N = `batch_size` windows (blue, green, red), S = `crop_size` of `transform_param`.
top[1]: `N`, the labels.

The list has for each image `# index`, its path without spaces, channels, height, width, the number of its windows, and for
each window `class overlap x1 y1 x2 y2`; the coordinates are its first and last pixels. A window whose overlap is at least
`fg_threshold` is an object; below `bg_threshold` it is background, with the label 0. Each batch draws new windows, the
background first.

First `crop_mode` and `context_pad` widen a window; pixels beyond the image are 0. Then it is resized to `S x S`. Then follow
`mirror`, mean and scale of `transform_param`; if the mean image is larger, its centre is used. `prefetch` of `data_param`
(default 4) says how many batches are read ahead.

`window_data_param`:
- `source` (required): the list, a text file.
- `scale` (default 1): factor on the values, in addition to that of `transform_param`.
- `mean_file` (default none), `crop_size` (default 0), `mirror` (default false): ignored, except in V0 and V1 nets, where
  they are moved to `transform_param`.
- `batch_size` (required): N.
- `fg_threshold` (default 0.5): the least overlap of an object.
- `bg_threshold` (default 0.5): background has less overlap.
- `fg_fraction` (default 0.25): the share of objects in a batch.
- `context_pad` (default 0): how many of the S pixels on each side are context around the window.
- `crop_mode` (default "warp"): "warp" takes the window itself, "square" the smallest square around it.
- `cache_images` (default false): keeps the files that were read in memory.
- `root_folder` (default ""): put before each path without a slash in between, so it should end in a slash.

Differences from Caffe:
- Both scales are applied; Caffe reads only the one in `window_data_param`.
- A missing image and a window outside of its image are errors; Caffe continues with the rest of the batch.
- A `crop_mode` other than these two is an error; Caffe treats it as "warp".
- Images are decoded and resized as in ImageData.
"""

from __future__ import annotations

import numpy as np

from ...data.images import check_size
from ...data.window_file import CHANNELS, WindowReader
from ...errors import NetError, did_you_mean
from ...layer import register
from ._batches import Batches


@register("WindowData")
class WindowData(Batches):
    exact_tops = 2

    def new_reader(self, stream: np.random.Generator) -> WindowReader:
        param, crop = self.param.window_data_param, self.param.transform_param.crop_size
        if not param.batch_size or not crop:
            received = f"{param.batch_size} and {crop}"
            raise NetError(
                f"expected window_data_param.batch_size and transform_param.crop_size of at least 1, received {received}"
            )
        if param.crop_mode not in ("warp", "square"):
            hint = did_you_mean(param.crop_mode, ("warp", "square"))
            raise NetError(f'expected crop_mode "warp" or "square", received "{param.crop_mode}"{hint}')
        if 2 * param.context_pad >= crop:
            raise NetError(f"expected context_pad below half of crop_size, {crop}, received {param.context_pad}")
        if not 0 <= param.fg_fraction <= 1:
            raise NetError(f"expected fg_fraction from 0 to 1, received {param.fg_fraction:g}")
        check_size(param.batch_size, CHANNELS, crop, crop)
        return WindowReader(self.param, self.dtype, stream)

    def image_size(self) -> tuple[int, int, int]:
        crop = self.param.transform_param.crop_size
        return CHANNELS, crop, crop
