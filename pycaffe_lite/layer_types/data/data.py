"""Data: images and labels from an LMDB or LevelDB database   (data_layer.cpp).

No bottoms.   top[0]: `N x C x H x W`, the images of N = `batch_size` records after `transform_param`.
top[1], optional: `N`, the labels.

Records are read in the order of their keys, again and again. A background thread reads batches ahead. The images of a batch
must have one size, unless `crop_size` gives them one; the size may change from batch to batch.

`data_param`:
- `source` (required): the folder of the database.
- `batch_size` (required): N.
- `backend` (default LEVELDB): LEVELDB or LMDB; ignored, since the files in the folder show which it is.
- `prefetch` (default 4): how many batches are read ahead, at least 1.
- `force_encoded_color` (default false): the same as `force_color` of `transform_param`.
- `rand_skip` (default 0): ignored, with a warning.
- `scale` (default 1), `mean_file` (default none), `crop_size` (default 0), `mirror` (default false): ignored, except in V0
  and V1 nets, where they are moved to `transform_param`.

Differences from Caffe: the database is recognised by its files, not by `backend`. A damaged record is an error that names
its key. Image files in records are decoded as in ImageData; those of 16 bits, as in Caffe, only with `force_color` or
`force_gray` of `transform_param`. A JPEG without its end is read with a warning, like a file. OpenCV refuses it in a record,
or leaves its last lines out, depending on the release.
"""

from __future__ import annotations

import numpy as np

from ... import glog
from ...data.database import open_database
from ...data.prefetch import checked_depth
from ...data.records import RecordReader
from ...data.transformer import Transformer
from ...errors import NetError
from ...layer import register
from ...proto.caffe_pb2 import DataParameter, LayerParameter, TransformationParameter
from ._batches import Batches


@register("Data")
class Data(Batches):
    min_tops = 1
    max_tops = 2

    def new_reader(self, stream: np.random.Generator) -> RecordReader:
        param = self.param.data_param
        _check(param)
        transform = TransformationParameter()
        transform.CopyFrom(self.param.transform_param)
        transform.force_color |= param.force_encoded_color
        transformer = Transformer(transform, self.phase, stream)
        backend = DataParameter.DB.Name(param.backend) if param.HasField("backend") else None
        database = open_database(param.source, backend)
        return RecordReader(database, transformer, param.batch_size, self.dtype, len(self.param.top))

    @classmethod
    def count_items(cls, param: LayerParameter) -> int | None:
        with open_database(param.data_param.source) as database:
            return database.count()

    def image_size(self) -> tuple[int, int, int]:
        transform = self.param.transform_param
        channels, height, width = super().image_size()
        if transform.force_color or self.param.data_param.force_encoded_color:
            channels = 3
        elif transform.force_gray:
            channels = 1
        return channels, height, width


def _check(param: DataParameter) -> None:
    if not param.source:
        raise NetError("expected the folder of a database in data_param.source, received none")
    if not param.batch_size:
        raise NetError("expected data_param.batch_size to be at least 1, received 0")
    checked_depth(param)
    if param.rand_skip:
        glog.warning("data_param.rand_skip is ignored, as in Caffe")
