"""Draws a net: the same as `pycaffe_lite draw_net`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.draw_net import main

sys.exit(call(main))
