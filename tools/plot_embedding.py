"""Plots a 2-D embedding of digits: the same as `pycaffe_lite plot_embedding`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.plot_embedding import main

sys.exit(call(main))
