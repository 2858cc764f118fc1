"""Shows the layers of a net with shapes, parameters, multiply-adds and memory: the same as `pycaffe_lite summary`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.summary import main

sys.exit(call(main))
