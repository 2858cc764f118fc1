"""Draws a net from its prototxt into an image file.

The extension of the image file gives the format: png, pdf, svg, ... Graphviz draws if it and pydot are installed, otherwise
Matplotlib does. The arguments are those of Caffe's python/draw_net.py.
"""

from __future__ import annotations

import argparse

from ..draw import RANKDIRS, draw_net_to_file
from ..proto import caffe_pb2, read_net
from ._flags import add_import_flag, import_types

GROUP = "look"

PHASES = {"TRAIN": caffe_pb2.TRAIN, "TEST": caffe_pb2.TEST, "ALL": None}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pycaffe_lite draw_net", description=__doc__)
    parser.add_argument("input_net_proto_file", help="prototxt of the net")
    parser.add_argument("output_image_file", help="image to write")
    parser.add_argument("--rankdir", default="LR", choices=RANKDIRS, help="the way the arrows run (default: LR)")
    parser.add_argument("--phase", default="ALL", choices=PHASES, help="draw the layers of this phase (default: ALL)")
    add_import_flag(parser)
    parser.add_argument("--display_lrm", action="store_true", help="show learning rate multipliers")
    args = parser.parse_args(argv)
    import_types(args)

    net, _ = read_net(args.input_net_proto_file)
    print(f"Drawing net to {args.output_image_file}")
    draw_net_to_file(net, args.output_image_file, args.rankdir, PHASES[args.phase], args.display_lrm)
    return 0
