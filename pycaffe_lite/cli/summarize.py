"""Lists the layers of a net as its prototxt has them: another name for summary --written.

The table is that of Caffe's tools/extra/summarize.py: name, type, learning rate multipliers, bottoms, tops and windows.
A parameter is shown as `x2.0` for its learning rate multiplier and as `Dx0.0` for its decay multiplier; a convolution or
pooling as kernel/stride+pad, number of outputs and /groups. On a terminal blobs are coloured: a top that no layer reads is
underlined, a bottom that no layer produces is red.
"""

from __future__ import annotations

import argparse

from .summary import print_written

GROUP = "Caffe's old tools"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="pycaffe_lite summarize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("filename", nargs="?", default="", help="prototxt of the net")
    parser.add_argument("--model", default="", metavar="FILE", help="the same as filename, as in summary")
    parser.add_argument("-w", "--max-width", type=int, default=30, help="maximum width of a column (default: 30)")
    args = parser.parse_args(argv)

    if bool(args.filename) == bool(args.model):
        parser.error("expected one prototxt, as filename or --model")
    print_written(args.filename or args.model, args.max_width)
    return 0
