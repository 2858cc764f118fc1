"""Writes MNIST to a database: the same as `pycaffe_lite convert_mnist_data`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.convert_mnist_data import main

sys.exit(call(main))
