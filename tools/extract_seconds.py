"""Writes the seconds of each iteration of a training log: the same as `pycaffe_lite extract_seconds`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.extract_seconds import main

sys.exit(call(main))
