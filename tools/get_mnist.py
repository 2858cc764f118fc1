"""Fetches MNIST into data/mnist: the same as `pycaffe_lite get_mnist`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.get_mnist import main

sys.exit(call(main))
