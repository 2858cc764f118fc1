"""Writes a list of images to a database: the same as `pycaffe_lite convert_imageset`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.convert_imageset import main

sys.exit(call(main))
