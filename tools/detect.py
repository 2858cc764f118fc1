"""Scores windows of images: the same as `pycaffe_lite detect`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.detect import main

sys.exit(call(main))
