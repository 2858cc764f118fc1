"""Shows what nets can run on here: the same as `pycaffe_lite device_query`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.device_query import main

sys.exit(call(main))
