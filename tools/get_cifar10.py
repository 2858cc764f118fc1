"""Fetches CIFAR-10 into data/cifar10: the same as `pycaffe_lite get_cifar10`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.get_cifar10 import main

sys.exit(call(main))
