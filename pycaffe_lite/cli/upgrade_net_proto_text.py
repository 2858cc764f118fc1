"""Bring the prototxt of a net into the present format: pycaffe_lite upgrade_net_proto_text IN OUT

The exit status is 1 if OUT lacks a field of IN because the new format does not have it, like that of Caffe's
tools/upgrade_net_proto_text.cpp. Comments are lost.
"""

from __future__ import annotations

from .. import glog
from ..files import atomic_write
from ..proto import prototxt
from ..proto.caffe_pb2 import NetParameter
from ..proto.upgrade import upgrade_net
from . import _upgrade

GROUP = "convert"


def main(argv: list[str]) -> int:
    source, target = _upgrade.paths("upgrade_net_proto_text", __doc__, argv)
    net = NetParameter()
    status = _upgrade.report(source, upgrade_net(net, prototxt.read(source, net)))
    with atomic_write(target) as temporary:
        temporary.write_text(prototxt.to_text(net), "utf-8")
    glog.info(f"Wrote upgraded NetParameter text proto to {target}")
    return status
