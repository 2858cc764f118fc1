"""Upgrades the prototxt of a solver: the same as `pycaffe_lite upgrade_solver_proto_text`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.upgrade_solver_proto_text import main

sys.exit(call(main))
