"""ImageData: images and labels from files   (image_data_layer.cpp).

No bottoms.
top[0]: `N x C x H x W`, N = `batch_size` images after `transform_param`, C = 3 (blue, green, red), or 1 without `is_color`.
top[1]: `N`, the labels.

The list is read again and again. Without a resize and without a crop the images of a batch must have one size; the size may
change from batch to batch. `prefetch` of `data_param` (default 4) says how many batches are read ahead.

`image_data_param`:
- `source` (required): a text file with a path and an integer label on each line.
- `root_folder` (default ""): put before each path without a slash in between, so it should end in a slash.
- `batch_size` (default 1): N.
- `shuffle` (default false): permutes the lines in each round.
- `rand_skip` (default 0): skips a random number of lines at the start, less than this.
- `new_height` (default 0), `new_width` (default 0): resizes every image to this, in pixels; both or none.
- `is_color` (default true): decodes to three channels, whatever the file holds, else to one.
- `scale` (default 1), `mean_file` (default none), `crop_size` (default 0), `mirror` (default false): ignored, except in V0
  and V1 nets, where they are moved to `transform_param`.

Differences from Caffe:
- Lines without a label are an error; Caffe reads a label that is not a number as 0. A `rand_skip` beyond the list is cut to
  its length.
- Files are decoded by Pillow (JPEG, PNG, BMP, WebP, PPM, TIFF), whose pixels may differ from OpenCV's by rounding. As with
  OpenCV, a JPEG without its end is read with a warning, 16 bits become their high byte, alpha is dropped, and CMYK and
  palettes become colours.
- The orientation in EXIF data is not applied. Caffe applies it if it was built with OpenCV 3.1 or newer.
- Resizing uses OpenCV's bilinear interpolation, computed in floats: pixels may differ by 1.
"""

from __future__ import annotations

import numpy as np

from ...data.image_list import ImageReader, read_list
from ...data.images import check_size
from ...data.transformer import Transformer
from ...errors import NetError
from ...layer import register
from ...proto.caffe_pb2 import LayerParameter
from ._batches import Batches


@register("ImageData")
class ImageData(Batches):
    exact_tops = 2

    def new_reader(self, stream: np.random.Generator) -> ImageReader:
        param = self.param.image_data_param
        if not param.batch_size:
            raise NetError("expected image_data_param.batch_size to be at least 1, received 0")
        if bool(param.new_height) != bool(param.new_width):
            sizes = f"{param.new_height} and {param.new_width}"
            raise NetError(f"expected both of new_height and new_width, or none, received {sizes}")
        check_size(param.batch_size, 3, param.new_height or 1, param.new_width or 1)
        return ImageReader(param, Transformer(self.param.transform_param, self.phase, stream), self.dtype)

    @classmethod
    def count_items(cls, param: LayerParameter) -> int | None:
        return len(read_list(param.image_data_param.source)[0])

    def image_size(self) -> tuple[int, int, int]:
        param, crop = self.param.image_data_param, self.param.transform_param.crop_size
        return 3 if param.is_color else 1, crop or param.new_height, crop or param.new_width
