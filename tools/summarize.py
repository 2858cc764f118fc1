"""Lists the layers of a net: the same as `pycaffe_lite summarize`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.summarize import main

sys.exit(call(main))
