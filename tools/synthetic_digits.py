"""Draws digits in the files of MNIST: the same as `pycaffe_lite synthetic_digits`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.synthetic_digits import main

sys.exit(call(main))
