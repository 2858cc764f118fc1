"""Measures the layers of a net: the same as `pycaffe_lite time`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.time import main

sys.exit(call(main))
