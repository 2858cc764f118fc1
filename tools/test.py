"""Scores a trained net: the same as `pycaffe_lite test`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.test import main

sys.exit(call(main))
