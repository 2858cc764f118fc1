"""Caffe's protobuf messages: `NetParameter`, `SolverParameter`, `BlobProto`, `Datum`, ... and `TRAIN`, `TEST`.

The schema is `proto/caffe.proto`; `make proto` writes it beside this file as a serialized descriptor set. It is loaded into
its own descriptor pool. So it needs no certain version of the protobuf runtime, as generated code does, and does not collide
with another Caffe schema in the process (of a converter or a fork).
"""

import importlib
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper


def _load(pool):
    files = descriptor_pb2.FileDescriptorSet()
    # beside this file: scripts put this folder into sys.path and import `caffe_pb2` without a package
    files.ParseFromString(Path(__file__).with_name("caffe.binpb").read_bytes())
    for file in files.file:
        pool.Add(file)
    return pool.FindFileByName("caffe.proto")


DESCRIPTOR = _load(descriptor_pool.DescriptorPool())

for _name, _message in DESCRIPTOR.message_types_by_name.items():
    globals()[_name] = message_factory.GetMessageClass(_message)
    globals()[_name].__module__ = __name__  # where pickle looks for it
for _name, _enum in DESCRIPTOR.enum_types_by_name.items():
    globals()[_name] = EnumTypeWrapper(_enum)
    globals().update({value.name: value.number for value in _enum.values})

if not __package__:  # imported by its folder: the same classes, so that messages fit both
    sys.modules[__name__] = importlib.import_module("pycaffe_lite.proto.caffe_pb2")
