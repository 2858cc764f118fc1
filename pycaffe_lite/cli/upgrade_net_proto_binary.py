"""Bring a trained model into the present format: pycaffe_lite upgrade_net_proto_binary IN OUT

The exit status is 1 if OUT lacks a field of IN because the new format does not have it, like that of Caffe's
tools/upgrade_net_proto_binary.cpp.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from .. import glog
from ..errors import ModelFileError
from ..proto.caffe_pb2 import NetParameter
from ..proto.model_file import read_message, write_message
from ..proto.source import Source
from ..proto.upgrade import upgrade_net
from . import _upgrade

GROUP = "convert"


def main(argv: list[str]) -> int:
    source, target = _upgrade.paths("upgrade_net_proto_binary", __doc__, argv)
    try:
        net = NetParameter.FromString(read_message(source, "NetParameter").SerializeToString())
        notes = upgrade_net(net, Source(source))
    except (DecodeError, UnicodeError, TypeError) as error:  # from weights; from names that are not UTF-8
        raise ModelFileError(f"the model is damaged, or has names that are not UTF-8 ({error})", source) from error
    status = _upgrade.report(source, notes)
    write_message(target, net)
    glog.info(f"Wrote upgraded NetParameter binary proto to {target}")
    return status
