"""Computes the mean image of a database: the same as `pycaffe_lite compute_image_mean`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.compute_image_mean import main

sys.exit(call(main))
