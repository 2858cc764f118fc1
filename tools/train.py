"""Trains a net: the same as `pycaffe_lite train`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.train import main

sys.exit(call(main))
