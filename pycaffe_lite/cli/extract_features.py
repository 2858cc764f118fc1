"""Write what a trained net makes of its data to databases, one for each blob.

    pycaffe_lite extract_features WEIGHTS NET BLOB1[,BLOB2,...] DB1[,DB2,...] NUM_MINI_BATCHES DB_TYPE [CPU|GPU] [DEVICE_ID]

NET is a prototxt with a data layer. Every item of a batch becomes a record of floats, channels x height x width, without a
label; keys start at 0000000000. The behaviour is that of Caffe's tools/extract_features.cpp.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from tqdm import tqdm

from .. import glog
from ..data.database import BACKENDS
from ..data.database_writer import Writer
from ..errors import DataError, NetError, did_you_mean
from ..io import array_to_datum
from ..proto.caffe_pb2 import TEST
from ..pycaffe import Net, set_device, set_mode_gpu
from ._arguments import ArgumentFlags
from ._databases import new_databases
from ._flags import add_state_flags, stages

GROUP = "train and test"


def main(argv: list[str]) -> int:
    values = _parse(argv)
    names, paths = values.blobs.split(","), values.databases.split(",")
    if len(names) != len(paths):
        raise DataError(f"expected a database for each of {len(names)} blobs, received {len(paths)}")
    glog.info(f"Using {values.mode}")
    if values.mode == "GPU":
        set_device(int(re.sub("^DEVICE_ID=", "", values.device_id)))
        set_mode_gpu()
    allow = not values.no_python_layers
    net = Net(values.net, TEST, level=values.level, stages=stages(values), allow_python_layers=allow)
    try:
        net.copy_from(values.weights)
        _check_blobs(net, names, values.net)
        with new_databases(paths, values.db_type) as writers:
            _extract(net, names, writers, values.num_mini_batches)
    finally:
        net.close()
    return 0


def _extract(net: Net, names: list[str], writers: list[Writer], batches: int) -> None:
    counts = dict.fromkeys(names, 0)
    glog.info("Extracting Features")
    for _ in tqdm(range(batches), unit="batch", disable=None):
        net.forward_layers()
        for name, writer in zip(names, writers, strict=True):
            for item in _items(net.blobs[name].data):
                writer.put(b"%010d" % counts[name], array_to_datum(item).SerializeToString())
                counts[name] += 1
                if counts[name] % 1000 == 0:
                    glog.info(_progress(name, counts[name]))
    for name, count in counts.items():
        if count % 1000:
            glog.info(_progress(name, count))
    glog.info("Successfully extracted the features!")


def _items(data: np.ndarray) -> np.ndarray:
    """The array as N x C x H x W; axes that the blob lacks are 1."""
    return data.astype(np.float32, copy=False).reshape((*data.shape, 1, 1, 1, 1)[:4])


def _progress(name: str, count: int) -> str:
    return f"Extracted features of {count} query images for feature blob {name}"


def _check_blobs(net: Net, names: list[str], path: str) -> None:
    for name in names:
        if name not in net.blobs:
            raise NetError(f'no blob "{name}" in the net{did_you_mean(name, net.blobs)}', path)
        if len(net.blobs[name].shape) > 4:
            raise NetError(f'blob "{name}" has {len(net.blobs[name].shape)} axes, but a record has room for 4', path)
    if len(set(names)) < len(names):
        raise NetError(f"expected each blob once, received {','.join(names)}", path)


def _parse(argv: list[str]) -> Any:
    flags = ArgumentFlags("extract_features", __doc__)
    flags.add_argument("weights", metavar="WEIGHTS", help="trained model")
    flags.add_argument("net", metavar="NET", help="prototxt with a data layer")
    flags.add_argument("blobs", metavar="BLOB1[,BLOB2,...]", help="names of the blobs")
    flags.add_argument("databases", metavar="DB1[,DB2,...]", help="a folder to make for each blob; must not exist")
    flags.add_argument("num_mini_batches", metavar="NUM_MINI_BATCHES", type=int, help="number of batches")
    flags.add_argument("db_type", metavar="DB_TYPE", choices=BACKENDS, help="lmdb or leveldb")
    flags.add_argument("mode", nargs="?", default="CPU", choices=("CPU", "GPU"), help="where to compute (default CPU)")
    flags.add_argument("device_id", metavar="DEVICE_ID", nargs="?", default="0", help="CUDA device (default 0)")
    add_state_flags(flags)
    values = flags.parse(argv)
    if values.num_mini_batches < 1:
        raise DataError(f"NUM_MINI_BATCHES is at least 1, received {values.num_mini_batches}")
    if not re.fullmatch("(DEVICE_ID=)?[0-9]{1,9}", values.device_id):
        raise DataError(f'DEVICE_ID is a number from 0 on, received "{values.device_id}"')
    return values
