"""Upgrades a trained model: the same as `pycaffe_lite upgrade_net_proto_binary`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.upgrade_net_proto_binary import main

sys.exit(call(main))
