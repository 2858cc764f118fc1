"""HDF5Data: rows of the data sets in HDF5 files   (hdf5_data_layer.cpp).

No bottoms.   top: any number of blobs, `batch_size x ...`; a top holds rows of the data set of the same name.

The first axis of every data set counts the items. Its values are integers or floats of any size; they become the floats of
the net. Files are read whole, one after the other, again and again; a batch may begin in one file and end in the next. A
`transform_param` is refused. `prefetch` of `data_param` (default 4) says how many batches are read ahead.

`hdf5_data_param`:
- `source` (required): a text file that lists the HDF5 files; relative paths start at the current folder.
- `batch_size` (required): rows in a batch.
- `shuffle` (default false): permutes the files in each round, and the rows within each file.

Differences from Caffe: a file without rows is an error, and so is a file whose rows differ in shape from those of the file
before.
"""

from __future__ import annotations

import numpy as np

from ...data.hdf5_list import RowReader, read_list, shape_of
from ...errors import NetError
from ...layer import Blobs, register
from ...proto.caffe_pb2 import HDF5DataParameter, LayerParameter
from ._batches import Batches, ItemShape


@register("HDF5Data")
class HDF5Data(Batches):
    min_tops = 1

    def new_reader(self, stream: np.random.Generator) -> RowReader:
        if self.param.HasField("transform_param"):
            raise NetError("HDF5Data does not transform its data: expected no transform_param")
        _check(self.param.hdf5_data_param)
        return RowReader(self.param.hdf5_data_param, list(self.param.top), self.dtype, stream)

    @classmethod
    def count_items(cls, param: LayerParameter) -> int | None:
        return sum(shape_of(path, param.top[0])[0] for path in read_list(param.hdf5_data_param.source))

    def item_shapes(self, bottom: Blobs, top: Blobs) -> list[ItemShape]:
        param = self.param.hdf5_data_param
        if not param.source or not param.batch_size or self.param.HasField("transform_param"):
            return super().item_shapes(bottom, top)  # its set-up raises the error
        first, *others = read_list(param.source)
        for path in others:
            shape_of(path, self.param.top[0])
        return [shape_of(first, name)[1:] for name in self.param.top]

    def item_shapes_without_data(self, tops: int) -> list[ItemShape]:
        return [None] * tops


def _check(param: HDF5DataParameter) -> None:
    if not param.source:
        raise NetError("expected a list of HDF5 files in hdf5_data_param.source, received none")
    if not param.batch_size:
        raise NetError("expected hdf5_data_param.batch_size to be at least 1, received 0")
