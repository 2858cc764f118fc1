"""Lists the layers of a net: name, type, learning rate multipliers, bottoms, tops, and sizes of kernels.

The table is that of Caffe's tools/extra/summarize.py. A parameter is shown as `x2.0` for its learning rate multiplier and as
`Dx0.0` for its decay multiplier; a convolution or pooling as kernel/stride+pad, number of outputs and /groups. On a terminal
blobs are coloured: a top that no layer reads is underlined, a bottom that no layer produces is red.
"""

from __future__ import annotations

import argparse
import sys

from ..net.listing import aligned, table, without_colors
from ..proto import read_net


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="pycaffe_lite summarize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("filename", help="prototxt of the net")
    parser.add_argument("-w", "--max-width", type=int, default=30, help="maximum width of a column (default: 30)")
    args = parser.parse_args(argv)

    net, _ = read_net(args.filename)
    for line in aligned(table(net), args.max_width):
        print(line if sys.stdout.isatty() else without_colors(line))
    return 0
