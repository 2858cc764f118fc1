"""Checks net and solver prototxts: the same as `pycaffe_lite check`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.check import main

sys.exit(call(main))
