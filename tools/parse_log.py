"""Writes the rows of a training log into CSV files: the same as `pycaffe_lite parse_log`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.parse_log import main

sys.exit(call(main))
