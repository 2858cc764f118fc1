"""Writes CIFAR-10 to databases: the same as `pycaffe_lite convert_cifar_data`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.convert_cifar_data import main

sys.exit(call(main))
