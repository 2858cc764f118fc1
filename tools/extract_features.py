"""Writes blobs of a trained net to databases: the same as `pycaffe_lite extract_features`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.extract_features import main

sys.exit(call(main))
