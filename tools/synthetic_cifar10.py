"""Draws coloured images in the files of CIFAR-10: the same as `pycaffe_lite synthetic_cifar10`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.synthetic_cifar10 import main

sys.exit(call(main))
