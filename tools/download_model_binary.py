"""Downloads a trained model: the same as `pycaffe_lite download_model_binary`."""

import sys

from pycaffe_lite.cli import call
from pycaffe_lite.cli.download_model_binary import main

sys.exit(call(main))
