"""Resizes and crops images: the same as `pycaffe_lite resize_and_crop_images`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.resize_and_crop_images import main

if __name__ == "__main__":  # its processes import this file as well
    sys.exit(call(main))
