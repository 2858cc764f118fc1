"""HDF5Output: writes two blobs to an HDF5 file   (hdf5_output_layer.cpp).

bottom[0]: the data set `data`, at most four axes.   bottom[1]: the data set `label`, with as many rows.   No tops.

Both are stored with four axes, num x channels x height x width. The first forward writes the file; a second forward is an
error, as in Caffe.

`hdf5_output_param`:
- `file_name` (required): the file to write.

Differences from Caffe: the first forward writes the file completely or not at all; Caffe creates it when the net is built.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ... import glog
from ...errors import NetError
from ...files import new_hdf5
from ...layer import Blobs, Layer, register


@register("HDF5Output")
class HDF5Output(Layer):
    exact_bottoms = 2
    exact_tops = 0
    writes_files = True

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        self._path = self.param.hdf5_output_param.file_name
        if not self._path:
            raise NetError("expected the name of a file to write in hdf5_output_param.file_name, received none")
        if not os.path.isdir(os.path.dirname(self._path) or "."):
            where = f"there is no such folder; relative paths start at {os.getcwd()}"
            raise NetError(f'"{self._path}" cannot be written: {where}')
        self._written = False

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        if bottom[0].num != bottom[1].num:
            raise NetError(f"expected data and labels of as many rows, received {bottom[0]} and {bottom[1]}")

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        if self._written:
            raise NetError(f'"{self._path}" was written by the first forward; HDF5Output stores one batch')
        with new_hdf5(self._path) as file:
            for name, blob in zip(("data", "label"), bottom, strict=True):
                file[name] = blob.data.reshape(blob.num, blob.channels, blob.height, blob.width)
        self._written = True
        glog.info(f"Wrote {bottom[0].num} rows to {self._path}")

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        for blob, propagate in zip(bottom, propagate_down, strict=True):
            if propagate:
                blob.diff_out.fill(0)
