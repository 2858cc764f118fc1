"""Plots training logs: the same as `pycaffe_lite plot_training_log`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.plot_training_log import main

sys.exit(call(main))
