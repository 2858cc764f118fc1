"""Writes pairs of MNIST images to a database: the same as `pycaffe_lite convert_mnist_siamese_data`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.convert_mnist_siamese_data import main

sys.exit(call(main))
