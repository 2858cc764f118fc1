"""Classifies images: the same as `pycaffe_lite classify`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.classify import main

sys.exit(call(main))
